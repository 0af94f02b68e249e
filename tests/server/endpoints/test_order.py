"""AS-TE-28: of several things that are wrong with a request, the first in the fixed order is answered, by a real server."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from groat.protocol.binding import Binding
from groat.protocol.client_settings import ClientSettings
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_limits import UNLIMITED, KeyLimits
from groat.protocol.order import ORDER
from groat.server import operations
from tests.proofs import proof
from tests.server.builders import ABSENT, NOW, ORDERS, TE, Party, base, base_fields, changed, compact
from tests.server.lab import Lab, prepare, running
from tests.server.wire import FORM, Answer, check_ok, check_refused, encoded, send

NUMBERS: Final = itertools.count()
APIS: Final = {"orders": ORDERS, "bound": f"{ORDERS}/bound"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that knows another API as well, which takes bound tokens alone."""
    with running(prepare(tmp_path_factory.mktemp("order"))) as lab:
        lab.operate(
            lambda op: operations.add_api(
                op, "bound", APIS["bound"], ["orders:read"], operations.ApiTerms(binding=Binding.DPOP)
            )
        )
        yield lab


@dataclass(slots=True)
class Draft:
    """A good request and its client, both still to be spoilt."""

    party: Party
    method: str = "POST"
    target: str = "/token"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": FORM})
    fields: dict[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    signer: Party | None = None
    limits: KeyLimits = UNLIMITED
    settings: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    used: bool = False
    proof: str | None = None
    proof_used: bool = False
    api: str = "orders"

    def register(self, lab: Lab) -> None:
        """Make the client what the draft says, once its jti was used up where it is to be."""
        name, key = self.party.client_id, self.party.key.public
        settings = ClientSettings(default_scopes=("orders:read",), **self.settings)
        allow = {self.api: ["orders:read"]}
        lab.operate(lambda op: operations.add_client(op, name, allow, (key,), settings, limits=self.limits))
        if self.used:
            lab.ask(compact(self.party.header(), self.party.claims(jti="used"), self.party.key))
        if self.proof_used and self.proof is not None:
            spender = lab.add_client(f"{name}-spender")
            check_ok(lab.post(base(spender.assertion()), FORM, ("DPoP", self.proof)))
        if not self.enabled:
            lab.operate(lambda op: operations.enable_client(op, name, enabled=False))

    def body(self) -> bytes:
        claims = self.party.claims(**{"jti": "used"} if self.used else {}, **self.claims)
        key = (self.signer or self.party).key
        fields = base_fields(compact(self.party.header(**self.header), claims, key)) | {"resource": APIS[self.api]}
        return encoded(list(changed(fields, self.fields).items())) + self.raw


@dataclass(frozen=True, slots=True)
class Step:
    """How to fail a check, and what is answered and logged then."""

    spoil: Callable[[Draft], object]
    code: str
    status: int
    reason: str


def _set(**members: Any) -> Callable[[Draft], None]:
    """Give the draft's dictionaries these members and its other attributes these values."""

    def spoil(draft: Draft) -> None:
        for name, value in members.items():
            old = getattr(draft, name)
            setattr(draft, name, {**old, **value} if isinstance(old, dict) else value)

    return spoil


def _raw(more: bytes) -> Callable[[Draft], None]:
    return lambda draft: setattr(draft, "raw", draft.raw + more)


def _prove(used: bool = False, **changes: Any) -> Callable[[Draft], None]:
    """Add a proof with these defects, or one that somebody used."""

    def spoil(draft: Draft) -> None:
        draft.proof, draft.proof_used = proof(TE, NOW, **changes), used

    return spoil


STEPS: Final = {
    "method": Step(_set(method="GET"), "invalid_request", 405, "method"),
    "size": Step(_raw(b"&pad=" + b"x" * 70_000), "invalid_request", 413, "body_size"),
    "content_type": Step(_set(headers={"Content-Type": "text/plain"}), "invalid_request", 400, "content_type"),
    "content_encoding": Step(_set(headers={"Content-Encoding": "gzip"}), "invalid_request", 400, "content_encoding"),
    "query": Step(_set(target="/token?scope=orders:read"), "invalid_request", 400, "query"),
    "decoding": Step(_raw(b"&foo=%zz"), "invalid_request", 400, "form"),
    "repeats": Step(_raw(b"&client_id=a&client_id=a"), "invalid_request", 400, "form"),
    "auth_methods": Step(_set(fields={"client_secret": "s"}), "invalid_request", 400, "auth_methods"),
    "grant_type": Step(_set(fields={"grant_type": ABSENT}), "invalid_request", 400, "grant_type"),
    "grant_known": Step(_set(fields={"grant_type": "password"}), "unsupported_grant_type", 400, "grant_type"),
    "assertion_kind": Step(_set(fields={"client_assertion_type": ABSENT}), "invalid_request", 400, "form"),
    "proof_form": Step(_set(proof="abc"), "invalid_dpop_proof", 400, "dpop_malformed"),
    "nonce": Step(_prove(nonce="stale"), "use_dpop_nonce", 400, "dpop_nonce"),
    "assertion": Step(_set(claims={"sub": ABSENT}), "invalid_client", 401, "assertion_subject"),
    "algorithm": Step(_set(header={"typ": "at+jwt"}), "invalid_client", 401, "assertion_type"),
    "signature": Step(_set(signer=Party("stranger")), "invalid_client", 401, "assertion_signature"),
    "key_limits": Step(_set(limits=KeyLimits(not_before=NOW + 1000)), "invalid_client", 401, "key_not_yet_valid"),
    "client_rules": Step(
        _set(settings={"strict_typ": True}, header={"typ": "JWT"}), "invalid_client", 401, "assertion_type"
    ),
    "enabled": Step(_set(enabled=False), "invalid_client", 401, "client_disabled"),
    "claims": Step(_set(claims={"aud": "https://other.example"}), "invalid_client", 401, "assertion_audience"),
    "proof": Step(_prove(htm="GET"), "invalid_dpop_proof", 400, "dpop_method"),
    "once": Step(_set(used=True), "invalid_client", 401, "assertion_replayed"),
    "proof_once": Step(_prove(used=True), "invalid_dpop_proof", 400, "dpop_replayed"),
    "binding": Step(_set(settings={"binding": "dpop"}), "invalid_dpop_proof", 400, "dpop_missing"),
    "grant_allowed": Step(_set(settings={"grant_types": ()}), "unauthorized_client", 400, "grant_type"),
    "resource": Step(_set(fields={"resource": "https://other.example"}), "invalid_target", 400, "resource"),
    "scope": Step(_set(fields={"scope": "nope"}), "invalid_scope", 400, "scope"),
    "api_binding": Step(_set(api="bound"), "invalid_dpop_proof", 400, "dpop_missing"),
}


def _ask(lab: Lab, *steps: str) -> Answer:
    """Fail these checks at once: the last one is spoilt first, so that an earlier one has its way where both cannot be."""
    draft = Draft(Party(f"order-{next(NUMBERS)}", generate_private_key("ES256")))
    for name in reversed(steps):
        STEPS[name].spoil(draft)
    draft.register(lab)
    proofs = [] if draft.proof is None else [("DPoP", draft.proof)]
    return send(lab.address, draft.method, draft.target, [*draft.headers.items(), *proofs], draft.body())


def _check(lab: Lab, answer: Answer, name: str) -> None:
    step = STEPS[name]
    check_refused(answer, step.code, step.status)
    assert lab.reason(answer) == step.reason


@pytest.mark.rule("AS-TE-28")
def test_every_check_has_its_place() -> None:
    """The order names what is spoilt here, and nothing else."""
    assert tuple(STEPS) == ORDER


@pytest.mark.rule("AS-TE-28")
@pytest.mark.parametrize("name", ORDER)
def test_each_defect_alone_is_answered(lab: Lab, name: str) -> None:
    """The defects are what they are taken for."""
    _check(lab, _ask(lab, name), name)


@pytest.mark.rule("AS-TE-28")
@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(ORDER)))
def test_of_two_neighbours_the_earlier_one_answers(lab: Lab, first: str, second: str) -> None:
    """Where two checks that follow each other fail at once."""
    _check(lab, _ask(lab, first, second), first)


@pytest.mark.rule("AS-TE-28")
@pytest.mark.parametrize("first", range(len(ORDER)), ids=ORDER)
def test_of_all_defects_the_earliest_one_answers(lab: Lab, first: int) -> None:
    """Where every check from this one on fails at once."""
    _check(lab, _ask(lab, *ORDER[first:]), ORDER[first])
