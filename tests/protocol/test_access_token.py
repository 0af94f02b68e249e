"""RFC 9068 access tokens: what is written, and what an API accepts."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from groat.protocol import jose, strict_json
from groat.protocol.access_token import (
    DEFAULT_ALGORITHMS,
    TYP,
    Caller,
    Dialect,
    Expectations,
    access_token_claims,
    any_of,
    check_access_token,
    parse_access_token,
    require_scopes,
)
from groat.protocol.client_auth import CLIENT_AUTH_METHODS, read_credential
from groat.protocol.errors import ConfigError, InsufficientScope, InvalidToken
from groat.protocol.jwk import PrivateKey, base64url_decode
from groat.protocol.models import Api, Grant, Policy
from groat.protocol.token_request import form_fields, parse_token_request

from .builders import (
    ABSENT,
    API,
    AS_KEY,
    CID,
    CLIENT,
    CLIENT_KEY,
    EXPECTED,
    ISS,
    JWT_BEARER,
    KEYS,
    NOW,
    OTHER_KEY,
    POLICY,
    RES,
    TE,
    access_token,
    assertion,
    assertion_claims,
    authenticate,
    client_refused,
    compact,
    header_of,
    refused,
    token_claims,
    token_refused,
    verify,
)

GRANT = Grant(CID, API, ("read", "write"), 600)


def _issue(key: PrivateKey = AS_KEY, grant: Grant = GRANT, policy: Policy = POLICY) -> str:
    return jose.sign_jwt(_claims(grant, policy, jti="n" * 22), key, TYP)


def _claims(grant: Grant = GRANT, policy: Policy = POLICY, jti: str = "j") -> dict[str, Any]:
    return strict_json.loads_object(access_token_claims(grant, policy, NOW, jti))


# --- what is written


@pytest.mark.rule("AT-01", "AT-02", "AT-03", "AT-04", "AT-05", "AT-07", "AT-08", "AT-10", "DEMO-13", "DEMO-15")
def test_what_a_token_says() -> None:
    """Header and claims are exactly those of RFC 9068, and nothing is invented."""
    header, claims, _ = _issue().split(".")
    assert json.loads(base64url_decode(header)) == {"alg": "ES256", "kid": AS_KEY.kid, "typ": "at+jwt"}
    written = json.loads(base64url_decode(claims))
    assert written == {
        "iss": ISS,
        "sub": CID,
        "aud": RES,
        "client_id": CID,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "n" * 22,
        "scope": "read write",
    }
    assert all(type(written[name]) is int for name in ("iat", "exp"))


@pytest.mark.rule("AT-07")
def test_without_scopes_there_is_no_scope_claim() -> None:
    """Absent, not empty, and never an array."""
    assert "scope" not in _claims(replace(GRANT, scopes=()))


@pytest.mark.rule("AT-08")
@pytest.mark.parametrize(("lifetime", "fine"), [(59, False), (60, True), (3600, True), (3601, False), (7200, False)])
def test_the_lifetime_is_bounded(lifetime: int, fine: bool) -> None:
    """A minute to an hour; the token lasts exactly as long as the grant."""
    if not fine:
        with pytest.raises(ConfigError):
            Policy(ISS, token_lifetime=lifetime)
        return
    claims = _claims(replace(GRANT, lifetime=lifetime), Policy(ISS, token_lifetime=lifetime))
    assert claims["exp"] - claims["iat"] == lifetime


@pytest.mark.rule("AT-10")
@pytest.mark.parametrize(
    "name",
    ["iss", "sub", "aud", "client_id", "iat", "exp", "nbf", "jti", "scope", "cnf", "act", "may_act"],
)
def test_extra_claims_override_nothing(name: str) -> None:
    """A configured claim with a registered name is a configuration error."""
    with pytest.raises(ConfigError, match=name):
        Policy(ISS, extra_claims={"ok": 1, name: "x"})


@pytest.mark.rule("AT-10")
def test_extra_claims_are_added() -> None:
    """And even a mapping that changes later cannot replace what the token must say."""
    extra: dict[str, Any] = {"env": "prod"}
    policy = Policy(ISS, extra_claims=extra)
    extra.update({"iss": "evil", "exp": 0, "sub": "admin", "aud": "evil", "scope": "all", "client_id": "x", "jti": "x"})
    claims = _claims(policy=policy)
    assert claims["env"] == "prod"
    assert {name: claims[name] for name in token_claims()} == token_claims(scope="read write", jti="j")


@pytest.mark.rule("AT-14")
@pytest.mark.parametrize("key", [AS_KEY, KEYS["PS256"]], ids=["ES256", "PS256"])
def test_a_usual_token_is_small(key: PrivateKey) -> None:
    """Fifty scopes of thirty characters stay under 4 KiB."""
    api = Api("orders", RES, frozenset())
    grant = Grant("c" * 64, api, tuple(f"orders:department-{i:02}:readonly" for i in range(50)), 600)
    assert len(_issue(key, grant)) < 4096


@pytest.mark.rule("AT-01", "AT-09", "RS-15")
@pytest.mark.parametrize("name", KEYS)
def test_every_algorithm_works_end_to_end(name: str) -> None:
    """What is issued is verified, by default too, and refused where the API expects another algorithm."""
    key = KEYS[name]
    token = _issue(key)
    caller = verify(token, Expectations(ISS, RES, algorithms=[name]), keys=(key.public,))
    assert (caller.client_id, caller.subject, caller.token_id) == (CID, CID, "n" * 22)
    assert caller.scopes == {"read", "write"}
    assert (caller.issued_at, caller.expires_at) == (NOW, NOW + 600)
    assert verify(token, keys=(key.public,)).is_client
    others = [other for other in DEFAULT_ALGORITHMS if other != name]
    with token_refused("algorithm"):
        verify(token, Expectations(ISS, RES, algorithms=others), keys=(key.public,))


# --- what is accepted


@pytest.mark.rule("RS-11", "JOSE-22", "JOSE-23", "R10")
@pytest.mark.parametrize(
    ("typ", "fine"),
    [
        ("at+jwt", True),
        ("application/at+jwt", True),
        ("AT+JWT", True),
        ("Application/AT+jwt", True),
        (ABSENT, False),
        ("JWT", False),
        ("", False),
        ("dpop+jwt", False),
        ("client-authentication+jwt", False),
        ("token-introspection+jwt", False),
        ("logout+jwt", False),
        ("text/at+jwt", False),
        ("at+jwt ", False),
        ("at+jwt;x", False),
        ("xat+jwt", False),
    ],
    ids=repr,
)
def test_the_type_of_an_access_token(typ: Any, fine: bool) -> None:
    """Only at+jwt, in either spelling."""
    token = access_token(AS_KEY, {"typ": typ})
    if fine:
        assert verify(token).client_id == CID
        return
    with token_refused("type"):
        verify(token)


@pytest.mark.rule("RS-08", "RS-15", "JOSE-06", "JOSE-07", "R01", "R02", "R03", "R04")
@pytest.mark.parametrize("alg", ["none", "None", "HS256", "HS512", "es256", "ES384", "RS512", "ESP256", "", 5, ABSENT])
def test_algorithms_outside_the_list_are_refused(alg: Any) -> None:
    """An API has a list of algorithms; everything else, known to us or not, is refused."""
    with token_refused("algorithm"):
        verify(access_token(AS_KEY, {"alg": alg}))


@pytest.mark.rule("RS-15", "JOSE-17", "AT-09")
def test_the_list_of_algorithms_counts() -> None:
    """EdDSA and Ed25519 in the list are one; an API may leave RS256 out."""
    token = access_token(KEYS["Ed25519"])
    for names in (["EdDSA"], ["Ed25519"], {"ES256", "EdDSA"}):
        caller = verify(token, Expectations(ISS, RES, algorithms=names), keys=(KEYS["Ed25519"].public,))
        assert caller.client_id == CID
    with token_refused("algorithm"):
        verify(access_token(KEYS["RS256"]), Expectations(ISS, RES, ["ES256"]), keys=(KEYS["RS256"].public,))


@pytest.mark.rule("RS-08", "DEMO-01", "JOSE-11", "R05", "R06")
@pytest.mark.parametrize(
    ("key", "header", "reason"),
    [
        (CLIENT_KEY, {}, "key_unknown"),
        (CLIENT_KEY, {"kid": AS_KEY.kid}, "signature"),
        (CLIENT_KEY, {"kid": ABSENT}, "signature"),
        (OTHER_KEY, {"jwk": dict(OTHER_KEY.public.jwk), "kid": AS_KEY.kid}, "signature"),
        (AS_KEY, {"kid": "x"}, "key_unknown"),
        (AS_KEY, {"crit": ["x"], "x": 1}, "malformed"),
    ],
)
def test_only_the_issuer_s_key_signs(key: PrivateKey, header: dict[str, Any], reason: str) -> None:
    """A client's key, an attacker's, or one that the token brings along is refused."""
    with token_refused(reason):
        verify(access_token(key, header))


@pytest.mark.rule("RS-08", "JOSE-01", "JOSE-02", "R07", "R08")
@pytest.mark.parametrize("spoil", ["", "abc", "{}==", "{0}.{0}", "{}\n", " {}", "x" * 9000, "é"])
def test_garbage_is_an_invalid_token(spoil: str) -> None:
    """Every shape that is no JWT ends the same way, as text and as bytes."""
    token = spoil.format(access_token())
    with token_refused("malformed"):
        verify(token)
    with token_refused("malformed"):
        verify(token.encode())


CLAIMS: list[tuple[dict[str, Any], str | None]] = [
    ({"iss": f"{ISS}/"}, "issuer"),
    ({"iss": "https://AS.example"}, "issuer"),
    ({"iss": "https://other.example"}, "issuer"),
    ({"iss": ABSENT}, "issuer"),
    ({"iss": None}, "issuer"),
    ({"iss": [ISS]}, "issuer"),
    ({"iss": 5}, "issuer"),
    ({"aud": "https://other.example"}, "audience"),
    ({"aud": f"{RES}/"}, "audience"),
    ({"aud": "https://API.example"}, "audience"),
    ({"aud": ISS}, "audience"),
    ({"aud": ABSENT}, "audience"),
    ({"aud": None}, "audience"),
    ({"aud": []}, "audience"),
    ({"aud": ["x", "y"]}, "audience"),
    ({"aud": [RES, 5]}, "audience"),
    ({"aud": [[RES]]}, "audience"),
    ({"aud": {"a": RES}}, "audience"),
    ({"aud": 5}, "audience"),
    ({"aud": [RES, "x"]}, None),
    ({"aud": ["x", RES]}, None),
    ({"exp": ABSENT}, "claims"),
    ({"exp": str(NOW + 60)}, "claims"),
    ({"exp": True}, "claims"),
    ({"exp": None}, "claims"),
    ({"exp": NOW}, "expired"),
    ({"exp": NOW - 1}, "expired"),
    ({"exp": NOW + 1}, None),
    ({"exp": NOW + 0.5}, None),
    ({"iat": ABSENT}, "claims"),
    ({"iat": "now"}, "claims"),
    ({"iat": True}, "claims"),
    ({"iat": None}, "claims"),
    ({"iat": NOW + 10}, None),
    ({"iat": NOW + 11}, "not_yet"),
    ({"iat": NOW + 61}, "not_yet"),
    ({"iat": 0}, None),
    ({"nbf": NOW + 10}, None),
    ({"nbf": NOW + 11}, "not_yet"),
    ({"nbf": "x"}, "claims"),
    ({"sub": ABSENT}, "claims"),
    ({"sub": ""}, "claims"),
    ({"sub": 5}, "claims"),
    ({"sub": None}, "claims"),
    ({"client_id": ABSENT}, "claims"),
    ({"client_id": ""}, "claims"),
    ({"client_id": 5}, "claims"),
    ({"client_id": [CID]}, "claims"),
    ({"jti": ABSENT}, "claims"),
    ({"jti": ""}, "claims"),
    ({"jti": 5}, "claims"),
    ({"scope": ABSENT}, None),
    ({"scope": ""}, None),
    ({"scope": ["read"]}, "claims"),
    ({"scope": None}, "claims"),
    ({"scope": 5}, "claims"),
    ({"scope": {"read": True}}, "claims"),
    ({"cnf": {"jkt": "x"}}, "binding"),
    ({"cnf": None}, "binding"),
    ({"foo": {"bar": 1}}, None),
]


@pytest.mark.rule(
    *("RS-08", "RS-12", "RS-13", "RS-14", "RS-22", "RS-DP-04"),
    *("JOSE-18", "JOSE-19", "JOSE-20", "JOSE-21", "JOSE-25", "R09", "DEMO-14"),
)
@pytest.mark.parametrize(("claims", "reason"), CLAIMS, ids=repr)
def test_the_claims_of_an_access_token(claims: dict[str, Any], reason: str | None) -> None:
    """Issuer and audience to the code point, times to the second, every required claim of its type."""
    if reason is None:
        assert verify(access_token(**claims)).client_id == CID
        return
    with token_refused(reason):
        verify(access_token(**claims))


@pytest.mark.rule("RS-12")
def test_a_key_speaks_for_its_own_issuer_only() -> None:
    """A token of issuer one, signed well by its key, is nothing to an API that expects issuer two."""
    with token_refused("issuer"):
        verify(access_token(), Expectations("https://two.example", RES))
    with pytest.raises(InvalidToken) as caught:
        verify(access_token(iss=f"{ISS}/"))
    assert "slash" in caught.value.hint


@pytest.mark.rule("JOSE-24", "RS-08")
def test_the_signature_comes_before_the_claims() -> None:
    """Nothing a forged token says is judged."""
    with token_refused("signature"):
        verify(access_token(OTHER_KEY, {"kid": AS_KEY.kid}, iss="x", aud="x", exp=0))


@pytest.mark.rule("RS-16")
@pytest.mark.parametrize(
    "fields",
    [
        {"issuer": ""},
        {"audience": ""},
        {"algorithms": ()},
        {"algorithms": ["none"]},
        {"algorithms": ["ES256", "HS256"]},
        {"algorithms": ["ESP256"]},
        {"algorithms": "ES256"},
        {"audience": ISS},
        {"clock_tolerance": 61},
        {"clock_tolerance": -1},
    ],
    ids=repr,
)
def test_no_unsafe_expectations(fields: dict[str, Any]) -> None:
    """Without issuer, audience or algorithms, or with symmetric ones, there is no verifier."""
    with pytest.raises(ConfigError):
        Expectations(**{"issuer": ISS, "audience": RES, **fields})


@pytest.mark.rule("RS-16")
def test_nothing_has_a_default_that_could_be_forgotten() -> None:
    """Issuer and audience are required arguments."""
    with pytest.raises(TypeError):
        Expectations()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Expectations(ISS)  # type: ignore[call-arg]


@pytest.mark.rule("JOSE-20")
@pytest.mark.parametrize("tolerance", [10, 60])
def test_the_tolerance_of_an_api(tolerance: int) -> None:
    """iat and nbf may lie ahead by it, exp may not lie behind by it."""
    expected = Expectations(ISS, RES, clock_tolerance=tolerance)
    assert verify(access_token(iat=NOW + tolerance, nbf=NOW + tolerance), expected).client_id == CID
    with token_refused("not_yet"):
        verify(access_token(iat=NOW + tolerance + 1), expected)
    with token_refused("expired"):
        verify(access_token(exp=NOW), expected)


@pytest.mark.rule("JOSE-20")
def test_the_tolerance_cannot_fall_below_ten_seconds() -> None:
    """Up to ten seconds ahead must be accepted, so no verifier may be set to less."""
    with pytest.raises(ConfigError):
        Expectations(ISS, RES, clock_tolerance=9)


# --- one kind of JWT for each purpose

TYPES = {
    "assertion": "client-authentication+jwt",
    "access token": "at+jwt",
    "DPoP proof": "dpop+jwt",
    "introspection": "token-introspection+jwt",
    "logout": "logout+jwt",
    "plain": "JWT",
    "untyped": ABSENT,
}


@pytest.mark.rule("JOSE-23", "AT-11", "RS-11", "DEMO-02", "R10")
@pytest.mark.parametrize("kind", TYPES)
def test_each_verifier_takes_its_own_kind(kind: str) -> None:
    """All signed by one key with just the claims that a verifier wants: only the diagonal passes."""
    client = replace(CLIENT, keys=(AS_KEY.public,))
    as_assertion = compact(header_of(AS_KEY, "", {"typ": TYPES[kind]}), assertion_claims(), AS_KEY)
    as_access_token = compact(header_of(AS_KEY, "", {"typ": TYPES[kind]}), token_claims(), AS_KEY)
    if kind in ("assertion", "plain", "untyped"):
        assert authenticate(as_assertion, client).client is client
    else:
        with client_refused("assertion_type"):
            authenticate(as_assertion, client)
    if kind == "access token":
        assert verify(as_access_token).client_id == CID
    else:
        with token_refused("type"):
            verify(as_access_token)


@pytest.mark.rule("AT-11", "JOSE-23", "DEMO-02")
def test_an_assertion_is_no_access_token() -> None:
    """With the very key of the issuer, an assertion is refused by the API, and a token by the server."""
    with token_refused("type"):
        verify(assertion(AS_KEY))
    with token_refused("issuer"):
        verify(assertion(AS_KEY, {"typ": "at+jwt"}))
    with client_refused("assertion_type"):
        authenticate(_issue(AS_KEY), replace(CLIENT, keys=(AS_KEY.public,)))


@pytest.mark.rule("AT-11", "JOSE-23")
def test_an_untyped_access_token_is_no_assertion_either() -> None:
    """Where the type is silent, the claims tell the two apart: it is a token of some issuer, and no client's own."""
    for audience in (ISS, TE):
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": JWT_BEARER,
            "client_assertion": access_token(AS_KEY, {"typ": ABSENT}, aud=audience),
        }
        request = parse_token_request(form_fields(urlencode(fields).encode()), ())
        assert read_credential(request).method not in CLIENT_AUTH_METHODS


