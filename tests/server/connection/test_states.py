"""The table of states: every event leads somewhere, every state has an end."""

import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from groat.server.connection.states import (
    READING,
    REPLACEABLE,
    SECONDS,
    SECONDS_WHEN_CROWDED,
    TRANSITIONS,
    Event,
    State,
)

APPLICATION = {State.BODY, State.WORKING}  # end what they are in by themselves
OVER = {State.CLOSED}


def test_every_state_is_reached_and_left() -> None:
    """From ARRIVING on, by the events of the table; CLOSED is where anything ends."""
    reached, new = {State.ARRIVING}, {State.ARRIVING}
    while new:
        new = {moves[state] for moves in TRANSITIONS.values() for state in new if state in moves} - reached
        reached |= new
    assert reached == set(State) - OVER
    assert set(TRANSITIONS) == set(Event)


@pytest.mark.rule("I9", "I14")
def test_every_state_has_an_end() -> None:
    """A time of its own, or the application's; and whoever may not be replaced is being worked for."""
    assert set(SECONDS) == set(State) - APPLICATION - OVER
    assert set(State) - REPLACEABLE - OVER == {State.WORKING}
    assert all(SECONDS_WHEN_CROWDED[state] < SECONDS[state] for state in SECONDS_WHEN_CROWDED)


def test_a_request_takes_the_ordinary_way() -> None:
    """And its end is where it may begin again."""
    state = State.IDLE
    for event in (Event.BEGUN, Event.HEADED, Event.WHOLE, Event.ANSWERED):
        state = TRANSITIONS[event][state]
    assert state is State.IDLE
    assert State.WORKING not in READING


def test_what_we_use_of_uvicorn_is_there() -> None:
    """Its private parts may change with any minor version: pyproject.toml allows the one that this was written for."""
    assert uvicorn.__version__.startswith("0.54.")
    made = inspect.getsource(HttpToolsProtocol.__init__) + inspect.getsource(HttpToolsProtocol.connection_made)
    for name in (
        "parser", "app", "loop", "logger", "access_logger", "tasks", "connections", "server_state", "timeout_keep_alive",
        "transport", "flow", "server", "client", "scheme", "scope", "headers", "expect_100_continue", "cycle",
    ):  # fmt: skip
        assert f"self.{name}" in made, name
    assert "self.url" in inspect.getsource(HttpToolsProtocol.on_message_begin)
    lost = inspect.getsource(HttpToolsProtocol.connection_lost)
    assert "self.connections.discard(self)" in lost
    assert "self.parser = None" in lost
    assert list(inspect.signature(RequestResponseCycle).parameters) == [
        "scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event",
        "expect_100_continue", "keep_alive", "on_response",
    ]  # fmt: skip
    flow = inspect.getsource(FlowControl)
    assert "self.read_paused" in flow
    assert "self.write_paused" in flow
