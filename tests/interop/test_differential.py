"""Tens of thousands of mutated JWTs before five judges: what another library refuses, groat never accepts.

Two readers that disagree on one signed text are how tokens get forged (RFC 8725 2.6), so the accepted claims must be
the same as well. The other direction, what we refuse and others accept, is counted and not judged: to be stricter than
the libraries is the purpose of our envelope. A table of the counts stands at the end of the run.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Final

import pytest

from groat.protocol import jose
from groat.protocol.client_auth import ASSERTION_TYP
from groat.protocol.jwk import PrivateKey, generate_private_key, public_key_set

from .conftest import SUMMARY
from .judges import PEERS, Expected, Judge, Verdict, frozen_clocks, our_server, our_verifier

# The mutator belongs to the tests of the protocol, a package beside this one.
mutations = import_module(f"{__package__.removesuffix('interop')}protocol.mutations")

SEED: Final = 20261124
NOW: Final = 1_800_000_000
ISS, RES, CID = "https://as.example", "https://api.example", "billing"
# What the header says; EdDSA is the older name of Ed25519 and shares its key.
BASES: Final = ("ES256", "PS256", "RS256", "Ed25519", "EdDSA")
KEY_NAMES: Final = BASES[:4]
pytestmark = [
    pytest.mark.usefixtures("node_peers"),
    pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning"),
]

# (judge, kind of mutation, its word for the refusal): why the library is wrong to refuse what we accept.
JUSTIFIED: Final[Mapping[tuple[str, str, str], str]] = {
    ("joserfc", "no_kid", "InvalidKeyIdError"): "kid is optional (RFC 7515 4.1.4) where one key of the set fits",
}
# PyJWT does not know the name Ed25519 (RFC 9864), so it is not asked about tokens that carry it.
NOT_ASKED: Final = frozenset({("PyJWT", "Ed25519")})


@dataclass(frozen=True, eq=False)
class Purpose:
    """One kind of JWT: a good specimen, what everybody is told to expect of it, and our own judge."""

    name: str
    count: int
    typ: str
    claims: Mapping[str, Any]
    required: tuple[str, ...]
    ours: Callable[[Expected], Judge]

    def expected(self, base: str) -> Expected:
        subject = CID if self is ASSERTION else None
        issuer, audience = self.claims["iss"], self.claims["aud"]
        return Expected(issuer, audience, self.typ, self.required, _jwks(base), NOW, subject)


_TIMES: Final = {"iat": NOW, "exp": NOW + 300}
ACCESS_TOKEN: Final = Purpose(
    "access tokens",
    4000,
    "at+jwt",
    {"iss": ISS, "sub": CID, "aud": RES, "client_id": CID, **_TIMES, "jti": "t" * 22, "scope": "read"},
    ("iss", "sub", "aud", "client_id", "iat", "exp", "jti"),
    our_verifier,
)
# client_id and scope mean nothing in an assertion; they are there for the mutations that take them away.
ASSERTION: Final = Purpose(
    "client assertions",
    1000,
    ASSERTION_TYP,
    {"iss": CID, "sub": CID, "aud": ISS, "client_id": CID, **_TIMES, "jti": "a" * 22, "scope": "read"},
    ("iss", "sub", "aud", "exp", "jti"),
    our_server,
)
PURPOSES: Final = (ACCESS_TOKEN, ASSERTION)


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated JWT, what was done to it, and what everybody said."""

    kind: str
    token: str = field(repr=False)
    verdicts: Mapping[str, Verdict]

    def alone(self, candidate: str) -> Iterator[tuple[str, str, str]]:
        """Who refuses, and with which word, what the candidate accepts."""
        if self.verdicts[candidate].accepted:
            for judge, verdict in self.verdicts.items():
                if not verdict.accepted:
                    yield judge, self.kind, verdict.why

    def readings(self) -> int:
        """How many different sets of claims were accepted."""
        accepted = (verdict.claims for verdict in self.verdicts.values() if verdict.accepted)
        # JavaScript has doubles only, so that integers beyond 2^53 come back rounded.
        return len({json.dumps(_doubles(claims), sort_keys=True) for claims in accepted})


