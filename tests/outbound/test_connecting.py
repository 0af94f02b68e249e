"""Connecting over real sockets: several addresses, silent ones, refusing ones, none."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.outbound.connecting import MAX_ADDRESSES, _in_turns, connect
from groat.outbound.real_time import monotonic
from tests.addresses import black_hole, resolve


@pytest.fixture
def port() -> Iterator[int]:
    """A port of 127.0.0.1 and of ::1 that accepts, and that nobody has at 127.0.0.9."""
    with socket.create_server(("127.0.0.1", 0)) as four:
        number = four.getsockname()[1]
        with socket.create_server(("::1", number), family=socket.AF_INET6):
            yield number


def sockets() -> int:
    """How many sockets this process holds."""
    return sum(os.readlink(fd).startswith("socket:") for fd in _links())


def _links() -> list[Path]:
    return [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]


@pytest.mark.rule("FO-5")
@pytest.mark.parametrize(
    ("addresses", "wanted"),
    [
        (["127.0.0.2", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.2", "::1"], "::1"),
        (["127.0.0.2", "127.0.0.9", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.9", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.1"], "127.0.0.1"),
        (["127.0.0.1", "127.0.0.2"], "127.0.0.1"),
        (["::1", "127.0.0.1"], "::1"),
    ],
)
def test_the_first_address_that_answers(
    monkeypatch: pytest.MonkeyPatch, port: int, addresses: list[str], wanted: str
) -> None:
    """A black hole or a refusal costs a moment, not the connection; the losers are closed."""
    resolve(monkeypatch, {"many.example": addresses})
    with black_hole("127.0.0.2", port):
        before, begun = sockets(), time.monotonic()
        with connect("many.example", port, monotonic() + 30) as sock:
            assert sock.getpeername()[0] == wanted
            assert sockets() == before + 1
            assert 0 < (sock.gettimeout() or 0) <= 30
        assert time.monotonic() - begun < 10


@pytest.mark.rule("FO-5")
def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """At the deadline it is over, and nothing is left behind."""
    resolve(monkeypatch, {"many.example": ["127.0.0.2"] * 3})
    with black_hole("127.0.0.2", port):
        before, begun = sockets(), time.monotonic()
        with pytest.raises(TimeoutError):
            connect("many.example", port, monotonic() + 0.6)
        assert 0.5 < time.monotonic() - begun < 10
        assert sockets() == before


@pytest.mark.rule("FO-5")
def test_everybody_refuses(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """The reason is that of the last address, at once."""
    resolve(monkeypatch, {"many.example": ["127.0.0.8", "127.0.0.9"]})
    before = sockets()
    with pytest.raises(ConnectionRefusedError):
        connect("many.example", port, monotonic() + 30)
    assert sockets() == before


@pytest.mark.rule("FO-5")
def test_names_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name and one that cannot be a name are errors of the same kind as a refusal."""
    resolve(monkeypatch, {"none.example": []})
    for name in ("none.example", "a..b", "x" * 64 + ".example"):
        with pytest.raises(OSError):
            connect(name, 80, monotonic() + 5)


@pytest.mark.rule("FO-5", "I9")
def test_families_take_turns() -> None:
    """Whatever many addresses one family has, the other comes second; no endless list is tried."""
    six = [(socket.AF_INET6, at) for at in range(20)]
    four = [(socket.AF_INET, at) for at in range(2)]
    assert _in_turns([*six, *four])[:4] == [six[0], four[0], six[1], four[1]]
    assert len(_in_turns([*six, *four])) == 22 > MAX_ADDRESSES
