"""Who asks: each claim, header and form field of an assertion, one defect at a time."""

import hashlib
import sys
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any, Literal

import pytest
from joserfc.jwk import ECKey

from groat.protocol import jose, signatures
from groat.protocol.client_auth import CLIENT_AUTH_METHODS, authenticate_client, read_credential
from groat.protocol.client_settings import AssertionAudience
from groat.protocol.errors import InvalidClient, InvalidRequest
from groat.protocol.jwk import PrivateKey, base64url_encode, decoy_key, private_key
from groat.protocol.models import Client, OneTimeKind, OneTimeValue, Policy, TokenRequest

from .builders import (
    ABSENT,
    AS_KEY,
    CID,
    CLIENT,
    CLIENT_KEY,
    FAPI2,
    ISS,
    JWT_BEARER,
    KEYS,
    NOW,
    OTHER_KEY,
    POLICY,
    TE,
    access_token,
    assertion,
    assertion_claims,
    authenticate,
    client_refused,
    compact,
    having,
    header_of,
    refused,
    segment,
)

LENIENT = having(CLIENT, assertion_audience=AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT)
B_KEY = OTHER_KEY
B = Client("b", (B_KEY.public,))


def _request(token: str | None, **changes: Any) -> TokenRequest:
    credentials = {} if token is None else {"client_assertion": token, "client_assertion_type": JWT_BEARER}
    good = TokenRequest(grant_type="client_credentials", parameters={}, credentials=credentials)
    return replace(good, **changes)


def _once(token: str, client: Client = CLIENT) -> OneTimeValue:
    """What a good assertion asks to be used up."""
    once = authenticate(token, client).once
    assert once is not None
    return once


def test_a_good_assertion_authenticates() -> None:
    """The control: client, method, key and the value to be used once."""
    proof = authenticate(assertion())
    assert proof.client is CLIENT
    assert proof.key is CLIENT_KEY.public
    assert proof.method == "private_key_jwt"
    assert proof.once == OneTimeValue(OneTimeKind.ASSERTION, CID, "j" * 22, NOW + 60 + POLICY.clock_tolerance, NOW)
    assert proof.advice == ""


@pytest.mark.rule("F16", "F05")
def test_when_an_assertion_was_signed() -> None:
    """By its iat; without one, as early as its exp allows."""
    assert _once(assertion(iat=NOW - 7)).signed_at == NOW - 7
    without = _once(assertion(iat=ABSENT))
    assert without.signed_at == NOW + 60 - POLICY.max_assertion_lifetime


# --- the form


@pytest.mark.rule("AS-CA-01", "AS-TE-11", "A20")
@pytest.mark.parametrize(
    "value",
    [
        "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        "urn:ietf:params:oauth:client-assertion-type:JWT-bearer",
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer ",
        "urn:ietf:params:oauth:client-assertion-type:JWT-spiffe",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "jwt-bearer",
        "x",
    ],
)
def test_the_assertion_type_is_exact(value: str) -> None:
    """Another type is a method that we do not have."""
    with client_refused("assertion_method"):
        authenticate(assertion(), client_assertion_type=value)


@pytest.mark.rule("AS-CA-01", "AS-TE-11", "A20")
def test_an_absent_type_is_a_malformed_request_and_an_absent_assertion_proves_nothing() -> None:
    """The two absences have two answers."""
    with refused(InvalidRequest, "form"):
        authenticate(assertion(), client_assertion_type="")
    with client_refused("auth_method"):
        authenticate("")


@pytest.mark.rule("AS-TE-27", "AS-CA-16")
@pytest.mark.parametrize("methods", [(), ("header",), ("client_secret",)])
def test_no_other_method_authenticates(methods: tuple[str, ...]) -> None:
    """A client_id alone, a secret, or a header is no proof."""
    with client_refused("auth_method"):
        read_credential(_request(None, client_id=CID, auth_methods=methods))
    assert list(CLIENT_AUTH_METHODS) == ["private_key_jwt", "tls_client_auth"]