# --- other issuers' spelling

FOREIGN = Dialect(
    types=frozenset({None, "application/jwt"}),
    client_id=("azp", "appid"),
    scopes=("scp", "roles"),
    audience="aud",
    required=("iat",),
    scope_array=True,
    fixed=(("token_use", "access"),),
)


def _foreign(**changes: Any) -> Caller:
    claims = token_claims(client_id=ABSENT, scope=ABSENT, azp="app", scp=["a", "b"], token_use="access")
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not ABSENT}
    expected = Expectations(ISS, RES, dialect=FOREIGN)
    return verify(compact(header_of(AS_KEY, "JWT"), claims, AS_KEY), expected)


@pytest.mark.rule("RS-11", "RS-14", "RS-22")
def test_a_dialect_reads_other_spellings() -> None:
    """Claim names, types and forms of scope are those of the dialect; the checks stay."""
    assert _foreign().scopes == {"a", "b"}
    assert _foreign(scp="a b").scopes == {"a", "b"}
    assert _foreign(scp=ABSENT, roles=["r"]).scopes == {"r"}
    assert _foreign(scp=ABSENT).scopes == frozenset()
    assert _foreign(azp=ABSENT, appid="app2").client_id == "app2"
    assert _foreign(sub=ABSENT).subject == "app"
    assert _foreign(jti=ABSENT).token_id is None
    assert _foreign(sub="user").is_client is False


