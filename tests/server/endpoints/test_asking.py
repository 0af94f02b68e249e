"""An endpoint that a client authenticates at is a few lines and a row: a toy is served here, by a real server."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import pytest
from starlette.types import Receive, Scope, Send

from groat import app
from groat.protocol import client_auth, strict_json
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import InvalidRequest
from groat.protocol.jwk import generate_private_key
from groat.server import endpoints, operations
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.exposition import Metrics
from groat.server.endpoints.parts import Parts
from groat.server.http.answers import send_private_json
from groat.server.http.routes import POST, Route, below
from groat.server.http.waiting_room import PATIENCE
from groat.server.log.tally import Ledger, Tally
from tests.server.builders import ISS, NOW, Party, base_fields
from tests.server.lab import Lab, prepare, running
from tests.server.wire import Answer, check_ec, check_ok, check_private_json, check_refused, encoded, post, send

from .toys import ticket

PATH = "/whoami"
LIMITS = "[throttle]\nclient_failures = 2\nsource_failures = 4\n[keys]\nrotate_every = 0\n"


class Colourless(InvalidRequest):
    """A refusal that tells which colours there are."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*super().headers, ("colours", self.hint))


@dataclass(frozen=True, slots=True)
class Whoami:
    """Tells a client who it is, and its colour."""

    asking: Asking

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls(parts.asking)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client, own = await self.asking.authenticate(scope, receive, ("colour",))
        if own.get("colour") == "none":
            raise Colourless("form", "red, blue", retry_after=3)
        answer = {"client": client.client.client_id, "key": client.key and client.key.kid, **own}
        await send_private_json(scope, send, 200, strict_json.dumps(answer))


LEDGER = Ledger("whoami", "whoami.refused", "groat_whoami_requests", "Who asked who it is")
ROW = Route(below(PATH), POST, Whoami.of, LEDGER, member="whoami_endpoint")


@pytest.fixture(scope="module", autouse=True)
def _row() -> Iterator[None]:
    """The table, with one row more."""
    with pytest.MonkeyPatch.context() as patch:
        rows = (*endpoints.ROUTES, ROW)
        for module in (app, endpoints):
            patch.setattr(module, "ROUTES", rows)
        yield


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, _row: None) -> Iterator[Lab]:
    with running(prepare(tmp_path_factory.mktemp("lab"))) as ready:
        yield ready


def _fields(assertion: str, **more: str) -> list[tuple[str, Any]]:
    fields = base_fields(assertion)
    return [(name, fields[name]) for name in ("client_assertion", "client_assertion_type")] + list(more.items())


def _ask(lab: Lab, assertion: str, *more: tuple[str, str]) -> Answer:
    return post(lab.address, encoded([*_fields(assertion), *more]), target=PATH)


@pytest.mark.rule("AS-CA-23")
def test_a_client_that_proves_itself_is_answered(lab: Lab) -> None:
    """Its own parameter arrives, no other, and no grant_type is needed."""
    answer = _ask(lab, lab.party.assertion(), ("colour", "red"), ("shape", "round"))
    check_private_json(answer)
    assert (answer.status, answer.json) == (200, {"client": "billing", "key": lab.party.key.kid, "colour": "red"})
    assert _ask(lab, lab.party.assertion()).json == {"client": "billing", "key": lab.party.key.kid}


@pytest.mark.rule("AS-CA-23", "AS-CA-10", "P01")
def test_an_assertion_counts_once_at_all_endpoints_together(lab: Lab) -> None:
    """What was used up here is used up for a token, and the other way round."""
    here, there = lab.party.assertion(), lab.party.assertion()
    assert _ask(lab, here).status == 200
    check_ok(lab.ask(there))
    for again in (_ask(lab, here), lab.ask(here), _ask(lab, there)):
        check_ec(again)
        assert lab.reason(again) == "assertion_replayed"


@pytest.mark.rule("AS-CA-23", "AS-CA-12", "AS-CA-19", "I3")
def test_refusals_are_those_of_the_token_endpoint(lab: Lab) -> None:
    """To the byte, with the same reasons; what is refused before its jti is used up uses up nothing."""
    stranger = Party("nobody", generate_private_key("ES256"))
    off = lab.add_client("off")
    lab.operate(lambda op: operations.enable_client(op, "off", enabled=False))
    causes: list[Callable[[], str]] = [
        lambda: stranger.assertion(),
        lambda: off.assertion(),
        lambda: Party("billing", stranger.key).assertion(),
        lambda: lab.party.assertion(aud="https://elsewhere.example"),
        lambda: lab.party.assertion(exp=NOW - 1),
        lambda: "a.b.c",
    ]
    for cause in causes:
        here, there = _ask(lab, cause()), lab.ask(cause())
        check_ec(here)
        assert here.comparable() == there.comparable()
        assert lab.reason(here) == lab.reason(there)
        assert (lab.event(here)["event"], lab.event(there)["event"]) == ("whoami.refused", "token.refused")
    kept = lab.party.assertion()
    check_refused(_ask(lab, kept, ("colour", "red"), ("colour", "blue")), "invalid_request")
    assert _ask(lab, kept).status == 200


