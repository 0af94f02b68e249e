"""Asking about each token: who asks, how, how long an answer stays true, and what follows while nobody answers."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from groat.keys import files
from groat.protocol import jose, strict_json
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.verifier import ConfigError, Response, Revocation, StatusUnavailable, Verifier
from tests.verifier.issuer import Answer, Clock, Issuer, eventually, json_answer, outcome
from tests.verifier.status.published import INTROSPECT, Introspection

KEY = generate_private_key("ES256")


@pytest.fixture
def desk(issuer: Issuer) -> Introspection:
    return Introspection(issuer)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return written(tmp_path / "orders-api.key.json", KEY)


def written(path: Path, key: PrivateKey) -> Path:
    files.write_private_file(path, strict_json.dumps(key.private_jwk()))
    return path


def asking(issuer: Issuer, key_file: Path, seconds: float = 60, **options: Any) -> Verifier:
    chosen = Revocation("introspection", api="orders", key_file=key_file, cache_seconds=seconds)
    return issuer.verifier(revocation=chosen, **options)


@pytest.mark.rule("RS-27")
def test_the_api_says_who_it_is(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """By an assertion of its own key for each question: single use, short, for the issuer alone."""
    verifier, token = asking(issuer, key_file, 0), issuer.token()
    assert [outcome(lambda: verifier.verify(token)) for _ in range(2)] == ["accepted"] * 2
    assert [form["token"] for form in desk.forms] == [token] * 2
    seen = set()
    for form in desk.forms:
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        jwt = jose.parse_jwt(form["client_assertion"])
        jose.verify_signature(jwt, KEY.public)
        assert (jwt.claims["iss"], jwt.claims["sub"], jwt.claims["aud"]) == ("orders", "orders", issuer.url)
        assert (jwt.claims["exp"] - jwt.claims["iat"], jwt.header.typ) == (60, "client-authentication+jwt")
        seen.add(jwt.claims["jti"])
    assert (len(seen), desk.authorizations) == (2, [None, None])


@pytest.mark.rule("RS-27")
def test_or_shows_a_token_of_its_own(issuer: Issuer, desk: Introspection) -> None:
    """Asked for anew with each question, so that it may be renewed; the key of nobody is needed."""
    tokens = iter(["one", "two"])
    verifier = issuer.verifier(revocation=Revocation("introspection", token=lambda: next(tokens), cache_seconds=0))
    for _ in range(2):
        verifier.verify(issuer.token())
    assert desk.authorizations == ["Bearer one", "Bearer two"]
    assert all(form.keys() == {"token"} for form in desk.forms)
    assert outcome(lambda: verifier.verify(issuer.token())) == "status_unknown"  # the function has no more


@pytest.mark.rule("RS-27", "RS-SL-05")
@pytest.mark.parametrize("cache_size", [0, 10])
def test_at_once(issuer: Issuer, desk: Introspection, key_file: Path, cache_size: int) -> None:
    """Without a memory of answers the next request is refused, in both worlds, whatever else is remembered."""
    verifier, token = asking(issuer, key_file, 0, cache_size=cache_size), issuer.token()
    assert verifier.verify(token).client_id == "billing"
    desk.gone.add(token)
    assert outcome(lambda: verifier.verify(token)) == "revoked"
    assert outcome(lambda: asyncio.run(verifier.averify(token))) == "revoked"
    desk.gone.clear()
    assert asyncio.run(verifier.averify(token)).client_id == "billing"


@pytest.mark.rule("RS-27")
def test_answers_are_remembered_for_a_minute_at_most(
    issuer: Issuer, desk: Introspection, key_file: Path, monotonic: Clock, wall: Clock
) -> None:
    """Only good ones, and never beyond the token's end."""
    verifier = asking(issuer, key_file, monotonic=monotonic, clock=wall)
    token, short = issuer.token(), issuer.token(exp=int(wall.now) + 20, jti="short")
    for _ in range(3):
        assert outcome(lambda: verifier.verify(token)) == "accepted"
        assert outcome(lambda: verifier.verify(short)) == "accepted"
    assert len(desk.forms) == 2
    desk.gone |= {token, short}
    monotonic.now += 59
    assert outcome(lambda: verifier.verify(token)) == "accepted"
    assert outcome(lambda: verifier.verify(short)) == "revoked"  # its end by the wall has not come yet
    monotonic.now += 1
    assert [outcome(lambda: verifier.verify(token)) for _ in range(2)] == ["revoked"] * 2
    assert len(desk.forms) == 5


