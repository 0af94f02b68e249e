"""Properties over arbitrary input: only the documented refusals, round trips, and no forgery by mutation."""

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from groat.protocol import jose, strict_json
from groat.protocol.client_auth import read_credential
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import InvalidClient, InvalidRequest, InvalidScope, InvalidToken, JoseError, OAuthError
from groat.protocol.grants import decide_grant
from groat.protocol.jwk import (
    PRIVATE_MEMBERS,
    base64url_decode,
    base64url_encode,
    import_private_jwk,
    import_public_jwk,
)
from groat.protocol.key_set import import_key_set
from groat.protocol.models import Api, Client, OneTimeKind, OneTimeValue, Permission, TokenRequest
from groat.protocol.scope import parse_scope
from groat.protocol.token_request import (
    MAX_FIELDS,
    REPEATABLE,
    check_content_type,
    check_query,
    form_fields,
    parse_token_request,
    read_token_request,
    recognised,
)
from groat.protocol.uris import issuer_fault

from .builders import (
    CID,
    CLIENT_KEY,
    ISS,
    KEYS,
    NOW,
    POLICY,
    RES,
    TE,
    access_token,
    asking,
    assertion,
    authenticate,
    compact,
    header_of,
    proven,
    segment,
    verify,
)

PROPERTY = settings(max_examples=200, deadline=None, database=None)

# What JSON can say and our bounds allow.
NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Text that looks like JSON often enough to reach the interesting branches.
JSONISH = st.lists(
    st.sampled_from(
        ['{"a":', '"a"', "[", "]", "{", "}", ",", ":", '"', "\\", "\\u", "d800", "1", "e", "-", ".", "NaN", "true", " "]
    )
    | st.text(max_size=3),
    max_size=25,
).map("".join)
NAMES = st.sampled_from(sorted(recognised() | REPEATABLE)) | st.text(max_size=8)
FIELDS = st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=MAX_FIELDS)
FORMISH = st.lists(
    st.sampled_from(
        [
            b"&",
            b"=",
            b"%",
            b"+",
            b"%C3%A9",
            b"%ff",
            b"%00",
            b"\0",
            b"\xff",
            b"grant_type=client_credentials",
            b"scope",
            b"resource=",
        ]
    )
    | st.binary(max_size=6),
    max_size=20,
).map(b"".join)


Refusal = TypeVar("Refusal", bound=Exception)


def _refusal(kind: type[Refusal], act: Callable[..., object], *arguments: Any, **named: Any) -> Refusal | None:
    """The documented refusal of an act, or None when it went through; any other exception is a failure."""
    try:
        act(*arguments, **named)
    except kind as error:
        return error
    return None


def _same(left: Any, right: Any) -> bool:
    return repr(left) == repr(right)


@PROPERTY
@given(st.binary(max_size=200) | JSONISH.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * 10_000)
@example(b'{"a":1' + b"0" * 5000 + b"}")
@pytest.mark.rule("JOSE-05", "Z02")
def test_json_is_read_as_everybody_reads_it_or_refused(raw: bytes) -> None:
    """Arbitrary bytes: the value of the standard library, or JoseError("malformed")."""
    if refusal := _refusal(JoseError, strict_json.loads, raw):
        assert refusal.reason == "malformed"
        return
    assert _same(strict_json.loads(raw), json.loads(raw.decode("utf-8")))


@PROPERTY
@given(VALUES | st.dictionaries(st.text(max_size=8), SCALARS, max_size=8))
@pytest.mark.rule("JOSE-05")
def test_json_goes_there_and_back(value: Any) -> None:
    """What we write, we read, and so does the standard library."""
    raw = strict_json.dumps(value)
    assert raw == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    # Nesting and number length are bounded on reading alone.
    assert strict_json.loads(raw) == value


@PROPERTY
@given(st.binary(max_size=100))
@pytest.mark.rule("JOSE-02")
def test_base64url_goes_there_and_back(raw: bytes) -> None:
    """Each byte string has one spelling."""
    assert base64url_decode(base64url_encode(raw)) == raw


@PROPERTY
@given(st.text(max_size=40) | st.text(alphabet="ABCDwxyz0189-_=+/", max_size=12))
@pytest.mark.rule("JOSE-02", "Z02")
def test_base64url_accepts_canonical_text_only(text: str) -> None:
    """Whatever decodes encodes to the same text again."""
    if refusal := _refusal(JoseError, base64url_decode, text):
        assert refusal.reason == "malformed"
        return
    assert base64url_encode(base64url_decode(text)).decode() == text


