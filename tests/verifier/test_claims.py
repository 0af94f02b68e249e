"""The claims of access tokens, each with one fault, under a good signature (RFC 9068 4, RFC 7519)."""

import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from groat.protocol.jwk import base64url_encode, generate_private_key
from groat.verifier import InsufficientScope, InvalidToken, Verifier, any_of
from tests.verifier.issuer import Issuer
from tests.verifier.tokens import ABSENT, AUD, refused, signed

CLIENT_KEY: Final = generate_private_key("ES256")  # a registered client's: no key of the issuer


@pytest.fixture(scope="module")
def verifier(running: Issuer) -> Verifier:
    return running.verifier()


@pytest.mark.rule("JOSE-03", "JOSE-04", "JOSE-05", "A11", "A12", "R08")
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"1", id="number"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="invalid UTF-8"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf{}", id="BOM"),
        pytest.param(b'{"sub":"a","sub":"b"}', id="repeated"),
        pytest.param(b'{"exp":NaN}', id="NaN"),
        pytest.param(b'{"exp":1e400}', id="1e400"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b"}", id="5000 digits"),
        pytest.param(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", id="depth 100"),
        pytest.param(b'{"sub":"\\ud800"}', id="lone surrogate"),
    ],
)
def test_claims_are_strict_json(running: Issuer, verifier: Verifier, payload: bytes) -> None:
    """A claims set with two possible readings has none here, however well it is signed."""
    with refused("malformed"):
        verifier.verify(signed(payload, running.key, kid=running.key.kid))


@pytest.mark.rule("RS-12", "R08", "JOSE-21")
@pytest.mark.parametrize(
    "change",
    [
        lambda u: u + "/",
        str.upper,
        lambda u: u.replace("http", "https"),
        lambda u: [u],
        lambda u: None,
        lambda u: ABSENT,
    ],
    ids=["slash", "upper", "https", "array", "null", "absent"],
)
def test_other_issuer(running: Issuer, verifier: Verifier, change: Callable[[str], Any]) -> None:
    """iss is compared code point by code point."""
    with refused("issuer"):
        verifier.verify(running.token(iss=change(running.url)))


@pytest.mark.rule("RS-13", "R08", "JOSE-21", "DEMO-14")
@pytest.mark.parametrize(
    "aud",
    [ABSENT, None, "", 5, {}, [], [5], [[AUD]], [AUD, 5], "https://other.example", AUD + "/", AUD.upper(), [AUD + "/"]],
    ids=repr,
)
def test_other_audience(running: Issuer, verifier: Verifier, aud: Any) -> None:
    """A token for another API, or for none, is not for this one."""
    with refused("audience"):
        verifier.verify(running.token(aud=aud))


@pytest.mark.rule("RS-13")
@pytest.mark.parametrize("aud", [AUD, [AUD], [AUD, "https://other.example"], ["x", AUD]], ids=repr)
def test_own_audience(running: Issuer, verifier: Verifier, aud: Any) -> None:
    """This API may be one of several audiences."""
    assert verifier.verify(running.token(aud=aud)).client_id == "billing"


NOW: Final = 2_000_000_000.0


@pytest.mark.rule("RS-14", "JOSE-18", "JOSE-19", "JOSE-20", "R08")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, None, id="good"),
        pytest.param({"exp": NOW + 1}, None, id="exp in 1 s"),
        pytest.param({"exp": NOW + 0.5}, None, id="exp with a fraction"),
        pytest.param({"exp": NOW}, "expired", id="exp now"),
        pytest.param({"exp": NOW - 300}, "expired", id="exp past"),
        pytest.param({"exp": 0}, "expired", id="exp 0"),
        pytest.param({"exp": -1}, "expired", id="exp negative"),
        pytest.param({"exp": "1999999999"}, "claims", id="exp string"),
        pytest.param({"exp": True}, "claims", id="exp true"),
        pytest.param({"exp": None}, "claims", id="exp null"),
        pytest.param({"exp": [NOW + 60]}, "claims", id="exp array"),
        pytest.param({"exp": ABSENT}, "claims", id="exp absent"),
        pytest.param({"iat": NOW + 10}, None, id="iat in 10 s"),
        pytest.param({"iat": NOW + 11}, "not_yet", id="iat in 11 s"),
        pytest.param({"iat": "1"}, "claims", id="iat string"),
        pytest.param({"iat": ABSENT}, "claims", id="iat absent"),
        pytest.param({"nbf": NOW + 10}, None, id="nbf in 10 s"),
        pytest.param({"nbf": NOW + 11}, "not_yet", id="nbf in 11 s"),
        pytest.param({"nbf": False}, "claims", id="nbf false"),
    ],
)
def test_times(running: Issuer, changes: dict[str, Any], reason: str | None) -> None:
    """exp has no leeway, iat and nbf have ten seconds, and all are numbers."""
    verifier = running.verifier(clock=lambda: NOW)
    token = running.token(**{"iat": NOW - 1, "exp": NOW + 600, **changes})
    if reason is None:
        assert verifier.verify(token).client_id == "billing"
        return
    with refused(reason):
        verifier.verify(token)


@pytest.mark.rule("RS-14", "JOSE-25", "R08")
@pytest.mark.parametrize("name", ["sub", "client_id", "jti"])
@pytest.mark.parametrize("value", [ABSENT, None, "", 5, ["billing"], {}, "x" * 5000], ids=lambda v: repr(v)[:12])
def test_required_strings(running: Issuer, verifier: Verifier, name: str, value: Any) -> None:
    """sub, client_id and jti are there, and are strings."""
    with refused("claims"):
        verifier.verify(running.token(**{name: value}))