@pytest.mark.rule("AS-CA-02", "A08")
@pytest.mark.parametrize("spoil", ["abc", "{0} {0}", "{0}{0}", "..", "a..b", "{0}\n", "Bearer {0}", "x" * 9000, "🙂"])
def test_an_assertion_is_one_jwt(spoil: str) -> None:
    """Anything else is invalid_client."""
    with client_refused("assertion_malformed"):
        authenticate(spoil.format(assertion()))


@pytest.mark.rule("AS-CA-03", "AS-TE-11", "A14")
def test_the_client_id_parameter_names_the_same_client() -> None:
    """Absent, empty or equal is fine; any other value is refused even if that client exists."""
    assert authenticate(assertion()).client is CLIENT
    for same in ("", CID):
        assert authenticate(assertion(), client_id=same).client is CLIENT
    for other in ("b", "Billing", "billing ", "billin", "bílling"):
        with client_refused("assertion_subject"):
            authenticate(assertion(), client_id=other)


# --- the header


@pytest.mark.rule("AS-CA-14", "JOSE-22", "A16")
@pytest.mark.parametrize(
    ("typ", "lenient", "strict"),
    [
        ("client-authentication+jwt", True, True),
        ("application/client-authentication+jwt", True, True),
        ("Client-Authentication+JWT", True, True),
        (ABSENT, True, False),
        ("JWT", True, False),
        ("jwt", True, False),
        ("application/jwt", True, False),
        ("at+jwt", False, False),
        ("application/at+jwt", False, False),
        ("dpop+jwt", False, False),
        ("token-introspection+jwt", False, False),
        ("oauth-authz-req+jwt", False, False),
        ("logout+jwt", False, False),
        ("text/client-authentication+jwt", False, False),
        ("JOSE", False, False),
        ("", False, False),
        ("client-authentication+jwt ", False, False),
    ],
    ids=repr,
)
def test_the_type_of_an_assertion(typ: Any, lenient: bool, strict: bool) -> None:
    """Untyped and JWT pass unless the client is strict; every other explicit type is refused."""
    for client, accepted in ((CLIENT, lenient), (having(CLIENT, strict_typ=True), strict)):
        token = assertion(CLIENT_KEY, {"typ": typ})
        if accepted:
            assert authenticate(token, client).client is client
        else:
            with client_refused("assertion_type"):
                authenticate(token, client)


def _registered(key: PrivateKey, *, enabled: bool = True, **settings: Any) -> Client:
    return having(replace(CLIENT, keys=(key.public,), enabled=enabled), **settings)


@pytest.mark.rule("AS-CA-15", "AT-09", "JOSE-06")
@pytest.mark.parametrize("name", KEYS)
def test_each_algorithm_authenticates_in_its_profile(name: str) -> None:
    """Every algorithm of the table works; the fapi2 profile knows three of them."""
    client = _registered(KEYS[name])
    assert authenticate(assertion(KEYS[name]), client).key is KEYS[name].public
    if name in ("PS256", "ES256", "Ed25519"):
        assert authenticate(assertion(KEYS[name]), client, FAPI2).key is KEYS[name].public
        return
    with client_refused("assertion_algorithm"):
        authenticate(assertion(KEYS[name]), client, FAPI2)


@pytest.mark.rule("AS-CA-15", "JOSE-17", "A02")
@pytest.mark.parametrize("policy", [POLICY, FAPI2], ids=["default", "fapi2"])
@pytest.mark.parametrize("pinned", [None, "Ed25519"])
@pytest.mark.parametrize("written", ["Ed25519", "EdDSA"])
def test_both_names_of_ed25519_authenticate(written: str, pinned: str | None, policy: Policy) -> None:
    """Which of its two names the header uses does not matter, pinned or not."""
    key = KEYS["Ed25519"]
    token = assertion(key, {"alg": written})
    assert authenticate(token, _registered(key, signing_alg=pinned), policy).key is key.public