@PROPERTY
@given(
    st.text(max_size=100)
    | st.binary(max_size=100)
    | st.lists(st.text(alphabet="ABCDwxyz0189-_", max_size=9), max_size=5).map(".".join)
)
@pytest.mark.rule("JOSE-01", "Z02")
def test_any_text_is_a_jwt_or_malformed(token: str | bytes) -> None:
    """Arbitrary text and bytes: only JoseError."""
    with pytest.raises(JoseError):
        jose.parse_jwt(token)


@PROPERTY
@given(VALUES | st.binary(max_size=40), VALUES | st.binary(max_size=40), st.binary(max_size=70))
@pytest.mark.rule("JOSE-01", "JOSE-04", "Z02")
def test_any_header_and_claims_parse_or_are_refused(header: Any, claims: Any, signature: bytes) -> None:
    """Well-encoded parts with any content: a JWT of two objects, or JoseError."""
    token = ".".join((segment(header), segment(claims), segment(signature)))
    if refusal := _refusal(JoseError, jose.parse_jwt, token):
        assert refusal.reason in ("malformed", "algorithm")
        return
    assert isinstance(header, dict)
    assert isinstance(claims, dict)


_HEADER_VALUES: Any = st.sampled_from(["ES256", "none", CLIENT_KEY.kid, "at+jwt", "JWT", "", None, 1, [], {}, False])
_HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "cty", "crit", "b64", "zip", "enc", "jwk", "jku", "x5c", "x"])


@PROPERTY
@given(st.dictionaries(_HEADER_NAMES, _HEADER_VALUES, max_size=5))
@pytest.mark.rule("JOSE-06", "JOSE-08", "JOSE-12", "JOSE-22")
def test_a_header_is_accepted_by_its_few_rules(members: dict[str, Any]) -> None:
    """An independent reading of the header rules comes to the same verdict."""
    strings = all(isinstance(members.get(name, ""), str) for name in ("typ", "kid"))
    refused = {"crit", "b64", "zip", "enc", "epk"} & members.keys()
    nested = members.get("cty") == "JWT"
    fine = members.get("alg") == "ES256" and strings and not refused and not nested and members.get("kid") != ""
    token = compact(members, {}, CLIENT_KEY)
    if fine:
        assert jose.parse_jwt(token).header.kid == members.get("kid")
        return
    with pytest.raises(JoseError):
        jose.parse_jwt(token)


@PROPERTY
@given(FORMISH | st.binary(max_size=60))
@example(b"a=1&" * 100)
@example(b"%")
@pytest.mark.rule("AS-TE-04", "Z02")
def test_any_body_is_a_request_or_an_oauth_refusal(body: bytes) -> None:
    """Arbitrary bytes as body, query and content type: only refusals of the token endpoint."""

    def request() -> TokenRequest:
        return parse_token_request(form_fields(body), ())

    refusals = (
        _refusal(OAuthError, request),
        _refusal(OAuthError, lambda: read_credential(request())),
        _refusal(OAuthError, parse_token_request, (), (body,)),
        _refusal(OAuthError, check_query, body),
        _refusal(OAuthError, check_content_type, [body]),
    )
    assert all(400 <= refusal.status < 500 for refusal in refusals if refusal)


@PROPERTY
@given(FIELDS, st.lists(st.binary(max_size=10), max_size=2))
@pytest.mark.rule("AS-TE-06", "AS-TE-09", "AS-TE-11", "AS-TE-24", "AS-TE-28")
def test_a_request_is_parsed_by_its_few_rules(fields: list[tuple[str, str]], authorization: list[bytes]) -> None:
    """An independent reading of the form rules comes to the same verdict."""
    names = [name for name, _ in fields]
    values = {name: value for name, value in fields if value}
    repeats = any(names.count(name) > 1 for name in recognised())
    methods = len(authorization) + ("client_secret" in values) + ("client_assertion" in values)
    untyped = "client_assertion" in values and "client_assertion_type" not in values
    fine = not repeats and methods <= 1 and not untyped and values.get("grant_type") == "client_credentials"
    try:
        request = parse_token_request(fields, authorization)
    except OAuthError:
        assert not fine
        return
    assert fine
    assert request.parameters.get("scope") == values.get("scope")
    assert request.client_id == values.get("client_id")
    assert len(request.auth_methods) == methods


