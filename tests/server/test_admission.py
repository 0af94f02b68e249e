"""The bound on requests in flight: one more is refused at once, and a place becomes free however a request ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send

from groat.protocol.errors import TemporarilyUnavailable
from groat.server.admission import Admission

End = Callable[["asyncio.Task[None]", "asyncio.Event"], Awaitable[None]]


async def _served(task: "asyncio.Task[None]", release: asyncio.Event) -> None:
    release.set()
    await task


async def _given_up(task: "asyncio.Task[None]", release: asyncio.Event) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _receive() -> dict[str, str]:
    return {"type": "http.request"}


async def _send(message: object) -> None:
    raise AssertionError("nothing is sent here")


@pytest.mark.rule("I9", "L08")
@pytest.mark.parametrize("end", [_served, _given_up])
def test_one_request_too_many_is_refused_until_another_ends(end: End) -> None:
    """With two places the third is told to come back, and is let in when one of the two has ended in any way."""

    async def check() -> None:
        release = asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await release.wait()

        admission = Admission(slow, limit=2)
        tasks = [asyncio.create_task(admission({}, _receive, _send)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TemporarilyUnavailable) as refused:
            await admission({}, _receive, _send)
        assert refused.value.retry_after == 1
        assert refused.value.reason == "overloaded"
        await end(tasks[0], release)
        assert admission.in_flight < 2
        release.set()
        await admission({}, _receive, _send)
        await asyncio.wait(tasks)
        assert admission.in_flight == 0

    asyncio.run(check())
