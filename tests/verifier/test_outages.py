"""What happens while an issuer is down, slow or moving: on a clock that is moved by hand."""

import asyncio
import threading
from collections.abc import Mapping

import pytest

from groat.verifier import Clocks, KeysUnavailable, Response, Verifier
from groat.verifier.keys import kept
from tests.verifier.issuer import (
    JWKS,
    METADATA,
    Answer,
    Clock,
    Issuer,
    closed_port,
    eventually,
    held,
    json_answer,
    outcome,
)
from tests.verifier.tokens import AUD, refused


@pytest.mark.rule("RS-21", "R15", "R17", "I7", "S03")
def test_outage_with_a_warm_cache(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """Last good keys serve until max_stale and not a second longer; then 503 until the issuer is back."""
    token = issuer.token()
    verifier.verify(token)
    issuer.spoil(JWKS, Answer(status=500))
    monotonic.now += 300
    assert verifier.verify(token).client_id == "billing"
    monotonic.now += 86_400 - 300 - 1
    assert verifier.verify(token).client_id == "billing"
    monotonic.now += 1
    with pytest.raises(KeysUnavailable) as caught:
        verifier.verify(token)
    assert (caught.value.status, caught.value.www_authenticate) == (503, None)
    issuer.mend()
    monotonic.now += 60
    assert verifier.verify(token).client_id == "billing"


@pytest.mark.rule("RS-21", "RS-20")
def test_unknown_kid_during_an_outage_is_503(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """If the issuer could not be asked, nobody can say that the kid is wrong; and nobody asks twice per cooldown."""
    verifier.verify(issuer.token())
    issuer.spoil(JWKS, Answer(status=500))
    new = issuer.token(issuer.rotate())
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            verifier.verify(new)
        monotonic.now += 2
    assert issuer.fetches == 2
    issuer.mend()
    monotonic.now += 20
    assert verifier.verify(new).client_id == "billing"


@pytest.mark.rule("RS-21", "R17", "DEMO-33")
def test_cold_start_during_an_outage() -> None:
    """Without keys every token is a 503 with Retry-After, cheap between the attempts, and 200 after recovery."""
    with closed_port() as origin:
        clock = Clock(0.0)
        calls = []

        def http(url: str, headers: Mapping[str, str]) -> Response:
            calls.append(url)
            raise ConnectionRefusedError

        verifier = Verifier(origin, AUD, http=http, clocks=Clocks(monotonic=clock))
        token = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImEifQ.e30.AAAA"
        for _ in range(100):
            with pytest.raises(KeysUnavailable) as caught:
                verifier.verify(token)
        assert len(calls) == 2  # the two places of the metadata, once
        assert caught.value.retry_after == 1
        clock.now = 1.0
        with pytest.raises(KeysUnavailable):
            verifier.verify(token)
        assert len(calls) == 4


@pytest.mark.rule("R17", "RS-21")
def test_recovery_after_the_back_off(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """Once the issuer is back, a token passes no later than the announced Retry-After."""
    issuer.spoil(JWKS, Answer(status=503))
    token = issuer.token()
    waited = 0
    for _ in range(8):
        with pytest.raises(KeysUnavailable) as caught:
            verifier.verify(token)
        waited = caught.value.retry_after
        monotonic.now += waited
    assert 30 <= waited <= 60
    issuer.mend()
    assert verifier.verify(token).client_id == "billing"


@pytest.mark.rule("RS-17", "RS-21")
def test_moved_jwks_is_found_again(issuer: Issuer, verifier: Verifier, monotonic: Clock) -> None:
    """When the known jwks_uri fails, the next attempt reads the metadata again."""
    verifier.verify(issuer.token())
    issuer.spoil(JWKS, Answer(status=410))
    issuer.spoil("/moved", lambda: json_answer(issuer.document()))
    issuer.spoil(METADATA, json_answer({**issuer.metadata(), "jwks_uri": issuer.origin + "/moved"}))
    monotonic.now += 300
    verifier.verify(issuer.token())
    monotonic.now += 2
    verifier.verify(issuer.token())
    eventually(lambda: issuer.requests["/moved"] == 1)
    assert issuer.requests[METADATA] == 2


@pytest.mark.rule("RS-21", "R15", "K07", "F11")
@pytest.mark.parametrize("path", [JWKS, METADATA])
def test_hanging_fetch_ends_in_503(issuer: Issuer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits has an answer in time even if the fetch itself does not end."""
    monkeypatch.setattr(kept, "WAIT", 0.1)
    verifier = issuer.verifier()
    with held(issuer, path) as gate:
        with pytest.raises(KeysUnavailable):
            verifier.verify(issuer.token())
        with pytest.raises(KeysUnavailable):
            asyncio.run(verifier.averify(issuer.token()))
        gate.open()
        eventually(lambda: outcome(lambda: verifier.verify(issuer.token())) == "accepted")


@pytest.mark.rule("RS-21", "R20")
@pytest.mark.parametrize("late_status", [200, 500])
def test_fetch_that_never_ends_is_given_up(
    issuer: Issuer, monotonic: Clock, monkeypatch: pytest.MonkeyPatch, late_status: int
) -> None:
    """A hanging `http` callable blocks no later attempt, and its late answer, good or bad, changes nothing."""
    monkeypatch.setattr(kept, "WAIT", 0.1)
    release, calls = threading.Event(), []

    def http(url: str, headers: Mapping[str, str]) -> Response:
        calls.append(url)
        answer, first = issuer.answer(JWKS, {}), len(calls) == 1
        if first:
            assert release.wait(20)
        return Response(late_status if first else 200, {"Content-Type": "application/json"}, answer.body)

    verifier = issuer.verifier(http=http, jwks_uri=issuer.origin + JWKS, monotonic=monotonic)
    with pytest.raises(KeysUnavailable):
        verifier.verify(issuer.token())
    monotonic.now += kept.OVERDUE
    issuer.rotate()
    assert verifier.verify(issuer.token()).client_id == "billing"
    release.set()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "groat-jwks"])
    assert verifier.verify(issuer.token()).client_id == "billing"
    assert len(calls) == 2
    with refused("key_unknown"):
        verifier.verify(issuer.token(kid="stranger"))
    assert len(calls) == 3


@pytest.mark.rule("RS-21")
def test_no_thread_to_be_had(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot start a thread answers 503 instead of hanging or crashing."""
    verifier = issuer.verifier()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(KeysUnavailable):
            verifier.verify("eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImEifQ.e30.AAAA")