@pytest.mark.rule("RS-11", "JOSE-22", "R10")
@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "Application/AT+jwt"])
def test_typ(running: Issuer, verifier: Verifier, typ: str) -> None:
    """typ is a media type: case and the application/ prefix do not matter."""
    assert verifier.verify(running.token(typ=typ)).client_id == "billing"


@pytest.mark.rule("RS-11", "JOSE-22", "JOSE-23", "R10", "A16", "DEMO-02")
@pytest.mark.parametrize(
    "typ",
    [
        None,
        "JWT",
        "",
        "text/at+jwt",
        "at+jwt;x=y",
        "client-authentication+jwt",
        "dpop+jwt",
        "logout+jwt",
        "id_token+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "secevent+jwt",
    ],
    ids=str,
)
def test_other_kinds_of_jwt(running: Issuer, verifier: Verifier, typ: str | None) -> None:
    """No other kind of JWT is an access token, even with the right key, issuer and audience."""
    with refused("type"):
        verifier.verify(running.token(typ=typ))


@pytest.mark.rule("RS-11", "DEMO-02", "AT-11")
def test_client_assertion_is_no_access_token(running: Issuer, verifier: Verifier) -> None:
    """What a client signs to authenticate opens no API."""
    now = int(time.time())
    assertion = {"iss": "billing", "sub": "billing", "aud": running.url, "iat": now, "exp": now + 60, "jti": "j" * 22}
    for typ in ("client-authentication+jwt", None):
        with refused("type"):
            verifier.verify(signed(assertion, CLIENT_KEY, typ=typ, kid=CLIENT_KEY.kid))


@pytest.mark.rule("RS-DP-04")
@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None, 5], ids=repr)
def test_bound_token_without_its_proof(running: Issuer, verifier: Verifier, cnf: Any) -> None:
    """A token that is bound to a key is no bearer token."""
    with refused("binding"):
        verifier.verify(running.token(cnf=cnf))


@pytest.mark.rule("RS-22", "RS-09")
@pytest.mark.parametrize(
    ("scope", "required", "granted"),
    [
        ("orders:read", ["orders:read"], True),
        ("orders:read orders:write", ["orders:write", "orders:read"], True),
        ("orders:read  orders:write", ["orders:write"], True),
        ("orders:read", [], True),
        (ABSENT, [], True),
        ("", [], True),
        ("orders:read", ["orders:read", "orders:write"], False),
        ("READ", ["read"], False),
        ("orders:readonly", ["orders:read"], False),
        ("orders", ["orders:read"], False),
        ("orders:read\torders:write", ["orders:write"], False),
        ("orders:read,orders:write", ["orders:write"], False),
        (ABSENT, ["orders:read"], False),
        ("orders:write", any_of("orders:read", "orders:write"), True),
        ("orders:delete", any_of("orders:read", "orders:write"), False),
        ("o r d", "ord", False),
    ],
    ids=repr,
)
def test_scopes(running: Issuer, verifier: Verifier, scope: Any, required: Any, granted: bool) -> None:
    """All of a list or one of any_of, exact and case-sensitive; too little is 403 and names what is needed."""
    token = running.token(scope=scope)
    if granted:
        assert verifier.verify(token, required).client_id == "billing"
        return
    with pytest.raises(InsufficientScope) as caught:
        verifier.verify(token, required)
    assert caught.value.status == 403
    assert 'error="insufficient_scope"' in (caught.value.www_authenticate or "")
    assert 'scope="' in (caught.value.www_authenticate or "")


@pytest.mark.rule("RS-22")
@pytest.mark.parametrize("scope", [["orders:read"], None, 5, {"orders:read": True}, True], ids=repr)
def test_scope_of_another_type(running: Issuer, verifier: Verifier, scope: Any) -> None:
    """A scope that is no string spoils the token."""
    with refused("claims"):
        verifier.verify(running.token(scope=scope), ["orders:read"])


@pytest.mark.rule("RS-23")
@pytest.mark.parametrize(("sub", "is_client"), [("billing", True), ("user-17", False)])
def test_client_or_user(running: Issuer, verifier: Verifier, sub: str, is_client: bool) -> None:
    """The caller tells a client that acts for itself from a user, and its claims cannot be changed."""
    caller = verifier.verify(running.token(sub=sub))
    assert (caller.is_client, caller.subject, caller.client_id) == (is_client, sub, "billing")
    assert caller.token_id == "0123456789abcdef0123456789abcdef"
    assert caller.expires_at == caller.claims["exp"]
    assert caller.confirmation is None
    with pytest.raises(TypeError):
        caller.claims["sub"] = "admin"  # type: ignore[index]


@pytest.mark.rule("RS-25", "I8")
def test_exceptions_do_not_quote_the_token(running: Issuer, verifier: Verifier) -> None:
    """No refusal shows the token, its signature or its claims in any of its texts."""
    canary = "canary-7f3a"
    for changes in (
        {"aud": canary},
        {"iss": canary},
        {"sub": ABSENT, "x": canary},
        {"exp": canary},
        {"scope": [canary]},
    ):
        token = running.token(jti=canary, **changes)
        with pytest.raises(InvalidToken) as caught:
            verifier.verify(token)
        shown = f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.www_authenticate}"
        assert canary not in shown
        assert token.split(".")[1] not in shown


@pytest.mark.rule("JOSE-24")
def test_claims_have_no_effect_before_the_signature(running: Issuer) -> None:
    """A forged token neither fills the cache nor spoils the good token it imitates."""
    verifier = running.verifier(cache_size=10)
    good = running.token()
    data, _, _ = good.rpartition(".")
    with refused("signature"):
        verifier.verify(f"{data}.{base64url_encode(b'x' * 64).decode()}")
    assert verifier._cache is not None
    assert len(verifier._cache) == 0
    assert verifier.verify(good).client_id == "billing"
    assert len(verifier._cache) == 1
