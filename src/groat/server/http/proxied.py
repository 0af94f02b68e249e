"""What trusted proxies say of a request besides where it comes from: its id and the trace that it belongs to.

A caller's word counts for neither: what anybody may write would let him forge the trail that finds his request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from groat.server.http.source import Networks, Source, is_trusted, read_address, request_source

Headers = Iterable[tuple[bytes, bytes]]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")
# W3C Trace Context 3.2: version ff is invalid, 00 ends with its flags, a later one may go on after a dash.
_TRACEPARENT: Final = re.compile(
    rb"(?:00|(?!ff|00)[0-9a-f]{2}(?=.{53}(?:-|\Z)))-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})"
)
_PROXY_FIELDS: Final = frozenset({b"x-forwarded-for", b"x-request-id", b"traceparent"})
_NAMELESS: Final = Source("local")


@dataclass(frozen=True, slots=True)
class Trace:
    """The caller's place in a distributed trace (W3C Trace Context 3.2.2)."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def header(self) -> bytes:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}".encode()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from, and the id and trace that a trusted proxy gave it."""

    source: Source
    request_id: str | None = None
    trace: Trace | None = None


def read_origin(peer: str | None, headers: Headers, trusted: Networks) -> Origin:
    """Read what the peer says, if it is a trusted proxy; a field that is not as it must be is ignored."""
    if peer is None:
        return Origin(_NAMELESS)
    address = read_address(peer) if trusted else None
    if address is None or not is_trusted(address, trusted):
        return Origin(request_source(peer, (), ()))
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _PROXY_FIELDS:
            found.setdefault(name, []).append(value)
    source = request_source(peer, found.get(b"x-forwarded-for", ()), trusted)
    return Origin(source, _request_id(_sole(found, b"x-request-id")), read_trace(_sole(found, b"traceparent")))


def _sole(found: Mapping[bytes, Sequence[bytes]], name: bytes) -> bytes:
    values = found.get(name, ())
    return values[0].strip(b" \t") if len(values) == 1 else b""


def _request_id(value: bytes) -> str | None:
    return value.decode("ascii") if _REQUEST_ID.fullmatch(value) else None


def read_trace(value: bytes) -> Trace | None:
    """The trace that a `traceparent` names; None for whatever breaks its grammar."""
    found = _TRACEPARENT.match(value)
    if found is None or (value.startswith(b"00") and len(value) > found.end()):
        return None
    return Trace(*(part.decode("ascii") for part in found.groups()))
