"""Registered clients and a neighbour behind the same address who fails all the time, on real servers."""

import asyncio
from urllib.parse import urlsplit

import pytest

from benchmarks.neighbour import ask, forged, line, measure, register, signed
from benchmarks.servers import CLIENT, groat_server

MOST_SECONDS = 1.0  # of an honest request on a machine that does other things as well


@pytest.mark.rule("ST-5", "L10", "T9", "I14")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_first_tokens_behind_a_failing_neighbour(workers: int) -> None:
    """Seven and fifty failures a second, past every limit: each client gets its first token at the first try, in time."""
    quiet, *noisy = measure(workers, clients=30, pace=25.0, rates=(0, 7, 50))
    for row in (quiet, *noisy):
        assert (row.first, row.served) == (30, 30)
        assert row.quantile(99) < max(3 * quiet.quantile(99), MOST_SECONDS)
        assert line(row, quiet).count("|") == 7
    assert [round(row.rate) > 3 for row in noisy] == [True, True]


@pytest.mark.rule("ST-5", "I16")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_neighbour_learns_nothing_about_the_others(workers: int) -> None:
    """Whoever was served a moment ago, is registered, or is not: a failure in that name has one status."""
    with groat_server("ES256", workers, env={"GROAT_THROTTLE__SOURCE_FAILURES": "20"}) as server:
        parts = urlsplit(server.token_url)
        address = (str(parts.hostname), int(parts.port or 80))
        (served,) = register(server.directory, 1)

        async def statuses(name: str) -> set[int]:
            return {status for status, _ in [await ask(address, forged(server.issuer, name)) for _ in range(10)]}

        async def whole() -> list[set[int]]:
            for number in range(100 * workers):
                await ask(address, forged(server.issuer, f"n{number}"))
            for _ in range(4 * workers):
                assert (await ask(address, signed(served, server.issuer)))[0] == 200
            return [await statuses(name) for name in (served[0], CLIENT, "nobody")]

        assert asyncio.run(whole()) == [{429}] * 3
