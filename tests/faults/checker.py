"""The judge of every run: was each assertion good for exactly one token, and is each token on record?

It knows nothing of how the server works: it reads the history that the load wrote, the rows of `used_once`, the answers
to a second presentation of everything, and the tokens through PyJWT. Not checked: latencies and error rates.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt

from benchmarks.load.history import Assertion, Presentation
from groat.protocol.models import OneTimeKind, OneTimeValue

Name = tuple[str, str]
Rows = Mapping[bytes, str]  # digest -> token id
UNANSWERED: Final = 0  # nobody knows whether it was served; below: never sent


def digest_of(name: Name) -> bytes:
    """The key of an assertion's row."""
    return OneTimeValue(OneTimeKind.ASSERTION, *name, 0).digest


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken promise: which, and for which assertion."""

    kind: str
    name: Name
    detail: str = ""


@dataclass(slots=True)
class Verdict:
    """What the checker found. `breaches` must be empty; the rest is counted."""

    breaches: list[Breach] = field(default_factory=list)
    assertions: int = 0
    presentations: int = 0
    accepted: int = 0
    unanswered: int = 0
    rows_without_token: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def kinds(self) -> set[str]:
        return {breach.kind for breach in self.breaches}

    def summary(self) -> dict[str, Any]:
        """The counts as one flat record."""
        counts = {f"status_{status}": count for status, count in sorted(self.statuses.items())}
        return {
            "assertions": self.assertions,
            "presentations": self.presentations,
            "tokens": self.accepted,
            "unanswered": self.unanswered,
            "rows_without_token": self.rows_without_token,
            "breaches": len(self.breaches),
            **counts,
        }


@dataclass(frozen=True, slots=True)
class TokenJudge:
    """PyJWT with the keys that the server published: a second opinion on every token."""

    keys: Mapping[str, jwt.PyJWK]
    issuer: str
    audience: str

    @classmethod
    def of(cls, jwks: Mapping[str, Any], issuer: str, audience: str) -> "TokenJudge":
        return cls({key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}, issuer, audience)

    def claims(self, token: str) -> dict[str, Any]:
        """The claims. Raises jwt.PyJWTError, KeyError (a kid that is not published)."""
        header = jwt.get_unverified_header(token)
        if header["typ"] != "at+jwt":
            raise jwt.InvalidTokenError(f"typ is {header['typ']}")
        required = ["exp", "iat", "iss", "sub", "aud", "jti", "client_id"]
        return jwt.decode(
            token,
            self.keys[header["kid"]],
            algorithms=["ES256"],
            audience=self.audience,
            issuer=self.issuer,
            options={"require": required},
        )


@dataclass(slots=True)
class Case:
    """Everything known of one assertion."""

    history: list[Presentation] = field(default_factory=list)
    repeats: list[Presentation] = field(default_factory=list)

    @property
    def tokens(self) -> list[str]:
        return [str(presentation.token) for presentation in self.history if presentation.status == 200]

    @property
    def uncertain(self) -> bool:
        """Some answer is missing, or was 503: it may have been served or not."""
        return any(presentation.status <= UNANSWERED or presentation.status == 503 for presentation in self.history)


def check(history: Iterable[Presentation], rows: Rows, repeats: Iterable[Presentation], judge: TokenJudge) -> Verdict:
    """Judge a finished run. `rows` were read before `repeats`, the second presentation of every assertion, began."""
    cases: dict[Name, Case] = defaultdict(Case)
    verdict = Verdict()
    for presentation in history:
        cases[presentation.assertion.name].history.append(presentation)
        verdict.presentations += 1
        verdict.statuses[presentation.status] = verdict.statuses.get(presentation.status, 0) + 1
    for presentation in repeats:
        cases[presentation.assertion.name].repeats.append(presentation)
    verdict.assertions = len(cases)
    seen: set[str] = set()
    for name, case in cases.items():
        row = rows.get(digest_of(name))
        _check_answers(verdict, name, case, row)
        _check_repeats(verdict, name, case, row)
        for token in case.tokens:
            _check_token(verdict, name, token, row, judge, seen)
    return verdict


def _check_answers(verdict: Verdict, name: Name, case: Case, row: str | None) -> None:
    tokens = len(case.tokens)
    verdict.accepted += tokens
    verdict.unanswered += any(presentation.status == UNANSWERED for presentation in case.history)
    if tokens > 1:
        verdict.breaches.append(Breach("double", name, f"{tokens} tokens"))
    if not tokens and row is not None:
        verdict.rows_without_token += 1
    refused = any(presentation.status == 401 for presentation in case.history)
    if refused and not tokens and not (case.uncertain and row is not None):
        verdict.breaches.append(Breach("nobody_won", name, str(sorted(p.status for p in case.history))))
    for presentation in case.history:
        if presentation.status not in (200, 401, 429, 503) and presentation.status > UNANSWERED:
            verdict.breaches.append(Breach("wrong_status", name, str(presentation.status)))


def _check_repeats(verdict: Verdict, name: Name, case: Case, row: str | None) -> None:
    again = sum(presentation.status == 200 for presentation in case.repeats)
    if again and case.tokens:
        verdict.breaches.append(Breach("forgotten", name, "accepted again"))
    elif again and row is not None:
        verdict.breaches.append(Breach("accepted_although_recorded", name))
    elif again > 1:
        verdict.breaches.append(Breach("double", name, "in the second presentation"))
    if row is None and not case.tokens and case.repeats and all(p.status == 401 for p in case.repeats):
        verdict.breaches.append(Breach("burnt", name, "refused as replay without a row"))


def _check_token(verdict: Verdict, name: Name, token: str, row: str | None, judge: TokenJudge, seen: set[str]) -> None:
    try:
        claims = judge.claims(token)
    except (jwt.PyJWTError, KeyError) as error:
        verdict.breaches.append(Breach("bad_token", name, repr(error)))
        return
    if claims["client_id"] != name[0] or claims["sub"] != name[0]:
        verdict.breaches.append(Breach("wrong_client", name, claims["client_id"]))
    if claims["jti"] in seen:
        verdict.breaches.append(Breach("token_id_twice", name, claims["jti"]))
    seen.add(claims["jti"])
    if row is None:
        verdict.breaches.append(Breach("token_without_row", name))
    elif row != claims["jti"]:
        verdict.breaches.append(Breach("row_of_another_token", name, row))


def to_repeat(history: Iterable[Presentation], now: float, margin: float = 30.0) -> Sequence[Assertion]:
    """Every assertion of the history that will still be alive for `margin` seconds, each once."""
    alive = {p.assertion.name: p.assertion for p in history if p.assertion.expires_at > now + margin}
    return list(alive.values())
