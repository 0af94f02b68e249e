"""The Java programs of the guides (Spring Boot, Nimbus), as a reader copies them, against real servers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from groat.keys.files import read_private_key
from tests.guide_pages import programs
from tests.ports import free_port

from .bound import BOUND_CLIENT, bound_place
from .conftest import IssuerOf, token_of
from .foreign_keys import private_jwk
from .other_apis import check_lies, check_tokens_of_groat
from .processes import GroatServer
from .toolchains import JavaPrograms, api, lines_of

HERE = Path(__file__).parent
PROTECT = "protect-an-api-other-languages.md"
CALL = "call-an-api-other-languages.md"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> JavaPrograms:
    """The toolchain with the libraries of `java/pom.xml`."""
    return JavaPrograms(tmp_path_factory.mktemp("java"))


class Orders:
    """The API of the guide, compiled anew for every issuer."""

    def __init__(self, java: JavaPrograms, directory: Path) -> None:
        self._java, self._directory = java, directory

    @contextmanager
    def __call__(self, issuer: str) -> Iterator[str]:
        port = free_port()
        command = self._java.compile(f"orders-{port}", programs(PROTECT, "java", issuer))
        address = {"SERVER_PORT": str(port), "SERVER_ADDRESS": "127.0.0.1"}
        with api([*command, "example.OrdersApplication"], port, self._directory, **address) as origin:
            yield origin


@pytest.mark.rule("FO-23", "AT-01", "AT-05")
def test_spring_takes_our_tokens(java: JavaPrograms, guided: GroatServer, tmp_path: Path) -> None:
    """`fromIssuerLocation` finds the keys; the filter chain tells tokens for this API from those for others."""
    check_tokens_of_groat(Orders(java, tmp_path), guided)


def test_spring_api_refuses_what_it_must(java: JavaPrograms, tmp_path: Path) -> None:
    """The validators of the page say no where Spring's own would not."""
    check_lies(Orders(java, tmp_path), without_keys=503)


@pytest.fixture(scope="session")
def discovery(java: JavaPrograms) -> Sequence[str]:
    """Spring Security's discoveries and its decoder, by themselves."""
    command = java.compile("discovery", {"Discovery.java": (HERE / "java" / "Discovery.java").read_text("utf-8")})
    return [*command, "Discovery"]


@pytest.mark.rule("FO-23", "AS-MC-01", "AT-02", "AT-09")
@pytest.mark.parametrize(("algorithm", "known"), [("ES256", True), ("RS256", True), ("Ed25519", False)])
def test_spring_reads_our_metadata(
    discovery: Sequence[str], issuer_of: IssuerOf, tmp_path: Path, algorithm: str, known: bool
) -> None:
    """Both of its discoveries; its decoder wants to be told the type, and knows no Ed25519."""
    server = issuer_of(algorithm)
    lines = lines_of([*discovery, server.issuer], tmp_path, text=token_of(server))
    answers = dict(line.split(": ", 1) for line in lines)
    assert answers["client"] == f"ok {server.token_endpoint}"
    assert answers["as it comes"].startswith("refused")
    assert answers["told the type"].startswith("ok billing" if known else "refused"), answers


@pytest.mark.rule("FO-23", "AS-CA-06", "AS-CA-10")
def test_java_callers_get_tokens_and_call(java: JavaPrograms, guided: GroatServer, tmp_path: Path) -> None:
    """The programs of the two pages meet each other: Nimbus by itself, and Spring's client."""
    command = java.compile("call", programs(CALL, "java", guided.issuer))
    with Orders(java, tmp_path)(guided.issuer) as origin:
        for program in ("CallOrders", "SpringCallOrders"):
            lines = lines_of([*command, f"example.{program}"], guided.directory, API=f"{origin}/orders")
            assert lines[-1] == '200 ["an order of billing"]'


@pytest.mark.rule("AS-DP-09", "AS-DP-10", "RS-DP-01", "RS-DP-08")
def test_nimbus_gets_bound_tokens_and_calls(java: JavaPrograms, tmp_path: Path) -> None:
    """Proofs by Nimbus, at the token endpoint and at the example API, both of which demand nonces."""
    source = (HERE / "java" / "BoundCall.java").read_text("utf-8")
    command = [*java.compile("bound", {"BoundCall.java": source}), "BoundCall"]
    with bound_place(tmp_path, "required") as place:
        told = [place.server.issuer, BOUND_CLIENT, place.api, f"{place.api}/protected?day=1", "ES256", "PS256"]
        lines = lines_of([*command, *told], tmp_path, text=json.dumps(private_jwk(BOUND_CLIENT, "ES256")))
    assert lines == ["ES256 DPoP 200 200", "PS256 DPoP 200 200"]


@pytest.mark.rule("AS-IN-11", "AS-RV-06")
def test_spring_asks_about_tokens(java: JavaPrograms, issuer_of: IssuerOf, tmp_path: Path) -> None:
    """Its opaque-token introspector: a token that counts, one that was taken back, garbage."""
    source = (HERE / "java" / "Introspect.java").read_text("utf-8")
    command = [*java.compile("introspect", {"Introspect.java": source}), "Introspect"]
    server = issuer_of("ES256")
    server.run("api", "key", "add", "orders", "--new-key", "spring.key.json")
    tokens = [token_of(server), token_of(server)]
    taken_back = server.directory / "token.txt"
    taken_back.write_text(tokens[1])
    taken_back.chmod(0o600)
    server.run("revoke", "token", "token.txt")
    key = json.dumps(dict(read_private_key(server.directory / "spring.key.json").private_jwk()))
    told = [server.issuer, f"{server.issuer}/introspect", "orders"]
    lines = lines_of([*command, *told], tmp_path, text="\n".join([key, *tokens, "garbage"]))
    assert lines == ["active billing [SCOPE_orders:read]", *["refused Provided token isn't active"] * 2]