FORM_NAMES: Final = st.sampled_from(
    [
        *sorted(recognised()),
        "client%5Fassertion",
        "xclient_assertion",
        "xassertion",
        "client_assertion=client_assertion",
        "resource",
        "",
        "x",
    ]
)
WORKLOADS: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM_VALUES: Final = st.sampled_from(
    ["", "client_credentials", WORKLOADS, "a.b.c", "%61", "a+b", "%", "%00", "é", "\0", "a b"]
)


@PROPERTY
@given(
    st.lists(st.tuples(FORM_NAMES, FORM_VALUES | st.text(alphabet="aA9-_.~=;%", max_size=6)), max_size=7),
    st.lists(st.just(b"Basic x"), max_size=1),
)
@example([("grant_type", "client_credentials"), ("client_assertion", "a.b.c"), ("client_assertion_type", "t")], [])
@example([("client_assertion", "a"), ("grant_type", "client_credentials"), ("client_assertion", "b")], [])
@example([("grant_type", WORKLOADS), ("assertion", "a.b.c"), ("scope", "a")], [])
@example([("assertion", "a.b.c"), ("grant_type", WORKLOADS), ("assertion", "b")], [])
@example([("grant_type", "client_credentials"), ("assertion", "a.b.c")], [])
@example([("grant_type", WORKLOADS), ("assertion", "a.b.c"), ("client_assertion", "d.e.f")], [])
@pytest.mark.rule("AS-TE-04", "AS-TE-06", "AS-TE-09", "AS-TE-28")
def test_a_remembered_form_is_read_like_a_new_one(fields: list[tuple[str, str]], authorization: list[bytes]) -> None:
    """Requests of the same form as an earlier one get what the slow way would give, refusals included; twice."""
    body = "&".join(f"{name}={value}" for name, value in fields).encode()

    def outcome(read: Callable[[], TokenRequest]) -> object:
        try:
            return read()
        except OAuthError as error:
            return type(error), error.reason, error.hint

    expected = outcome(lambda: parse_token_request(form_fields(body), authorization))
    for _ in range(2):
        assert outcome(lambda: read_token_request(body, authorization)) == expected


@PROPERTY
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=MAX_FIELDS))
@pytest.mark.rule("AS-TE-04")
def test_forms_are_read_as_the_standard_library_reads_them(fields: list[tuple[str, str]]) -> None:
    """On well-formed input our parser and urllib agree, field by field."""
    assume(not any("\0" in name + value for name, value in fields))
    body = urlencode(fields).encode()
    assert form_fields(body) == parse_qsl(body.decode(), keep_blank_values=True) == fields


@PROPERTY
@given(st.lists(st.text(alphabet="ab&=+;%é ", max_size=6).map(lambda text: quote_plus(text, safe=";é")), max_size=20))
@pytest.mark.rule("AS-TE-04")
def test_odd_but_valid_forms_are_read_alike(parts: list[str]) -> None:
    """Also without an equals sign, with empty fields, semicolons, and UTF-8 that is not escaped."""
    body = "&".join(parts)
    assert form_fields(body.encode()) == parse_qsl(body, keep_blank_values=True)


@PROPERTY
@given(st.binary(max_size=30))
@pytest.mark.rule("AS-TE-04")
def test_every_byte_may_be_escaped(raw: bytes) -> None:
    """Escaped bytes give their text, or InvalidRequest when they are no UTF-8."""
    body = b"a=" + "".join(f"%{byte:02x}" for byte in raw).encode()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        with pytest.raises(InvalidRequest):
            form_fields(body)
        return
    assert form_fields(body) == [("a", text)]


@PROPERTY
@given(st.text(max_size=30) | st.text(alphabet='ab !"\\\t~\x7f', max_size=8))
@pytest.mark.rule("AS-TE-13", "Z02")
def test_any_text_is_a_scope_or_refused(scope: str) -> None:
    """The grammar of RFC 6749 3.3, written once more as one expression."""
    token = r"[\x21\x23-\x5B\x5D-\x7E]+"
    legal = re.fullmatch(rf"{token}( {token})*", scope) is not None
    try:
        tokens = parse_scope(scope)
    except InvalidScope:
        assert not legal
        return
    assert legal
    assert set(tokens) == set(scope.split())
    assert len(tokens) == len(set(tokens))