@pytest.mark.rule("RS-12", "RS-13", "RS-14", "RS-22")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"azp": ABSENT}, "claims"),
        ({"azp": 5, "appid": "x"}, "claims"),
        ({"scp": ["a", 5]}, "claims"),
        ({"scp": None, "roles": ["r"]}, "claims"),
        ({"token_use": "id"}, "type"),
        ({"token_use": ABSENT}, "type"),
        ({"iat": ABSENT}, "claims"),
        ({"sub": 5}, "claims"),
        ({"aud": "x"}, "audience"),
        ({"iss": "x"}, "issuer"),
        ({"exp": NOW}, "expired"),
    ],
    ids=repr,
)
def test_a_dialect_relaxes_nothing_else(changes: dict[str, Any], reason: str) -> None:
    """The first present name counts, even if it is ill-typed; every other rule holds."""
    with token_refused(reason):
        _foreign(**changes)


@pytest.mark.rule("RS-13")
def test_a_dialect_may_keep_its_audience_elsewhere() -> None:
    """The named claim is held to the rules of aud."""
    expected = Expectations(ISS, RES, dialect=Dialect(audience="client_id", client_id=("sub",)))
    assert verify(access_token(client_id=RES, aud=ABSENT), expected).client_id == CID
    others: list[Any] = [CID, ABSENT, 5, []]
    for wrong in others:
        with token_refused("audience"):
            verify(access_token(client_id=wrong), expected)


