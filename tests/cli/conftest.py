"""Installations for the tests of the command line: an empty one, a furnished one, one with a running server."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

from .running import AUDIENCE, ISSUER, Home, Server


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory after init, with the API orders and the client billing; copied, never changed."""
    home = Home(tmp_path_factory.mktemp("furnished"))
    home.ok("init", "--issuer", ISSUER)
    home.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
    home.ok("client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "billing.key.json")
    return home.directory


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """A directory with nothing in it."""
    return Home(tmp_path)


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Home:
    """A copy of the furnished directory."""
    return Home(Path(shutil.copytree(furnished, tmp_path / "home")))


@dataclass(frozen=True, slots=True)
class Live:
    """An installation whose server runs."""

    home: Home
    server: Server


@pytest.fixture(scope="module")
def live(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A copy of the furnished directory with a running server, shared by one module."""
    port = free_port()
    directory = Path(shutil.copytree(furnished, tmp_path_factory.mktemp("live") / "home"))
    home = Home(directory, {"GROAT_SERVER__PORT": str(port)})
    with home.serving(port=port) as server:
        yield Live(home, server)
