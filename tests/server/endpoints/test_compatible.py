"""What readers of metadata demand that are made for people who sign in: the members, and a URL where nothing begins."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from mcp.shared.auth import OAuthMetadata

from groat.app import Clockwork, create_app
from groat.client import MachineClient, TokenRequestRefused
from groat.server import operations
from groat.server.connection.guarded import GuardedEntrance
from groat.server.store.sqlite.store import SqliteStore
from tests.server.builders import ISS, ORDERS, STOCK, base, decoded
from tests.server.lab import DEFAULTS, Lab, prepare
from tests.server.wire import FORM, Answer, check_ok, check_refused, raw, send

METADATA: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"
OFF: Final = f"[metadata]\ncompatible = false\n{DEFAULTS}"
ADDED: Final = frozenset(
    [
        "authorization_endpoint",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    ]
)
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def _accepted_by_spring(document: Mapping[str, Any]) -> bool:
    """What Nimbus' OIDCProviderMetadata.parse asks for, by which Spring's fromIssuerLocation reads."""
    strings = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    lists = ("subject_types_supported", "id_token_signing_alg_values_supported", "response_types_supported")
    return all(isinstance(document.get(name), str) for name in strings) and all(
        isinstance(document.get(name), list) and all(isinstance(item, str) for item in document[name]) for name in lists
    )


def _accepted_by_typescript_mcp(document: Mapping[str, Any]) -> bool:
    """The members that the schema of the TypeScript SDK has without `optional()`, in its two forms."""
    endpoint = str(document.get("authorization_endpoint", ""))
    return re.match(r"(?!javascript:)https?://", endpoint) is not None and all(
        isinstance(document.get(name), list)
        for name in ("response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported")
    )


@pytest.mark.rule("AS-MC-01", "AS-MC-02", "FO-23", "AS-MD-12")
@pytest.mark.parametrize(
    ("issuer", "paths", "endpoint"),
    [
        (ISS, [METADATA, OPENID], "/authorize"),
        (f"{ISS}/", [METADATA, OPENID], "/authorize"),
        (f"{ISS}/t1", [f"{METADATA}/t1", f"/t1{OPENID}", f"{OPENID}/t1"], "/t1/authorize"),
    ],
)
def test_readers_for_people_accept_it(
    fresh_lab: Callable[..., Lab], issuer: str, paths: list[str], endpoint: str
) -> None:
    """At every place the same document, and the models of others read it; the URL in it is the one that answers."""
    lab = fresh_lab(issuer=issuer)
    for path in paths:
        answer = lab.get(path)
        document = answer.json
        assert document["authorization_endpoint"] == ISS + endpoint
        read = OAuthMetadata.model_validate_json(answer.body)
        assert (read.response_types_supported, read.token_endpoint_auth_methods_supported) == ([], ["private_key_jwt"])
        assert "ES256" in (read.token_endpoint_auth_signing_alg_values_supported or [])
        assert _accepted_by_spring(document)
        assert _accepted_by_typescript_mcp(document)
    _check_nothing_begins(send(lab.address, "GET", endpoint))
    if endpoint != "/authorize":
        assert send(lab.address, "GET", "/authorize").status == 404


@pytest.mark.rule("AS-MC-01", "AS-MC-04", "AS-MD-09")
@pytest.mark.parametrize("issuer", [ISS, f"{ISS}/t1"])
def test_switched_off(fresh_lab: Callable[..., Lab], issuer: str) -> None:
    """No member is there, and the path is like any other where nothing is: answer, log and counter."""
    lab = fresh_lab(OFF, issuer=issuer)
    path = issuer.removeprefix(ISS)
    for place in (f"{METADATA}{path}", f"{path}{OPENID}"):
        assert not ADDED & lab.get(place).json.keys()
    for method in METHODS:
        gone = send(lab.address, method, f"{path}/authorize")
        nowhere = send(lab.address, method, f"{path}/nowhere")
        assert gone.comparable() == nowhere.comparable()
        assert gone.status == 404
    event = lab.event(send(lab.address, "GET", f"{path}/authorize"))
    assert (event["event"], event["reason"], event["endpoint"]) == ("request.refused", "path", "none")


def _check_nothing_begins(answer: Answer) -> None:
    check_refused(answer, "unsupported_response_type")
    assert answer.json["error_description"]


@pytest.mark.rule("AS-MC-01")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_answered_alike(lab: Lab, method: str) -> None:
    """JSON, no cookie, no redirect, nothing to keep: whatever is asked, and with whatever in it."""
    for target, headers, body in [
        ("/authorize", [], None),
        (
            "/authorize?response_type=code&client_id=billing&redirect_uri=https%3A%2F%2Fevil.example%2F&state=s",
            [],
            None,
        ),
        ("/authorize", [("Content-Type", FORM)], b"response_type=token&client_id=billing&scope=orders%3Aread"),
        ("/authorize", [("Accept", "text/html"), ("Cookie", "session=1"), ("Origin", "https://evil.example")], None),
        ("/authorize?%zz&&&=", [], None),
    ]:
        _check_nothing_begins(send(lab.address, method, target, headers, body))


@pytest.mark.rule("AS-MC-01")
def test_head_has_the_headers_alone(lab: Lab) -> None:
    """Those of GET, the length included."""
    head, get = send(lab.address, "HEAD", "/authorize"), send(lab.address, "GET", "/authorize")
    assert (head.status, head.body) == (400, b"")
    assert head.comparable()[:2] == get.comparable()[:2]


@pytest.mark.rule("AS-MC-01", "OPS-04")
def test_nothing_that_was_sent_is_logged(fresh_lab: Callable[..., Lab]) -> None:
    """A long query passes by; a larger one than a head may be is refused as everywhere. A body is not waited for."""
    lab = fresh_lab()
    secret = "sEcReT" * 5000
    answer = send(lab.address, "GET", f"/authorize?code_challenge={secret}&client_secret=hunter2")
    _check_nothing_begins(answer)
    assert not any(b"sEcReT" in line or b"hunter2" in line for line in lab.lines())
    event = lab.event(answer)
    assert (event["event"], event["reason"], event["endpoint"]) == ("request.refused", "response_type", "authorize")
    assert event["client"] is None if "client" in event else True
    assert send(lab.address, "GET", f"/authorize?{'x' * 200_000}").status in (400, 414, 431)
    started = b"POST /authorize HTTP/1.1\r\nHost: as.example\r\nContent-Length: 1000000\r\n\r\nabc"
    assert raw(lab.address, started, 2.0).startswith(b"HTTP/1.1 400 ")


@pytest.mark.rule("AS-MC-01")
def test_it_is_no_token_request(fresh_lab: Callable[..., Lab]) -> None:
    """Forty of them lock nobody out, and make thirty lines."""
    lab = fresh_lab("[throttle]\nclient_failures = 1\nsource_failures = 1\n[keys]\nrotate_every = 0\n")
    for _ in range(40):
        _check_nothing_begins(send(lab.address, "POST", "/authorize", [("Content-Type", FORM)], b"client_id=billing"))
    assert lab.token()
    logged = [json.loads(line) for line in lab.lines()]
    assert 1 <= sum(line["event"] == "request.refused" for line in logged) <= 30


@pytest.mark.rule("AS-MC-01")
def test_where_it_counts(tmp_path: Path) -> None:
    """As a refusal of its own name, and where it is switched off, by a reload too, as one of a path with nothing at it."""
    lab = prepare(tmp_path)

    async def asked(app: GuardedEntrance, method: str, target: str) -> dict[str, Any]:
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answers.append(message)

        path, _, query = target.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": [],
                 "client": ("127.0.0.1", 1)}  # fmt: skip
        await app(scope, receive, send)
        return {"status": answers[0]["status"], **json.loads(answers[1]["body"])}

    async def work() -> None:
        store = SqliteStore.open(lab.database)
        app = create_app(lab.config, store, Clockwork(lab.clock, lab.clock), lab.audit.log)
        assert isinstance(app, GuardedEntrance)
        assert (await asked(app, "GET", "/authorize?response_type=code"))["status"] == 400
        assert (await asked(app, "GET", METADATA)).keys() >= ADDED
        now = app.current.now
        app.current.now = replace(now, policy=replace(now.policy, compatible=False))
        assert (await asked(app, "POST", "/authorize"))["status"] == 404
        assert not ADDED & (await asked(app, "GET", METADATA)).keys()
        app.current.now = now
        assert (await asked(app, "BREW", "/authorize"))["error"] == "unsupported_response_type"
        tally = app.audit.tally
        assert dict(tally.turned_away) == {("authorize", "response_type"): 2, ("none", "path"): 1}
        assert not tally.answered
        assert not sum(tally.durations.counts)
        await store.close()

    asyncio.run(work())
    lab.stream.close()


@pytest.mark.rule("RS-MD-09")
def test_the_inventory_is_nobodys(fresh_lab: Callable[..., Lab]) -> None:
    """The audiences are listed where the operator says so, those that can have metadata of their own."""
    assert "protected_resources" not in fresh_lab().get(METADATA).json
    lab = fresh_lab(f"[metadata]\nprotected_resources = true\n{DEFAULTS}")
    lab.operate(lambda op: operations.add_api(op, "urn", "urn:example:stock", []))
    assert lab.get(METADATA).json["protected_resources"] == [ORDERS, STOCK]
    assert lab.get(OPENID).body == lab.get(METADATA).body
    for name in ("orders", "stock"):
        lab.operate(partial(operations.remove_api, name=name))
    assert "protected_resources" not in lab.get(METADATA).json


@pytest.mark.rule("OP-12")
@pytest.mark.parametrize("target", ["/token", "/client-keys", "/authorize", METADATA, OPENID, "/.well-known/jwks.json",
                                    "/health", "/livez", "/readyz", "/nowhere"])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_every_answer_says_what_it_is_called_in_the_log(lab: Lab, target: str, method: str) -> None:
    """Good or bad, of whatever method, each with an id of its own, once."""
    ids = [send(lab.address, method, target, body=b"" if method == "POST" else None).request_id for _ in range(2)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16,64}", one) for one in ids)
    assert len(set(ids)) == 2


@pytest.mark.rule("OP-12")
def test_a_library_shows_the_id(lab: Lab) -> None:
    """Whatever refuses at the token endpoint, the error of a caller's library names the line of the log."""
    answer = lab.ask(scope="nope")
    (line,) = [json.loads(line) for line in lab.lines() if answer.request_id.encode() in line]
    assert (line["event"], line["reason"]) == ("token.refused", "scope")
    machine = MachineClient(
        issuer=ISS,
        client_id="billing",
        key=lab.party.key,
        token_endpoint=f"http://{lab.address[0]}:{lab.address[1]}/token",
    )
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token(scopes=["nope"])
    machine.close()
    shown = refused.value.request_id
    assert shown is not None
    assert shown in str(refused.value)
    assert any(shown.encode() in line and b"token.refused" in line for line in lab.lines())


@pytest.mark.rule("AS-MC-03")
def test_a_request_as_the_mcp_sdks_send_it(lab: Lab) -> None:
    """No client_id in the form, the resource with its path as in the API's own metadata, and the assertion."""
    party = lab.add_client("mcp-form", allow={"stock": ["stock:read"]})
    form = base(party.assertion(), resource=STOCK, scope="stock:read")
    assert b"client_id" not in form
    claims = decoded(check_ok(lab.post(form))["access_token"])[1]
    assert (claims["aud"], claims["client_id"], claims["scope"]) == (STOCK, "mcp-form", "stock:read")
