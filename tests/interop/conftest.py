"""The servers that these tests talk to, each started once per run and only when somebody asks for it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache

import pytest

from groat.client import MachineClient
from groat.keys.files import parse_private_key
from groat.protocol.jwk import private_key

from .foreign_keys import key_pair, private_pem, public_jwks
from .other_apis import guide_server
from .processes import RESOURCE, SCOPES, GroatServer, groat_server, install_node_peers

CLIENT = "billing"
IssuerOf = Callable[[str], GroatServer]
COUNTS = "interop-counts"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the differential tests counted, without any option."""
    tables: dict[str, dict[str, Counter[str]]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            for title, rows in value.items() if name == COUNTS and report.when == "call" else ():
                for kind, row in rows.items():
                    tables.setdefault(title, {}).setdefault(kind, Counter()).update(row)
    for title, table in tables.items():
        terminalreporter.section(title)
        for line in _lines(table):
            terminalreporter.write_line(line)


def _lines(table: Mapping[str, Counter[str]]) -> Iterator[str]:
    """Kinds of which anybody accepted one, and the sum over all."""
    total = sum(table.values(), Counter[str]())
    columns = list(total)
    yield f"{'accepted by':<24}" + "".join(f"{name:>10}" for name in columns)
    rows = {kind: row for kind, row in sorted(table.items()) if row.total() > row["drawn"]}
    for kind, row in (rows | {"all": total}).items():
        yield f"{kind:<24}" + "".join(f"{row[name]:>10}" for name in columns)


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


@pytest.fixture(scope="session")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroatServer]:
    """A groat with the API and the client of the guides; the client's key file is in its directory."""
    with guide_server(tmp_path_factory.mktemp("guided")) as server:
        yield server


def token_of(server: GroatServer) -> str:
    """A token for the first API, fetched with a key that another library made."""
    key = parse_private_key(private_pem(CLIENT, "ES256").encode(), "a PEM of another library")
    kid = str(key_pair(CLIENT, "ES256")["kid"])
    with MachineClient(server.issuer, CLIENT, private_key(key.key, key.algorithm, kid)) as client:
        return client.token(RESOURCE, [SCOPES[0]]).value
