"""A grant or a method of client authentication is a file and a row: toys are added here, and a real server gives tokens."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from types import MappingProxyType
from typing import Any

import pytest

from groat.protocol import client_auth, grants, token_request
from groat.protocol.client_auth import read_credential
from groat.protocol.errors import InvalidRequest
from groat.protocol.metadata import token_members
from groat.protocol.models import Policy, TokenRequest
from groat.protocol.token_request import check_query, form_fields, parse_token_request, read_token_request
from groat.server import operations
from tests.server.builders import ISS, NOW, Party, base_fields, compact, decoded
from tests.server.endpoints.toys import ticket, voucher, workload
from tests.server.lab import Lab
from tests.server.wire import Answer, check_ec, check_ok, check_refused, encoded, post

BEFORE = tuple(grants.GRANTS)


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tables, with one row more for each toy."""
    methods = {row.name: row for row in (ticket.ROW, workload.ROW)}
    monkeypatch.setattr(grants, "GRANTS", MappingProxyType({**grants.GRANTS, voucher.NAME: voucher.ROW}))
    monkeypatch.setattr(client_auth, "CLIENT_AUTH_METHODS", {**methods, **client_auth.CLIENT_AUTH_METHODS})
    yield
    token_request._parse_frame.cache_clear()  # read by tables that are gone now


@pytest.fixture(scope="module")
def writer(lab: Lab) -> Party:
    """A client of both grants."""
    both = ("client_credentials", voucher.NAME)
    return lab.add_client("writer", allow={"orders": ["orders:read", "orders:write"]}, grant_types=both)


def _ask(lab: Lab, *fields: tuple[str, str]) -> Answer:
    return post(lab.address, encoded(fields))


def _by_ticket(lab: Lab, client: str, *more: tuple[str, str], ticket: str | None = None) -> Answer:
    shown = client[::-1] if ticket is None else ticket
    fields = [("grant_type", "client_credentials"), ("scope", "orders:read"), ("client_id", client), ("ticket", shown)]
    return _ask(lab, *fields, *more)


def _statement(client: str, jti: str, **claims: Any) -> str:
    key = workload.PLATFORM_KEY
    said = {"iss": workload.PLATFORM, "sub": f"workload:{client}", "jti": jti, "exp": NOW + 60, **claims}
    return compact({"alg": "ES256", "kid": key.kid}, said, key)


def _parsed(*fields: tuple[str, str]) -> TokenRequest:
    """The request, by both ways to read one."""
    body = encoded(fields)
    request = parse_token_request(form_fields(body), ())
    assert read_token_request(body, ()) == request
    return request


def test_a_grant_of_its_own(lab: Lab, writer: Party) -> None:
    """What its parameter says is in the token; a client that may not use it is told so, and one voucher is not another."""
    for seconds in (77, 88):
        fields = {**base_fields(writer.assertion()), "grant_type": voucher.NAME, "voucher": str(seconds)}
        document = check_ok(_ask(lab, *fields.items(), ("colour", "red"), ("colour", "blue")))
        _, claims = decoded(document["access_token"])
        assert (document["expires_in"], claims["exp"] - claims["iat"]) == (seconds, seconds)
        assert (document["scope"], document["token_type"]) == ("orders:write", "Bearer")
    check_refused(lab.ask(writer.assertion(), grant_type=voucher.NAME), "invalid_scope")
    check_refused(lab.ask(grant_type=voucher.NAME, voucher="77"), "unauthorized_client")


def test_a_method_that_is_no_jwt(lab: Lab, writer: Party) -> None:
    """A token without assertion, key or jti: it is on record like any other, and the log knows no key."""
    answer = _by_ticket(lab, writer.client_id)
    _, claims = decoded(check_ok(answer)["access_token"])
    event = lab.event(answer)
    assert (event["client"], event["jti"], event["hint"]) == ("writer", claims["jti"], "a ticket is no secret")
    assert not event.keys() & {"key", "alg"}
    with closing(sqlite3.connect(lab.database)) as connection:
        found = connection.execute("SELECT client_id FROM used_once WHERE token_id = ?", (claims["jti"],)).fetchall()
    assert found == [("writer",)]
    check_ok(_by_ticket(lab, writer.client_id))
    check_ok(lab.ask(writer.assertion(), scope="orders:read"))


