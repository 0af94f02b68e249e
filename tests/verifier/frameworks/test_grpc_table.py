"""The table of requests over gRPC: each server, each kind of call, answered alike."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest

from groat.protocol.dpop import token_hash
from groat.verifier import ConfigError, Verifier, any_of
from groat.verifier.grpc import AioInterceptor, Interceptor, caller
from tests.proofs import PROOF_KEY, proof
from tests.verifier.frameworks import grpc_servers
from tests.verifier.frameworks.grpc_servers import KINDS, SERVERS, read, write
from tests.verifier.frameworks.test_table import Sides
from tests.verifier.issuer import Answer, held, serving
from tests.verifier.test_observer import Figures
from tests.verifier.tokens import AUD

Metadata = list[tuple[str, str]]
Code = grpc.StatusCode
ASKED: Final = {"order": "oats"}


@dataclass(frozen=True)
class Got:
    """What came of a call: the answers, or the refusal."""

    code: Code
    details: str
    trailing: dict[str, list[str | bytes]]
    answers: list[Any]

    @property
    def challenge(self) -> dict[str, str]:
        (value,) = self.trailing["www-authenticate"]
        return dict(re.findall(r'([a-z_]+)="([^"]*)"', str(value)))


@dataclass(frozen=True)
class Served:
    """One server, asked over one channel."""

    channel: grpc.Channel

    def ask(self, method: str, metadata: Metadata | None = None, kind: str = "UnaryUnary", timeout: float = 20) -> Got:
        """Call a method the way of its kind; a stream of requests holds two."""
        way = re.sub(r"(?<=.)([A-Z])", r"_\1", kind).lower()
        call = getattr(self.channel, way)(method, request_serializer=write, response_deserializer=json.loads)
        request: Any = iter([ASKED, ASKED]) if kind.startswith("Stream") else ASKED
        answers = []
        try:
            if kind.endswith("Stream"):
                call = call(request, metadata=metadata, timeout=timeout)
                answers = list(call)
            else:
                answer, call = call.with_call(request, metadata=metadata, timeout=timeout)
                answers = [answer]
        except grpc.RpcError as error:
            call = error
        trailing: dict[str, list[str | bytes]] = {}
        for name, value in call.trailing_metadata() or ():
            trailing.setdefault(name, []).append(value)
        return Got(call.code(), call.details(), trailing, answers)

    def order(self, metadata: Metadata, kind: str) -> Got:
        return self.ask(f"/shop.Orders/{kind}", metadata, kind)


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with serving() as issuer, serving() as away:
        away.close()
        yield Sides(issuer, away)


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, sides: Sides) -> Iterator[Served]:
    verifier = Verifier(None, AUD, issuers=[sides.issuer.url, sides.away.url], revocation="list")
    with SERVERS[request.param](verifier) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(channel)


def bearer(token: str) -> Metadata:
    return [("authorization", f"Bearer {token}")]


REFUSED: Final[dict[str, tuple[Code, str | None, Callable[[Sides], Metadata]]]] = {
    # id: status, error of the challenge, what is sent
    "no token": (Code.UNAUTHENTICATED, None, lambda sides: []),
    "basic": (Code.UNAUTHENTICATED, None, lambda sides: [("authorization", "Basic dTpw")]),
    "garbage": (Code.UNAUTHENTICATED, "invalid_token", lambda sides: bearer("garbage")),
    "expired": (Code.UNAUTHENTICATED, "invalid_token", lambda sides: bearer(sides.good(exp=1))),
    "wrong audience": (Code.UNAUTHENTICATED, "invalid_token", lambda sides: bearer(sides.good(aud="https://x.example"))),
    "wrong issuer": (Code.UNAUTHENTICATED, "invalid_token", lambda sides: bearer(sides.good(iss="https://x.example"))),
    "missing scope": (Code.PERMISSION_DENIED, "insufficient_scope", lambda sides: bearer(sides.good(scope="orders:read"))),
    "taken back": (Code.UNAUTHENTICATED, "invalid_token", lambda sides: bearer(sides.listed(1))),
    "scheme alone": (Code.INVALID_ARGUMENT, "invalid_request", lambda sides: [("authorization", "Bearer")]),
    "two words": (Code.INVALID_ARGUMENT, "invalid_request", lambda sides: [("authorization", "Bearer a b")]),
    "two entries": (Code.INVALID_ARGUMENT, "invalid_request", lambda sides: bearer(sides.good()) * 2),
    "two schemes": (Code.INVALID_ARGUMENT, "invalid_request", lambda sides: [("authorization", "Basic dTpw"), *bearer(sides.good())]),
}  # fmt: skip


@pytest.mark.rule("RS-02", "RS-03", "RS-04", "RS-05", "RS-08", "RS-09", "RS-28", "RS-MD-08")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused(served: Served, sides: Sides, case: str, kind: str) -> None:
    """Status and challenge, whatever the kind of call; the details are the phrase of the challenge, and no reason."""
    code, error, metadata = REFUSED[case]
    grpc_servers.parsed.clear()
    got = served.order(metadata(sides), kind)
    assert (got.code, got.answers, grpc_servers.parsed) == (code, [], [])
    wanted = {"realm": "api"} | ({} if code is Code.INVALID_ARGUMENT else {"scope": "orders:write"})
    if error is not None:
        wanted |= {"error": error, "error_description": got.details}
    assert got.challenge == wanted
    assert error is not None or got.details == "Authentication is required."


@pytest.mark.rule("RS-01", "RS-03")
@pytest.mark.parametrize("kind", KINDS)
def test_let_in(served: Served, sides: Sides, kind: str) -> None:
    """The handler knows who calls, in every step of a stream, and gets what was asked."""
    got = served.order([("x-other", "1"), *bearer(sides.good())], kind)
    asked = [ASKED, ASKED] if kind == "StreamUnary" else ASKED
    answer = {"client": "billing", "asked": asked}
    assert got.code is Code.OK
    assert got.answers == [answer] * (2 if kind.endswith("Stream") else 1)
    assert "www-authenticate" not in got.trailing


def test_an_empty_list_means_any_caller(served: Served, sides: Sides) -> None:
    """Any caller, but a caller."""
    assert served.ask("/shop.Orders/AnyCaller", bearer(sides.good(scope="other"))).code is Code.OK
    refused = served.ask("/shop.Orders/AnyCaller")
    assert (refused.code, refused.challenge) == (Code.UNAUTHENTICATED, {"realm": "api"})


@pytest.mark.rule("RS-DP-18", "RS-DP-01", "RS-DP-04")
@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_token(served: Served, sides: Sides, kind: str) -> None:
    """A POST to the name of the method, and once; without its proof it is worth nothing."""
    token = sides.good(cnf={"jkt": PROOF_KEY.public.thumbprint})

    def sent(path: str, method: str = "POST") -> Metadata:
        signed = proof(AUD + path, time.time(), method=method, ath=token_hash(token))
        return [("authorization", f"DPoP {token}"), ("dpop", signed)]

    right = sent(f"/shop.Orders/{kind}")
    assert served.order(right, kind).code is Code.OK
    for metadata in (right, right[:1], sent("/shop.Orders/Other"), sent(f"/shop.Orders/{kind}", "GET"), bearer(token)):
        got = served.order(metadata, kind)
        assert (got.code, got.answers) == (Code.UNAUTHENTICATED, [])
        assert 'DPoP realm="api"' in str(got.trailing["www-authenticate"])


@pytest.mark.rule("RS-21", "R17")
@pytest.mark.parametrize("kind", KINDS)
def test_keys_unavailable(served: Served, sides: Sides, kind: str) -> None:
    """UNAVAILABLE with a time to wait, no challenge; others are served meanwhile."""
    got = served.order(bearer(sides.good(key=sides.away.key, iss=sides.away.url)), kind)
    assert (got.code, "www-authenticate" in got.trailing) == (Code.UNAVAILABLE, False)
    (seconds,) = got.trailing["retry-after"]
    assert int(seconds) >= 1
    assert got.trailing["grpc-retry-pushback-ms"] == [f"{seconds!s}000"]
    assert served.order(bearer(sides.good()), kind).code is Code.OK


@pytest.mark.rule("RS-SL-04")
def test_nobody_can_tell_whether_it_was_taken_back(served: Served, sides: Sides) -> None:
    """As keys that cannot be had; a token that counts passes."""
    assert served.order(bearer(sides.listed(0)), "UnaryUnary").code is Code.OK
    token = sides.listed(0, "/status/none")
    sides.issuer.spoil("/status/none", Answer(status=500))
    got = served.order(bearer(token), "UnaryUnary")
    assert (got.code, "www-authenticate" in got.trailing) == (Code.UNAVAILABLE, False)
    assert int(got.trailing["retry-after"][0]) >= 1


@pytest.mark.rule("ST-12")
def test_a_method_that_is_not_listed(served: Served, sides: Sides) -> None:
    """It is open to nobody, and whether the server has it is not told."""
    for method in ("/shop.Orders/Unlisted", "/shop.Orders/Imaginary", "/grpc.health.v1.Health/Watch", "/x.Y/Z"):
        for metadata in ([], bearer(sides.good())):
            got = served.ask(method, metadata)
            assert (got.code, got.details) == (Code.PERMISSION_DENIED, "This method is open to nobody.")


@pytest.mark.rule("ST-12")
@pytest.mark.parametrize("name", SERVERS)
def test_a_method_that_is_not_listed_is_told(name: str, sides: Sides, caplog: pytest.LogCaptureFixture) -> None:
    """Counted each time, and a warning as for every other reason: the first at once, then one in ten seconds."""
    figures = Figures()
    verifier = sides.issuer.verifier(observer=figures)
    with SERVERS[name](verifier) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(3):
            assert Served(channel).ask("/shop.Orders/Imaginary", []).code is Code.PERMISSION_DENIED
    assert figures.verdicts == [("refused", "unlisted")] * 3
    told = [one for one in caplog.records if "reason=unlisted" in one.getMessage() and one.levelname == "WARNING"]
    assert len(told) == 1
    assert "/shop.Orders/Imaginary" in told[0].getMessage()


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_is_not_listed_waits_for_no_message(served: Served, kind: str) -> None:
    """Whoever streams is told before he has sent anything."""
    assert served.ask("/shop.Orders/Imaginary", [], kind, timeout=5).code is Code.PERMISSION_DENIED


def test_a_method_that_is_listed_and_not_there(served: Served, sides: Sides) -> None:
    """Callers learn that it is missing."""
    assert served.ask("/shop.Orders/Nowhere", bearer(sides.good())).code is Code.UNIMPLEMENTED


def test_an_exempt_method(served: Served, sides: Sides) -> None:
    """Anybody may call it, with whatever he sends as credentials; nobody is its caller, a good token's neither."""
    for metadata in ([], bearer("garbage"), bearer(sides.good()), bearer(sides.good()) * 2):
        assert served.ask("/grpc.health.v1.Health/Check", metadata).answers == [{"client": None}]


