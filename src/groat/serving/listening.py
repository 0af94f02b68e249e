"""The listening socket: taking it, and giving it up so that nobody who got through is reset."""

import contextlib
import ctypes
import errno
import socket
import struct
from typing import Final

from groat.protocol.errors import ConfigError
from groat.serving.port_holder import holder_of

HANDSHAKE_SECONDS: Final = 0.02  # for handshakes that began before newcomers were turned away
# What the kernel keeps for a connection in each direction (it doubles the number): some bodies of the largest size.
# It bounds what is read at once, too, and connections inherit it.
BUFFER_BYTES: Final = 32 * 1024
_SO_ATTACH_FILTER: Final = 26
# Classic BPF on the TCP header: drop what has SYN and not ACK (byte 13, bits 0x02 and 0x10), keep the rest.
_DROP_SYN: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 2**32 - 1),
    )
)


def bind(host: str, port: int, way_out: str = "another: groat serve --port 0") -> socket.socket:
    """A listening socket. Raises ConfigError that says how to go on when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listener.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        taken = holder_of(port) if error.errno == errno.EADDRINUSE else ""
        reason = f"{error.strerror}{f' by {taken}' if taken else ''}"
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}. Choose {way_out}") from None
    listener.set_inheritable(True)
    return listener


def refuse_newcomers(listener: socket.socket) -> None:
    """Let no further connection begin, for every process that shares the listener; those under way can be accepted.

    Between the last accept and close the kernel would complete one more, and reset it with its request. A newcomer's
    first packet is dropped instead: it is sent again after a second, and then refused, so another replica is asked.
    Linux alone can do this; elsewhere nothing happens.
    """
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    fprog = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
