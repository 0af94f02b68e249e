"""`GET /revocations` on a real socket: what verifiers hear of that ask nobody about a token."""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from groat.protocol.access_token import Expectations, parse_access_token
from groat.protocol.errors import InvalidToken
from groat.protocol.jose import parse_jwt, verify_signature
from groat.protocol.key_set import import_key_set
from groat.protocol.revocation import Cut, CutKind, RevokedToken
from groat.protocol.revocation_feed import LONGEST, MAX_TOKENS, MEDIA_TYPE, TakenBack, digest, feed_claims
from groat.server import operations
from groat.server.http.seats import SEATS, SEATS_PER_SOURCE, Seats
from tests.server.builders import ISS, NOW, ORDERS, STOCK, decoded
from tests.server.endpoints.test_introspect import ask
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import Answer, Connection, check_ec, check_refused, send
from tests.waiting import wait_until

PATIENT = "[revocation]\nlist_lifetime = 600\nfeed_wait = 60\n"


@pytest.fixture
def lab(fresh_lab: Callable[..., Lab]) -> Lab:
    """A server of its own, at which one may wait for longer than a test does."""
    return fresh_lab(DEFAULTS + PATIENT)


def feed(lab: Lab, seq: int = -1) -> tuple[Answer, dict[str, Any]]:
    """The feed with a number behind this one, and what it says."""
    found: list[tuple[Answer, dict[str, Any]]] = []

    def newer() -> bool:
        answer = lab.get("/revocations")
        assert answer.status == 200, answer
        found.append((answer, decoded(answer.body.decode())[1]))
        return bool(found[-1][1]["seq"] > seq)

    wait_until(newer)
    return found[-1]