def test_a_message_that_cannot_be_read(served: Served, sides: Sides) -> None:
    """The same code as where no interceptor is in the way: INTERNAL of a sync server, UNKNOWN of aio."""
    codes = []
    for method in ("/shop.Orders/UnaryUnary", "/grpc.health.v1.Health/Check"):
        call: Any = served.channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"{", metadata=bearer(sides.good()), timeout=20)
        codes.append(refused.value.code())
    assert codes in ([Code.INTERNAL] * 2, [Code.UNKNOWN] * 2)


@pytest.mark.rule("RS-21", "RS-20")
@pytest.mark.parametrize("name", SERVERS)
def test_who_waits_for_keys_holds_up_nobody(name: str) -> None:
    """While the keys of an issuer are on their way, other calls are served; then the one that waited is."""
    with serving() as issuer, SERVERS[name](issuer.verifier()) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, held(issuer) as gate:
            served, got = Served(channel), []
            token = bearer(issuer.token(scope="orders:write"))
            waiting = threading.Thread(target=lambda: got.append(served.order(token, "UnaryUnary")))
            waiting.start()
            deadline = time.monotonic() + 10
            while not issuer.fetches:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            for _ in range(3):
                assert served.ask("/grpc.health.v1.Health/Check", timeout=5).code is Code.OK
            assert not got
            gate.open()
            waiting.join(20)
            assert [one.code for one in got] == [Code.OK]


