"""The memory of refusals: bounded, whatever comes; read whole while it is written; shared by workers."""

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from groat.server.log.refusals import MAX_LINE_BYTES, RING_BYTES, Refusals
from groat.server.operations.refusals import find_refusal, list_refusals

NOW = 1_800_000_000.0


def fill(memory: Refusals, many: int, client: str = "billing", start: int = 0, hint: str = "x" * 100) -> None:
    for number in range(start, start + many):
        facts = {"reason": "assertion_key", "hint": hint, "request_id": f"r{number}", "client": client}
        memory.keep("warning", "token.refused", NOW + number, facts)


def test_the_newest_are_kept_and_found() -> None:
    """As many as there is room for; each of them by its id, and none that was overwritten."""
    memory = Refusals(size=20_000)
    fill(memory, 1000)
    kept = memory.latest(500)
    assert kept[-1]["request_id"] == "r999"
    assert [one["request_id"] for one in kept] == [f"r{number}" for number in range(1000 - len(kept), 1000)]
    assert 80 < len(kept) < 120
    for number in (1000 - len(kept), 950, 999):
        found = memory.find(f"r{number}")
        assert found is not None
        assert found["at"] == NOW + number
    assert memory.find("r1") is None
    assert memory.find('r99"') is None


def test_ten_thousand_usual_ones_have_room() -> None:
    """With a hint as long as most are."""
    memory = Refusals()
    facts = {"error": "invalid_client", "status": 401, "source": "192.0.2.1", "ms": 0.31, "client": "billing"}
    for number in range(10_500):
        more = {"reason": "assertion_audience", "hint": "h" * 200, "request_id": f"{number:022}"}
        memory.keep("warning", "token.refused", NOW + number, facts | more)
    assert memory.find(f"{501:022}") is not None
    assert RING_BYTES == 5 * 1024 * 1024


def test_they_are_found_by_client_and_time() -> None:
    """The last ones of one client, oldest first."""
    memory = Refusals(size=100_000)
    fill(memory, 20, "one")
    fill(memory, 20, "two", start=20)
    fill(memory, 5, "one", start=40)
    assert [one["request_id"] for one in memory.latest(7, "one")] == ["r18", "r19", "r40", "r41", "r42", "r43", "r44"]
    assert [one["request_id"] for one in memory.latest(100, "two", NOW + 37)] == ["r38", "r39"]
    assert memory.latest(3, 'o"ne') == []


def test_nobody_writes_a_line_into_it() -> None:
    """What a stranger says stands in a string: no line of his own comes of it, nor a secret of anybody."""
    memory = Refusals(size=3000)
    forged = json.dumps({"at": NOW, "request_id": "forged", "client": "x"})
    for number in range(50):
        fill(memory, 1, f"}}\n{forged}\n", number, hint=f"\n{forged}\n{'y' * (number * 7)}")
        assert memory.find("forged") is None
    memory.keep("warning", "e", NOW, {"request_id": "s", "hint": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"})
    found = memory.find("s")
    assert found is not None
    assert found["hint"] == "[redacted]"
    memory.keep("warning", "e", NOW, {"request_id": "long", "hint": "z" * MAX_LINE_BYTES})
    assert memory.find("long") is None


def _work(folder: Path, start: int, ready: "multiprocessing.synchronize.Barrier | None") -> None:
    memory = Refusals.of_folder(str(folder))
    fill(memory, 10, start=start)
    if ready is not None:
        ready.wait(30)


def test_workers_are_read_together(tmp_path: Path) -> None:
    """Each has a ring of its own; one that takes a dead one's place goes on in that, and nothing is lost."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_work, args=(tmp_path, start, barrier)) for start in (0, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(list(tmp_path.iterdir())) == 2
    third = Refusals.of_folder(str(tmp_path))
    fill(third, 1, start=200)
    assert len(list(tmp_path.iterdir())) == 2
    assert [one["request_id"] for one in third.latest(500)] == [f"r{n}" for n in (*range(10), *range(100, 110), 200)]
    assert third.find("r105") is not None


@pytest.mark.parametrize("folder", [None, "", "/nonexistent/folder"])
def test_without_a_folder_it_remembers_alone(folder: str | None) -> None:
    """A folder that takes nothing is no reason not to serve."""
    memory = Refusals.of_folder(folder)
    fill(memory, 3)
    assert memory.find("r2") is not None


def test_no_room_on_the_disk_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write to a file without room would end the process later; it remembers alone instead."""
    (tmp_path / "refusals-0").symlink_to("/dev/full")  # which takes no length
    memory = Refusals.of_folder(str(tmp_path))
    fill(memory, 3)
    assert memory.find("r2") is not None
    assert os.listdir(tmp_path) == ["refusals-0"]


@pytest.mark.parametrize("ask", [lambda memory: find_refusal(memory, "r"), lambda memory: list_refusals(memory, 9)])
def test_whoever_asks_for_tokens_does_not_wait_for_it(
    tmp_path: Path, ask: Callable[[Refusals], Coroutine[Any, Any, object]]
) -> None:
    """The rings of all workers are megabytes each, on a disk that may be slow: here one that answers after a second."""
    memory = Refusals(tmp_path, 4096)
    memory.keep("warning", "token.refused", 1.0, {"request_id": "r"})
    os.mkfifo(tmp_path / "refusals--")
    late = threading.Timer(1.0, lambda: (tmp_path / "refusals--").write_bytes(b""))

    async def work() -> None:
        late.start()
        asking = asyncio.create_task(ask(memory))  # type: ignore[var-annotated]
        await asyncio.sleep(0.01)
        assert not asking.done()
        assert await asking

    asyncio.run(work())
    late.join()
