"""Deployments for these tests; whatever they start ends with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.postgres import PostgresServer

from .deployment import Deployment, ended
from .proxy import Proxy
from .sizes import SIZES, STORES


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment on one SQLite file, without replicas yet."""
    directory = tmp_path / "sqlite"
    directory.mkdir()
    with ended(Deployment.on_sqlite(directory)) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own that scenarios may kill, freeze and restart: it comes back on its port."""
    with PostgresServer.running() as server:
        server.stop()
        server.port = free_port()
        server.start()
        yield server


@pytest.fixture
def postgres(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Deployment]:
    """A deployment on an empty PostgreSQL database, without replicas yet."""
    directory = tmp_path / "postgres"
    directory.mkdir()
    with ended(Deployment.on_postgres(directory, postgres_server.database())) as deployment:
        yield deployment


@pytest.fixture
def link(postgres_server: PostgresServer) -> Iterator[Proxy]:
    """A proxy on the way to PostgreSQL; it outlives the judgement, which needs servers that work."""
    with Proxy(("127.0.0.1", postgres_server.port)) as proxy:
        yield proxy


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The name of a store."""
    return str(request.param)


@pytest.fixture
def deployment(store: str, request: pytest.FixtureRequest) -> Deployment:
    """A deployment on that store."""
    made: Deployment = request.getfixturevalue(store)
    return made


@pytest.fixture
def fresh_deployments(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Deployment]]:
    """As many deployments on empty databases as the profile has first starts."""
    made = []
    for number in range(SIZES.first_boots):
        directory = tmp_path / f"boot-{number}"
        (directory / "data").mkdir(parents=True)
        if store == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            made.append(Deployment.on_postgres(directory, server.database()))
        else:
            made.append(Deployment.on_sqlite(directory))
    yield made
    for deployment in made:
        deployment.stop()