@pytest.mark.rule("AS-CA-15", "A04")
def test_a_pinned_client_keeps_its_algorithm() -> None:
    """A valid signature of another registered key is refused when its algorithm is not the pinned one."""
    both = replace(CLIENT, keys=(CLIENT_KEY.public, KEYS["PS256"].public))
    assert authenticate(assertion(KEYS["PS256"]), both).key is KEYS["PS256"].public
    pinned = having(both, signing_alg="ES256")
    assert authenticate(assertion(), pinned).key is CLIENT_KEY.public
    with client_refused("assertion_algorithm"):
        authenticate(assertion(KEYS["PS256"]), pinned)


@pytest.mark.rule("AS-CA-15", "A04")
def test_the_alg_of_the_header_must_be_that_of_the_key() -> None:
    """PS256 in the header and RS256 on the key is refused though the signature fits."""
    with client_refused("assertion_algorithm"):
        authenticate(assertion(KEYS["PS256"], {"kid": KEYS["RS256"].kid}), _registered(KEYS["RS256"]))


@pytest.mark.rule("AS-CA-16", "JOSE-06", "A01", "A03")
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "none", "None", "", "ES256K", "ESP256", ABSENT], ids=repr)
def test_symmetric_and_unknown_algorithms_never_authenticate(alg: Any) -> None:
    """They end as invalid_client."""
    with client_refused("assertion_algorithm"):
        authenticate(assertion(CLIENT_KEY, {"alg": alg}))


# --- whose key


@pytest.mark.rule("AS-CA-05", "AS-CA-22", "A06")
@pytest.mark.parametrize("key", [B_KEY, AS_KEY], ids=["another client's key", "the server's key"])
@pytest.mark.parametrize("kid", ["own", "client's", "absent"])
def test_only_the_client_s_own_keys_count(key: PrivateKey, kid: str) -> None:
    """A valid signature by anybody else's key is refused, whatever kid it names."""
    header = {"kid": {"own": key.kid, "client's": CLIENT_KEY.kid, "absent": ABSENT}[kid]}
    with client_refused("assertion_key" if kid == "own" else "assertion_signature"):
        authenticate(assertion(key, header))