@pytest.mark.rule("AS-CA-19")
def test_refusals_by_any_method_read_the_same(lab: Lab) -> None:
    """A bad ticket, nobody's ticket, a disabled client's, which its method let pass, and one beside an assertion."""
    party = lab.add_client("off")
    lab.operate(lambda op: operations.enable_client(op, "off", enabled=False))
    check_ec(_by_ticket(lab, "writer", ticket="writer"))
    check_ec(_by_ticket(lab, "nobody"))
    refused = _by_ticket(lab, "off")
    check_ec(refused)
    assert lab.reason(refused) == "client_disabled"
    both = base_fields(party.assertion())
    answer = _by_ticket(lab, "off", *((name, both[name]) for name in ("client_assertion", "client_assertion_type")))
    check_refused(answer, "invalid_request")
    assert lab.reason(answer) == "auth_methods"


def test_two_methods_may_share_their_parameters(lab: Lab, writer: Party) -> None:
    """The platform's assertion is taken by the first row, once; the client's own is left to the next."""
    check_ok(lab.ask(_statement("writer", "one"), scope="orders:read"))
    again = lab.ask(_statement("writer", "one"), scope="orders:read")
    check_ec(again)
    assert lab.reason(again) == "assertion_replayed"
    check_ok(lab.ask(writer.assertion(jti="one"), scope="orders:read"))
    check_ec(lab.ask(_statement("nobody", "two")))


@pytest.mark.rule("AS-TE-12")
def test_only_declared_parameters_arrive() -> None:
    """What the row of the grant, or the row of a method, reads; what another row reads, or none, is dropped unseen."""
    mine = [("scope", "a"), ("voucher", "7"), ("colour", "red"), ("ticket", "t"), ("client_id", "c")]
    asked = _parsed(("grant_type", "client_credentials"), *mine)
    assert (dict(asked.parameters), dict(asked.credentials)) == ({"scope": "a"}, {"ticket": "t"})
    asked = _parsed(("grant_type", voucher.NAME), *mine)
    assert (dict(asked.parameters), dict(asked.credentials)) == ({"voucher": "7"}, {"ticket": "t"})
    assert "red" not in f"{asked.parameters}{asked.credentials}{asked}"
    assert read_credential(asked) == ticket.Ticket("ticket", "c", "t")
    asked = _parsed(*base_fields("a.b.c").items(), ("voucher", ""))
    assert dict(asked.parameters) == {}
    assert asked.credentials.keys() == {"client_assertion", "client_assertion_type"}


@pytest.mark.rule("AS-TE-05", "AS-TE-09")
@pytest.mark.parametrize("name", ["voucher", "ticket"])
def test_declared_parameters_obey_the_rules_of_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once at most, and in the body alone; for a name that no row reads neither matters."""
    twice = [("grant_type", "client_credentials"), (name, "x"), (name, "x")]
    for refused in (lambda: _parsed(*twice), lambda: check_query(f"{name}=x".encode())):
        with pytest.raises(InvalidRequest):
            refused()
    monkeypatch.undo()
    _parsed(*twice)
    check_query(f"{name}=x".encode())


@pytest.mark.rule("AS-MD-06")
def test_the_metadata_tells_of_every_row() -> None:
    """RFC 8414 2: what the tables hold."""
    document = token_members(Policy(ISS))
    assert document["grant_types_supported"] == [*BEFORE, voucher.NAME]
    assert document["token_endpoint_auth_methods_supported"] == ["ticket", "workload", "private_key_jwt"]
