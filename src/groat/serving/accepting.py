"""Takes connections in, so that the worker processes of one listener get equal shares of them.

Left alone, the worker that wakes first takes all that wait: sixteen connections of a proxy's pool may end in one of two
workers, and the other core has nothing to do for as long as they live (docs/decisions/0018-equal-shares.md).
"""

import asyncio
import contextlib
import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from groat.protocol.errors import TemporarilyUnavailable
from groat.server.http.admission import RETRY_AFTER_SECONDS
from groat.server.http.answers import refusal_body

SLACK: Final = 1  # connections that a worker may have more than the one with the fewest, and take another
LOOK_AGAIN_SECONDS: Final = 0.001
PATIENCE: Final = 40  # looks; after them whoever should have taken it is too busy
AT_ONCE: Final = 4  # connections per turn of the loop: those who are inside wait meanwhile
NO_DESCRIPTOR_SECONDS: Final = 1.0
LAST_HANDSHAKE_SECONDS: Final = 1.0  # for TLS handshakes that are under way when the server ends
GOODBYE_TIMEOUT_SECONDS: Final = 3.0  # for a peer to confirm the end of TLS; with the drain, less than a graceful end
_NOBODY: Final = -1
_BUSY: Final = TemporarilyUnavailable("overloaded", retry_after=RETRY_AFTER_SECONDS)
_BUSY_ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"cache-control: no-store\r\npragma: no-cache\r\nretry-after: %d\r\ncontent-length: %d\r\n\r\n%b"
) % (RETRY_AFTER_SECONDS, len(refusal_body(_BUSY)), refusal_body(_BUSY))


def turn_away(connection: socket.socket, plain: bool) -> None:
    """Close a connection for which there is no room; over plain http with a short 503, without waiting for anything."""
    with contextlib.suppress(OSError):
        if plain:
            connection.recv(65536)  # what is unread at the end would reset the connection
            connection.send(_BUSY_ANSWER)
    connection.close()


class Shares:
    """How many connections each worker has, in memory that all of them share.

    Numbers are written and read without a lock: each has one writer, and one that is a moment old does no harm.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        self._counts = memoryview(mmap.mmap(self._descriptor, 0)).cast("q")
        self._mine = self._claim()

    @classmethod
    def join(cls, file: Path) -> "Shares | None":
        """Take part; None where no place is left or the memory is gone: such a worker takes whoever comes."""
        try:
            return cls(file)
        except (OSError, RuntimeError):
            return None

    @staticmethod
    def create(file: Path, workers: int) -> None:
        """Make the memory; the supervisor does, before the first worker."""
        file.write_bytes(_NOBODY.to_bytes(8, "little", signed=True) * workers)

    def _claim(self) -> int:
        """A place that no living process has: the kernel lets go of the lock of one that was killed."""
        for place in range(len(self._counts)):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 8, 8 * place)
                return place
        raise RuntimeError("more workers than places")

    def note(self, connections: int) -> None:
        self._counts[self._mine] = connections

    def leave(self) -> None:
        """Take no part any more; the others do not wait for this one."""
        self._counts[self._mine] = _NOBODY

    def is_my_turn(self, connections: int) -> bool:
        """Whether no other worker has fewer connections, but for one."""
        return all(count == _NOBODY or connections <= count + SLACK for count in self._counts)


class Acceptor:
    """Accepts on one listener and hands each connection to `serve`; `connections` says how many there are."""

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket, tuple[str, int]], Awaitable[object]],
        connections: Callable[[], int],
        shares: Shares | None,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._connections = connections
        self._shares = shares
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._arriving: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._on_waiting)

    def tell(self) -> None:
        """Let the other workers know how many connections there are here, or that no more can be taken for now."""
        if self._shares is None:
            return
        if self._full:
            self._shares.leave()
        else:
            self._shares.note(self._connections() + len(self._arriving))

    async def close(self, seconds: float) -> None:
        """Accept whoever waits, and let what arrives begin; the listener is closed. `seconds`: for handshakes."""
        self._stop()
        while self._accept(anyway=True) == AT_ONCE:
            pass
        self._stop()  # where no descriptor was left, a pause has begun
        self._listener.close()
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=seconds)
        for task in self._arriving:
            task.cancel()

    def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()

    def _on_waiting(self) -> None:
        self._accept()
        if self._timer is None and not self._is_my_turn():
            self._pause(LOOK_AGAIN_SECONDS, PATIENCE)

    def _pause(self, seconds: float, looks: int) -> None:
        self._loop.remove_reader(self._listener)
        self._timer = self._loop.call_later(seconds, self._look_again, looks)

    def _look_again(self, looks: int) -> None:
        """Another worker has fewer connections; if it is busy, those who wait must not wait for it."""
        self._timer, self._full = None, False
        if looks and not self._is_my_turn():
            self._timer = self._loop.call_later(LOOK_AGAIN_SECONDS, self._look_again, looks - 1)
            return
        self._loop.add_reader(self._listener, self._on_waiting)
        self._accept(anyway=not looks)

    def _is_my_turn(self) -> bool:
        self.tell()
        return self._shares is None or self._shares.is_my_turn(self._connections() + len(self._arriving))

    def _accept(self, anyway: bool = False) -> int:
        """Take in who waits, while it is this worker's turn; how many there were."""
        for taken in range(AT_ONCE):
            if not anyway and not self._is_my_turn():
                return taken
            try:
                connection, peer = self._listener.accept()
            except BlockingIOError:
                return taken
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptor left, or no memory: it does not help to ask at once again
                logging.getLogger("uvicorn.error").error("cannot accept connections: %s", error.strerror)
                self._full = True
                self.tell()
                self._pause(NO_DESCRIPTOR_SECONDS, PATIENCE)
                return taken
            connection.setblocking(False)
            task = self._loop.create_task(self._arrive(connection, peer[:2]))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        return AT_ONCE

    async def _arrive(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # gone already, or no TLS handshake
            await self._serve(connection, peer)
