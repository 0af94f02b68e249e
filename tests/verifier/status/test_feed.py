"""The feed: which tokens it ends, how soon, what of it is believed, and what follows while it cannot be had."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from groat.protocol.jwk import generate_private_key
from groat.verifier import RFC9068, Response, StatusUnavailable, Verifier
from tests.missing import on_linux
from tests.verifier.issuer import METADATA, Answer, Clock, Issuer, eventually, outcome
from tests.verifier.status.published import FEED, PublishedFeed, digest
from tests.verifier.tokens import ABSENT, AUD


@pytest.fixture
def published(issuer: Issuer, wall: Clock) -> Iterator[PublishedFeed]:
    feed = PublishedFeed(issuer, wall)
    yield feed
    feed.poke()


@pytest.fixture
def verifier(issuer: Issuer, monotonic: Clock, wall: Clock) -> Verifier:
    return issuer.verifier(revocation="feed", monotonic=monotonic, clock=wall)


def reason(verifier: Verifier, token: str) -> str:
    """The same in both worlds."""
    found = outcome(lambda: verifier.verify(token))
    assert outcome(lambda: asyncio.run(verifier.averify(token))) == found
    return found


def becomes(verifier: Verifier, token: str, found: str) -> None:
    """Soon, by what a thread does; and then in both worlds."""
    eventually(lambda: outcome(lambda: verifier.verify(token)) == found, 10)
    assert reason(verifier, token) == found


def waiting(published: PublishedFeed) -> None:
    """Until the thread asks for the next feed, so that news reach it."""
    eventually(lambda: bool(published.waits))


@pytest.mark.rule("RS-SL-06")
@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"cuts": {"all": 1000}}, "revoked"),
        ({"cuts": {"all": 999}}, "accepted"),
        ({"cuts": {"clients": {digest("billing"): 1000}}}, "revoked"),
        ({"cuts": {"clients": {digest("billing"): 999}}}, "accepted"),
        ({"cuts": {"clients": {digest("other"): 1000, "billing": 1000}}}, "accepted"),
        ({"cuts": {"apis": {AUD: 1000}}}, "revoked"),
        ({"cuts": {"apis": {"https://other.example.com": 1000}}}, "accepted"),
        ({"cuts": {"all": 3, "clients": {digest("billing"): 4}, "apis": {AUD: 1000}}}, "revoked"),
        ({"disabled": [digest("billing")]}, "suspended"),
        ({"disabled": [digest("other"), "billing"]}, "accepted"),
        ({"kids": ["SIGNING"]}, "revoked"),
        ({"kids": ["other"]}, "accepted"),
        ({"tokens": [digest("0123456789abcdef0123456789abcdef")]}, "revoked"),
        ({"tokens": [digest("another"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"]}, "accepted"),
    ],
)
def test_what_a_feed_ends(published: PublishedFeed, issuer: Issuer, said: dict[str, Any], found: str) -> None:
    """Tokens from before a second, of a client, for this API, by a key, one by one. Clients and tokens by digests."""
    published.clock = Clock(990)
    if "kids" in said:
        said = {"kids": [issuer.key.kid if kid == "SIGNING" else kid for kid in said["kids"]]}
    published.said |= said
    for size in (0, 10):
        verifier = issuer.verifier(revocation="feed", clock=Clock(1000), cache_size=size)
        token = issuer.token(iat=999, exp=1600)
        assert [reason(verifier, token) for _ in range(2)] == [found] * 2
        verifier.close()


@pytest.mark.rule("RS-SL-06", "RS-SL-05")
@pytest.mark.parametrize("cache_size", [0, 10])
def test_news_arrive_while_nobody_asks(published: PublishedFeed, issuer: Issuer, wall: Clock, cache_size: int) -> None:
    """One thread waits at the issuer; its answer is in force at once, for cached verdicts, too, and only for old tokens."""
    verifier = issuer.verifier(revocation="feed", clock=wall, cache_size=cache_size)
    assert issuer.requests.total() == 0
    tokens = [issuer.token(jti=f"{number}") for number in range(20)]
    assert {reason(verifier, token) for token in tokens} == {"accepted"}
    waiting(published)
    assert (published.fetches, published.waits) == (2, ["30"])
    published.say(tokens=[digest("3")])
    becomes(verifier, tokens[3], "revoked")
    assert {reason(verifier, token) for token in tokens if token != tokens[3]} == {"accepted"}
    published.say(cuts={"all": int(wall.now) + 1})
    becomes(verifier, tokens[4], "revoked")
    assert reason(verifier, issuer.token(iat=int(wall.now) + 1)) == "accepted"
    assert issuer.requests[METADATA] == 2  # one for the keys, one for the address of the feed


@pytest.mark.rule("RS-SL-06")
def test_a_replayed_feed_is_ignored(published: PublishedFeed, verifier: Verifier, issuer: Issuer, wall: Clock) -> None:
    """A copy of an older one takes nothing back, however often it comes; once the newer one is over, it is over, too."""
    old, token = published.document(), issuer.token(exp=int(wall.now) + 3600)
    published.say(tokens=[digest("0123456789abcdef0123456789abcdef")])
    wall.now += 1
    assert reason(verifier, token) == "revoked"
    waiting(published)
    published.replayed = old
    published.poke()
    eventually(lambda: _problem(verifier) == "the feed has seq 1, after 2")
    assert reason(verifier, token) == "revoked"
    wall.now += 300
    becomes(verifier, token, "status_unknown")
    # The real one again, with a number that began anew: the issuer was restored from a backup.
    published.replayed, published.seq = None, 1
    published.said["tokens"] = []
    becomes(verifier, token, "accepted")


def _problem(verifier: Verifier) -> str:
    (status,) = (verifier._status or {}).values()
    return str(status._heard.problem)  # type: ignore[attr-defined]


def _said(**said: Any) -> Callable[[PublishedFeed], None]:
    return lambda published: published.said.update(said)


def _set(**members: Any) -> Callable[[PublishedFeed], None]:
    def change(published: PublishedFeed) -> None:
        for name, value in members.items():
            setattr(published, name, value)

    return change


NOT_TAKEN = {
    "another type": _set(typ="JWT"),
    "a list": _set(typ="statuslist+jwt"),
    "a stranger's key": _set(key=generate_private_key("ES256")),
    "of another issuer": _said(iss="https://auth.example.com"),
    "over": _said(exp=1),
    "without an end": _said(exp=None),
    "of tomorrow": _said(iat=4_000_000_000, exp=4_000_000_300),
    "no number": _said(seq="1"),
    "seq is true": _said(seq=True),
    "no cuts": _said(cuts=None),
    "cuts of text": _said(cuts={"clients": {"x": "1"}}),
    "tokens of numbers": _said(tokens=[1]),
    "tokens of text": _said(tokens=["*"]),
    "redirected": lambda published: published.issuer.spoil(FEED, Answer(b"", 302, {"Location": "/x"})),
    "a page": lambda published: published.issuer.spoil(FEED, Answer(b"<html>", content_type="text/html")),
    "away": lambda published: published.issuer.spoil(FEED, Answer(status=503)),
}


@pytest.mark.rule("RS-SL-06", "RS-SL-02")
@pytest.mark.parametrize("wrong", NOT_TAKEN.values(), ids=NOT_TAKEN.keys())
def test_a_feed_that_is_not_believed(
    published: PublishedFeed, issuer: Issuer, wall: Clock, wrong: Callable[[PublishedFeed], None]
) -> None:
    """As if nobody had answered: 503 and Retry-After, or accepted where the operator chose that."""
    wrong(published)
    verifier, token = issuer.verifier(revocation="feed", clock=wall), issuer.token()
    with pytest.raises(StatusUnavailable) as caught:
        verifier.verify(token)
    assert (caught.value.status, caught.value.reason, caught.value.retry_after >= 1) == (503, "status_unknown", True)
    lenient = issuer.verifier(revocation="feed", on_status_unknown="accept", clock=wall)
    assert reason(lenient, token) == "accepted"
    for one in (verifier, lenient):
        one.close()


@pytest.mark.rule("RS-SL-06", "RS-SL-04")
@pytest.mark.parametrize(("chosen", "then"), [("refuse", "status_unknown"), ("accept", "accepted")])
def test_while_the_issuer_is_away(
    published: PublishedFeed, issuer: Issuer, monotonic: Clock, wall: Clock, chosen: str, then: str
) -> None:
    """The copy at hand serves to its own end; then the operator's word counts; it is current again by itself."""
    published.said["tokens"] = [digest("gone")]
    verifier = issuer.verifier(revocation="feed", on_status_unknown=chosen, monotonic=monotonic, clock=wall)
    good, gone = (issuer.token(jti=jti, exp=int(wall.now) + 900) for jti in ("good", "gone"))
    assert (reason(verifier, good), reason(verifier, gone)) == ("accepted", "revoked")
    waiting(published)
    issuer.spoil(FEED, Answer(status=500))
    published.poke()
    eventually(lambda: _problem(verifier).startswith("the feed of revocations came with status 500"))
    for moved in (100, 198):
        monotonic.now += moved
        wall.now += moved
        assert (reason(verifier, good), reason(verifier, gone)) == ("accepted", "revoked")
    monotonic.now += 3
    wall.now += 3
    assert (reason(verifier, good), reason(verifier, gone)) == (then, then)
    published.said["tokens"].append(digest("good"))
    issuer.mend()
    monotonic.now += 10
    becomes(verifier, good, "revoked")
    assert reason(verifier, gone) == "revoked"


