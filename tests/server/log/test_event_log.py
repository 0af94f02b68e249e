"""OPS-03 and OPS-04: every line is one JSON object, tells what happened, and holds no secret."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.keys.files import private_key_bytes
from groat.protocol.jwk import generate_private_key
from groat.server import operations
from groat.server.log.event_log import EventLog, LibraryLines, redact
from tests.server.builders import NOW, Party, base, decoded
from tests.server.lab import Lab
from tests.server.wire import FORM, check_ec, check_ok, encoded, post

KEY = generate_private_key("ES256")
JWT = Party("billing", KEY).assertion()
PEM = private_key_bytes(KEY, pem=True).decode()


@pytest.mark.rule("OPS-03", "KEY-14", "I8")
@pytest.mark.parametrize(
    "text",
    [JWT, f"Bearer {JWT}", f"got {JWT}, and {JWT}", JWT.rpartition(".")[0], JWT[:-40], PEM, f"x{PEM}y{PEM}z", PEM[:-30],
     PEM.replace("\n", "\\n"), f"client_assertion={JWT}&scope=x", "a" + JWT],
    ids=["jwt", "bearer", "two", "unsigned", "cut", "pem", "two-pems", "cut-pem", "escaped-pem", "form", "glued"],
)  # fmt: skip
def test_redact_cuts_secrets(text: str) -> None:
    """Tokens, assertions and PEM blocks, whole or cut short, alone or inside a line, do not survive."""
    line = json.dumps({"event": "x", "hint": text, "request_id": "r"}).encode()
    cut = redact(line)
    assert JWT.split(".")[1].encode() not in cut
    assert PEM.splitlines()[1].encode() not in cut
    assert b"[redacted]" in cut


@pytest.mark.rule("OPS-04", "H06", "O04")
@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN KEY-----",
        "-----BEGIN A-----x",
        "-----BEGIN KEY----- -----END KEY-----",
        '-----BEGIN A-----"x',
        "-----BEGIN A-----\\",
        PEM[:-30],
        JWT,
    ],
)
def test_redact_leaves_one_json_object(text: str) -> None:
    """Whatever is cut, the line stays one JSON object with its other members: nobody can blot out a log line."""
    line = json.dumps({"event": "x", "hint": text, "request_id": "r", "source": "s"}).encode()
    document = json.loads(redact(line))
    assert (document["request_id"], document["source"]) == ("r", "s")


@pytest.mark.rule("OPS-04", "I11")
@pytest.mark.parametrize("value", ["eyJhbGciOiJFUzI1NiJ9AB", "abceyJ0123456789abcdef", "fooKEYeyJabcdefghijk"])
def test_redact_leaves_ids_alone(value: str) -> None:
    """A random id or thumbprint that happens to contain the first letters of a JWT stays readable."""
    line = json.dumps({"event": "token.issued", "jti": value}).encode()
    assert json.loads(redact(line))["jti"] == value


@pytest.mark.rule("OPS-04")
@given(st.dictionaries(st.text(max_size=10), st.text(max_size=40) | st.integers() | st.none(), max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_facts_make_one_line(tmp_path_factory: pytest.TempPathFactory, facts: dict[str, Any]) -> None:
    """Any values, with newlines, quotes or controls, are one line and one JSON object."""
    facts = {name: value for name, value in facts.items() if not str(value).startswith("-----BEGIN")}
    path = tmp_path_factory.getbasetemp() / "any-facts"
    try:
        json.dumps(facts, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    with path.open("w") as stream:
        EventLog(stream, "info", False).emit("info", "event", facts)
    (line,) = path.read_bytes().splitlines()
    assert isinstance(json.loads(line), dict)


@pytest.mark.rule("OPS-03")
def test_members_with_the_names_of_secrets_are_masked(tmp_path: Path) -> None:
    """A careless call that logs a secret under its own name leaves no trace of it, on a terminal neither."""
    for pretty in (False, True):
        with (tmp_path / "log").open("w") as stream:
            facts = dict.fromkeys(("client_assertion", "d", "authorization", "client_secret", "token"), "canary")
            EventLog(stream, "info", pretty).emit("info", "x", {**facts, "hint": "fine"})
        text = (tmp_path / "log").read_text()
        assert "canary" not in text
        assert "fine" in text


def test_levels(tmp_path: Path) -> None:
    """What is below the level is not written."""
    with (tmp_path / "log").open("w") as stream:
        log = EventLog(stream, "warning", False)
        log.gather("quiet", {}).write()
        log.emit("info", "quiet", {})
        log.emit("warning", "loud", {})
    assert [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()] == ["loud"]


@pytest.mark.rule("OP-14", "I14")
def test_warnings_about_what_is_not_http_are_written_in_moderation(tmp_path: Path) -> None:
    """A scanner that speaks TLS to a plain port does not fill the disk; what is worse or only informs is written."""
    with (tmp_path / "log").open("w") as stream:
        lines = LibraryLines(EventLog(stream, "info", False))
        for level in (logging.WARNING, logging.INFO, logging.ERROR):
            for _ in range(100):
                lines.emit(logging.LogRecord("uvicorn.error", level, "", 0, "Invalid HTTP request received.", (), None))
    levels = Counter(json.loads(line)["level"] for line in (tmp_path / "log").read_text().splitlines())
    assert (levels["info"], levels["error"]) == (100, 100)
    assert 30 <= levels["warning"] < 60


@pytest.mark.rule("OPS-04", "I11", "DEMO-22")
def test_what_an_issue_leaves_behind(lab: Lab) -> None:
    """One line with time, client, key, audience, scope, ids and source; the token itself nowhere."""
    answer = lab.ask()
    token = check_ok(answer)["access_token"]
    header, claims = decoded(token)
    event = lab.event(answer)
    expected = {
        "event": "token.issued", "level": "info", "client": "billing", "key": lab.party.key.kid, "alg": "ES256",
        "api": "orders", "aud": claims["aud"], "scope": claims["scope"], "jti": claims["jti"], "kid": header["kid"],
        "source": "127.0.0.1", "request_id": answer.request_id,
    }  # fmt: skip
    assert {name: event[name] for name in expected} == expected
    assert event["ts"].endswith("Z")
    assert event["ms"] >= 0
    assert token.encode() not in lab.log.read_bytes()


HOSTILE = {
    "crlf": 'a\r\n{"event":"token.issued"}',
    "terminal": "\x1b[2J\x1b[31mred",
    "unicode": "\u2028\u2029\u0085\U0001f600",
    "pem": "-----BEGIN KEY-----",
    "pem-quote": '-----BEGIN KEY-----"x',
    "pem-backslash": "-----BEGIN KEY-----\\",
    "jwt": JWT,
}


@pytest.mark.rule("OPS-03", "OPS-04", "H06", "O04", "JOSE-12", "I8")
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "where", ["kid", "aud", "sub", "jti", "scope", "resource", "client_id", "typ", "type", "referer"]
)
def test_hostile_values_leave_one_clean_line(lab: Lab, where: str, value: str) -> None:
    """Whatever part of a request carries it, the log gets one whole JSON line, ASCII, with its id, and no secret."""
    before = len(lab.lines())
    party = lab.party
    if where in ("kid", "typ"):
        answer = lab.ask(party.headed(**{where: value}))
    elif where in ("aud", "sub", "jti"):
        answer = lab.ask(party.assertion(**{where: value + where}))
    elif where == "type":
        answer = lab.ask(client_assertion_type=value)
    elif where == "referer":
        answer = lab.post(base("a.b.c"), FORM, ("Referer", value.splitlines()[0].replace("\x1b", "")))
    else:
        answer = lab.ask(**{where: value})
    added = lab.lines()[before:]
    assert len(added) == 1
    document = json.loads(added[0])
    assert document["request_id"] == answer.request_id
    assert document["event"] == ("token.issued" if answer.status == 200 else "token.refused")
    assert document["source"] == "127.0.0.1"
    assert b"\x1b" not in added[0]
    assert added[0].isascii()
    assert JWT.split(".")[1].encode() not in added[0]


@pytest.mark.rule("OPS-03", "I8", "Z07", "DEMO-22")
def test_nothing_secret_in_a_whole_session(fresh_lab: Callable[..., Lab]) -> None:
    """Issuing, refusing, rotating, failing: at debug level no assertion, token, private value or sealed key is logged."""
    lab = fresh_lab()
    secrets = [str(lab.party.key.private_jwk()["d"]), "canary-secret"]
    for assertion in (
        lab.party.assertion(),
        lab.party.assertion(aud="x"),
        lab.party.assertion(exp=NOW),
        JWT,
        "eyJhbGciOi",
    ):
        answer = lab.ask(assertion)
        secrets.append(assertion.rpartition(".")[2] or assertion)
        if answer.status == 200:
            secrets.append(answer.json["access_token"].rpartition(".")[2])
    check_ec(lab.post(encoded([("grant_type", "client_credentials"), ("client_secret", "canary-secret")])))
    lab.post(encoded([("grant_type", "client_credentials")]), FORM, ("Authorization", "Basic canary-secret"))
    post(lab.address, base(lab.party.assertion()), (("Content-Type", FORM),), "/token?client_secret=canary-secret")
    lab.rotate()
    lab.operate(lambda op: operations.revoke_signing_key(operations.Ring(op, lab.kek, "ES256"), lab.kids()[0]))
    for key in lab.operate(operations.list_signing_keys):
        secrets.append(str(lab.kek.unseal(key.sealed, key.kid).private_jwk()["d"]))
    text = lab.log.read_text()
    assert not [secret for secret in secrets if secret in text]
    assert "eyJ" not in text
    assert "PRIVATE" not in text
    for line in lab.lines():
        assert isinstance(json.loads(line), dict)


@pytest.mark.rule("OPS-04")
def test_operations_leave_a_line(fresh_lab: Callable[..., Lab]) -> None:
    """What an operator changes is in the log: who was added, disabled, removed, and which key rotated."""
    lab = fresh_lab()
    lab.add_client("audited")
    lab.operate(lambda op: operations.enable_client(op, "audited", enabled=False))
    lab.operate(lambda op: operations.remove_client(op, "audited"))
    lab.rotate()
    events = [json.loads(line) for line in lab.lines()]
    named = [event["event"] for event in events if event.get("client") == "audited"]
    assert named == ["client.added", "client.disabled", "client.removed"]
    assert any(event["event"] == "key.rotated" and event["kid"] in lab.kids() for event in events)
