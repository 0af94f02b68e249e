"""What an API can count about its verifier: verdicts, fetches, and the age of the keys."""

from dataclasses import dataclass, field

import pytest

from groat.verifier import InsufficientScope, InvalidToken, KeysUnavailable, MissingToken, Observer
from tests.verifier.issuer import JWKS, Answer, Clock, Issuer, eventually


@dataclass
class Figures(Observer):
    """Keeps what it was told."""

    verdicts: list[tuple[str, str]] = field(default_factory=list)
    fetches: list[tuple[str, str, str]] = field(default_factory=list)

    def verified(self, result: str, reason: str) -> None:
        self.verdicts.append((result, reason))

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        self.fetches.append((issuer, result, trigger))


def test_every_verdict_is_told_once(issuer: Issuer) -> None:
    """Accepted or refused, with the reason of the error, by the token or by the request around it."""
    figures = Figures()
    verifier = issuer.verifier(observer=figures, cache_size=10)
    token = issuer.token()
    for _ in range(2):
        verifier.verify(token, ["orders:read"])
    with pytest.raises(InsufficientScope):
        verifier.verify(token, ["orders:write"])
    with pytest.raises(InvalidToken):
        verifier.verify(issuer.token(exp=1))
    with pytest.raises(InvalidToken):
        verifier.verify("x")
    with pytest.raises(MissingToken):
        verifier.verify_request([])
    assert figures.verdicts == [
        ("accepted", ""), ("accepted", ""), ("refused", "scope"),
        ("refused", "expired"), ("refused", "malformed"), ("refused", "missing"),
    ]  # fmt: skip


async def _averdicts(issuer: Issuer, figures: Figures) -> None:
    verifier = issuer.verifier(observer=figures)
    await verifier.averify(issuer.token())
    with pytest.raises(InvalidToken):
        await verifier.averify(issuer.token(aud="https://other.example"))


def test_the_async_way_tells_the_same(issuer: Issuer) -> None:
    """Both ways share their rules, and their figures."""
    import asyncio

    figures = Figures()
    asyncio.run(_averdicts(issuer, figures))
    assert figures.verdicts == [("accepted", ""), ("refused", "audience")]


@pytest.mark.rule("RS-19", "RS-20", "RS-21")
def test_every_fetch_is_told_with_its_trigger(issuer: Issuer, monotonic: Clock) -> None:
    """The first, one that failed, one for an unknown kid, one on schedule and one by force; and how old keys are."""
    figures = Figures()
    verifier = issuer.verifier(observer=figures, monotonic=monotonic)
    issuer.spoil(JWKS, Answer(status=500))
    with pytest.raises(KeysUnavailable):
        verifier.verify(issuer.token())
    assert verifier.jwks_age() is None
    issuer.mend()
    monotonic.now += 60
    verifier.verify(issuer.token())
    assert verifier.jwks_age() == 0
    monotonic.now += 40
    assert verifier.jwks_age() == 40
    with pytest.raises(InvalidToken):
        verifier.verify(issuer.token(kid="unknown"))
    verifier.warm_sync(force=True)
    monotonic.now += 0.95 * issuer.max_age
    verifier.verify(issuer.token())
    eventually(lambda: len(figures.fetches) == 5)
    assert figures.fetches == [
        (issuer.url, result, trigger)
        for result, trigger in [
            ("failed", "first"), ("ok", "first"), ("ok", "unknown_kid"), ("ok", "forced"), ("ok", "schedule"),
        ]
    ]  # fmt: skip
    assert figures.verdicts[0] == ("unavailable", "key_unavailable")


class Broken(Observer):
    """Raises whatever it is told."""

    def verified(self, result: str, reason: str) -> None:
        raise RuntimeError("metrics are down")

    def refreshed(self, issuer: str, result: str, trigger: str) -> None:
        raise RuntimeError("metrics are down")


def test_a_broken_observer_changes_no_verdict(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """Its fault is logged; good tokens pass, bad ones do not."""
    verifier = issuer.verifier(observer=Broken())
    assert verifier.verify(issuer.token()).client_id == "billing"
    with pytest.raises(InvalidToken):
        verifier.verify("x")
    assert caplog.text.count("the observer failed") >= 3