@pytest.mark.rule("AS-CA-17", "JOSE-12", "A06")
@pytest.mark.parametrize("kid", ["x", "../../dev/null", "' OR 1=1--", "a\nb", "k" * 256, AS_KEY.kid])
def test_an_unknown_kid_is_refused(kid: str) -> None:
    """The hint for the log is one printable line that names the registered keys."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(CLIENT_KEY, {"kid": kid}))
    assert caught.value.reason == "assertion_key"
    assert caught.value.hint.isprintable()
    assert CLIENT_KEY.kid in caught.value.hint


@pytest.mark.rule("KEY-23", "JOSE-13", "A06")
def test_a_client_may_have_several_keys() -> None:
    """Each works under its kid; without kid only while it is the only one that fits."""
    client = replace(CLIENT, keys=(CLIENT_KEY.public, OTHER_KEY.public, KEYS["Ed25519"].public))
    for key in (CLIENT_KEY, OTHER_KEY, KEYS["Ed25519"]):
        assert authenticate(assertion(key), client).key is key.public
    untitled = {"kid": ABSENT}
    assert authenticate(assertion(KEYS["Ed25519"], untitled), client).key is KEYS["Ed25519"].public
    assert authenticate(assertion(CLIENT_KEY, untitled), CLIENT).key is CLIENT_KEY.public
    with client_refused("assertion_key"):
        authenticate(assertion(CLIENT_KEY, untitled), client)
    with client_refused("assertion_key"):
        authenticate(assertion(CLIENT_KEY), replace(client, keys=(OTHER_KEY.public,)))
    with client_refused("assertion_key"):
        authenticate(assertion(CLIENT_KEY), replace(client, keys=()))


@pytest.mark.rule("AS-CA-05", "AS-CA-19", "A17", "A18")
def test_who_is_unknown_or_disabled_is_refused() -> None:
    """Reasons differ in the log; status, code and description do not."""
    refusals = []
    for token, client in (
        (assertion(), None),
        (assertion(OTHER_KEY), None),
        (assertion(), replace(CLIENT, enabled=False)),
        (assertion(OTHER_KEY, {"kid": CLIENT_KEY.kid}), CLIENT),
        (assertion(aud=TE), CLIENT),
        (assertion(CLIENT_KEY, {"alg": "none"}), CLIENT),
    ):
        with pytest.raises(InvalidClient) as caught:
            authenticate(token, client)
        refusals.append(caught.value)
    assert [refusal.reason for refusal in refusals] == [
        "client_unknown",
        "client_unknown",
        "client_disabled",
        "assertion_signature",
        "assertion_audience",
        "assertion_algorithm",
    ]
    assert len({(refusal.code, refusal.status, refusal.description) for refusal in refusals}) == 1


def test_a_disabled_client_must_still_prove_itself() -> None:
    """That a client is disabled is told, even to the log, only for a good signature."""
    with client_refused("assertion_signature"):
        authenticate(assertion(OTHER_KEY, {"kid": CLIENT_KEY.kid}), replace(CLIENT, enabled=False))


def _verifications(act: Callable[[], object]) -> int:
    """How many signatures really get checked while something is refused."""
    codes = {kind.verify.__code__ for kind in (signatures.Ecdsa, signatures.Rsa, signatures.EdDsa)}
    calls = 0

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code in codes

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        with pytest.raises(InvalidClient):
            act()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.rule("AS-CA-20", "A18")
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("case", ["unknown client", "unknown kid", "bad signature", "disabled", "wrong audience"])
def test_every_refusal_costs_one_signature_check(name: str, case: str) -> None:
    """Where no key is found a decoy is checked, so that time does not tell who exists."""
    key = KEYS[name]
    client: Client | None = _registered(key, enabled=case != "disabled")
    token = assertion(key, {"kid": "x"} if case == "unknown kid" else {}, aud=TE if case == "wrong audience" else ISS)
    if case == "bad signature":
        data, _, signature = token.rpartition(".")
        token = f"{data}.{signature[:10]}{'B' if signature[10] == 'A' else 'A'}{signature[11:]}"
    assert _verifications(lambda: authenticate(token, None if case == "unknown client" else client)) == 1


@pytest.mark.rule("AS-CA-20", "A18")
@pytest.mark.parametrize("size", [256, 384, 512, 255, 1])
@pytest.mark.parametrize("known", [True, False], ids=["known client", "unknown client"])
def test_the_size_of_an_rsa_signature_tells_nothing(size: int, known: bool) -> None:
    """A signature of another size than the key's costs a check by a decoy of that size, for everybody."""
    key = KEYS["RS256"]
    data = assertion(key).rpartition(".")[0]
    jwt = f"{data}.{base64url_encode(bytes([1] * size)).decode()}"
    seen: list[int] = []
    codes = {signatures.Rsa.verify.__code__}

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in codes:
            seen.append(frame.f_locals["key"].key_size)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        with client_refused("assertion_signature" if known else "client_unknown"):
            authenticate(jwt, _registered(key) if known else None)
    finally:
        sys.setprofile(before)
    assert seen == [size * 8 if size * 8 in (2048, 3072, 4096) else 2048]


