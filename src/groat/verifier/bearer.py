"""Where a request carries its access token: the Authorization header, and nowhere else (RFC 6750 2, RFC 9700 4.3.2)."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol.errors import InvalidBearerRequest, MissingToken
from groat.protocol.grammar import TOKEN, TOKEN68

_SCHEME: Final = re.compile(TOKEN)
_CREDENTIALS: Final = re.compile(rf" +({TOKEN68})")


def bearer_token(authorization_values: Sequence[bytes | str], query: bytes = b"") -> str:
    """Take the token out of a request.

    `authorization_values`: the value of every Authorization field line, in order and not joined; `query`: the raw
    query string. Raises MissingToken (401) without Bearer credentials, a token in the query included, and
    InvalidBearerRequest (400) for malformed or repeated ones (RFC 6750 3.1). Not checked: what the token is, and the
    form body, which nobody here reads.
    """
    if not authorization_values:
        raise MissingToken("a token in the query string is not accepted" if _token_in(query) else "no credentials")
    if len(authorization_values) > 1:
        raise InvalidBearerRequest("malformed", "more than one Authorization header")
    if _token_in(query):
        raise InvalidBearerRequest("malformed", "access_token in the query string next to an Authorization header")
    return _credentials(authorization_values[0])


def _credentials(raw: bytes | str) -> str:
    # Latin-1 maps every byte to one character, so that foreign bytes fail the grammar instead of the decoder.
    value = (raw.decode("latin-1") if isinstance(raw, bytes) else raw).strip(" \t")
    scheme = _SCHEME.match(value)
    if scheme is None or scheme.group().lower() != "bearer":
        raise MissingToken("the Authorization header has another scheme than Bearer")
    found = _CREDENTIALS.fullmatch(value, scheme.end())
    if found is None:
        raise InvalidBearerRequest("malformed", "Bearer must be followed by one token and nothing else")
    return found.group(1)


def _token_in(query: bytes) -> bool:
    names = (pair.partition(b"=")[0] for pair in query.split(b"&")) if query else ()
    return any(unquote_to_bytes(name.replace(b"+", b" ")) == b"access_token" for name in names)