def hidden(text: str) -> str:
    """As the reference says, by other means than ours."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.mark.rule("AS-SL-10")
def test_a_feed_of_nothing(lab: Lab) -> None:
    """Signed by a published key, of a type of its own, for as long as the settings say, to be asked for anew."""
    answer, claims = feed(lab)
    assert answer.header("content-type") == "application/groat-revocations+jwt" == MEDIA_TYPE
    assert answer.header("cache-control") == "no-cache"
    header = decoded(answer.body.decode())[0]
    assert header == {"typ": "groat-revocations+jwt", "alg": "ES256", "kid": lab.kids()[0]}
    empty: dict[str, Any] = {"cuts": {}, "disabled": [], "kids": [], "tokens": []}
    assert claims == {"iss": ISS, "iat": NOW, "exp": NOW + 600, "seq": claims["seq"], **empty}
    (key,) = import_key_set(lab.get("/.well-known/jwks.json").json)
    verify_signature(parse_jwt(answer.body), key)
    head = send(lab.address, "HEAD", "/revocations")
    assert (head.status, head.header("etag")) == (200, answer.header("etag"))
    metadata = lab.get("/.well-known/oauth-authorization-server").json
    assert metadata["groat_revocations_endpoint"] == f"{ISS}/revocations"


@pytest.mark.rule("AS-SL-10")
def test_a_feed_is_nothing_else(lab: Lab) -> None:
    """No access token, no assertion, nothing that can be taken back."""
    body = feed(lab)[0].body.decode()
    with pytest.raises(InvalidToken, match="type"):
        parse_access_token(body, Expectations(ISS, ORDERS))
    check_ec(lab.ask(body))
    assert ask(lab, lab.party, "/revoke", token=body).status == 200  # as for anything that is no token
    assert feed(lab)[1]["tokens"] == []


@pytest.mark.rule("AS-SL-10", "AS-RV-06")
def test_whatever_is_taken_back_is_in_it(lab: Lab) -> None:
    """By clients and by operators, each with a number of its own; no name of a client is."""
    seq = feed(lab)[1]["seq"]
    token = lab.token()
    lab.add_client("late")
    jti = decoded(token)[1]["jti"]
    assert ask(lab, lab.party, "/revoke", token=token).status == 200
    claims = feed(lab, seq)[1]
    assert claims["tokens"] == [hidden(jti)]
    assert ask(lab, lab.party, "/revoke", token=token).status == 200  # once more: that is no news
    assert feed(lab)[1]["seq"] == claims["seq"]
    seq = claims["seq"]
    kid = lab.kids()[0]
    steps: list[Callable[[operations.Operator], Any]] = [
        lambda op: operations.revoke_token(op, "another"),
        lambda op: operations.revoke_client_tokens(op, "billing"),
        lambda op: operations.revoke_api_tokens(op, "stock"),
        operations.revoke_all_tokens,
        lambda op: operations.enable_client(op, "billing", enabled=False),
        lambda op: operations.remove_client(op, "late"),
        lambda op: operations.revoke_signing_key(operations.Ring(op, lab.kek, "ES256"), kid),
    ]
    for step in steps:
        lab.operate(step)
        answer, claims = feed(lab, seq)
        seq = claims["seq"]
    assert claims["tokens"] == sorted([hidden(jti), hidden("another")])
    assert claims["cuts"] == {"clients": {hidden("billing"): NOW + 1}, "apis": {STOCK: NOW + 2}, "all": NOW + 3}
    assert claims["disabled"] == sorted([hidden("billing"), hidden("late")])
    assert claims["kids"] == [kid]
    assert decoded(answer.body.decode())[0]["kid"] == lab.kids()[0] != kid
    assert not {b"billing", b"late"} & set(base64.urlsafe_b64decode(answer.body.split(b".")[1] + b"==").split(b'"'))
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=True))
    assert feed(lab, seq)[1]["disabled"] == [hidden("late")]
    with lab.clock.at(NOW + LONGEST + 5):
        wait_until(lambda: feed(lab)[1]["iat"] != NOW)
        claims = feed(lab)[1]
    assert (claims["cuts"], claims["disabled"], claims["kids"], claims["tokens"]) == ({}, [], [], [])


def test_other_changes_are_no_news(lab: Lab) -> None:
    """Registrations, for which nobody needs to be woken."""

    async def seq(op: operations.Operator) -> int:
        return await op.store.revocation_seq()

    before = lab.operate(seq)
    lab.add_client("other")
    lab.rotate()
    assert lab.operate(seq) == before


# Waiting


def poll(lab: Lab, etag: str | None, wait: str = "60") -> Answer:
    return lab.get(f"/revocations?wait={wait}", *([("If-None-Match", etag)] if etag else []))


@pytest.fixture
def beside() -> "ThreadPoolExecutor":
    return ThreadPoolExecutor(16)


@pytest.mark.rule("AS-SL-10")
def test_news_end_the_waiting(lab: Lab, beside: ThreadPoolExecutor) -> None:
    """Whoever has the last one is answered by the next; a test would give up before the time is over."""
    first, claims = feed(lab)
    waiting = [beside.submit(poll, lab, first.header("etag")) for _ in range(3)]
    lab.operate(operations.revoke_all_tokens)
    answers = [one.result() for one in waiting]
    for answer in answers:
        assert answer.status == 200
        assert decoded(answer.body.decode())[1]["seq"] > claims["seq"]
    assert poll(lab, first.header("etag")).status == 200  # news already
    assert poll(lab, None).status == 200


@pytest.mark.rule("AS-SL-10")
def test_without_news(lab: Lab) -> None:
    """304 when the time is over; at once without `wait`; what was made for longer comes when the time is over."""
    etag = feed(lab)[0].header("etag")
    for answer in (poll(lab, etag, "1"), poll(lab, etag, "0"), lab.get("/revocations", ("If-None-Match", str(etag)))):
        assert (answer.status, answer.body, answer.header("etag")) == (304, b"", etag)
        assert answer.header("retry-after") is None
    with lab.clock.at(NOW + 301):
        wait_until(lambda: feed(lab)[1]["iat"] == NOW + 301)
        answer = poll(lab, etag)
        assert answer.status == 200
        assert decoded(answer.body.decode())[1]["exp"] == NOW + 901
    # A replica whose clock is behind has nothing newer for whoever was at one that is ahead.
    wait_until(lambda: feed(lab)[1]["iat"] == NOW)
    assert poll(lab, answer.header("etag"), "1").status == 304


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=", "wait=1&wait=1", "wait=1e3", "wait=9999999999"])
def test_what_is_no_time(lab: Lab, query: str) -> None:
    """A whole number of seconds, once."""
    answer = lab.get(f"/revocations?{query}")
    check_refused(answer, "invalid_request")
    assert lab.reason(answer) == "wait"


@pytest.mark.slow
def test_seats_are_bounded(fresh_lab: Callable[..., Lab], beside: ThreadPoolExecutor) -> None:
    """Half of the connections: one more is answered at once, and told when to ask again. Who leaves makes room."""
    lab = fresh_lab(f"{DEFAULTS}{PATIENT}[server]\nconnections = 16\nsource_connections = 16\n")
    etag = str(feed(lab)[0].header("etag"))
    waiting = [Connection(lab.address) for _ in range(10)]
    answers: list[Future[Answer]] = [
        beside.submit(one.ask, "GET", "/revocations?wait=60", [("If-None-Match", etag)]) for one in waiting
    ]
    wait_until(lambda: poll(lab, etag, "1").header("retry-after") == "5")
    assert poll(lab, etag).status == 304  # at once
    assert sum(one.running() for one in answers) == 8
    for one in waiting:
        one.abort()
    wait_until(lambda: poll(lab, etag, "1").header("retry-after") is None)
    assert sum(one.exception(20) is not None for one in answers) == 8
    for one in waiting:
        one.close()


def test_the_seats_of_a_process() -> None:
    """In all, of one source, and by the connections that there are."""
    seats = Seats()
    for connections, source, found in ((float("inf"), "a", SEATS_PER_SOURCE), (20, "b", 10)):
        held = [seats.seat(source, connections) for _ in range(found)]
        before = seats.taken
        assert all(one.__enter__() for one in held[: found - before])
        with seats.seat(source, connections) as seated:
            assert not seated
        for one in held[: found - before]:
            one.__exit__(None, None, None)
        assert seats.taken == before
    many = [seats.seat(str(n), float("inf")) for n in range(SEATS)]
    assert all(one.__enter__() for one in many)
    with seats.seat("one more", float("inf")) as seated:
        assert not seated


def test_a_server_that_ends_keeps_nobody(tmp_path: Any, beside: ThreadPoolExecutor) -> None:
    """Whoever waits gets an answer, and the server has not to wait for him."""
    with running(prepare(tmp_path, DEFAULTS + PATIENT)) as lab:
        etag = feed(lab)[0].header("etag")
        waiting = beside.submit(poll, lab, etag)
        wait_until(waiting.running)
    assert waiting.result().status == 304


@pytest.mark.rule("AS-SL-10")
def test_without_the_store(lab: Lab) -> None:
    """The last one is handed out until it is over: it says itself until when it counts. Then 503."""
    body = feed(lab)[0].body
    with closing(sqlite3.connect(lab.database)) as connection:
        connection.execute("ALTER TABLE revocation_feed RENAME TO gone")
        with lab.clock.at(NOW + 599):
            assert lab.get("/revocations").body == body
        with lab.clock.at(NOW + 600):
            check_refused(lab.get("/revocations"), "temporarily_unavailable", 503)
            connection.execute("ALTER TABLE gone RENAME TO revocation_feed")
            assert feed(lab)[1]["iat"] == NOW + 600


# What it says


def said(taken: TakenBack, now: int = NOW) -> dict[str, Any]:
    return dict(json.loads(feed_claims(ISS, 7, taken, now, 300)))


@pytest.mark.rule("AS-SL-10")
def test_only_what_can_matter_is_listed() -> None:
    """A cut until the last token from before it is over; of an API that is gone nobody knows the audience."""
    cuts = [Cut(CutKind.CLIENT, "a", NOW - LONGEST, 0), Cut(CutKind.CLIENT, "b", NOW - LONGEST + 1, 0)]
    cuts += [Cut(CutKind.API, "orders", NOW, 0), Cut(CutKind.API, "gone", NOW, 0)]
    found = said(TakenBack(cuts, {"orders": ORDERS}))["cuts"]
    assert found == {"clients": {hidden("b"): NOW - LONGEST + 1}, "apis": {ORDERS: NOW}}
    assert digest("b") == hidden("b")


def test_a_feed_stays_short() -> None:
    """Of clients that took back more than anybody else all tokens from before are over; the others' are named."""
    many = [RevokedToken(bytes([n % 251, n // 251]) * 16, "many", NOW - 9, NOW + 60) for n in range(MAX_TOKENS)]
    few = [RevokedToken(b"\xff" * 32, "few", NOW, NOW + 60), RevokedToken(b"\xfe" * 32, "", NOW, NOW + 60)]
    assert len(said(TakenBack(tokens=many))["tokens"]) == MAX_TOKENS
    found = said(TakenBack(tokens=[*many, *few]))
    assert len(found["tokens"]) == 2
    assert found["cuts"] == {"clients": {hidden("many"): NOW - 8}}
    cut = Cut(CutKind.CLIENT, "many", NOW + 1, NOW)
    assert said(TakenBack([cut], tokens=[*many, *few]))["cuts"] == {"clients": {hidden("many"): NOW + 1}}
