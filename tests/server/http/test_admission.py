"""The bound on requests in flight: one more is refused at once, and a place becomes free however a request ends."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest

from groat.protocol.errors import TemporarilyUnavailable
from groat.server.http.admission import MAX_IN_FLIGHT, Admission
from tests.server.builders import base
from tests.server.lab import Lab
from tests.server.wire import FORM, check_ok

End = Callable[["asyncio.Task[None]", "asyncio.Event"], Awaitable[None]]


async def _served(task: "asyncio.Task[None]", release: asyncio.Event) -> None:
    release.set()
    await task


async def _given_up(task: "asyncio.Task[None]", release: asyncio.Event) -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.rule("I9", "L08")
@pytest.mark.parametrize("end", [_served, _given_up])
def test_one_request_too_many_is_refused_until_another_ends(end: End) -> None:
    """With two places the third is told to come back, and is let in when one of the two has ended in any way."""

    async def check() -> None:
        release = asyncio.Event()

        admission = Admission(limit=2)

        async def slow() -> None:
            with admission:
                await release.wait()

        tasks = [asyncio.create_task(slow()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TemporarilyUnavailable) as refused:
            await slow()
        assert refused.value.retry_after == 1
        assert refused.value.reason == "overloaded"
        await end(tasks[0], release)
        assert admission.in_flight < 2
        release.set()
        await slow()
        await asyncio.wait(tasks)
        assert admission.in_flight == 0

    asyncio.run(check())


@pytest.mark.rule("I9", "L08", "H08")
def test_nobody_holds_a_place_by_sending_slowly(lab: Lab) -> None:
    """More requests than there are places, each short of its last byte, keep nobody out."""
    body = base(lab.party.assertion())
    head = f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(lab.address, 5)) for _ in range(MAX_IN_FLIGHT + 20)]
        for connection in slow:
            connection.sendall(head.encode() + body[:-1])
        for _ in range(20):
            check_ok(lab.ask())
        slow[-1].sendall(body[-1:])
        assert slow[-1].recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.rule("ST-3", "I14")
def test_who_waits_for_somebody_else_holds_no_place() -> None:
    """It is free for others meanwhile, and whoever comes back needs no other one."""
    admission = Admission(limit=1)
    with admission:
        with admission.away():
            assert not admission.is_full(1)
            with admission:
                assert admission.is_full(2)
        assert (admission.in_flight, admission.waiting) == (1, 0)
    assert admission.in_flight == 0