@pytest.mark.rule("AS-CA-23", "AS-TE-05", "AS-TE-09")
def test_the_form_obeys_the_rules_of_all(lab: Lab) -> None:
    """One method of authentication, nothing twice, its own parameters in the body alone, POST alone."""
    refused = [
        _ask(lab, lab.party.assertion(), ("client_secret", "s")),
        _ask(lab, lab.party.assertion(), ("client_id", "billing"), ("client_id", "billing")),
        post(lab.address, encoded(_fields(lab.party.assertion())), target=f"{PATH}?colour=red"),
        post(lab.address, encoded(_fields(lab.party.assertion())), [("Content-Type", "text/plain")], PATH),
    ]
    assert [lab.reason(answer) for answer in refused] == ["auth_methods", "form", "query", "content_type"]
    check_ec(post(lab.address, encoded([("colour", "red")]), target=PATH))
    wrong = send(lab.address, "GET", PATH)
    check_refused(wrong, "invalid_request", 405)
    assert wrong.header("allow") == "POST"


@pytest.mark.rule("AS-CA-23", "AS-TE-31")
def test_failures_count_together(fresh_lab: Callable[..., Lab]) -> None:
    """Two here and a third at the token endpoint are three of one source in the name of one client."""
    lab = fresh_lab(LIMITS)
    forged = Party("billing", generate_private_key("ES256"))
    for _ in range(2):
        check_ec(_ask(lab, forged.assertion()))
    third = lab.ask(forged.assertion())
    assert (third.status, third.json["error"]) == (429, "temporarily_unavailable")
    assert _ask(lab, forged.assertion()).comparable()[2] == third.comparable()[2]
    assert _ask(lab, lab.party.assertion()).status == 200


@pytest.mark.rule("AS-CA-23", "AS-CA-24", "A17")
def test_what_is_changed_about_a_client_counts_at_the_next_request(fresh_lab: Callable[..., Lab]) -> None:
    """A client in memory that another process disabled is refused, though its assertion was judged good at first."""
    lab = fresh_lab()
    assert _ask(lab, lab.party.assertion()).status == 200
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=False))
    refused = _ask(lab, lab.party.assertion())
    check_ec(refused)
    assert lab.reason(refused) == "client_disabled"


@pytest.mark.rule("AS-CA-23", "AS-CA-24", "A17")
def test_a_proof_with_nothing_to_use_up(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written for it, it may come again, and a client that was disabled meanwhile is refused all the same."""
    monkeypatch.setattr(client_auth, "CLIENT_AUTH_METHODS", {ticket.NAME: ticket.ROW})
    lab = fresh_lab()
    form = encoded([("client_id", "billing"), ("ticket", "gnillib")])
    told = [post(lab.address, form, target=PATH) for _ in range(2)]
    assert [answer.json for answer in told] == [{"client": "billing", "key": None}] * 2
    with closing(sqlite3.connect(lab.database)) as connection:
        assert connection.execute("SELECT count(*) FROM used_once").fetchone() == (0,)
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=False))
    refused = post(lab.address, form, target=PATH)
    check_ec(refused)
    assert lab.reason(refused) == "client_disabled"


@pytest.mark.rule("AS-CA-23", "ST-10")
def test_refusals_wait_where_clients_publish_keys(fresh_lab: Callable[..., Lab]) -> None:
    """As long as those of the token endpoint."""
    lab = fresh_lab()
    settings = ClientSettings(jwks_uri="https://keys.invalid/jwks", default_scopes=("orders:read",))
    lab.operate(lambda op: operations.add_client(op, "publisher", {"orders": ["orders:read"]}, (), settings))
    lab.token()  # the registry has moved, and the server has seen it
    began = time.monotonic()
    check_ec(_ask(lab, Party("billing", generate_private_key("ES256")).assertion()))
    assert time.monotonic() - began >= PATIENCE


@pytest.mark.rule("AS-MD-08")
def test_the_metadata_names_a_new_row(lab: Lab) -> None:
    """Its member has the URL at which it is served."""
    document = json.loads(lab.get("/.well-known/oauth-authorization-server").body)
    assert document["whoami_endpoint"] == ISS + PATH


def test_a_new_row_has_its_counter() -> None:
    """Its refusals are counted in the counter that its ledger names, among the metrics of all."""
    tally = Tally()
    metrics = Metrics(tally, [row.ledger for row in endpoints.ROUTES])
    tally.refuse(LEDGER, {"error": "invalid_client"}, "client_unknown")
    tally.answer(LEDGER.counter, "told")
    shown = metrics.render((), NOW).decode()
    assert 'groat_whoami_requests_total{reason="client_unknown",result="invalid_client"} 1.0' in shown
    assert 'groat_whoami_requests_total{reason="",result="told"} 1.0' in shown


def test_a_refusal_brings_headers_of_its_own(lab: Lab) -> None:
    """Nobody else has to know of a kind of refusal for its answer to be whole."""
    answer = _ask(lab, lab.party.assertion(), ("colour", "none"))
    check_refused(answer, "invalid_request", 400)
    assert (answer.header("retry-after"), answer.header("colours")) == ("3", "red, blue")
