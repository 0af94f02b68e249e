"""No token, assertion or key in logs, reprs, exceptions or the frames that exceptions carry."""

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from groat.client import ClientError, MachineClient, RetryPolicy, Token, raise_for_scope
from groat.protocol import strict_json
from groat.protocol.jwk import PrivateKey

from .clocks import Clock
from .conftest import MakeMachine, write_key
from .servers import Api, AuthorizationServer, Reply

LEAK: dict[str, Any] = {"access_token": "tok-Zq8vHk3mR1xW5yB7nC9d", "token_type": "Bearer"}


def secrets_of(issuer: AuthorizationServer, key: PrivateKey) -> set[str]:
    """Everything of this test that must not be seen, and recognizable pieces of it."""
    assertions = [request.form["client_assertion"] for request in issuer.token_requests]
    signatures = [assertion.rpartition(".")[2] for assertion in assertions]
    claims = [assertion.split(".")[1] for assertion in assertions]
    return {*issuer.issued, *assertions, *signatures, *claims, LEAK["access_token"], str(key.private_jwk()["d"])}


def leaks(text: str, secrets: set[str]) -> list[str]:
    return [secret[:12] for secret in secrets if secret in text]


def everything_in(error: BaseException) -> str:
    """All text that a crash reporter could take from an exception: causes, attributes and the locals of its frames."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        parts += traceback.TracebackException.from_exception(seen, capture_locals=True).format()
        parts += [str(seen), repr(seen), repr(vars(seen)), repr(seen.args)]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


@pytest.mark.rule("CL-21", "KEY-14")
def test_logs_of_a_full_run(
    make: MakeMachine,
    issuer: AuthorizationServer,
    api: Api,
    key: PrivateKey,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At debug level, with the HTTP library's logs too, a run with failures shows kid and jti and no secret."""
    caplog.set_level(logging.DEBUG)
    client = make(**clock.options)
    issuer.script += [Reply(503), Reply(302, headers={"Location": "/"}), Reply(401, {"error": "invalid_client"})]
    for _ in range(2):
        with pytest.raises(ClientError):
            client.token(api.url)
    with httpx2.Client(auth=client.auth(api.url)) as http:
        http.get(api.url)
        api.revoked |= issuer.issued.keys()
        assert http.get(api.url).status_code == 200
    logged = "\n".join(record.getMessage() + repr(record.__dict__) for record in caplog.records)
    assert leaks(logged, secrets_of(issuer, key)) == []
    assert f"kid={key.kid}" in logged
    assert all(f"jti={jti}" in logged for jti in issuer.jtis)


@pytest.mark.rule("CL-21")
def test_reprs(machine: MachineClient, issuer: AuthorizationServer, api: Api) -> None:
    """No way to print a token shows its value; the value has to be asked for."""
    token = machine.token()
    assert token.value in issuer.issued
    for shown in (str(token), repr(token), f"{token}", f"{token!r}", "%s" % token, str([token]), str({"t": token})):  # noqa: UP031
        assert token.value not in shown
        assert "Token(" in shown
    assert leaks(repr(machine.auth(api.url)) + repr(machine), {token.value}) == []


FAILURES: list[tuple[str, Callable[[AuthorizationServer], None]]] = [
    ("refused", lambda issuer: issuer.script.append(Reply(401, {"error": "invalid_client"}))),
    ("html", lambda issuer: issuer.script.append(Reply(404, "<html>"))),
    ("redirect", lambda issuer: issuer.script.append(Reply(307, headers={"Location": "https://evil.example/"}))),
    ("unavailable", lambda issuer: issuer.script.append(Reply(503))),
    ("mac", lambda issuer: issuer.script.append(Reply(200, {**LEAK, "token_type": "mac"}))),
    ("narrowed", lambda issuer: issuer.script.append(Reply(200, {**LEAK, "scope": "b"}))),
    ("broken json", lambda issuer: issuer.script.append(Reply(200, str(strict_json.dumps(LEAK))[:-3]))),
    ("not text", lambda issuer: issuer.script.append(Reply(200, strict_json.dumps(LEAK) + b"\xff"))),
    (
        "compressed",
        lambda issuer: issuer.script.append(Reply(200, strict_json.dumps(LEAK), {"Content-Encoding": "br"})),
    ),
    ("huge", lambda issuer: issuer.script.append(Reply(200, {**LEAK, "x": "x" * 70_000}))),
    ("slow", lambda issuer: issuer.script.append(Reply(200, LEAK, drip=0.2))),
    ("disconnect", lambda issuer: issuer.script.append(Reply(0))),
]


@pytest.mark.rule("CL-21", "KEY-14")
@pytest.mark.parametrize("prepare", [prepare for _, prepare in FAILURES], ids=[name for name, _ in FAILURES])
def test_errors(
    make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey, prepare: Callable[[AuthorizationServer], None]
) -> None:
    """Whatever fails, nothing that hangs on the exception holds a secret."""
    prepare(issuer)
    client = make(retry=RetryPolicy(retries=0), timeout=2.0)
    with pytest.raises(ClientError) as failed:
        client.token(scopes="a")
    assert leaks(everything_in(failed.value), secrets_of(issuer, key)) == []
    again = pickle.loads(pickle.dumps(failed.value))
    assert (str(again), vars(again)) == (str(failed.value), vars(failed.value))


def broken_keys(key: PrivateKey) -> Iterator[bytes]:
    good = strict_json.dumps(key.private_jwk())
    yield good[:-1]
    yield good + b"x"
    yield good.replace(b'"kty":"EC"', b'"kty":"RSA"')
    yield good.replace(b'"use":"sig"', b'"use":"enc"')
    yield b"-----BEGIN PRIVATE KEY-----\n" + str(key.private_jwk()["d"]).encode() + b"\n-----END PRIVATE KEY-----\n"
    yield b"x" + good


@pytest.mark.rule("CL-21", "KEY-14")
@pytest.mark.parametrize("number", range(6))
def test_key_file_errors(make: MakeMachine, key: PrivateKey, tmp_path: Path, number: int) -> None:
    """A key file that cannot be read leaves nothing of itself on the exception."""
    path = write_key(tmp_path / "key", list(broken_keys(key))[number])
    with pytest.raises(ClientError) as failed:
        make(key=path).token()
    assert leaks(everything_in(failed.value), {str(key.private_jwk()["d"])}) == []


@pytest.mark.rule("CL-21")
def test_api_errors(machine: MachineClient, issuer: AuthorizationServer, api: Api, key: PrivateKey) -> None:
    """Errors on the way to the API hold no token either."""
    challenge = 'Bearer error="insufficient_scope", scope="x"'
    api.script.append(Reply(403, {}, {"WWW-Authenticate": challenge}))
    with httpx2.Client(auth=machine.auth(api.url)) as http:
        response = http.get(api.url)
        with pytest.raises(ClientError) as refused:
            raise_for_scope(response)
        assert leaks(everything_in(refused.value), secrets_of(issuer, key)) == []
        with pytest.raises(ClientError) as misdirected:
            http.get(issuer.url)
        assert leaks(everything_in(misdirected.value), secrets_of(issuer, key)) == []


def test_token_equality_is_by_value() -> None:
    """Tokens compare like the values they are."""
    assert Token("a", 1.0, ("x",)) == Token("a", 1.0, ("x",)) != Token("b", 1.0, ("x",))