# --- the caller


@pytest.mark.rule("RS-23")
def test_a_caller_is_a_client_or_acts_for_a_user() -> None:
    """Only when subject and client are one does the client act for itself."""
    assert verify(access_token()).is_client is True
    user = verify(access_token(sub="alice"))
    assert (user.is_client, user.subject, user.client_id) == (False, "alice", CID)


@pytest.mark.rule("AT-13", "RS-DP-04")
def test_what_a_token_is_bound_to_is_handed_on() -> None:
    """For whoever checks the proof; a strange confirmation is refused with the token."""
    thumbprint = AS_KEY.public.thumbprint
    bound = verify(access_token(cnf={"jkt": thumbprint})).confirmation
    assert bound is not None
    assert (bound.kind, bound.thumbprint) == ("dpop", thumbprint)
    for strange in ("x", {"jkt": "x"}, {"kid": "x"}, {}, None):
        with token_refused("binding"):
            verify(access_token(cnf=strange))
    assert verify(access_token()).confirmation is None


@pytest.mark.rule("OPS-03", "RS-25")
def test_a_caller_shows_no_claims_and_cannot_be_changed() -> None:
    """Its repr may stand in a log."""
    caller = verify(access_token(foo="hidden-value"))
    assert "hidden-value" not in repr(caller)
    with pytest.raises(TypeError):
        caller.claims["scope"] = "all"  # type: ignore[index]
    with pytest.raises(AttributeError):
        caller.scopes = frozenset({"all"})  # type: ignore[misc]


