"""The URL that a proof of possession names, in one spelling (RFC 9449 4.3 (9); RFC 3986 6.2.2, 6.2.3).

Made equal: case of scheme and host, the default port, an empty path, dot segments, percent-encoding; query and
fragment are dropped. Kept apart: a final slash, the case of the path, doubled slashes; a name in Unicode is no URL.
"""

import re
from functools import lru_cache
from typing import Final

from groat.protocol.errors import JoseError
from groat.protocol.grammar import BROKEN_ESCAPE, UNRESERVED, URL_HOST
from groat.protocol.uris import MAX_URI_CHARS, is_plain

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
# RFC 3986 3.2 without userinfo: whoever has a name in front of the host is not who reads think it is.
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{URL_HOST})(?::(?P<port>[0-9]{{0,5}}))?(?P<path>/[^?#]*)?(?:[?#].*)?",
    re.IGNORECASE,
)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")


@lru_cache(maxsize=512)
def normal_url(url: str) -> str:
    """The one spelling of all URLs that mean the same target. Raises JoseError("url") for what is no absolute one."""
    if len(url) > MAX_URI_CHARS or not is_plain(url) or BROKEN_ESCAPE.search(url):
        raise JoseError("url", f"htu must be a URL of at most {MAX_URI_CHARS} printable ASCII characters")
    match = _URL.fullmatch(url)
    if match is None:
        raise JoseError("url", "htu must be an absolute http or https URL without a user name")
    scheme = match["scheme"].lower()
    port = (match["port"] or "").lstrip("0")
    suffix = "" if port in ("", _DEFAULT_PORTS[scheme]) else f":{port}"
    path = _without_dots(_ESCAPE.sub(_unescaped, match["path"] or "/"))
    return f"{scheme}://{match['host'].lower()}{suffix}{path}"


def _unescaped(match: re.Match[str]) -> str:
    """An unreserved character as itself, any other with capital digits (RFC 3986 6.2.2.1, 6.2.2.2)."""
    code = int(match[1], 16)
    return chr(code) if code in UNRESERVED else match[0].upper()


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4, for a path that begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):  # what is left is a folder
        kept.append("")
    return "/" + "/".join(kept)
