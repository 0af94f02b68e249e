"""Reading from a socket until a deadline, and no further: a slow drip of bytes resets no timer here."""

import io
from socket import socket
from typing import Any

from groat.outbound.real_time import remaining


class DeadlineReader(io.RawIOBase):
    """A socket's bytes, none of them after the deadline, and no more than `limit`: then the stream ends."""

    def __init__(self, raw: io.RawIOBase, sock: socket, deadline: float, limit: int) -> None:
        self._raw, self._sock, self._deadline, self._left = raw, sock, deadline, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left <= 0:
            return 0
        self._sock.settimeout(remaining(self._deadline))
        read = self._raw.readinto(memoryview(buffer)[: self._left])
        self._left -= read or 0
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class DeadlineSocket:
    """The one method of a socket that HTTPResponse uses."""

    def __init__(self, sock: socket, deadline: float, limit: int) -> None:
        self._sock, self._deadline, self._limit = sock, deadline, limit

    def makefile(self, mode: str) -> io.BufferedReader:
        raw: Any = self._sock.makefile(mode, buffering=0)  # type: ignore[call-overload]
        return io.BufferedReader(DeadlineReader(raw, self._sock, self._deadline, self._limit))
