"""What the head of a request must be before anybody answers it (RFC 9112 3 and 6), and how much of it there may be."""

from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import httptools

from groat.protocol.errors import InvalidRequest
from groat.protocol.grammar import HOST
from groat.protocol.token_request import MAX_ESCAPES

MAX_HEAD_BYTES: Final = 32 * 1024  # target and fields; the same again for a trailer, and for what surrounds chunks
MAX_FIELDS: Final = 100  # the same again for a trailer
MAX_REMEMBERED_TARGET: Final = 64
_VERSIONS: Final = frozenset({"1.0", "1.1"})

TOO_LARGE: Final = f"a head, a trailer and what surrounds chunks have at most {MAX_HEAD_BYTES} bytes"
TOO_MANY: Final = f"a head and a trailer have at most {MAX_FIELDS} fields"


def malformed(why: str) -> InvalidRequest:
    """The refusal of what is no request; `why` is for the log."""
    return InvalidRequest("head", why)


def check_version(version: str, hosts: int) -> None:
    """Raise InvalidRequest unless this is HTTP/1.1 with one Host or HTTP/1.0 with one at most (RFC 9112 3.2)."""
    if version not in _VERSIONS:
        raise malformed("the version is neither HTTP/1.0 nor HTTP/1.1")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise malformed(f"{hosts} Host fields; HTTP/1.1 has exactly one")


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether this may be the value of a Host field; it may be empty. Not checked: whose it is."""
    return len(value) <= 255 and HOST.fullmatch(value) is not None


def check_coding(value: bytes, version: str) -> None:
    """Raise InvalidRequest unless the body comes in chunks and is coded in no other way.

    RFC 9112 6.1 would allow 501, too: but nothing of ours failed, 5xx is for that, and behind a coding that two readers
    may understand differently the connection must end in any case.
    """
    if version != "1.1":
        raise malformed("Transfer-Encoding in a request that is not HTTP/1.1")
    if value.strip(b" \t").lower() != b"chunked":
        raise malformed("the only Transfer-Encoding that is understood is chunked, once")


@lru_cache(maxsize=64)  # nearly every request has one of a few; a long one is nobody's business to remember
def _parse_short_target(url: bytes) -> tuple[str, bytes, bytes]:
    return _parse_target(url)


def _parse_target(url: bytes) -> tuple[str, bytes, bytes]:
    if b"#" in url:  # no part of a target; whoever means a sign of a value has cut it short
        raise malformed("a # in the target, where it must be %23")
    parsed = httptools.parse_url(url)
    raw = parsed.path or b"/"  # http://host (RFC 9110 4.2.3)
    path = raw.decode("ascii")
    # A path of thousands of escapes is nowhere, decoded or not.
    return unquote(path) if path.count("%") <= MAX_ESCAPES else path, raw, parsed.query or b""


def parse_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as sent, and query of a request target (RFC 9112 3.2).

    Raises InvalidRequest for a fragment, httptools.HttpParserInvalidURLError.
    """
    return _parse_short_target(url) if len(url) <= MAX_REMEMBERED_TARGET else _parse_target(url)
