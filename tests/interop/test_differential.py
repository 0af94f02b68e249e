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
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, Final

import pytest

from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set

from .conftest import COUNTS
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


def _shown(cases: Sequence[Case], base: str) -> str:
    """Which differences there are, and all that is needed to judge the first of them again by hand."""
    if not cases:
        return ""
    found = Counter(triple for case in cases for triple in case.alone("groat"))
    first = cases[0]
    return f"{found}\nseed {SEED}, now {NOW}, {first.kind}: {first.token}\n{first.verdicts}\n{json.dumps(_jwks(base))}"


def _check_control(control: Case, claims: Mapping[str, Any]) -> None:
    """Everybody accepts the unchanged specimen and reads what was signed: otherwise agreement would mean nothing."""
    assert control.kind == "control"
    readings = {name: verdict.claims for name, verdict in control.verdicts.items()}
    assert readings == dict.fromkeys(control.verdicts, claims), control.verdicts


def _check_verdicts(cases: Sequence[Case], base: str) -> None:
    """Every refusal of what we accept is justified, no justification is left over, and all read the same claims."""
    alone = [case for case in cases if set(case.alone("groat")) - JUSTIFIED.keys()]
    assert not alone, _shown(alone, base)
    assert JUSTIFIED.keys() <= {difference for case in cases for difference in case.alone("groat")}
    unlike = [case for case in cases if case.verdicts["groat"].accepted and case.readings() > 1]
    assert not unlike, _shown(unlike, base)


def _check_corpus(cases: Sequence[Case], purpose: Purpose) -> None:
    """No kind of mutation is missing, and the mutator's own promises about us hold."""
    drawn = Counter(case.kind for case in cases)
    accepted = Counter(case.kind for case in cases if case.verdicts["groat"].accepted)
    assert len(cases) == purpose.count + 1
    assert len(mutations.KINDS) >= 40
    assert min(drawn[kind] for kind in mutations.KINDS) > purpose.count / len(mutations.KINDS) / 3
    assert all(accepted[kind] == drawn[kind] for kind in mutations.HARMLESS)
    tolerated = {"client_id_not_a_string"} if purpose is ASSERTION else set()
    assert not (mutations.MUST_FAIL - tolerated) & accepted.keys()
    assert accepted.total() > len(cases) / 20, "a judge that refuses everything would pass"


def _check_forgeries(cases: Sequence[Case]) -> None:
    """Nobody accepts another key's signature, an HMAC over the public key, or claims without a new signature."""
    forged = [case for case in cases if case.kind in ("stranger_signs", "hmac_with_public_key", "other_claims")]
    assert forged
    for case in forged:
        assert not any(verdict.accepted for verdict in case.verdicts.values()), case


def _counts(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """By kind of mutation: how many were drawn, and how many each judge accepted."""
    rows: dict[str, dict[str, int]] = {}
    for case in cases:
        row = rows.setdefault(case.kind, dict.fromkeys(("drawn", "groat", *PEERS), 0))
        for name in ("drawn", *(name for name, verdict in case.verdicts.items() if verdict.accepted)):
            row[name] += 1
    return rows


@pytest.mark.rule("Z04", "RS-08", "A03", "A05", "A12")
@pytest.mark.rule("JOSE-01", "JOSE-02", "JOSE-03", "JOSE-04", "JOSE-05", "JOSE-06", "JOSE-07", "JOSE-08", "JOSE-10")
@pytest.mark.rule("JOSE-18", "AS-CA-02")
@pytest.mark.parametrize("purpose", PURPOSES, ids=lambda purpose: purpose.name)
@pytest.mark.parametrize("base", BASES)
def test_we_accept_nothing_that_another_refuses(
    base: str, purpose: Purpose, record_property: Callable[[str, object], None]
) -> None:
    """Over a whole corpus, groat is nowhere laxer than another judge and nowhere reads other claims."""
    cases = _cases(purpose, base)
    record_property(COUNTS, {f"{purpose.name}, seed {SEED}": _counts(cases)})
    _check_control(cases[0], purpose.claims)
    _check_verdicts(cases, base)
    _check_corpus(cases, purpose)
    _check_forgeries(cases)


def test_the_comparison_finds_the_known_laxness_of_others() -> None:
    """In our place each of the libraries would be caught: the comparison above can fail."""
    cases = _cases(replace(ACCESS_TOKEN, count=600), "ES256")
    for candidate in PEERS:
        assert "raw_claims" in {kind for case in cases for _, kind, _ in case.alone(candidate)}, candidate