@pytest.mark.rule("AS-CA-20")
@pytest.mark.parametrize(("name", "curve"), [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")])
def test_the_decoy_proves_nothing(name: str, curve: Literal["P-256", "P-384", "P-521"]) -> None:
    """Its scalar is published: a good signature by it is still no proof, for an unknown client or an unknown kid."""
    key = private_key(ECKey.derive_key("groat decoy", curve, private=True), name)
    assert key.public.thumbprint == decoy_key(name).thumbprint
    token = assertion(key, {"kid": "decoy"})
    jose.verify_signature(jose.parse_jwt(token), decoy_key(name))
    with client_refused("client_unknown"):
        authenticate(token, None)
    with client_refused("assertion_key"):
        authenticate(token, CLIENT)


# --- the claims


@pytest.mark.rule("AS-CA-04", "A14")
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": ABSENT}, "assertion_issuer"),
        ({"iss": "x"}, "assertion_issuer"),
        ({"iss": "b"}, "assertion_issuer"),
        ({"iss": "Billing"}, "assertion_issuer"),
        ({"iss": "billing "}, "assertion_issuer"),
        ({"iss": "billin"}, "assertion_issuer"),
        ({"iss": "bílling"}, "assertion_issuer"),
        ({"iss": unicodedata.normalize("NFD", "bílling")}, "assertion_issuer"),
        ({"iss": "bіlling"}, "assertion_issuer"),
        ({"iss": "billing\0"}, "assertion_issuer"),
        ({"iss": [CID]}, "assertion_issuer"),
        ({"iss": None}, "assertion_issuer"),
        ({"iss": 5}, "assertion_issuer"),
        ({"iss": ISS}, "assertion_issuer"),
        ({"sub": "b"}, "assertion_issuer"),
        ({"iss": "b", "sub": "b"}, "assertion_issuer"),
        ({"sub": ABSENT}, "assertion_subject"),
        ({"sub": None}, "assertion_subject"),
        ({"sub": 5}, "assertion_subject"),
        ({"sub": [CID]}, "assertion_subject"),
        ({"sub": {CID: CID}}, "assertion_subject"),
        ({"sub": ""}, "assertion_subject"),
        ({"sub": "billing "}, "assertion_subject"),
        ({"sub": "billing\n"}, "assertion_subject"),
        ({"sub": "billing\0"}, "assertion_subject"),
        ({"sub": "bіlling"}, "assertion_subject"),
        ({"sub": "x" * 129}, "assertion_subject"),
        ({"sub": 'a"b'}, "assertion_subject"),
    ],
    ids=repr,
)
def test_iss_and_sub_are_the_client(claims: dict[str, Any], reason: str) -> None:
    """Both are there, both are strings, both equal the client id to the code point."""
    with client_refused(reason):
        authenticate(assertion(**claims))


@pytest.mark.rule("AS-CA-04", "AS-CA-05", "A14")
def test_a_client_cannot_speak_for_another() -> None:
    """With its own good key, B gets nothing by writing A into iss, sub, or both."""
    for claims in ({"iss": "b", "sub": CID}, {"iss": CID, "sub": "b"}, {"iss": CID, "sub": CID}):
        with client_refused("assertion_issuer"):
            authenticate(assertion(B_KEY, **claims), B)


BAD_AUDIENCES: list[Any] = [
    *(TE, f"{ISS}/", "HTTPS://as.example", "https://AS.example", f"{ISS}:443", "https://as%2Eexample", "auth", ""),
    *(f"{ISS}/par", f"{ISS}/bc-authorize", "https://other.example", "https://as.example.evil", f"{ISS} ", f"{ISS}\0"),
    *([ISS, "x"], [ISS, ISS], [ISS, TE], ["x", ISS], [f"{ISS}/"], [], [[ISS]], [None], {"aud": ISS}, {}, 5, True, None),
    ABSENT,
]


@pytest.mark.rule("AS-CA-06", "JOSE-21", "A13")
@pytest.mark.parametrize("aud", BAD_AUDIENCES, ids=repr)
@pytest.mark.parametrize("policy", [POLICY, FAPI2], ids=["default", "fapi2"])
def test_the_issuer_is_the_sole_audience(policy: Policy, aud: Any) -> None:
    """Another audience, or another beside it, is refused: no normalisation, no company."""
    with client_refused("assertion_audience"):
        authenticate(assertion(aud=aud), CLIENT, policy)


@pytest.mark.rule("AS-CA-06", "A13")
def test_one_element_arrays_are_for_the_default_profile() -> None:
    """A string always; [issuer] by default, not under fapi2."""
    assert authenticate(assertion(aud=ISS), CLIENT, FAPI2).client is CLIENT
    assert authenticate(assertion(aud=[ISS])).client is CLIENT
    with client_refused("assertion_audience"):
        authenticate(assertion(aud=[ISS]), CLIENT, FAPI2)


