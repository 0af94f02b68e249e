"""Who goes on when of those that can wait."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from groat.server.http.pacing import Pacing


async def _arrivals(pacing: Pacing, names: str) -> tuple[list[str], list[int]]:
    """In which order these names went on, and in which turn of the loop each."""
    order: list[str] = []
    turns: list[int] = []
    turn = 0

    async def one(name: str) -> None:
        await pacing.next(name)
        order.append(name)
        turns.append(turn)

    tasks = [asyncio.ensure_future(one(name)) for name in names]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn += 1
    return order, turns


def run(work: "Coroutine[Any, Any, tuple[list[str], list[int]]]") -> tuple[list[str], list[int]]:
    return asyncio.run(work)


@pytest.mark.rule("ST-3", "I14")
def test_a_name_waits_behind_its_own_crowd_only() -> None:
    """Ten of one name and one of another that came last: the other is among the first."""
    order, _ = run(_arrivals(Pacing(each_turn=2), "aaaaaaaaaab"))
    assert order[:2] == ["a", "b"]
    assert sorted(order) == sorted("aaaaaaaaaab")


@pytest.mark.rule("ST-3")
def test_so_many_a_turn() -> None:
    """No turn of the loop sees more of them than it may, and none is left waiting."""
    _, turns = run(_arrivals(Pacing(each_turn=2), "abcabcabcabc"))
    assert max(turns.count(turn) for turn in turns) <= 2
    assert len(turns) == 12


def test_one_too_many_is_not_held_up() -> None:
    """The queue is bounded; whoever finds it full goes on at once, and nobody waits for ever."""
    pacing = Pacing(each_turn=1, max_waiting=3)
    order, turns = run(_arrivals(pacing, "aaaaab"))
    assert turns.count(min(turns)) >= 3  # the three that found no place, at least
    assert len(order) == 6
    assert pacing.waiting == 0


def test_who_went_away_takes_no_turn() -> None:
    """Cancelled requests leave nothing behind, and those behind them go on."""

    async def work() -> None:
        pacing = Pacing(each_turn=1)
        gone = [asyncio.ensure_future(pacing.next("a")) for _ in range(5)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait_for(pacing.next("b"), 1)
        assert pacing.waiting == 0

    asyncio.run(work())


def test_it_says_whose_name_waits() -> None:
    """A name is held while somebody of it waits, and no longer."""

    async def work() -> None:
        pacing = Pacing(each_turn=1)
        waiting = [asyncio.ensure_future(pacing.next("a")) for _ in range(2)]
        await asyncio.sleep(0)
        assert (pacing.holds("a"), pacing.holds("b")) == (True, False)
        await asyncio.gather(*waiting)
        assert not pacing.holds("a")

    asyncio.run(work())
