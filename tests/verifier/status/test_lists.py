"""Status lists: which tokens they end, what of them is believed, and what follows while they cannot be had."""

import asyncio
import logging
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from groat.protocol.jwk import generate_private_key
from groat.verifier import ConfigError, InvalidToken, Revocation, StatusUnavailable, Verifier
from tests.verifier.issuer import Answer, Clock, Issuer, eventually, held, json_answer, outcome, serving
from tests.verifier.status.published import LIST, PublishedList, lst, unpadded
from tests.verifier.tokens import ABSENT


@pytest.fixture
def published(issuer: Issuer, wall: Clock) -> PublishedList:
    return PublishedList(issuer, clock=wall)


@pytest.fixture
def verifier(issuer: Issuer, monotonic: Clock, wall: Clock) -> Verifier:
    return issuer.verifier(revocation="list", monotonic=monotonic, clock=wall)


def reason(verifier: Verifier, token: str) -> str:
    """The same in both worlds."""
    found = outcome(lambda: verifier.verify(token))
    assert outcome(lambda: asyncio.run(verifier.averify(token))) == found
    return found


def becomes(verifier: Verifier, token: str, found: str) -> None:
    """Soon, by what a thread does; and then in both worlds."""
    eventually(lambda: outcome(lambda: verifier.verify(token)) == found, 10)
    assert reason(verifier, token) == found


@pytest.mark.rule("RS-SL-03")
@pytest.mark.parametrize(
    ("bits", "status", "found"),
    [
        *((1, 0, "accepted"), (1, 1, "revoked"), (2, 1, "revoked"), (2, 2, "suspended"), (2, 3, "revoked")),
        *((4, 15, "revoked"), (8, 0, "accepted"), (8, 255, "revoked"), (8, 2, "suspended")),
    ],
)
def test_what_a_status_means(verifier: Verifier, published: PublishedList, bits: int, status: int, found: str) -> None:
    """0 counts; 2 is suspended; anything else is over, whatever it may mean elsewhere."""
    published.bits, published.statuses[13] = bits, status
    assert reason(verifier, published.token(13)) == found
    assert reason(verifier, published.token(12)) == "accepted"


@pytest.mark.rule("RS-SL-03")
@pytest.mark.parametrize(
    "claim",
    [{"idx": value} for value in (64, 10**30, -1, True, "3", 3.0, None)]
    + [{"idx": 3, "uri": None}, {"uri": ["x"]}, {"idx": ABSENT}],
)
def test_a_place_that_is_none(verifier: Verifier, published: PublishedList, claim: dict[str, Any]) -> None:
    """Outside of the list, or no number: the token is refused, since nobody can say that it counts."""
    members = {"idx": 3, "uri": published.uri, **claim}
    members = {name: value for name, value in members.items() if value is not ABSENT}
    assert reason(verifier, published.issuer.token(status={"status_list": members})) == "status"
    assert reason(verifier, published.issuer.token(status={"elsewhere": 1})) == "status"
    assert reason(verifier, published.issuer.token(status="revoked")) == "status"


@pytest.mark.rule("RS-SL-01")
def test_the_status_is_asked_for_last(verifier: Verifier, published: PublishedList, wall: Clock) -> None:
    """No fetch for a token that is refused anyway; without `status` it passes, unless the API demands one."""
    token = published.token(3, exp=int(wall.now) + 60)
    wall.now += 61
    assert reason(verifier, token) == "expired"
    assert outcome(lambda: verifier.verify(published.token(3), ["orders:write"])) == "scope"
    assert reason(verifier, published.issuer.token()) == "accepted"
    assert published.fetches == 0
    strict = published.issuer.verifier(revocation=Revocation("list", required=True), clock=wall)
    assert reason(strict, published.issuer.token()) == "status"
    assert reason(strict, published.token(3)) == "accepted"


@pytest.mark.rule("RS-SL-02")
def test_lists_of_others_are_not_even_asked_for(
    verifier: Verifier, published: PublishedList, issuer: Issuer, wall: Clock
) -> None:
    """An origin that is not the issuer's gets no connection; one that the operator named does."""
    with serving() as other:
        foreign = PublishedList(other, clock=wall)
        foreign.key = issuer.key
        claim = foreign.claim(3)
        assert reason(verifier, issuer.token(status=claim)) == "status"
        assert other.requests.total() == 0
        named = issuer.verifier(revocation=Revocation("list", origins=[other.origin]), clock=wall)
        assert reason(named, issuer.token(status=claim)) == "accepted"
    for uri in (f"http://u@{issuer.origin[7:]}{LIST}", issuer.origin + LIST + "#x", "/status/1", "http://[", "http://"):
        assert reason(verifier, issuer.token(status={"status_list": {"idx": 3, "uri": uri}})) == "status"


