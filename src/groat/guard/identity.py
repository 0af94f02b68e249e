"""Who calls, as headers that the proxy hands on to the API."""

from functools import lru_cache
from typing import Final
from urllib.parse import quote

from groat.protocol.access_token import Caller

# Printable ASCII but for the percent sign, so that decoding gives back what was encoded, and for blanks.
_PLAIN: Final = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"
Headers = tuple[tuple[bytes, bytes], ...]


def identity_headers(caller: Caller) -> Headers:
    """All four, each of them always, so that a proxy has something to put over what the caller wrote.

    Client and subject as they are in the token; the scopes sorted, with single spaces between them; when the token ends
    in whole epoch seconds. What is not printable ASCII, a blank or a percent sign is percent-encoded (UTF-8): no value
    makes a header line, and no scope with a blank in it becomes two.
    """
    return _headers(caller.client_id, caller.subject, caller.scopes, int(caller.expires_at))


@lru_cache(maxsize=1024)  # tokens that repeat; only proven ones get here
def _headers(client_id: str, subject: str, scopes: frozenset[str], expires_at: int) -> Headers:
    return (
        (b"x-groat-client", _safe(client_id)),
        (b"x-groat-subject", _safe(subject)),
        (b"x-groat-scopes", b" ".join(_safe(scope) for scope in sorted(scopes))),
        (b"x-groat-expires", str(expires_at).encode()),
    )


def _safe(value: str) -> bytes:
    return quote(value, safe=_PLAIN, errors="surrogatepass").encode("ascii")
