"""The SPIFFE Workload API: a JWT-SVID from the agent of this host (FetchJWTSVID; SPIFFE Workload API 3 to 6).

The three messages are read and written here; code that is generated for them would be the larger part of this package.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from groat.client.errors import KeyUnusable
from groat.client.platform_endpoints import PLATFORM_SECONDS
from groat.client.platform_token import checked_token

SOCKET_VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"
METHOD: Final = "/SpiffeWorkloadAPI/FetchJWTSVID"
METADATA: Final = (("workload.spiffe.io", "true"),)  # without it agents refuse: no browser can send it (section 4.2)
_TEXT: Final = 2  # the wire type of texts and messages
_FIXED: Final = {1: 8, 5: 4}
_HINTS: Final = {
    "PERMISSION_DENIED": "the agent knows no entry for this workload",
    "UNAVAILABLE": f"no agent listens there; {SOCKET_VARIABLE} says where",
    "INVALID_ARGUMENT": "the agent wants another request",
}


@dataclass(frozen=True, slots=True)
class SpiffeSource:
    """The agent at this socket; `unix:///path` or `tcp://address:port`, by default what SPIFFE_ENDPOINT_SOCKET says."""

    socket: str | None = None
    audience: str | None = None
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """A JWT-SVID of the first identity that the workload has; the agent keeps and renews it."""
        try:
            import grpc
        except ModuleNotFoundError:
            return KeyUnusable("spiffe: grpcio is not installed", hint='pip install "groat[grpc]"')
        socket = self.socket or os.environ.get(SOCKET_VARIABLE, "")
        scheme, _, place = socket.partition(":")
        if scheme not in ("unix", "tcp") or not place.strip("/"):
            return KeyUnusable(f"spiffe: {SOCKET_VARIABLE} must be unix:///PATH or tcp://ADDRESS:PORT")
        target = socket if scheme == "unix" else place.strip("/")
        wanted = encoded(1, (self.audience or audience).encode())
        # A proxy would answer for itself: this never leaves the host.
        with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
            try:
                answer = channel.unary_unary(METHOD, bytes, bytes)(wanted, timeout=PLATFORM_SECONDS, metadata=METADATA)
            except grpc.RpcError as error:
                code = error.code().name
                transient = code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
                return KeyUnusable(f"spiffe: the agent answered {code}", hint=_HINTS.get(code, ""), transient=transient)
        svid = first_svid(answer)
        if svid is None:
            return KeyUnusable("spiffe: the answer of the agent has no SVID")
        return checked_token(svid, "spiffe: svid", "it")


def first_svid(answer: bytes) -> bytes | None:
    """The token in a JWTSVIDResponse; None where there is none, or where it is no such message."""
    try:
        return next((svid for one in texts(answer, 1) for svid in texts(one, 2)), None)
    except (IndexError, ValueError):
        return None


def encoded(number: int, value: bytes) -> bytes:
    """A field of a text or message."""
    length, size = bytearray(), len(value)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | _TEXT, *length, size]) + value


def texts(message: bytes, wanted: int) -> Iterator[bytes]:
    """The values of one field of texts. Raises IndexError, ValueError for what ends early or is no message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        size = _FIXED.get(kind)
        if kind == _TEXT:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("no message")
        if kind == _TEXT and number == wanted:
            yield message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("no number")