@pytest.mark.rule("RS-SL-06")
def test_where_the_feed_is(issuer: Issuer, wall: Clock, published: PublishedFeed) -> None:
    """Where the metadata say; without a word of theirs, or without metadata, below the issuer."""
    issuer.routes["/elsewhere"] = issuer.routes.pop(FEED)
    token = issuer.token()
    assert reason(issuer.verifier(revocation="feed", clock=wall), token) == "status_unknown"
    metadata = issuer.metadata()
    named = {**metadata, "groat_revocations_endpoint": issuer.origin + "/elsewhere"}
    issuer.metadata = lambda: named  # type: ignore[method-assign]
    assert reason(issuer.verifier(revocation="feed", clock=wall), token) == "accepted"
    issuer.routes[FEED] = issuer.routes["/elsewhere"]
    bare = issuer.verifier(revocation="feed", clock=wall, jwks_uri=metadata["jwks_uri"])
    assert reason(bare, token) == "accepted"


def test_a_token_without_iat_or_jti(issuer: Issuer, wall: Clock, published: PublishedFeed) -> None:
    """Of a foreign dialect: nobody can say that it is not of before a cut, so it is."""
    published.said |= {"tokens": [digest("x")]}
    dialect = replace(RFC9068, required=())
    token = issuer.token(iat=ABSENT, jti=ABSENT)
    assert reason(issuer.verifier(revocation="feed", clock=wall, dialect=dialect), token) == "accepted"
    published.say(cuts={"all": 1})
    assert reason(issuer.verifier(revocation="feed", clock=wall, dialect=dialect), token) == "revoked"