@pytest.mark.rule("RS-09", "RS-22")
@pytest.mark.parametrize(
    ("granted", "required", "fine"),
    [
        ("read write", ["read"], True),
        ("read write", ["write", "read"], True),
        ("read write", "read", True),
        ("read write", iter(["read"]), True),
        ("read write", [], True),
        ("read", any_of("write", "read"), True),
        ("", [], True),
        ("read", ["read", "write"], False),
        ("read", ["READ"], False),
        ("READ", ["read"], False),
        ("read", ["rea"], False),
        ("read", "r", False),
        ("read", "readx", False),
        ("read", "read write", False),
        ("read write", "read write", False),
        ("", ["read"], False),
        ("", [""], False),
        ("read  write", [""], False),
        ("read", any_of("write", "admin"), False),
        ("read", any_of("ead"), False),
        ("read\twrite", ["read"], False),
    ],
)
def test_required_scopes(granted: str, required: Any, fine: bool) -> None:
    """All of a list, or any of any_of: whole tokens, case-sensitive; a lone string is one scope."""
    caller = verify(access_token(scope=granted))
    if fine:
        require_scopes(caller, required)
        return
    with refused(InsufficientScope, "scope"):
        require_scopes(caller, required)


@pytest.mark.rule("RS-09")
def test_the_refusal_names_what_is_needed() -> None:
    """The scopes that are required, sorted."""
    caller = verify(access_token(scope=ABSENT))
    wanted: list[Collection[str]] = [["write", "read"], {"write", "read"}]
    for required in wanted:
        with pytest.raises(InsufficientScope) as caught:
            require_scopes(caller, required)
        assert caught.value.required == ("read", "write")
    with pytest.raises(InsufficientScope) as caught:
        require_scopes(caller, any_of("b", "a"))
    assert caught.value.required == ("a", "b")


@pytest.mark.rule("RS-16")
def test_any_of_nothing_is_a_mistake() -> None:
    """An empty alternative would refuse everybody, or everything."""
    with pytest.raises(ConfigError):
        any_of()


@pytest.mark.rule("RS-24")
def test_a_parsed_token_is_judged_by_the_clock_it_is_given() -> None:
    """Parsed once, it is refused from exp on."""
    jwt = parse_access_token(access_token(), EXPECTED)
    assert check_access_token(jwt, AS_KEY.public, EXPECTED, NOW + 599.9).client_id == CID
    with token_refused("expired"):
        check_access_token(jwt, AS_KEY.public, EXPECTED, NOW + 600)
