"""Values that travel: they copy, pickle and hash, and what is read-only stays so."""

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from groat.client import errors as client_errors
from groat.client.token import Token
from groat.protocol.access_token import RFC9068, AnyOf, Caller, Dialect
from groat.protocol.errors import (
    ConfigError,
    Finding,
    InsufficientScope,
    InvalidBearerRequest,
    InvalidToken,
    JoseError,
    KeysUnavailable,
    MissingToken,
)
from groat.protocol.read_only import ReadOnlyDict
from groat.verifier import Answer, Response, TrustedIssuer, dialects

CLAIMS: dict[str, Any] = {"sub": "billing", "scope": "orders:read", "act": {"sub": "a"}, "list": [1, [2]], "exp": 9}
DIALECTS = [RFC9068, dialects.KEYCLOAK, dialects.AUTH0, dialects.ENTRA, dialects.COGNITO, dialects.COGNITO_BY_CLIENT]
COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda value, at=at: pickle.loads(pickle.dumps(value, at)) for at in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    dataclasses.replace,
]


def caller(dialect: Dialect = RFC9068, **claims: Any) -> Caller:
    held = ReadOnlyDict({**CLAIMS, **claims})
    return Caller("billing", "billing", frozenset({"orders:read"}), 9, 1, "jti", held, dialect)


@pytest.mark.rule("FO-9")
@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_caller_is_a_value(copied: Callable[[Any], Any], dialect: Dialect) -> None:
    """Whatever way it is copied, it is equal, has the same hash, answers the same, and its claims stay read-only."""
    original = caller(dialect)
    again = copied(original)
    assert again == original
    assert hash(again) == hash(original)
    assert {original: 1}[again] == 1
    assert again.claims == CLAIMS
    assert again.is_client == original.is_client
    with pytest.raises(TypeError, match="read-only"):
        again.claims["sub"] = "admin"


@pytest.mark.rule("FO-9")
def test_a_caller_becomes_a_dictionary_and_json() -> None:
    """`dataclasses.asdict` works, and the claims can be written as JSON as they are."""
    document = dataclasses.asdict(caller())
    assert document["claims"] == CLAIMS
    assert document["client_id"] == "billing"
    assert json.loads(json.dumps(caller().claims)) == CLAIMS
    assert isinstance(caller().claims, Mapping)


@pytest.mark.rule("FO-9")
def test_callers_that_differ_in_a_claim_are_not_equal() -> None:
    """The claims count for equality, although not for the hash."""
    assert caller() != caller(tenant="acme")
    assert len({caller(), caller(tenant="acme"), caller()}) == 2


@pytest.mark.rule("FO-9")
def test_read_only_claims_cannot_be_changed() -> None:
    """Every way of changing a dictionary is refused; a copy of one's own can be changed."""
    claims: Any = ReadOnlyDict(CLAIMS)
    changes: list[Callable[[], object]] = [
        lambda: claims.__setitem__("a", 1),
        lambda: claims.__delitem__("sub"),
        lambda: claims.update(a=1),
        lambda: claims.pop("sub"),
        claims.popitem,
        claims.clear,
        lambda: claims.setdefault("a", 1),
        lambda: claims.__ior__({"a": 1}),
        lambda: setattr(claims, "a", 1),
    ]
    for change in changes:
        with pytest.raises((TypeError, AttributeError)):
            change()
    assert claims == CLAIMS
    assert {**claims, "a": 1}["a"] == 1
    assert dict(claims) | {"a": 1} == claims | {"a": 1}


OTHERS: list[Any] = [
    AnyOf(("a", "b")),
    TrustedIssuer("https://a.example", algorithms=["ES256"]),
    Answer(401, (("a", "b"),), b"{}"),
    Response(200, {"a": "b"}, b"{}"),
    Token("opaque", 9.0, ("a",)),
    Finding("wrong", "groat.toml", 3),
]


@pytest.mark.rule("FO-9")
@pytest.mark.parametrize("value", OTHERS, ids=lambda value: type(value).__name__)
def test_the_other_values_are_values_too(value: Any) -> None:
    """Public dataclasses of verifier and client copy and pickle."""
    for copied in COPIES[:-1]:
        assert copied(value) == value
    assert dataclasses.asdict(value)


ERRORS: list[Exception] = [
    MissingToken("no credentials"),
    InvalidBearerRequest("malformed", "two"),
    InvalidToken("expired", "exp is 5 s in the past"),
    InsufficientScope(["orders:write", "orders:read"], "hint"),
    KeysUnavailable("no answer in time", 7),
    JoseError("key", "hint"),
    ConfigError("one", Finding("two", "groat.toml", 2)),
    client_errors.ClientError("message", hint="do this", transient=True, retry_after=3.0),
    client_errors.ServerUnreachable("message", status=503, retry_after=2.0),
    client_errors.TokenRequestRefused("message", code="invalid_client", description="no", status=401, hint="do"),
    client_errors.ScopeNarrowed("message", granted=["a"], missing=["b"]),
    client_errors.InsufficientScope("message", required=["b"]),
    client_errors.HttpClientMissing(),
]


@pytest.mark.rule("FO-9")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_reach_another_process_as_they_were(error: Exception) -> None:
    """A worker process hands its error to the parent by pickle: every attribute arrives."""
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)