def test_the_hint_at_a_development_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """GROAT_DEV=1 explains in the details, as in the body of an HTTP answer."""
    monkeypatch.setenv("GROAT_DEV", "1")
    with serving() as issuer, SERVERS["sync"](issuer.verifier()) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            got = Served(channel).order(
                bearer(issuer.token(scope="orders:write", aud="https://x.example")), "UnaryUnary"
            )
    assert got.details.startswith("The access token is invalid or has expired. (aud ")


WRONG: Final[list[tuple[Any, Any, str]]] = [
    ({"/shop.Orders/Get": "orders:read"}, (), "^/shop.Orders/Get: scopes must be a list of strings, not one string"),
    ({"/shop.Orders/Get": None}, (), "must be a list"),
    ({"/shop.Orders/Get": ["a b"]}, (), "not a scope"),
    ({"/shop.Orders/Get": [None]}, (), "strings only"),
    ({"shop.Orders/Get": []}, (), "not the full name of a method"),
    ({"/shop.Orders/*": []}, (), "not the full name of a method"),
    ({"/shop.Orders": []}, (), "not the full name of a method"),
    ({"/shop.Orders/Get ": []}, (), "not the full name of a method"),
    ({7: []}, (), "not the full name of a method"),
    (["/shop.Orders/Get"], (), "must say what each needs"),
    ({"/shop.Orders/Get": []}, ["/shop.Orders/Get"], "which"),
    ({"/shop.Orders/Get": []}, "/shop.Orders/Get", "which"),
    ({}, ["/grpc.health.v1.Health/*"], "exact paths"),
    ({}, ["grpc.health.v1.Health/Check"], "paths"),
    ({}, ["/health"], "not the full name of a method"),
]


@pytest.mark.parametrize("interceptor", [Interceptor, AioInterceptor])
@pytest.mark.parametrize(("methods", "exempt", "said"), WRONG)
def test_a_mistake_is_found_when_it_is_made(interceptor: Any, methods: Any, exempt: Any, said: str) -> None:
    """A wrong map would let in the wrong ones, or nobody."""
    with pytest.raises(ConfigError, match=said):
        interceptor(Verifier("https://auth.example.com", AUD), methods, exempt=exempt)


def test_one_scope_of_several(sides: Sides) -> None:
    """any_of(...) stands where a list may."""
    Interceptor(Verifier("https://auth.example.com", AUD), {"/shop.Orders/Get": any_of("a", "b")})


def test_no_caller_outside_of_a_call() -> None:
    """The words say where it belongs."""
    with pytest.raises(LookupError, match="exempt"):
        caller()


def test_what_is_read_is_remembered() -> None:
    """The recorder of parsed messages records."""
    grpc_servers.parsed.clear()
    assert read(write(ASKED)) == ASKED
    assert grpc_servers.parsed == [write(ASKED)]