def _doubles(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return float(value) if abs(value) < 2**1023 else math.inf


@cache
def _key(name: str) -> PrivateKey:
    return generate_private_key(name, 2048)


def _jwks(base: str) -> dict[str, Any]:
    """The set of all four keys; the OKP key declares the name that the tokens of this base carry."""
    keys = public_key_set(_key(name).public for name in KEY_NAMES)["keys"]
    return {"keys": [{**key, "alg": base} if base == "EdDSA" and key["kty"] == "OKP" else key for key in keys]}


@cache
def _cases(purpose: Purpose, base: str) -> tuple[Case, ...]:
    """The unchanged specimen and its mutations, judged by all."""
    key = _key("Ed25519" if base == "EdDSA" else base)
    good = jose.sign_jwt(purpose.claims, key, purpose.typ, alg_name=base)
    # A generator for each draw: what one mutator takes from it depends on the keys and signatures of this run.
    seeds = (f"{SEED} {purpose.name} {base} {number}" for number in range(purpose.count))
    drawn = [mutations.mutate(good, key, random.Random(seed)) for seed in seeds]
    kinds = ["control", *(mutation.kind for mutation in drawn)]
    tokens = [good, *(mutation.token for mutation in drawn)]
    expected = purpose.expected(base)
    asked = {name: make for name, make in PEERS.items() if (name, base) not in NOT_ASKED}
    with frozen_clocks(NOW):
        columns = {"groat": purpose.ours(expected)(tokens)}
        columns |= {name: make(expected)(tokens) for name, make in asked.items()}
    rows = zip(*columns.values(), strict=True)
    return tuple(
        Case(kind, token, dict(zip(columns, row, strict=True)))
        for kind, token, row in zip(kinds, tokens, rows, strict=True)
    )


def _all_cases(purpose: Purpose) -> Iterator[Case]:
    for base in BASES:
        yield from _cases(purpose, base)


def _shown(cases: Sequence[Case], base: str) -> str:
    """Which differences there are, and all that is needed to judge the first of them again by hand."""
    if not cases:
        return ""
    found = Counter(triple for case in cases for triple in case.alone("groat"))
    first = cases[0]
    return f"{found}\nseed {SEED}, now {NOW}, {first.kind}: {first.token}\n{first.verdicts}\n{json.dumps(_jwks(base))}"


every_corpus = pytest.mark.parametrize("base", BASES)
every_purpose = pytest.mark.parametrize("purpose", PURPOSES, ids=lambda purpose: purpose.name)


@pytest.mark.rule("Z04", "JOSE-06", "RS-08")
@every_purpose
@every_corpus
def test_unchanged_jwt_is_accepted_by_everybody(base: str, purpose: Purpose) -> None:
    """Otherwise agreement would mean nothing; and everybody reads the very claims that were signed."""
    control = _cases(purpose, base)[0]
    assert control.kind == "control"
    assert {name: verdict.claims for name, verdict in control.verdicts.items()} == dict.fromkeys(
        control.verdicts, purpose.claims
    ), control.verdicts


@pytest.mark.rule("Z04", "JOSE-01", "JOSE-02", "JOSE-03", "JOSE-04", "JOSE-05", "JOSE-07", "JOSE-08", "JOSE-18", "A12")
@every_purpose
@every_corpus
def test_we_accept_nothing_that_another_refuses(base: str, purpose: Purpose) -> None:
    """Every refusal by another judge of what we accept is in the table of justified differences."""
    suspects = [case for case in _cases(purpose, base) if set(case.alone("groat")) - JUSTIFIED.keys()]
    assert not suspects, _shown(suspects, base)


@pytest.mark.rule("Z04", "JOSE-03", "JOSE-04")
@every_purpose
@every_corpus
def test_what_is_accepted_is_read_alike(base: str, purpose: Purpose) -> None:
    """No two judges see different claims in a JWT that we accept."""
    unlike = [case for case in _cases(purpose, base) if case.verdicts["groat"].accepted and case.readings() > 1]
    assert not unlike, _shown(unlike, base)


@pytest.mark.rule("Z04", "RS-08", "JOSE-10")
@every_purpose
def test_the_mutations_reach_every_kind_and_both_verdicts(purpose: Purpose) -> None:
    """The corpus has the promised size, misses no kind, and keeps the mutator's own promises about us."""
    accepted, refused = Counter[str](), Counter[str]()
    for case in _all_cases(purpose):
        (accepted if case.verdicts["groat"].accepted else refused)[case.kind] += 1
    assert accepted.total() + refused.total() > purpose.count * len(BASES)
    drawn = accepted + refused
    assert len(mutations.KINDS) >= 40
    assert min(drawn[kind] for kind in mutations.KINDS) > purpose.count * len(BASES) / len(mutations.KINDS) / 2
    assert not mutations.HARMLESS & refused.keys()
    tolerated = {"client_id_not_a_string"} if purpose is ASSERTION else set()
    assert not (mutations.MUST_FAIL - tolerated) & accepted.keys()
    assert accepted.total() > drawn.total() / 20, "a judge that refuses everything would pass"


@pytest.mark.rule("Z04", "A03", "A05")
@every_purpose
def test_nobody_accepts_a_forgery(purpose: Purpose) -> None:
    """Signatures by a stranger or by HMAC over the public key are refused by all: each judge really looks."""
    for case in _all_cases(purpose):
        if case.kind in ("stranger_signs", "hmac_with_public_key", "other_claims"):
            assert not any(verdict.accepted for verdict in case.verdicts.values()), case


@pytest.mark.parametrize("candidate", PEERS)
def test_the_comparison_finds_the_known_laxness_of_others(candidate: str) -> None:
    """In our place each of the libraries would be caught: the comparison above can fail."""
    caught = {kind for case in _cases(ACCESS_TOKEN, "ES256") for _, kind, _ in case.alone(candidate)}
    assert "raw_claims" in caught


def test_no_exemption_is_left_over() -> None:
    """Every line of the table of justified differences is still needed."""
    seen = {found for purpose in PURPOSES for case in _all_cases(purpose) for found in case.alone("groat")}
    assert JUSTIFIED.keys() <= seen


@every_purpose
def test_counts_for_the_summary(purpose: Purpose, request: pytest.FixtureRequest) -> None:
    """Put a table at the end of the run: per kind of mutation, how many each judge accepted."""
    drawn, accepted = Counter[str](), Counter[tuple[str, str]]()
    for case in _all_cases(purpose):
        drawn[case.kind] += 1
        accepted.update((case.kind, name) for name, verdict in case.verdicts.items() if verdict.accepted)
    judges = ("groat", *PEERS)
    lines = [f"{sum(drawn.values())} {purpose.name}, seed {SEED}: accepted by kind of mutation (PyJWT: no Ed25519)"]
    lines.append(f"{'kind':<24}{'drawn':>7}" + "".join(f"{name:>10}" for name in judges))
    for kind, count in sorted(drawn.items()):
        if any(accepted[kind, name] for name in judges):
            lines.append(f"{kind:<24}{count:>7}" + "".join(f"{accepted[kind, name]:>10}" for name in judges))
    total = "".join(f"{sum(n for (_, who), n in accepted.items() if who == name):>10}" for name in judges)
    lines.append(f"{'all':<24}{sum(drawn.values()):>7}{total}")
    request.config.stash.setdefault(SUMMARY, []).append("\n".join(lines))
    assert sum(drawn.values()) == (purpose.count + 1) * len(BASES)