_JWK_NAMES = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid", "d", "x5c", "foo"])
_JWK_VALUES: Any = (
    st.sampled_from(["EC", "OKP", "RSA", "oct", "P-256", "Ed25519", "ES256", "RS256", "sig", "enc", "AQAB", "", "AA"])
    | st.binary(min_size=30, max_size=34).map(segment)
    | VALUES
)


@PROPERTY
@given(st.dictionaries(_JWK_NAMES, _JWK_VALUES, max_size=6), st.sampled_from(["ES256", "Ed25519", "RS256"]))
@pytest.mark.rule("KEY-15", "KEY-18", "Z02")
def test_any_jwk_is_a_key_or_refused(changes: dict[str, Any], name: str) -> None:
    """Arbitrary members, alone and over a good key: a sound key, or JoseError; and never an exception in a set."""
    for jwk in (changes, {**KEYS[name].public.jwk, **changes}):
        if _refusal(JoseError, import_public_jwk, jwk) is None:
            assert not any(jwk.get(member) is not None for member in PRIVATE_MEMBERS)  # null is absent
            key = import_public_jwk(jwk)
            assert import_public_jwk(key.jwk).thumbprint == key.thumbprint
        private = _refusal(JoseError, import_private_jwk, jwk)
        assert private is None or private.reason in ("key", "malformed")
        listed = _refusal(JoseError, import_key_set, {"keys": [jwk, KEYS[name].public.jwk]})
        assert listed is None or listed.reason == "key"


@PROPERTY
@given(st.data(), st.sampled_from(["flip", "cut", "insert", "double", "swap"]), st.sampled_from(sorted(KEYS)))
@pytest.mark.rule("JOSE-01", "JOSE-02", "JOSE-15", "RS-08")
def test_no_mutation_of_a_good_token_verifies(data: st.DataObject, kind: str, name: str) -> None:
    """Bit flips, truncations, insertions, repeats and swapped parts are all refused."""
    token = access_token(KEYS[name]).encode()
    at = data.draw(st.integers(0, len(token) - 1))
    if kind == "flip":
        mutated = token[:at] + bytes([token[at] ^ data.draw(st.integers(1, 255))]) + token[at + 1 :]
    elif kind == "cut":
        mutated = token[:at] + token[at + data.draw(st.integers(1, len(token) - at)) :]
    elif kind == "insert":
        mutated = token[:at] + data.draw(st.binary(min_size=1, max_size=5)) + token[at:]
    elif kind == "double":
        mutated = token[:at] + token[at:] * 2
    else:
        mutated = b".".join(data.draw(st.permutations(token.split(b"."))))
        assume(mutated != token)
    with pytest.raises(InvalidToken):
        verify(mutated, keys=(KEYS[name].public,))


_POOL: dict[str, Any] = {
    "iss": [CID, ISS, "b", "", None, [CID]],
    "sub": [CID, "b", "", None, 5],
    "aud": [ISS, [ISS], TE, [ISS, TE], [], None, RES, ""],
    "exp": [NOW + 60, NOW + 300, NOW + 1, NOW, NOW + 301, NOW + 60.5, str(NOW + 60), True, None],
    "iat": [NOW, NOW + 10, NOW + 11, NOW - 300, NOW - 301, "x", None, False],
    "nbf": [NOW, NOW + 10, NOW + 11, 0, None, []],
    "jti": ["j", "", 5, None, "j" * 256, "j" * 257],
}


@PROPERTY
@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in _POOL.items()}))
@pytest.mark.rule("AS-CA-04", "AS-CA-06", "AS-CA-07", "AS-CA-08", "AS-CA-09")
def test_assertions_are_judged_by_their_few_rules(claims: dict[str, Any]) -> None:
    """An independent reading of the claim rules comes to the same verdict, for any combination."""
    base = {"iss": CID, "sub": CID, "aud": ISS, "exp": NOW + 60, "jti": "j"}
    for merged in (claims, {**base, **claims}):
        good_times = (
            merged.get("exp") in (NOW + 60, NOW + 300, NOW + 1, NOW + 60.5)
            and merged.get("iat", NOW) in (NOW, NOW + 10, NOW - 300)
            and merged.get("iat", NOW) is not None
            and ("nbf" not in merged or (merged["nbf"] in (NOW, NOW + 10, 0) and merged["nbf"] is not None))
            and not (merged.get("iat") == NOW + 10 and merged["exp"] == NOW + 1)
        )
        fine = (
            merged.get("iss") == merged.get("sub") == CID
            and merged.get("aud") in (ISS, [ISS])
            and merged.get("jti") in ("j", "j" * 256)
            and good_times
        )
        token = compact(header_of(CLIENT_KEY, "client-authentication+jwt"), merged, CLIENT_KEY)
        refusal = _refusal(InvalidClient, authenticate, token)
        assert (refusal is None) is fine