def _spoil(**changes: Any) -> Callable[[PublishedList], None]:
    return lambda published: published.changes.update(changes)


def _set(**members: Any) -> Callable[[PublishedList], None]:
    def change(published: PublishedList) -> None:
        for name, value in members.items():
            setattr(published, name, value)

    return change


def _answer(answer: Answer) -> Callable[[PublishedList], None]:
    return lambda published: published.issuer.spoil(LIST, answer)


BOMB = unpadded(zlib.compress(bytes(64 * 1024 * 1024), 9))
NOT_TAKEN = {
    "another type": _set(typ="JWT"),
    "an access token": _set(typ="at+jwt"),
    "a stranger's key": _set(key=generate_private_key("ES256")),
    "of another URI": _spoil(sub="https://auth.example.com/status/2"),
    "over": _spoil(exp=1),
    "without an end": _spoil(exp=ABSENT),
    "of tomorrow": _spoil(iat=4_000_000_000, exp=4_000_000_300),
    "ttl is nothing": _spoil(ttl=0),
    "ttl is no number": _spoil(ttl="30"),
    "three bits": _spoil(status_list={"bits": 3, "lst": lst([0])}),
    "bits is true": _spoil(status_list={"bits": True, "lst": lst([0])}),
    "no list": _spoil(status_list=[]),
    "not compressed": _spoil(status_list={"bits": 1, "lst": unpadded(bytes(8))}),
    "cut off": _spoil(status_list={"bits": 1, "lst": lst([0] * 64)[:-4]}),
    "a bomb": _spoil(status_list={"bits": 1, "lst": BOMB}),
    "redirected": _answer(Answer(b"", 302, {"Location": "/status/2"})),
    "another media type": _answer(json_answer({})),
    "no JWT": _answer(Answer(b"x.y.z", content_type="application/statuslist+jwt")),
    "too large": _answer(Answer(b"a" * (4 * 1024 * 1024 + 1), content_type="application/statuslist+jwt")),
    "compressed": _answer(
        Answer(b"x", headers={"Content-Encoding": "gzip"}, content_type="application/statuslist+jwt")
    ),
    "away": _answer(Answer(status=503)),
}