@pytest.mark.rule("RS-27")
def test_those_who_may_hear_an_old_answer_share_a_question(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """With a memory one question for all who come meanwhile; without one each asks: at once means after it came."""
    answer, opened = issuer.routes[INTROSPECT], threading.Event()

    def slow(*request: Any) -> Answer:
        assert opened.wait(20)
        return answer(*request)

    issuer.routes[INTROSPECT] = slow
    for seconds, asked in ((60, 1), (0, 8)):
        opened.clear()
        desk.forms.clear()
        issuer.requests.clear()
        verifier, token = asking(issuer, key_file, seconds), issuer.token()
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(outcome, lambda: verifier.verify(token)) for _ in range(8)]  # noqa: B023
            eventually(lambda: issuer.requests[INTROSPECT] == asked)  # noqa: B023
            opened.set()
            assert [job.result(20) for job in jobs] == ["accepted"] * 8
        assert len(desk.forms) == asked


@pytest.mark.rule("RS-27")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=401, body=b'{"error":"invalid_client"}'),
        Answer(status=500),
        Answer(status=302, headers={"Location": "/elsewhere"}),
        Answer(b'{"active":"true"}'),
        Answer(b'{"active":true,"active":true}'),
        Answer(b"{}"),
        Answer(b"[]"),
        Answer(b'{"active":true}', content_type="text/html"),
        Answer(b'{"active":true}', headers={"Content-Encoding": "gzip"}),
    ],
    ids=["unknown API", "fault", "redirect", "text", "twice", "nothing", "list", "HTML", "compressed"],
)
def test_what_is_no_answer(issuer: Issuer, desk: Introspection, key_file: Path, answer: Answer) -> None:
    """503 and never accepted, unless the operator chose that."""
    desk.answers += [answer] * 3
    verifier, token = asking(issuer, key_file), issuer.token()
    with pytest.raises(StatusUnavailable) as caught:
        verifier.verify(token)
    assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (503, "status_unknown", 1)
    assert outcome(lambda: asyncio.run(verifier.averify(token))) == "status_unknown"
    assert outcome(lambda: asking(issuer, key_file, on_status_unknown="accept").verify(token)) == "accepted"
    assert outcome(lambda: verifier.verify(token)) == "accepted"


@pytest.mark.rule("RS-27")
def test_an_issuer_that_is_away_or_has_no_such_endpoint(
    issuer: Issuer, desk: Introspection, key_file: Path, wall: Clock
) -> None:
    """The memory of an answer is no longer than it is; then nobody can tell."""
    verifier, token = asking(issuer, key_file, 0), issuer.token()
    verifier.verify(token)
    issuer.close()
    assert outcome(lambda: verifier.verify(token)) == "status_unknown"


@pytest.mark.rule("RS-27")
def test_the_metadata_name_the_endpoint(issuer: Issuer, key_file: Path) -> None:
    """Without it nobody guesses: the token would be sent there."""
    verifier = asking(issuer, key_file)
    with pytest.raises(StatusUnavailable) as caught:
        verifier.verify(issuer.token())
    assert caught.value.hint == "the metadata document has no introspection_endpoint"
    metadata = issuer.metadata()
    issuer.metadata = lambda: {**metadata, "introspection_endpoint": "http://auth.example.com/x"}  # type: ignore[method-assign]
    assert outcome(lambda: verifier.verify(issuer.token())) == "status_unknown"