@PROPERTY
@given(st.dictionaries(st.sampled_from(sorted(_POOL)), VALUES, max_size=7))
@pytest.mark.rule("AS-CA-02", "JOSE-18", "JOSE-25", "Z02")
def test_any_claims_end_in_a_refusal_or_a_proof(claims: dict[str, Any]) -> None:
    """Well-signed nonsense is invalid_client, or invalid_token at an API; nothing else comes out."""
    token = assertion(CLIENT_KEY, {}, **claims)
    _refusal(InvalidClient, authenticate, token)
    refusal = _refusal(InvalidToken, verify, access_token(CLIENT_KEY, {}, **claims), keys=(CLIENT_KEY.public,))
    assert refusal is None or refusal.reason in {"issuer", "audience", "claims", "expired", "not_yet"}


_VALUES = st.tuples(st.sampled_from(OneTimeKind), st.text(max_size=6), st.text(max_size=6))


@PROPERTY
@given(_VALUES, _VALUES)
@pytest.mark.rule("AS-CA-10", "P06")
def test_one_time_values_are_told_apart(
    first: tuple[OneTimeKind, str, str], second: tuple[OneTimeKind, str, str]
) -> None:
    """Two values have one digest only if kind, client and jti are equal."""
    same = OneTimeValue(*first, NOW).digest == OneTimeValue(*second, NOW).digest
    assert same is (first == second)


_SCOPES = st.sets(st.sampled_from(["a", "b", "c", "d"]), max_size=4).map(frozenset)


@PROPERTY
@given(
    st.lists(_SCOPES, max_size=3),
    _SCOPES.map(sorted),
    st.none() | st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=4).map(" ".join),
    st.lists(st.sampled_from(["https://0.example", "https://1.example", "https://9.example", "/x"]), max_size=2),
)
@pytest.mark.rule("AS-TE-14", "AS-TE-25", "AS-TE-26")
def test_nobody_gets_more_than_was_granted(
    allowed: list[frozenset[str]], default: list[str], scope: str | None, targets: list[str]
) -> None:
    """Whatever is asked: one permitted API and scopes permitted there, never fewer than were asked by name."""
    permissions = tuple(
        Permission(Api(f"api{index}", f"https://{index}.example", scopes), scopes)
        for index, scopes in enumerate(allowed)
    )
    client = Client(CID, (), permissions, settings=ClientSettings(default_scopes=tuple(default)))
    request = asking(scope, tuple(dict.fromkeys(targets)))
    if refusal := _refusal(OAuthError, decide_grant, request, proven(client), POLICY):
        assert refusal.code in ("invalid_scope", "invalid_target")
        return
    grant = decide_grant(request, proven(client), POLICY)
    permission = next(p for p in permissions if p.api == grant.api)
    assert grant.scopes
    assert permission.scopes.issuperset(grant.scopes)
    assert targets in ([], [grant.api.audience] * len(targets))
    assert set(grant.scopes) == set(scope.split()) if scope is not None else set(grant.scopes) <= set(default)


@PROPERTY
@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["https", ":", "/", "//", "[", "]", "@", "h", "#", "?", "\n"])).map("".join)
)
@pytest.mark.rule("AS-TE-02", "AS-MD-03")
def test_any_text_is_an_issuer_or_has_a_fault(text: str) -> None:
    """Judging an issuer never raises, and what passes is one line of ASCII."""
    fault = issuer_fault(text)
    assert fault or (text.isascii() and text.isprintable() and text[:4].lower() == "http")


@PROPERTY
@given(VALUES, st.text(max_size=300))
@pytest.mark.rule("AS-CA-01", "AS-CA-02", "Z02")
def test_any_assertion_field_is_a_credential_or_refused(header: Any, text: str) -> None:
    """What stands in client_assertion never leads to anything but an OAuth refusal."""
    for value in (text, f"{segment(header)}.{segment({'sub': CID})}.AAAA"):
        assume("\0" not in value)
        refusal = _refusal(OAuthError, authenticate, value, None)
        assert refusal is not None
        assert refusal.code == "invalid_client"