def test_a_callable_of_ones_own_waits_shortly(issuer: Issuer, wall: Clock, published: PublishedFeed) -> None:
    """It has a timeout of its own, which a wait of thirty seconds would run into."""

    def get(url: str, headers: Mapping[str, str]) -> Response:
        answer = issuer.answer(url.removeprefix(issuer.origin), headers)
        return Response(answer.status, {"Content-Type": answer.content_type or "", **answer.headers}, answer.body)

    verifier = issuer.verifier(revocation="feed", clock=wall, http=get)
    assert reason(verifier, issuer.token()) == "accepted"
    waiting(published)
    assert set(published.waits) == {"2"}
    verifier.close()


def _threads() -> int:
    return len([one for one in threading.enumerate() if one.name == "groat-revocations"])


def test_the_thread_ends_with_its_verifier(issuer: Issuer, wall: Clock, published: PublishedFeed) -> None:
    """Nothing holds a verifier that nobody uses any more, and a closed one asks nobody; what it knows it goes on with."""
    before = _threads()
    verifier, token = issuer.verifier(revocation="feed", clock=wall), issuer.token()
    verifier.verify(token)
    waiting(published)
    assert _threads() == before + 1
    verifier.close()
    assert reason(verifier, token) == "accepted"
    published.poke()
    eventually(lambda: _threads() <= before, 30)
    other = issuer.verifier(revocation="feed", clock=wall)
    other.verify(token)
    eventually(lambda: len(published.waits) == 2)
    del other
    gc.collect()
    published.poke()
    eventually(lambda: _threads() <= before, 30)


@on_linux
@pytest.mark.rule("RS-SL-06")
def test_a_forked_child_hears_for_itself(issuer: Issuer, wall: Clock, published: PublishedFeed) -> None:
    """The thread stays in the parent; the child asks with its first token, at once, and knows no less than before."""
    verifier, token = issuer.verifier(revocation="feed", clock=wall), issuer.token(jti="1")
    verifier.verify(token)
    waiting(published)
    published.said["tokens"] = [digest("1")]  # not told: nobody is woken
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, outcome(lambda: verifier.verify(token)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"revoked"