@pytest.mark.rule("AS-CA-06", "A13")
@pytest.mark.parametrize("aud", BAD_AUDIENCES[1:], ids=repr)
def test_a_lenient_client_may_name_the_token_endpoint_and_nothing_else(aud: Any) -> None:
    """The exception of a client record is two exact strings; its use is reported."""
    assert authenticate(assertion(aud=TE), LENIENT).advice.startswith("the assertion names the token endpoint")
    assert authenticate(assertion(aud=[TE]), LENIENT).advice.startswith("the assertion names the token endpoint")
    assert authenticate(assertion(aud=ISS), LENIENT).advice == ""
    with client_refused("assertion_audience"):
        authenticate(assertion(aud=aud), LENIENT)


@pytest.mark.rule("AS-CA-06", "AS-CA-19")
def test_the_audience_hint_is_one_safe_line() -> None:
    """The log learns what was sent, printable and cut short."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(aud=["a\nb" * 50, "\u202e", "x", "not shown"]))
    assert caught.value.hint.isascii()
    assert caught.value.hint.isprintable()
    assert "not shown" not in caught.value.hint


TIMES: list[tuple[dict[str, Any], str | None]] = [
    ({"exp": ABSENT}, "assertion_claims"),
    ({"exp": NOW}, "assertion_expired"),
    ({"exp": NOW - 1}, "assertion_expired"),
    ({"exp": NOW - 300}, "assertion_expired"),
    ({"exp": 0}, "assertion_expired"),
    ({"exp": -5}, "assertion_expired"),
    ({"exp": NOW + 1}, None),
    ({"exp": NOW + 60.5}, None),
    ({"exp": NOW + 300}, None),
    ({"exp": NOW + 300.5}, "assertion_lifetime"),
    ({"exp": NOW + 301}, "assertion_lifetime"),
    ({"exp": NOW + 3600}, "assertion_lifetime"),
    ({"exp": NOW + 86400}, "assertion_lifetime"),
    ({"exp": 1e12}, "assertion_lifetime"),
    ({"exp": 10**31}, "assertion_lifetime"),
    ({"exp": 1e300}, "assertion_lifetime"),
    ({"exp": str(NOW + 60)}, "assertion_claims"),
    ({"exp": True}, "assertion_claims"),
    ({"exp": None}, "assertion_claims"),
    ({"exp": [NOW + 60]}, "assertion_claims"),
    ({"exp": {}}, "assertion_claims"),
    ({"iat": ABSENT}, None),
    ({"iat": NOW + 8}, None),
    ({"iat": NOW + 10}, None),
    ({"iat": NOW + 11}, "assertion_not_yet"),
    ({"iat": NOW + 61, "exp": NOW + 100}, "assertion_not_yet"),
    ({"iat": NOW - 300}, None),
    ({"iat": NOW - 300.5}, "assertion_lifetime"),
    ({"iat": NOW - 301}, "assertion_lifetime"),
    ({"iat": 0}, "assertion_lifetime"),
    ({"iat": -1e300}, "assertion_lifetime"),
    ({"iat": NOW + 9, "exp": NOW + 5}, "assertion_lifetime"),
    ({"iat": str(NOW)}, "assertion_claims"),
    ({"iat": False}, "assertion_claims"),
    ({"iat": None}, "assertion_claims"),
    ({"nbf": NOW + 8}, None),
    ({"nbf": NOW + 10}, None),
    ({"nbf": NOW + 11}, "assertion_not_yet"),
    ({"nbf": NOW + 61, "exp": NOW + 100}, "assertion_not_yet"),
    ({"nbf": NOW - 10**6}, None),
    ({"nbf": str(NOW)}, "assertion_claims"),
    ({"nbf": None}, "assertion_claims"),
]


@pytest.mark.rule("AS-CA-07", "AS-CA-08", "JOSE-18", "JOSE-19", "JOSE-20", "A15")
@pytest.mark.parametrize(("claims", "reason"), TIMES, ids=repr)
def test_times_of_an_assertion(claims: dict[str, Any], reason: str | None) -> None:
    """exp is needed, ahead and near; iat and nbf are optional, not far ahead, iat not long ago: to the second."""
    if reason is None:
        assert authenticate(assertion(**claims)).client is CLIENT
        return
    with client_refused(reason):
        authenticate(assertion(**claims))


@pytest.mark.rule("AS-CA-07", "AS-CA-08")
@pytest.mark.parametrize("limit", [60, 3600])
def test_a_client_may_have_its_own_lifetime(limit: int) -> None:
    """The limit of the client record replaces the policy's, shorter or longer, for exp and for iat."""
    client = having(CLIENT, max_assertion_lifetime=limit)
    assert _once(assertion(exp=NOW + limit, iat=NOW - limit), client).expires_at == NOW + limit + 10
    with client_refused("assertion_lifetime"):
        authenticate(assertion(exp=NOW + limit + 1), client)
    with client_refused("assertion_lifetime"):
        authenticate(assertion(iat=NOW - limit - 1), client)