@pytest.mark.rule("RS-27")
def test_the_key_is_read_anew(issuer: Issuer, desk: Introspection, tmp_path: Path) -> None:
    """A new key in the file signs the next question; a file that others may read, or that is none, is a 503."""
    path = tmp_path / "key.json"
    verifier = asking(issuer, path, 0)
    with pytest.raises(StatusUnavailable) as caught:
        verifier.verify(issuer.token())
    assert str(path) in caught.value.hint
    for _ in range(2):
        new = generate_private_key("ES256")
        path.unlink(missing_ok=True)
        written(path, new)
        verifier.verify(issuer.token())
        jose.verify_signature(jose.parse_jwt(desk.forms[-1]["client_assertion"]), new.public)
    path.chmod(0o644)
    assert outcome(lambda: verifier.verify(issuer.token())) == "status_unknown"


@pytest.mark.rule("RS-27")
def test_the_status_is_asked_for_last(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """A token that is refused anyway is not sent anywhere."""
    verifier = asking(issuer, key_file)
    assert outcome(lambda: verifier.verify(issuer.token(exp=1))) == "expired"
    assert outcome(lambda: verifier.verify(issuer.token(), ["orders:write"])) == "scope"
    assert outcome(lambda: verifier.verify(issuer.token(cnf={"jkt": "x" * 43}))) == "binding"
    assert desk.forms == []


def test_ways_of_ones_own(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """Who goes through a proxy of his own says so for both; with one alone the other would go past it."""
    with pytest.raises(ConfigError, match="post="):
        asking(issuer, key_file, http=_get(issuer))
    posted = []

    def post(url: str, headers: Mapping[str, str], body: bytes) -> Response:
        posted.append(url)
        return Response(200, {"content-type": "application/json"}, json.dumps({"active": True}).encode())

    chosen = Revocation("introspection", api="orders", key_file=key_file, post=post)
    verifier = issuer.verifier(revocation=chosen, http=_get(issuer))
    assert verifier.verify(issuer.token()).client_id == "billing"
    assert (posted, issuer.requests.total()) == ([issuer.origin + INTROSPECT], 0)


def _get(issuer: Issuer) -> Callable[[str, Mapping[str, str]], Response]:
    def get(url: str, headers: Mapping[str, str]) -> Response:
        answer = issuer.answer(url.removeprefix(issuer.origin), headers)
        return Response(answer.status, {"content-type": answer.content_type or ""}, answer.body)

    return get


def test_questions_under_way_are_bounded(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """More than 64 at a time would be threads without end while the issuer is slow."""
    answer, opened = issuer.routes[INTROSPECT], threading.Event()

    def slow(*request: Any) -> Answer:
        assert opened.wait(20)
        return answer(*request)

    issuer.routes[INTROSPECT] = slow
    verifier, token = asking(issuer, key_file, 0), issuer.token()
    verifier.warm_sync()
    with ThreadPoolExecutor(64) as pool:
        jobs = [pool.submit(outcome, lambda: verifier.verify(token)) for _ in range(64)]
        (status,) = (verifier._status or {}).values()
        eventually(lambda: status._count == 64)  # type: ignore[attr-defined]
        with pytest.raises(StatusUnavailable) as caught:
            verifier.verify(token)
        assert "too many questions" in caught.value.hint
        opened.set()
        assert {job.result(20) for job in jobs} == {"accepted"}
    assert outcome(lambda: verifier.verify(token)) == "accepted"


def test_json_of_others(issuer: Issuer, desk: Introspection, key_file: Path) -> None:
    """More members than active are somebody else's business."""
    desk.answers.append(json_answer({"active": True, "scope": "x", "ext": {"a": [1]}}))
    assert asking(issuer, key_file).verify(issuer.token()).client_id == "billing"
