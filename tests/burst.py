"""Bursts of token requests, each on a connection of its own, and what honest ones meet meanwhile."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Answered:
    """Status and seconds of one request; 0 where no answer came."""

    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Door:
    """Where requests go in; `context`: speak TLS."""

    address: Address
    context: ssl.SSLContext | None = None

    async def ask(self, body: bytes, source: str = "127.0.0.1", seconds: float = 20.0) -> Answered:
        """One request from this loopback address, which a server behind a proxy hears of, too."""
        request = (
            b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"X-Forwarded-For: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (source.encode(), len(body), body)
        )
        started = time.monotonic()
        head = b""
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            async with asyncio.timeout(seconds):
                name = "localhost" if self.context else None
                reader, writer = await asyncio.open_connection(
                    *self.address, ssl=self.context, server_hostname=name, local_addr=(source, 0)
                )
                with contextlib.closing(writer):
                    writer.write(request)
                    head = await reader.read(4096)
        return Answered(int(head[9:12] or b"0"), time.monotonic() - started)


async def one_by_one(door: Door, make: Callable[[], bytes], times: int) -> list[Answered]:
    """Honest requests, each after the answer to the one before."""
    return [await door.ask(make()) for _ in range(times)]


async def burst(door: Door, bodies: Sequence[bytes]) -> list[Answered]:
    """All at once, each from a source of its own."""
    return list(
        await asyncio.gather(*(door.ask(body, f"127.9.{n // 250}.{n % 250 + 1}") for n, body in enumerate(bodies)))
    )


def worst(answers: Sequence[Answered]) -> float:
    """The 99th percentile of the seconds."""
    seconds = sorted(answer.seconds for answer in answers)
    return seconds[min(len(seconds) - 1, len(seconds) * 99 // 100)]
