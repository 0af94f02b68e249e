"""A TCP proxy that can be slow, narrow, torn or silent, between a replica and what it needs or who needs it.

It runs on an event loop of its own, in a thread; a test changes its settings while connections go through it.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

CHUNK: Final = 16 * 1024
_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time: close() sends RST and not FIN


@dataclass(slots=True)
class Proxy:
    """Listens on `port` of 127.0.0.1 (0: a free one) and forwards to `upstream`.

    `latency`: seconds added to every chunk in each direction. `bandwidth`: bytes a second in each direction, 0 for
    no limit. `frozen`: connections stay open, new ones are accepted, and nothing passes (a half-open link). `refusing`:
    new connections are reset. `reset_after`: the next so many bytes from upstream pass, then that connection is reset.
    """

    upstream: tuple[str, int]
    port: int = 0
    latency: float = 0.0
    bandwidth: int = 0
    frozen: bool = False
    refusing: bool = False
    reset_after: int | None = None
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _server: asyncio.Server | None = None

    def __enter__(self) -> "Proxy":
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(10)
        self._loop.close()

    def heal(self) -> None:
        """Forward again as if nothing had been."""
        self.latency, self.bandwidth, self.reset_after = 0.0, 0, None
        self.refusing = self.frozen = False

    def cut(self) -> None:
        """Reset every connection now."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._reset_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        try:
            while self.frozen:  # accepted, and nothing more
                await asyncio.sleep(0.02)
            up_reader, up_writer = await asyncio.open_connection(*self.upstream, limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, up_writer}
        self.connections += 1
        try:
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer, down=True))
        except (OSError, EOFError):
            _reset(writer)
            _reset(up_writer)
        except asyncio.CancelledError:
            pass  # the proxy ends
        finally:
            self.connections -= 1
            self._writers -= {writer, up_writer}
            for each in (writer, up_writer):
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool = False) -> None:
        """Chunks in order, each delayed. Raises EOFError where the connection is to be torn."""
        while data := await reader.read(CHUNK):
            await self._delay(len(data))
            if down and self.reset_after is not None:
                data, torn = data[: self.reset_after], len(data) >= self.reset_after
                self.reset_after = None if torn else self.reset_after - len(data)
                writer.write(data)
                if torn:
                    await asyncio.sleep(0.01)  # let what may pass pass
                    raise EOFError
                continue
            writer.write(data)
            await writer.drain()
        writer.close()  # one side has ended in good order: so does the other

    async def _delay(self, size: int) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.bandwidth:
            await asyncio.sleep(size / self.bandwidth)
        while self.frozen:
            await asyncio.sleep(0.02)

    def _reset_all(self) -> None:
        for writer in tuple(self._writers):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the peer sees a reset."""
    with contextlib.suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