@pytest.mark.rule("RS-SL-02", "RS-SL-04")
@pytest.mark.parametrize("wrong", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_a_list_that_is_not_believed(
    published: PublishedList, issuer: Issuer, wall: Clock, wrong: Callable[[PublishedList], None]
) -> None:
    """As if nobody had answered: 503 and Retry-After, or accepted where the operator chose that."""
    wrong(published)
    token = published.token(3)
    with pytest.raises(StatusUnavailable) as caught:
        issuer.verifier(revocation="list", clock=wall).verify(token)
    assert (caught.value.status, caught.value.reason, caught.value.retry_after >= 1) == (503, "status_unknown", True)
    assert caught.value.www_authenticate is None
    lenient = issuer.verifier(revocation="list", on_status_unknown="accept", clock=wall)
    assert reason(lenient, token) == "accepted"


@pytest.mark.rule("RS-SL-04")
def test_one_copy_is_renewed_at_its_ttl(
    verifier: Verifier, published: PublishedList, monotonic: Clock, wall: Clock
) -> None:
    """One fetch for any number of tokens; from 80 % of ttl one in the background; past ttl nobody goes by the old one."""
    for index in range(20):
        assert reason(verifier, published.token(index)) == "accepted"
    assert published.fetches == 1
    published.statuses[3] = 1
    monotonic.now += 25
    with held(published.issuer, LIST) as gate:
        assert reason(verifier, published.token(3)) == "accepted"
        eventually(lambda: published.fetches == 2)
        gate.open()
        becomes(verifier, published.token(3), "revoked")
    published.statuses[3] = 0
    monotonic.now += 30
    assert reason(verifier, published.token(3)) == "accepted"
    assert published.fetches == 3


@pytest.mark.rule("RS-SL-04")
def test_ttl_of_the_claims_beats_that_of_the_headers(
    verifier: Verifier, published: PublishedList, monotonic: Clock
) -> None:
    """Where the list says nothing, Cache-Control does."""
    published.changes["ttl"] = ABSENT
    answer = published.answer
    published.answer = lambda: Answer(  # type: ignore[method-assign]
        answer().body, headers={"Cache-Control": "max-age=120"}, content_type="application/statuslist+jwt"
    )
    assert reason(verifier, published.token(3)) == "accepted"
    monotonic.now += 90
    assert reason(verifier, published.token(3)) == "accepted"
    assert published.fetches == 1
    published.changes["ttl"] = 10
    monotonic.now += 30
    assert reason(verifier, published.token(3)) == "accepted"
    monotonic.now += 10
    assert reason(verifier, published.token(3)) == "accepted"
    assert published.fetches == 3


@pytest.mark.rule("RS-SL-04")
@pytest.mark.parametrize(("chosen", "then"), [("refuse", "status_unknown"), ("accept", "accepted")])
def test_while_the_issuer_is_away(
    published: PublishedList,
    issuer: Issuer,
    monotonic: Clock,
    wall: Clock,
    caplog: pytest.LogCaptureFixture,
    chosen: str,
    then: str,
) -> None:
    """The old copy serves to its own end, revoked places included; then the operator's word counts, until it is back."""
    published.statuses[4] = 1
    verifier = issuer.verifier(revocation="list", on_status_unknown=chosen, monotonic=monotonic, clock=wall)
    good, gone = (published.token(index, exp=int(wall.now) + 900) for index in (3, 4))
    assert (reason(verifier, good), reason(verifier, gone)) == ("accepted", "revoked")
    issuer.spoil(LIST, Answer(status=500))
    for moved in (100, 198):
        monotonic.now += moved
        wall.now += moved
        assert (reason(verifier, good), reason(verifier, gone)) == ("accepted", "revoked")
    monotonic.now += 2
    wall.now += 2
    assert (reason(verifier, good), reason(verifier, gone)) == (then, then)
    assert any("accepted without status" in line for line in caplog.messages) is (chosen == "accept")
    issuer.mend()
    monotonic.now += 10
    assert (reason(verifier, good), reason(verifier, gone)) == ("accepted", "revoked")


@pytest.mark.rule("RS-SL-05", "RS-24")
def test_a_cached_verdict_never_skips_the_status(
    published: PublishedList, issuer: Issuer, monotonic: Clock, wall: Clock
) -> None:
    """The token is remembered as proven; the list is looked at on each call."""
    verifier = issuer.verifier(revocation="list", cache_size=10, monotonic=monotonic, clock=wall)
    token = published.token(5)
    assert [reason(verifier, token) for _ in range(2)] == ["accepted"] * 2
    published.statuses[5] = 1
    monotonic.now += 30
    assert reason(verifier, token) == "revoked"
    assert len(verifier._cache or ()) == 1


def test_lists_at_hand_are_bounded(verifier: Verifier, published: PublishedList, issuer: Issuer, wall: Clock) -> None:
    """An issuer that names ever new lists costs no memory without end."""
    for number in range(2, 42):
        other = PublishedList(issuer, f"/status/{number}", wall)
        assert reason(verifier, other.token(1)) == "accepted"
    (status,) = (verifier._status or {}).values()
    assert len(status._lists) == 32  # type: ignore[attr-defined]


def test_what_the_log_and_the_observer_say(
    published: PublishedList, issuer: Issuer, wall: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason, with the client; never the token."""
    caplog.set_level(logging.DEBUG, "groat.verifier")
    published.statuses[3] = 1
    verifier, token = issuer.verifier(revocation="list", clock=wall), published.token(3)
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(token, ["orders:read"])
    assert 'error="invalid_token"' in (caught.value.www_authenticate or "")
    assert 'scope="orders:read"' in (caught.value.www_authenticate or "")
    assert any(line.startswith("refused: reason=revoked kid=None client=billing") for line in caplog.messages)
    assert verifier.status_age() is not None
    assert token not in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"revocation": "lists"}, "revocation must be none, list, feed or introspection"),
        ({"revocation": "list", "on_status_unknown": "ignore"}, "on_status_unknown must be refuse or accept"),
        ({"revocation": "introspection"}, "introspection needs Revocation"),
    ],
)
def test_what_is_no_choice(given: dict[str, Any], words: str) -> None:
    """Refused where it is written."""
    with pytest.raises(ConfigError, match=words):
        Verifier("https://auth.example.com", "https://orders.example.com", **given)


@pytest.mark.parametrize(
    "members",
    [
        {"mode": "feed", "required": True},
        {"mode": "feed", "origins": ["https://x.example"]},
        {"mode": "list", "origins": ["x.example"]},
        {"mode": "list", "api": "orders"},
        {"mode": "introspection", "api": "orders"},
        {"mode": "introspection", "key_file": "x"},
        {"mode": "introspection", "api": "orders", "key_file": "x", "token": str},
        {"mode": "introspection", "token": str, "cache_seconds": 61},
        {"mode": "introspection", "api": "orders", "key_file": '{"kty":"EC"}'},
    ],
)
def test_what_does_not_go_together(members: dict[str, Any]) -> None:
    """A choice of one way, said about another, would be ignored without a word."""
    with pytest.raises(ConfigError):
        Revocation(**members)
