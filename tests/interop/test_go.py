"""The Go programs of the guides (go-oidc, x/oauth2), as a reader copies them, against real servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guide_pages import programs
from tests.ports import free_port

from .conftest import IssuerOf, token_of
from .other_apis import AUDIENCE, KEY, check_lies, check_tokens_of_groat
from .processes import RESOURCE, GroatServer
from .toolchains import GoPrograms, api, lines_of

HERE = Path(__file__).parent
PROTECT = "protect-an-api-other-languages.md"
CALL = "call-an-api-other-languages.md"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> GoPrograms:
    """The toolchain with the modules of `go/`."""
    return GoPrograms(tmp_path_factory.mktemp("go"))


class Orders:
    """The API of the guide, built anew for every issuer."""

    def __init__(self, go: GoPrograms, directory: Path) -> None:
        self._go, self._directory = go, directory

    @contextmanager
    def __call__(self, issuer: str) -> Iterator[str]:
        port = free_port()
        program = self._go.build(f"orders-{port}", programs(PROTECT, "go", issuer)["orders.go"])
        with api([program], port, self._directory, LISTEN=f"127.0.0.1:{port}") as origin:
            yield origin


@pytest.mark.rule("FO-23", "AT-01", "AT-05")
def test_go_oidc_takes_our_tokens(go: GoPrograms, guided: GroatServer, tmp_path: Path) -> None:
    """It finds the issuer by its metadata, and tells tokens for this API from those for others."""
    check_tokens_of_groat(Orders(go, tmp_path), guided)


def test_go_api_refuses_what_it_must(go: GoPrograms, tmp_path: Path) -> None:
    """What go-oidc does not look at, the page does."""
    check_lies(Orders(go, tmp_path), without_keys=503)


def ours(name: str) -> str:
    """A program that no page shows."""
    return (HERE / "go" / name).read_text("utf-8").replace("//go:build ignore\n\n", "")


@pytest.fixture(scope="session")
def probe(go: GoPrograms) -> Path:
    """go-oidc with nothing set but the audience."""
    return go.build("probe", ours("probe.go"))


@pytest.mark.rule("FO-23", "AS-MC-01", "AT-09")
@pytest.mark.parametrize(
    ("algorithm", "word"), [("ES256", "ok billing"), ("RS256", "ok billing"), ("Ed25519", "refused")]
)
def test_go_oidc_takes_the_algorithms_from_our_metadata(
    probe: Path, issuer_of: IssuerOf, algorithm: str, word: str
) -> None:
    """Without a word about algorithms it takes those of our keys; Ed25519 it knows by its older name alone."""
    server = issuer_of(algorithm)
    (line,) = lines_of([probe, server.issuer, RESOURCE], probe.parent, text=token_of(server))
    assert line.startswith(word)


@pytest.mark.rule("AS-CA-06", "AS-CA-10")
def test_go_caller_gets_tokens_and_calls(go: GoPrograms, guided: GroatServer, tmp_path: Path) -> None:
    """The two programs of the two pages meet each other."""
    caller = go.build("call", programs(CALL, "go", guided.issuer)["call.go"])
    with Orders(go, tmp_path)(guided.issuer) as origin:
        assert lines_of([caller], guided.directory, API=f"{origin}/orders")[0] == "200 an order of billing"


@pytest.mark.rule("AS-CA-10")
def test_go_assertion_in_the_configuration_works_once(go: GoPrograms, guided: GroatServer) -> None:
    """Why the page wraps x/oauth2's configuration: it sends the same assertion whenever it wants a token."""
    assertion = guided.run("client", "assertion", "billing", "--key", KEY).strip()
    program = go.build("reuse", ours("reuse.go"))
    first, second, *_ = lines_of([program, guided.token_endpoint, "billing", AUDIENCE], program.parent, text=assertion)
    assert (first, second.split()[0]) == ("ok", "refused")
    assert guided.last_refusal()["reason"] == "assertion_replayed"
