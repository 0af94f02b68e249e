"""What servers write, and how little of it reaches a terminal or a log as it is; and how requests are called."""

import logging
from typing import Any

import httpx
import httpx2
import pytest

from groat.client import (
    ClientError,
    InsufficientScope,
    MachineClient,
    MetadataInvalid,
    ServerUnreachable,
    TokenRequestRefused,
    raise_for_scope,
)
from groat.client.enrolment import Enrolment
from groat.client.wire import Transport
from groat.protocol.jwk import PrivateKey, generate_private_key

from .clocks import Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer, Reply

# Escape sequences, line ends, NUL, C1 controls, marks that turn the direction of writing, a lone line separator.
NASTY = "x\x1b[2J\x1b]0;owned\x07\r\n\x00\x9b31m\u202e\u2066\u2028\x7fy"


def shown(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """All that anybody would print of an error, and what was logged on the way."""
    attributes = [str(value) for value in vars(error).values()]
    return "".join([str(error), *attributes, *(record.getMessage() for record in caplog.records)])


NASTY_ANSWERS = {
    "error": Reply(400, {"error": NASTY, "error_description": NASTY}),
    "description": Reply(401, {"error": "invalid_client", "error_description": NASTY * 50}),
    "token type": Reply(200, {"access_token": "opaque", "token_type": NASTY}),
    "access token": Reply(200, {"access_token": NASTY, "token_type": "Bearer"}),
    "reason": Reply(503, NASTY),
    "request id": Reply(403, {"error": "invalid_scope"}, {"X-Request-ID": "x\x1b[2J\x9b31m"}),
    "redirect": Reply(302, b"", {"Location": "https://evil.example/\x1b[2J"}),
}


@pytest.mark.rule("ST-13", "CL-17")
@pytest.mark.parametrize("reply", NASTY_ANSWERS.values(), ids=NASTY_ANSWERS.keys())
def test_errors_of_the_token_endpoint_are_printable(
    machine: MachineClient, issuer: AuthorizationServer, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    """No control character and no mark of direction passes, in no attribute and no log line."""
    caplog.set_level(logging.DEBUG, "groat")
    issuer.script += [reply] * 4
    with pytest.raises(ClientError) as caught:
        machine.token(scopes=["a"])
    assert shown(caught.value, caplog).isprintable()


@pytest.mark.rule("ST-13", "CL-01")
@pytest.mark.parametrize(
    "change",
    [
        {"issuer": NASTY},
        {"token_endpoint": f"https://x.example/{NASTY}"},
        {"issuer": ["\x1b[2J"]},
        {"token_endpoint": NASTY},
    ],
)
def test_errors_of_the_metadata_are_printable(
    machine: MachineClient, issuer: AuthorizationServer, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    """The same for the document that comes before, and for algorithms that it offers."""
    assert isinstance(issuer.metadata, dict)
    issuer.metadata = {**issuer.metadata, **change}
    with pytest.raises(MetadataInvalid) as caught:
        machine.token()
    assert shown(caught.value, caplog).isprintable()


@pytest.mark.rule("ST-13")
def test_offered_algorithms_are_printable(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A list that has nothing for the key is quoted, made harmless."""
    assert isinstance(issuer.metadata, dict)
    issuer.metadata = {**issuer.metadata, "token_endpoint_auth_signing_alg_values_supported": [NASTY]}
    with pytest.raises(ClientError, match="the server takes") as caught:
        machine.token()
    assert str(caught.value).isprintable()


@pytest.mark.rule("ST-13", "CL-11")
def test_scopes_that_are_none_are_not_carried_on(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """What the server says it granted is data for the caller: only names that can be scopes are among it."""
    issuer.members["scope"] = 'a \x1b[2Jb c\u202ed "e" f\tg h'
    token = machine.token(scopes=["a"])
    assert token.scopes == ("a", "h")
    assert str(token).isprintable()


ENROLMENTS = [
    Reply(201, {"client_id": NASTY, "kid": NASTY, "expires_at": 1, "note": NASTY, "x\x1b[2J": 1}),
    Reply(200, {"client_id": 7, "kid": ["\x1b"], "expires_at": NASTY}),
]


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("reply", ENROLMENTS)
def test_a_registration_tells_known_things_only(issuer: AuthorizationServer, reply: Reply) -> None:
    """Client id, kid and end, of their types and printable; nothing else that a server adds."""
    issuer.scripted_path = "/client-keys"
    issuer.script.append(reply)
    transport = Transport()
    done = Enrolment(issuer.url, CLIENT_ID, transport).by_code(generate_private_key("ES256"), "code")
    transport.close()
    assert done.keys() <= {"client_id", "kid", "expires_at"}
    assert "".join(map(str, done.values())).isprintable()


ID = "0123456789abcdef0123456789abcdef0123456789abcdef"


@pytest.mark.rule("OP-12")
@pytest.mark.parametrize("header", ["X-Request-ID", "x-request-id", "X-Correlation-ID", "X-MS-Request-ID"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401, {"error": "invalid_client"}), TokenRequestRefused),
        (Reply(503, {"error": "temporarily_unavailable"}), TokenRequestRefused),
        (Reply(503, "<h1>sorry</h1>"), ServerUnreachable),
        (Reply(302, b"", {"Location": "/"}), ClientError),
        (Reply(200, {"access_token": "opaque"}), ClientError),
        (Reply(200, b"x" * 70_000), ClientError),
        (Reply(200, b"x", {"Content-Encoding": "gzip"}), ClientError),
        (Reply(200, {"access_token": "o", "token_type": "Bearer", "scope": "other"}), ClientError),
    ],
)
def test_the_id_of_a_request_is_in_its_error(
    machine: MachineClient, issuer: AuthorizationServer, header: str, reply: Reply, kind: type[ClientError]
) -> None:
    """Whoever asks the operator of the server can say which line of the log is meant."""
    issuer.script += [Reply(reply.status, reply.body, {**reply.headers, header: ID})] * 4
    with pytest.raises(kind) as caught:
        machine.token(scopes=["a"])
    assert caught.value.request_id == ID
    assert str(caught.value).endswith(f"[request id {ID}]")


@pytest.mark.rule("OP-12")
def test_the_id_of_a_request_for_metadata(make: MakeMachine, clock: Clock, key: PrivateKey) -> None:
    """The same where the first document already fails; and no words where the server gives no id."""

    class Broken(AuthorizationServer):
        def answer(self, request: Any) -> Reply:
            return Reply(503, b"", {"X-Request-ID": ID})

    with Broken(CLIENT_ID, key.public) as broken:
        with pytest.raises(ServerUnreachable, match=ID):
            make(issuer=broken.url, **clock.options).token()
    with pytest.raises(ClientError) as caught:
        make(issuer="http://127.0.0.1:9", **clock.options).token()
    assert caught.value.request_id is None
    assert "request id" not in str(caught.value)


@pytest.mark.rule("OP-12", "CL-16", "ST-13")
def test_the_id_of_a_request_that_wants_more_scope() -> None:
    """What an API says about a missing scope carries its id, too, printable."""
    for library in (httpx2, httpx):
        headers = [(b"WWW-Authenticate", b'Bearer error="insufficient_scope", scope="a"'), (b"X-Request-Id", b"7f\x9b")]
        with pytest.raises(InsufficientScope) as caught:
            raise_for_scope(library.Response(403, headers=headers))
        assert (caught.value.required, caught.value.request_id) == (("a",), r"7f\x9b")


@pytest.mark.rule("OP-12", "CL-01")
def test_the_id_where_there_is_no_metadata(make: MakeMachine, clock: Clock, key: PrivateKey) -> None:
    """The last place that was asked is the one to ask about."""

    class Nothing(AuthorizationServer):
        def answer(self, request: Any) -> Reply:
            return Reply(404, b"", {"X-Request-ID": f"{ID[:8]}-{len(self.seen)}"})

    with Nothing(CLIENT_ID, key.public) as nothing:
        with pytest.raises(MetadataInvalid, match="serves no metadata") as caught:
            make(issuer=nothing.url, **clock.options).token()
        assert caught.value.request_id == f"{ID[:8]}-{len(nothing.seen)}"


@pytest.mark.rule("FO-16", "CL-08", "CL-10")
def test_null_members_of_a_token_response_are_absent(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A server that writes null for what it does not say is read like one that leaves it out."""
    issuer.members.update({"scope": None, "expires_in": None, "refresh_token": None})
    token = machine.token(scopes=["a"])
    assert (token.scopes, token.value in issuer.issued) == (("a",), True)
