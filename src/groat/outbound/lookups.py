"""Name look-ups with an end: getaddrinfo cannot be told to hurry, so each has a thread of its own to hang in.

Whoever asks waits as long as he has time; the thread ends when the resolver gives up, some 10 to 40 seconds later. One
look-up of a host at a time, so many in all: names that hang use up neither memory nor the threads of others.
"""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from groat.outbound.connecting import Address

MAX_UNDER_WAY: Final = 128

Found = list[Address]


class Crowded(Exception):
    """Too many names are being looked up."""


@dataclass(slots=True)
class Lookups:
    """`find` is called by any thread. `resolve` as `socket.getaddrinfo`, which it is unless given."""

    limit: int = MAX_UNDER_WAY
    resolve: Callable[..., Found] | None = None
    _under_way: dict[tuple[str, int], "Future[Found]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, host: str, port: int, seconds: float) -> Found:
        """The addresses of a host, as getaddrinfo gives them. Raises TimeoutError, OSError, UnicodeError, Crowded."""
        return self._ask(host, port).result(seconds)

    def _ask(self, host: str, port: int) -> "Future[Found]":
        with self._lock:
            future = self._under_way.get((host, port))
            if future is None:
                if len(self._under_way) >= self.limit:
                    raise Crowded
                future = self._under_way[host, port] = Future()
                threading.Thread(target=self._work, args=(host, port, future), name="groat-lookup", daemon=True).start()
        return future

    def _work(self, host: str, port: int, future: "Future[Found]") -> None:
        try:
            found = (self.resolve or socket.getaddrinfo)(host, port, type=socket.SOCK_STREAM)
        except Exception as error:
            self._forget(host, port)
            future.set_exception(error)
        else:
            self._forget(host, port)
            future.set_result(found)

    def _forget(self, host: str, port: int) -> None:
        with self._lock:
            del self._under_way[host, port]