@pytest.mark.rule("JOSE-20", "AS-CA-08")
def test_the_tolerance_is_the_policy_s() -> None:
    """A server set to sixty seconds accepts sixty and not sixty-one."""
    policy = Policy(ISS, clock_tolerance=60)
    assert authenticate(assertion(iat=NOW + 60, nbf=NOW + 60, exp=NOW + 90), CLIENT, policy).client is CLIENT
    for name in ("iat", "nbf"):
        with client_refused("assertion_not_yet"):
            authenticate(assertion(**{name: NOW + 61, "exp": NOW + 90}), CLIENT, policy)
    with client_refused("assertion_expired"):
        authenticate(assertion(exp=NOW), CLIENT, policy)


@pytest.mark.rule("AS-CA-09", "JOSE-25", "P09")
@pytest.mark.parametrize("jti", [ABSENT, "", 5, None, True, [], ["a"], {}, "j" * 257, "j" * 300], ids=repr)
def test_a_jti_is_required(jti: Any) -> None:
    """A non-empty string of at most 256 characters."""
    with client_refused("assertion_claims"):
        authenticate(assertion(jti=jti))


@pytest.mark.rule("AS-CA-09", "A12")
@pytest.mark.parametrize("jti", ["j", "j" * 256, "\0", "é", "a\nb", "😀" * 256, " "])
def test_any_bounded_string_is_a_jti(jti: str) -> None:
    """What the string holds does not matter: only its digest travels on."""
    once = _once(assertion(jti=jti))
    assert once.value == jti
    assert len(once.digest) == 32


@pytest.mark.rule("AS-CA-10", "AS-CA-13", "P06")
def test_one_time_values_do_not_collide() -> None:
    """Kind, client and jti are kept apart; case, composition and blanks make another value."""
    pairs = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc", "c"),
        ("a", "\0bc"),
        ("b", "J"),
        ("b", "j"),
        ("b", "j "),
        ("b", unicodedata.normalize("NFC", "é")),
        ("b", unicodedata.normalize("NFD", "é")),
        ("c", "j"),
    ]
    assert len({OneTimeValue(kind, *pair, NOW).digest for kind in OneTimeKind for pair in pairs}) == len(pairs) * len(
        OneTimeKind
    )
    value = OneTimeValue(OneTimeKind.ASSERTION, "b", "j", NOW)
    assert value.digest == replace(value, expires_at=NOW + 60).digest


@pytest.mark.rule("AS-CA-10", "AS-CA-13", "P07")
def test_the_digest_is_stable() -> None:
    """The stored form is pinned: a change of it would forget every jti in use during an upgrade."""
    expected = hashlib.sha256(b"\0\0\0\x09assertion\0\0\0\x07billing" + "jti-é".encode()).digest()
    assert OneTimeValue(OneTimeKind.ASSERTION, "billing", "jti-é", NOW).digest == expected


