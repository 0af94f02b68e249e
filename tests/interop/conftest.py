"""The servers that these tests talk to, each started once per run and only when somebody asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from .foreign_keys import public_jwks
from .processes import GroatServer, groat_server, install_node_peers

CLIENT = "billing"
IssuerOf = Callable[[str], GroatServer]
SUMMARY = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the tests counted, without any option; a run split over processes counts in none of them."""
    for table in config.stash.get(SUMMARY, []):
        terminalreporter.section("interoperability")
        terminalreporter.write_line(table)


@pytest.fixture(scope="session")
def node_peers() -> None:
    """The npm packages of `node/`: demanded where the run says that it is CI, else skipped with a reason."""
    install_node_peers()


@pytest.fixture(scope="session")
def issuer_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IssuerOf]:
    """A groat server by the algorithm that signs its tokens; `billing` is registered with a key of every algorithm."""
    with ExitStack() as stack:

        @cache
        def start(algorithm: str) -> GroatServer:
            server = stack.enter_context(groat_server(tmp_path_factory.mktemp(f"groat-{algorithm}"), algorithm))
            server.add_client(CLIENT, public_jwks(CLIENT), "--default-scope", "orders:read")
            return server

        yield start


@pytest.fixture(scope="session")
def server(issuer_of: IssuerOf) -> GroatServer:
    """The server with everything at its default: ES256."""
    return issuer_of("ES256")
