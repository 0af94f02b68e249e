"""Reading token responses: what is required, what is ignored, and how long a token lives."""

from typing import Any

import pytest

from groat.client import MachineClient, ScopeNarrowed, TokenResponseInvalid

from .clocks import EPOCH, Clock
from .conftest import MakeMachine
from .servers import AuthorizationServer, Reply


@pytest.mark.rule("CL-08", "C07")
@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_token_type_in_any_case(machine: MachineClient, issuer: AuthorizationServer, token_type: str) -> None:
    """token_type is compared without regard to case."""
    issuer.members["token_type"] = token_type
    assert machine.token().value in issuer.issued


@pytest.mark.rule("CL-08", "C07")
@pytest.mark.parametrize(
    "members",
    [
        {"token_type": ...},
        {"token_type": "mac"},
        {"token_type": "DPoP"},
        {"token_type": "Bearer "},
        {"token_type": ""},
        {"token_type": None},
        {"token_type": ["Bearer"]},
        {"access_token": ...},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": 7},
        {"access_token": "two words"},
        {"access_token": "evil\r\nX-Admin: 1"},
        {"access_token": "tökén"},
    ],
    ids=str,
)
def test_bad_members(machine: MachineClient, issuer: AuthorizationServer, members: dict[str, Any]) -> None:
    """A response without a usable token of a known type is an error, once, and nothing is kept."""
    issuer.members = members
    with pytest.raises(TokenResponseInvalid):
        machine.token()
    assert len(issuer.token_requests) == 1
    issuer.members = {}
    assert machine.token().value in issuer.issued


@pytest.mark.rule("CL-08", "C07")
@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>welcome</html>",
        [],
        "null",
        '"token"',
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"access_token":"a","token_type":"Bearer"}',
        '{"access_token":"a","access_token":"b","token_type":"Bearer"}',
        '{"access_token":"a","token_type":"Bearer","expires_in":NaN}',
        '{"access_token":"a","token_type":"Bearer","x":' + "[" * 100 + "]" * 100 + "}",
    ],
    ids=repr,
)
def test_bad_body(machine: MachineClient, issuer: AuthorizationServer, body: Any) -> None:
    """A 200 that is not one strict JSON object is a typed error, not a crash and not a retry."""
    issuer.script.append(Reply(200, body))
    with pytest.raises(TokenResponseInvalid, match="not a JSON object"):
        machine.token()
    assert len(issuer.token_requests) == 1


@pytest.mark.rule("CL-08", "C07")
@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_other_success(machine: MachineClient, issuer: AuthorizationServer, status: int) -> None:
    """Only 200 is a token response."""
    body = b"" if status == 204 else b'{"access_token":"a","token_type":"Bearer"}'
    issuer.script.append(Reply(status, body))
    with pytest.raises(TokenResponseInvalid, match=f"answered {status}"):
        machine.token()


@pytest.mark.rule("CL-08", "C07")
def test_huge_body(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """64 KiB is the limit: just at it is read, one byte over is not."""
    start, end = b'{"access_token":"a","token_type":"Bearer","x":"', b'"}'
    fits = start + b"x" * (65536 - len(start) - len(end)) + end
    issuer.script += [Reply(200, fits), Reply(200, fits + b" ")]
    assert machine.token(scopes="a").value == "a"
    with pytest.raises(TokenResponseInvalid, match="longer than 65536"):
        machine.token(scopes="b")


@pytest.mark.rule("CL-08", "C07")
def test_compressed_body(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """Compression was not asked for; it is refused before anything is unpacked."""
    issuer.script.append(Reply(200, b"\x1f\x8b", {"Content-Encoding": "gzip"}))
    with pytest.raises(TokenResponseInvalid, match="compressed"):
        machine.token()


@pytest.mark.rule("CL-09")
def test_unknown_members(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """Members that we do not know are ignored, whatever they hold."""
    issuer.members = {"refresh_token": "r", "id_token": {}, "x": [1, {"y": None}]}
    assert machine.token().value in issuer.issued


@pytest.mark.rule("CL-10", "C07")
@pytest.mark.parametrize(
    ("expires_in", "lives"),
    [
        (600, 600),
        (1, 1),
        (3599.5, 3599.5),
        (..., 60),
        ("300", 60),
        (-1, 60),
        (0, 60),
        (True, 60),
        (None, 60),
        ([], 60),
        (10**12, 86400),
    ],
)
def test_expires_in(machine: MachineClient, issuer: AuthorizationServer, expires_in: Any, lives: float) -> None:
    """A missing or wrong expires_in means 60 s; no token is kept for more than a day."""
    issuer.members["expires_in"] = expires_in
    assert machine.token().expires_at == EPOCH + lives


@pytest.mark.rule("CL-10")
def test_default_lifetime_ends(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A token without expires_in is not kept for ever."""
    issuer.members["expires_in"] = ...
    first = machine.token()
    clock.advance(60)
    assert machine.token().value != first.value


@pytest.mark.rule("CL-11")
@pytest.mark.parametrize(
    ("scope", "scopes"),
    [(..., ("a", "b")), ("a b", ("a", "b")), ("b a c", ("a", "b", "c")), (7, ("a", "b")), ("b  a", ("a", "b"))],
    ids=str,
)
def test_granted_scopes(
    machine: MachineClient, issuer: AuthorizationServer, scope: Any, scopes: tuple[str, ...]
) -> None:
    """The token carries what was granted, or what was asked when the server does not say."""
    issuer.members["scope"] = scope
    assert machine.token(scopes=["b", "a"]).scopes == scopes


@pytest.mark.rule("CL-11")
@pytest.mark.parametrize(("scope", "missing"), [("a", ("b",)), ("", ("a", "b")), ("A b", ("a",)), ("ab", ("a", "b"))])
def test_narrowed_scope(make: MakeMachine, issuer: AuthorizationServer, scope: str, missing: tuple[str, ...]) -> None:
    """A narrowed grant is reported; with the opt-in the token comes with its true scopes."""
    issuer.members["scope"] = scope
    granted = tuple(sorted(scope.split()))
    with pytest.raises(ScopeNarrowed) as narrowed:
        make().token(scopes=["a", "b"])
    assert (narrowed.value.granted, narrowed.value.missing) == (granted, missing)
    assert make(allow_narrowed_scope=True).token(scopes=["a", "b"]).scopes == granted


@pytest.mark.rule("CL-20")
@pytest.mark.parametrize(
    "value", ["abc", "a.b.c", "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~"]
)
def test_token_is_opaque(machine: MachineClient, issuer: AuthorizationServer, value: str) -> None:
    """Whatever the token looks like, also like a JWT that has expired, it is handed on as it is."""
    issuer.members["access_token"] = value
    assert machine.token().value == value
    assert machine.token().expires_at == EPOCH + 600