@pytest.mark.rule("AS-CA-10", "AS-CA-13", "P08")
@pytest.mark.parametrize(("exp", "kept"), [(NOW + 60, NOW + 70), (NOW + 60.5, NOW + 71), (NOW + 0.001, NOW + 11)])
def test_a_value_is_remembered_until_nobody_accepts_it(exp: float, kept: int) -> None:
    """Until exp, rounded up, plus the tolerance between clocks."""
    assert _once(assertion(exp=exp)).expires_at == kept


@pytest.mark.rule("AS-CA-12", "JOSE-24", "P05")
@pytest.mark.parametrize("claims", [{"aud": TE}, {"exp": NOW}, {"iss": "x"}])
def test_nothing_is_to_be_used_up_when_authentication_fails(claims: dict[str, Any]) -> None:
    """A refusal carries no one-time value, so that nobody can burn the jti of another."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(**claims))
    assert not any(isinstance(value, OneTimeValue) for value in vars(caught.value).values())


# --- other people's tokens


@pytest.mark.rule("AT-11", "JOSE-23", "A16")
def test_an_access_token_is_no_assertion() -> None:
    """A token of ours does not authenticate: not as issued, not even with the claims of an assertion."""
    with client_refused("assertion_type"):
        authenticate(access_token(CLIENT_KEY))
    with client_refused("assertion_type"):
        authenticate(access_token(AS_KEY))
    with client_refused("assertion_type"):
        authenticate(assertion(CLIENT_KEY, {"typ": "at+jwt"}))


@pytest.mark.rule("JOSE-23", "A16")
def test_a_dpop_proof_is_no_assertion() -> None:
    """Its type and its claims both say so."""
    proof = compact(
        header_of(CLIENT_KEY, "dpop+jwt", {"jwk": dict(CLIENT_KEY.public.jwk)}),
        {"jti": "j", "htm": "POST", "htu": TE, "iat": NOW, "sub": CID},
        CLIENT_KEY,
    )
    with client_refused("assertion_type"):
        authenticate(proof)


@pytest.mark.rule("JOSE-03", "JOSE-04", "JOSE-05", "A11", "A12")
@pytest.mark.parametrize(
    "claims",
    [
        b'{"iss":"evil","iss":"billing","sub":"billing"}',
        b"[1]",
        b"null",
        b"",
        '{"iss":"billing","sub":"billing"}'.encode("utf-16"),
        b'{"exp":1e400}',
        b'{"exp":NaN}',
        b'{"a":' * 3000,
    ],
    ids=lambda raw: repr(raw)[:30],
)
def test_claims_that_are_not_strict_json_are_invalid_client(claims: bytes) -> None:
    """A good signature does not help them."""
    with client_refused("assertion_malformed"):
        authenticate(compact(header_of(CLIENT_KEY, "client-authentication+jwt"), claims, CLIENT_KEY))


@pytest.mark.rule("JOSE-05", "A12")
def test_many_unknown_claims_do_no_harm() -> None:
    """As many as fit are ignored."""
    token = assertion(**{f"c{i}": 0 for i in range(500)})
    assert len(token) < jose.MAX_JWT_BYTES
    assert authenticate(token).client is CLIENT


@pytest.mark.rule("A09")
def test_hopeless_tokens_are_refused_without_a_signature_check() -> None:
    """Encrypted and oversized tokens cost no key operation and next to no time."""
    jwe = segment({"alg": "PBES2-HS512+A256KW", "p2c": 2**31 - 1, "enc": "A256GCM"}) + ".AA.AA.AA.AA"
    for token in (jwe, "." * 10**6, "A" * 10**6):
        started = time.perf_counter()
        assert _verifications(lambda token=token: authenticate(token)) == 0  # type: ignore[misc]
        assert time.perf_counter() - started < 1


def test_credentials_are_read_before_any_client_is_known() -> None:
    """Reading names the claimed client; proving comes after."""
    credential = read_credential(_request(assertion(OTHER_KEY)))
    assert (credential.method, credential.client_id) == ("private_key_jwt", CID)
    with client_refused("client_unknown"):
        authenticate_client(credential, None, POLICY, NOW)
    assert assertion_claims()["jti"] not in repr(credential)
