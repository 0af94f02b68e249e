"""Seats for refused requests: few for one client, few for one source, some tens in all, and each is given back."""

from contextlib import ExitStack

import pytest

from groat.server.http.waiting_room import SEATS, SEATS_PER_CLIENT, SEATS_PER_SOURCE, WaitingRoom


@pytest.mark.rule("ST-3", "ST-10", "I9", "I14")
@pytest.mark.parametrize(
    ("asking", "seats"),
    [
        ([("one", f"source-{number}") for number in range(50)], SEATS_PER_CLIENT),
        ([(f"client-{number}", "one") for number in range(50)], SEATS_PER_SOURCE),
        ([(f"client-{number}", f"source-{number}") for number in range(50)], SEATS),
    ],
    ids=["one client", "one source", "many of both"],
)
def test_seats_are_few_and_given_back(asking: list[tuple[str, str]], seats: int) -> None:
    """As many as the bound says wait; the next one does not; afterwards nothing is kept of anybody."""
    room = WaitingRoom()
    for _ in range(2):
        with ExitStack() as inside:
            assert [inside.enter_context(room.seat(*who)) for who in asking] == [True] * seats + [False] * (50 - seats)
        assert not room._taken
