"""The demo as fixtures: one to run, one that is left running."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from groat.demo.steps import API_PORT, SERVER_PORT

from .running import Demo, Kept, steps_of


@pytest.fixture(scope="session", autouse=True)
def busy_ports() -> Iterator[None]:
    """Occupy the ports that the demo prefers, so that demos at the same time never race for them."""
    with contextlib.ExitStack() as stack:
        for port in (SERVER_PORT, API_PORT):
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody else has it, which is as good
                listener.bind(("127.0.0.1", port))
                listener.listen()
        yield


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose leftovers are removed after the test."""
    made = Demo(tmp_path / "tmp")
    made.directory.mkdir()
    with made.guarded():
        yield made


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """One demo that stays up for all tests that ask it something."""
    with Demo(tmp_path_factory.mktemp("kept")).guarded() as made:
        done = made.run("--keep", "--json")
        assert done.returncode == 0, done.stderr
        with httpx2.Client(trust_env=False) as http:
            yield Kept(steps_of(done.stdout), done.stdout + done.stderr, http)
