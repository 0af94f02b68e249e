"""AS-CA and the attack cases A01 to A18: every way to be somebody else, and the one appearance of its refusal."""

import hashlib
import hmac
import json
import socket
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import RSAKey

from groat.keys.files import public_key_pem
from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import (
    PrivateKey,
    base64url_decode,
    base64url_encode,
    decoy_key,
    generate_private_key,
    private_key,
)
from groat.server import operations
from groat.server.store import StoreConflict

from .builders import ABSENT, ISS, JWT_BEARER, NOW, TE, TYP, Party, base, base_fields, compact, segment
from .lab import DEFAULTS, Lab
from .wire import FORM, check_ec, check_ok, check_refused, encoded

B64 = base64url_encode
N_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
RSA_PAIR: Final = RSAKey.generate_key(2048)


@pytest.fixture(scope="module")
def other(lab: Lab) -> Party:
    """Another registered client."""
    return lab.add_client("other")


@pytest.fixture(scope="module")
def rsa(lab: Lab) -> Party:
    """A client whose one key is RSA for RS256."""
    return lab.add_client("rsa", private_key(RSA_PAIR, "RS256"))


def refused(lab: Lab, assertion: str, reason: str | None = None, **fields: Any) -> None:
    """EC on the outside; inside the given reason, where the test is about that one."""
    answer = lab.ask(assertion, **fields)
    check_ec(answer)
    if reason is not None:
        assert lab.reason(answer) == reason


def add_key(lab: Lab, client_id: str, key: PrivateKey) -> None:
    """Register one more key of a client."""
    lab.operate(lambda op: operations.add_client_keys(op, client_id, (key.public,)))


# AS-CA-01 to 03: the form


@pytest.mark.rule("AS-CA-01", "A20")
@pytest.mark.parametrize("value", [ABSENT, ""])
def test_an_assertion_needs_its_type(lab: Lab, value: Any) -> None:
    """An assertion without a type is malformed, and stays unused."""
    assertion = lab.party.assertion()
    check_refused(lab.ask(assertion, client_assertion_type=value), "invalid_request")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-CA-01", "A20", "DEMO-04")
@pytest.mark.parametrize(
    "value",
    ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", JWT_BEARER.upper(), JWT_BEARER + " ", "x",
     "jwt-bearer", JWT_BEARER + "\u200b", JWT_BEARER.replace(":", "%3A")],
)  # fmt: skip
def test_another_assertion_type_is_another_method(lab: Lab, value: str) -> None:
    """Only the exact URN counts; the jti stays unused."""
    assertion = lab.party.assertion()
    refused(lab, assertion, "assertion_method", client_assertion_type=value)
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-CA-03", "A14", "DEMO-03", "DEMO-05")
def test_client_id_must_name_the_same_client(lab: Lab, other: Party) -> None:
    """Absent or equal is fine; another client, existing or not, is refused before the jti is used."""
    check_ok(lab.ask(client_id="billing"))
    assertion = lab.party.assertion()
    for name in ("other", "nobody", "Billing", "billing ", "client"):
        refused(lab, assertion, "assertion_subject", client_id=name)
    check_ok(lab.ask(assertion))


# A08, A09, AS-CA-02: the shape


def _join(lab: Lab) -> str:
    return lab.party.assertion() + " " + lab.party.assertion()


def _serialization(lab: Lab, flattened: bool) -> str:
    header, claims, signature = lab.party.assertion().split(".")
    part = {"protected": header, "signature": signature}
    return json.dumps({"payload": claims, **part} if flattened else {"payload": claims, "signatures": [part]})


SHAPES: Final[dict[str, Callable[[Lab], str]]] = {
    "abc": lambda lab: "abc",
    "dots": lambda lab: "..",
    "100k-dots": lambda lab: "." * 60_000,
    "one-part": lambda lab: lab.party.assertion().split(".")[0],
    "two-parts": lambda lab: lab.party.assertion().rpartition(".")[0],
    "four-parts": lambda lab: lab.party.assertion() + ".x",
    "five-parts": lambda lab: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA",
    "leading-dot": lambda lab: "." + lab.party.assertion(),
    "trailing-dot": lambda lab: lab.party.assertion() + ".",
    "leading-space": lambda lab: " " + lab.party.assertion(),
    "trailing-newline": lambda lab: lab.party.assertion() + "\n",
    "general-json": lambda lab: _serialization(lab, False),
    "flattened-json": lambda lab: _serialization(lab, True),
    "encoded-dots": lambda lab: lab.party.assertion().replace(".", "%2E"),
    "bom": lambda lab: "\ufeff" + lab.party.assertion(),
    "bearer": lambda lab: "Bearer " + lab.party.assertion(),
    "two-joined": _join,
    "two-concatenated": lambda lab: lab.party.assertion() + lab.party.assertion(),
    "empty-header": lambda lab: "." + lab.party.assertion().partition(".")[2],
    "empty-claims": lambda lab: "{0}..{2}".format(*lab.party.assertion().split(".")),
    "nine-kilobytes": lambda lab: lab.party.assertion(pad="x" * 9 * 1024),
    "quotes": lambda lab: f'"{lab.party.assertion()}"',
    "non-ascii": lambda lab: lab.party.assertion() + "\u00e9",
    "full-width-dot": lambda lab: lab.party.assertion().replace(".", "\uff0e"),
}


@pytest.mark.rule("AS-CA-02", "JOSE-01", "JOSE-25", "A08", "A09")
@pytest.mark.parametrize("name", SHAPES)
def test_only_one_compact_jws(lab: Lab, name: str) -> None:
    """Whatever is not exactly one compact JWS is EC as malformed."""
    refused(lab, SHAPES[name](lab), "assertion_malformed")


@pytest.mark.rule("A09")
@pytest.mark.parametrize("alg", ["dir", "RSA1_5", "RSA-OAEP", "PBES2-HS512+A256KW"])
def test_encrypted_assertions_cost_nothing(lab: Lab, alg: str) -> None:
    """A JWE is refused by its five parts: no key is derived, however many rounds it asks for."""
    header = {"alg": alg, "enc": "A256GCM", "p2c": 2**31 - 1, "p2s": "AAAA", "zip": "DEF"}
    began = time.monotonic()
    refused(lab, f"{segment(header)}.AAAA.AAAA.AAAA.AAAA", "assertion_malformed")
    refused(lab, compact({**lab.party.header(), **header}, lab.party.claims(), lab.party.key), "assertion_malformed")
    assert time.monotonic() - began < 1


# A07: the signature


def _resigned(assertion: str, change: Callable[[bytes], bytes]) -> str:
    data, _, signature = assertion.rpartition(".")
    return f"{data}.{B64(change(base64url_decode(signature))).decode()}"


def _der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _negated(signature: bytes) -> bytes:
    r, s = decode_dss_signature(_der(signature))
    return r.to_bytes(32, "big") + (N_P256 - s + 1).to_bytes(32, "big")


SIGNATURES: Final[dict[str, Callable[[str], str]]] = {
    "empty": lambda a: a.rpartition(".")[0] + ".",
    "zeros": lambda a: _resigned(a, lambda _: bytes(64)),
    "r=n": lambda a: _resigned(a, lambda s: N_P256.to_bytes(32, "big") + s[32:]),
    "s=n": lambda a: _resigned(a, lambda s: s[:32] + N_P256.to_bytes(32, "big")),
    "s-off-by-one": lambda a: _resigned(a, _negated),
    "der": lambda a: _resigned(a, _der),
    "63-bytes": lambda a: _resigned(a, lambda s: s[:-1]),
    "65-bytes": lambda a: _resigned(a, lambda s: s + b"\0"),
    "65-bytes-leading": lambda a: _resigned(a, lambda s: b"\0" + s),
    "flipped": lambda a: _resigned(a, lambda s: bytes([s[0] ^ 1]) + s[1:]),
    "swapped": lambda a: _resigned(a, lambda s: s[32:] + s[:32]),
    "padded": lambda a: a + "==",
    "standard-alphabet": lambda a: a[:-2] + "+/",
    "unused-bits": lambda a: a[:-1] + chr(ord(a[-1]) + 1),
    "space-inside": lambda a: a[:-4] + " " + a[-4:],
    "newline-inside": lambda a: a[:-4] + "\n" + a[-4:],
    "bang": lambda a: a[:-4] + "!" + a[-4:],
}


@pytest.mark.rule("A07", "JOSE-02", "JOSE-15")
@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_have_one_form(lab: Lab, name: str) -> None:
    """Absent, degenerate, re-encoded or non-canonical signatures are EC, and leave the jti unused (P05)."""
    assertion = lab.party.assertion()
    check_ec(lab.ask(SIGNATURES[name](assertion)))
    check_ok(lab.ask(assertion))


# A01, A02, A03, A04: the algorithm


@pytest.mark.rule("A01", "A02", "JOSE-06", "JOSE-17")
@pytest.mark.parametrize(
    "alg",
    ["none", "None", "NONE", "nOnE", "", None, 1, True, [], ["ES256"], {"a": 1}, ABSENT, "rs256", "es256", "ES256 ",
     " ES256", "ES256\0", "ＥＳ256", "ES256K", "ESP256", "HS256", "HS384", "HS512", "Ed448", "ES256,none"],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("signature", ["original", "empty", "random"])
def test_algorithms_outside_the_table(lab: Lab, alg: Any, signature: str) -> None:
    """none, HMAC, other spellings and other types are EC with any signature."""
    assertion = lab.party.headed(alg=alg)
    if signature != "original":
        replacement = "" if signature == "empty" else B64(bytes(range(64))).decode()
        assertion = assertion.rpartition(".")[0] + "." + replacement
    check_ec(lab.ask(assertion))


@pytest.mark.rule("A02", "JOSE-07", "JOSE-17")
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519", "ES384", "RS256", "PS256"])
def test_an_algorithm_that_the_key_is_not_for(lab: Lab, alg: str) -> None:
    """A known algorithm under the kid of a key for another one is EC before any signature is computed."""
    refused(lab, lab.party.headed(alg=alg), "assertion_algorithm")


def _secrets(key: PrivateKey) -> dict[str, bytes]:
    native = key.public.native
    jwk = dict(key.public.jwk)
    point = base64url_decode(jwk["x"]) + base64url_decode(jwk["y"])
    return {
        "pem": public_key_pem(key.public),
        "pem-stripped": public_key_pem(key.public).strip(),
        "der": native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "point": point,
        "uncompressed": native.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "jwk": json.dumps(jwk, separators=(",", ":")).encode(),
        "jwk-sorted": json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode(),
        "jwk-pretty": json.dumps(jwk, indent=2).encode(),
        "empty": b"",
        "kid": key.kid.encode(),
    }


@pytest.mark.rule("A03", "AS-CA-16", "JOSE-07")
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_never_a_secret(lab: Lab, alg: str) -> None:
    """HMAC under any form of the client's public key, or of the published set, is EC."""
    secrets = [*_secrets(lab.party.key).values(), lab.get("/.well-known/jwks.json").body]
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    for secret in secrets:
        data = f"{segment(lab.party.header(alg=alg))}.{segment(lab.party.claims())}"
        mac = B64(hmac.digest(secret, data.encode(), digest)).decode()
        refused(lab, f"{data}.{mac}", "assertion_algorithm")


@pytest.mark.rule("A04", "JOSE-07", "JOSE-16")
@pytest.mark.parametrize("written", ["RS256", "PS256", "RS384", "RS512", "PS384"])
@pytest.mark.parametrize("signed", ["RS256", "PS256"])
def test_one_key_one_algorithm(lab: Lab, rsa: Party, written: str, signed: str) -> None:
    """An RSA key for RS256 verifies RS256 alone: neither the header nor the signature may say otherwise."""
    signer = private_key(RSA_PAIR, signed, rsa.key.kid)
    answer = lab.ask(compact(rsa.header(alg=written), rsa.claims(), signer))
    if (written, signed) == ("RS256", "RS256"):
        check_ok(answer)
    else:
        check_ec(answer)


@pytest.mark.rule("A04", "AS-CA-15", "JOSE-07")
def test_a_pinned_algorithm(lab: Lab) -> None:
    """A client pinned to ES256 cannot use a second key of another algorithm, though it is registered."""
    pinned = lab.add_client("pinned", signing_alg="ES256")
    second = Party("pinned", generate_private_key("ES384"))
    lab.operate(lambda op: operations.add_client_keys(op, "pinned", (second.key.public,)))
    check_ok(lab.ask(pinned.assertion()))
    refused(lab, second.assertion(), "assertion_algorithm")


@pytest.mark.rule("A02", "JOSE-17", "AS-MD-08")
def test_both_names_of_ed25519(lab: Lab) -> None:
    """Ed25519 and its old name EdDSA are one algorithm for an Ed25519 key."""
    party = lab.add_client("edwards", generate_private_key("Ed25519"))
    for alg in ("Ed25519", "EdDSA"):
        check_ok(lab.ask(party.headed(alg=alg)))
    check_ec(lab.ask(party.headed(alg="ES256")))


@pytest.mark.rule("AS-CA-15", "AT-09")
def test_profile_fapi2_refuses_rs256(fresh_lab: Callable[..., Lab]) -> None:
    """Under fapi2, RS256 keys cannot be registered, RS256 is not advertised and an aud array is refused."""
    lab = fresh_lab('profile = "fapi2"\n' + DEFAULTS)
    with pytest.raises(ConfigError):
        lab.add_client("rsa", private_key(RSA_PAIR, "RS256"))
    check_ok(lab.ask())
    refused(lab, lab.party.assertion(aud=[ISS]), "assertion_audience")
    refused(lab, compact(lab.party.header(alg="RS256"), lab.party.claims(), private_key(RSA_PAIR, "RS256")))
    with pytest.raises(ConfigError):
        lab.rotate(algorithm="RS256")
    values = lab.get("/.well-known/oauth-authorization-server").json["token_endpoint_auth_signing_alg_values_supported"]
    assert set(values) == {"ES256", "PS256", "Ed25519", "EdDSA"}


# A05, A06, A10, A16: the header


@pytest.mark.rule("A05", "JOSE-11")
@pytest.mark.parametrize("kid", ["mine", "theirs", "none"])
def test_keys_inside_the_header_do_not_count(lab: Lab, kid: str) -> None:
    """An attacker's jwk, x5c, jku or x5u never supplies a key, and nobody is called."""
    attacker = generate_private_key("ES256")
    with socket.create_server(("127.0.0.1", 0)) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
        der = attacker.public.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for member in (
            {"jwk": dict(attacker.public.jwk)},
            {"jku": url},
            {"x5u": url},
            {"x5c": [B64(der).decode()]},
            {"x5t#S256": attacker.kid},
        ):
            named = {"mine": attacker.kid, "theirs": lab.party.key.kid, "none": ABSENT}[kid]
            header = {name: v for name, v in lab.party.header(kid=named, **member).items() if v is not ABSENT}
            check_ec(lab.ask(compact(header, lab.party.claims(), attacker)))
        trap.settimeout(0.2)
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.rule("A05", "JOSE-10")
def test_unknown_header_members_and_claims_are_ignored(lab: Lab) -> None:
    """Members that nobody knows, and harmless key hints of the client's own, change nothing."""
    check_ok(lab.ask(lab.party.headed(**{"x-foo": {"a": [1]}, "jku": "https://evil.example", "cty": "json"})))
    check_ok(lab.ask(lab.party.assertion(foo=[1, {"bar": None}], scope="admin", act={"sub": "x"})))


@pytest.mark.rule("A06", "JOSE-12", "AS-CA-17")
@pytest.mark.parametrize(
    "kid",
    ["", "x" * 257, "x" * 5000, "../../dev/null", "/dev/null", "' OR 1=1--", '"; DROP TABLE clients; --', "|sleep 10",
     "https://evil.example/k", "a\0b", "a\r\nb", 7, None, [], {}, True, "\u00e9"],
    ids=lambda kid: repr(kid)[:20],
)  # fmt: skip
def test_odd_key_ids(lab: Lab, kid: Any) -> None:
    """A kid is looked up by exact match among the client's own keys and does nothing else."""
    began = time.monotonic()
    check_ec(lab.ask(lab.party.headed(kid=kid)))
    assert time.monotonic() - began < 2
    check_ok(lab.ask())


@pytest.mark.rule("A06", "JOSE-13")
def test_kid_may_be_absent_when_one_key_fits(lab: Lab) -> None:
    """Without kid: one fitting key is enough, two are one too many, one of each algorithm is clear again."""
    party = lab.add_client("no-kid")
    check_ok(lab.ask(party.headed(kid=ABSENT)))
    third = generate_private_key("ES384")
    lab.operate(lambda op: operations.add_client_keys(op, "no-kid", (third.public,)))
    check_ok(lab.ask(party.headed(kid=ABSENT)))
    second = generate_private_key("ES256")
    lab.operate(lambda op: operations.add_client_keys(op, "no-kid", (second.public,)))
    refused(lab, party.headed(kid=ABSENT), "assertion_key")
    check_ok(lab.ask(party.assertion()))
    check_ok(lab.ask(Party("no-kid", third).headed(kid=ABSENT)))


@pytest.mark.rule("A06", "AS-CA-05", "DEMO-01")
def test_a_key_proves_its_own_client_only(lab: Lab, other: Party) -> None:
    """Another client's key, the decoy's and the server's own sign for nobody else, under any kid."""
    server = _server_key(lab)
    for signer in (other.key, server):
        for kid in (signer.kid, lab.party.key.kid, ABSENT):
            check_ec(lab.ask(compact(lab.party.header(kid=kid), lab.party.claims(), signer)))
    header = {**lab.party.header(), "kid": decoy_key("ES256").kid}
    check_ec(lab.ask(compact(header, lab.party.claims(), generate_private_key("ES256"))))


def _server_key(lab: Lab) -> PrivateKey:
    """The authorization server's own private key, as its operator could unseal it."""
    keys = lab.operate(operations.list_signing_keys)
    return lab.kek.unseal(keys[0].sealed, keys[0].kid)


@pytest.mark.rule("AS-CA-17")
def test_a_flood_of_unknown_key_ids(lab: Lab) -> None:
    """100 unknown kids are 100 times EC, and the good one still works."""
    for number in range(100):
        check_ec(lab.ask(lab.party.headed(kid=f"unknown-{number}")))
    check_ok(lab.ask())


@pytest.mark.rule("A10", "JOSE-08", "JOSE-09")
@pytest.mark.parametrize(
    "members",
    [{"crit": ["exp"]}, {"crit": ["b64"], "b64": False}, {"crit": ["bork"], "bork": 1}, {"crit": []}, {"crit": "x"},
     {"crit": ["a", "a"], "a": 1}, {"crit": ["alg"]}, {"crit": None}, {"crit": {}}, {"b64": True}, {"b64": False},
     {"zip": "DEF"}, {"enc": "A256GCM"}, {"cty": "JWT"}, {"cty": "application/jwt"}],
    ids=repr,
)  # fmt: skip
def test_headers_that_would_change_the_reading(lab: Lab, members: dict[str, Any]) -> None:
    """crit, b64, zip, enc and nesting are refused whatever they say."""
    refused(lab, lab.party.headed(**members), "assertion_malformed")


@pytest.mark.rule("A10", "JOSE-08")
def test_a_repeated_crit(lab: Lab) -> None:
    """A header with a member twice is refused though its signature is good."""
    header = f'{{"alg":"ES256","kid":"{lab.party.key.kid}","crit":["x"],"crit":["x"]}}'.encode()
    refused(lab, compact(header, lab.party.claims(), lab.party.key), "assertion_malformed")


@pytest.mark.rule("A16", "AS-CA-14", "JOSE-22", "JOSE-23")
@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", TYP, TYP.upper(), f"application/{TYP}", "application/JWT"])
def test_types_that_an_assertion_may_have(lab: Lab, typ: Any) -> None:
    """The explicit type, JWT and none pass, in any case and spelling of the media type."""
    check_ok(lab.ask(lab.party.headed(typ=typ)))


@pytest.mark.rule("A16", "AS-CA-14", "JOSE-22", "JOSE-23", "AT-11")
@pytest.mark.parametrize(
    "typ",
    ["at+jwt", "dpop+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", "logout+jwt", "text/" + TYP, "", 5, None,
     "application/at+jwt", TYP + " ", TYP + ";x=y"],
    ids=repr,
)  # fmt: skip
def test_other_explicit_types(lab: Lab, typ: Any) -> None:
    """Every other type is EC and leaves the jti unused."""
    claims = lab.party.claims()
    check_ec(lab.ask(compact({**lab.party.header(), "typ": typ}, claims, lab.party.key)))
    check_ok(lab.ask(compact(lab.party.header(), claims, lab.party.key)))


@pytest.mark.rule("AS-CA-14")
def test_a_strict_client_must_say_what_it_sends(lab: Lab) -> None:
    """With the strict switch only the explicit type passes."""
    party = lab.add_client("strict", strict_typ=True)
    for typ in (ABSENT, "JWT"):
        refused(lab, party.headed(typ=typ), "assertion_type")
    check_ok(lab.ask(party.assertion()))


@pytest.mark.rule("A16", "AT-11", "DEMO-02")
def test_an_access_token_is_no_assertion(lab: Lab, other: Party) -> None:
    """What this server issued authenticates nobody, as it is or under the type of an assertion."""
    token = lab.token()
    check_ec(lab.ask(token))
    claims = lab.party.claims()
    server = _server_key(lab)
    check_ec(lab.ask(jose.sign_jwt(claims, server, TYP)))
    check_ec(lab.ask(jose.sign_jwt(claims, server, "at+jwt")))
    proof = compact({**other.header(typ="dpop+jwt"), "jwk": dict(other.key.public.jwk)}, other.claims(), other.key)
    check_ec(lab.ask(proof))


# A11, A12: JSON


@pytest.mark.rule("A11", "JOSE-04")
@pytest.mark.parametrize(
    "data",
    [b"null", b"[]", b'"x"', b"1", b"true", b"", b"{", b"\xff", b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b"{}x", b"{'a':1}",
     '{"alg":"ES256"}'.encode("utf-16"), '{"alg":"ES256"}'.encode("utf-16-le"), '{"alg":"ES256"}'.encode("utf-32")],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("where", ["header", "claims"])
def test_parts_that_are_no_utf8_object(lab: Lab, where: str, data: bytes) -> None:
    """Header and claims are UTF-8 JSON objects or nothing, however well they are signed."""
    header: Any = data if where == "header" else lab.party.header()
    claims: Any = data if where == "claims" else lab.party.claims()
    refused(lab, compact(header, claims, lab.party.key), "assertion_malformed")


def _claims_text(lab: Lab, extra: str) -> bytes:
    return (json.dumps(lab.party.claims())[:-1] + "," + extra + "}").encode()


@pytest.mark.rule("A12", "JOSE-03", "JOSE-05")
@pytest.mark.parametrize(
    "extra",
    ['"sub":"billing"', '"exp":1', '"aud":"https://as.example"', '"iss":"evil"', '"a":{"b":1,"b":1}', '"a":NaN',
     '"a":Infinity', '"a":-Infinity', '"a":1e400', '"a":' + "[" * 100 + "]" * 100, '"a":' + "[" * 2500 + "]" * 2500,
     '"a":' + "1" * 5000, '"a":"\\ud800"', '"a":"\\udfff\\ud800"', '"\\ud800":1', '"\\u0073ub":"billing"',
     '"a":1.' + "1" * 4000, '"a":-', '"a":01'],
    ids=lambda extra: extra[:24],
)  # fmt: skip
def test_json_that_two_readers_could_read_differently(lab: Lab, extra: str) -> None:
    """Repeats, NaN, depth, absurd numbers and lone surrogates are EC, never 500."""
    refused(lab, compact(lab.party.header(), _claims_text(lab, extra), lab.party.key), "assertion_malformed")


@pytest.mark.rule("A12")
@pytest.mark.parametrize("name", ["iss", "sub", "jti", "aud", "scope"])
def test_nul_in_claims(lab: Lab, name: str) -> None:
    """A NUL inside a claim is just another value: no 500 in any database, and two jtis differ by it."""
    answer = lab.ask(lab.party.assertion(**{name: "a\0b"}))
    if name in ("jti", "scope"):
        check_ok(answer)
    else:
        check_ec(answer)


@pytest.mark.rule("A12")
def test_many_unknown_members(lab: Lab) -> None:
    """A claims set full of members that nobody knows still fits the size limit or is refused by it."""
    check_ok(lab.ask(lab.party.assertion(**{f"m{n}": n for n in range(300)})))
    check_ec(lab.ask(lab.party.assertion(**{f"m{n}": n for n in range(3000)})))


# A13, A14, A15: the claims

AUDIENCES: Final[list[Any]] = [
    TE, ISS + "/", "https://AS.example", "HTTPS://as.example", "https://as.example:443", "https://as%2Eexample", "auth",
    "api", [ISS, "x"], [ISS, ISS], [], [[ISS]], {}, {"a": ISS}, None, ABSENT, 5, True, "", [5], [ISS, 5], [None],
    f"{ISS}/par", f"{ISS}/bc-authorize", "https://other.example", ISS + " ", " " + ISS, ISS + "\0", [TE], f"{ISS},{ISS}",
]  # fmt: skip


@pytest.mark.rule("A13", "AS-CA-06", "JOSE-21", "DEMO-11")
@pytest.mark.parametrize("aud", AUDIENCES, ids=repr)
def test_the_issuer_is_the_sole_audience(lab: Lab, aud: Any) -> None:
    """Anything but the issuer, exactly and alone, is EC, and the jti stays unused."""
    jti = f"aud-{AUDIENCES.index(aud)}"
    refused(lab, lab.party.assertion(aud=aud, jti=jti), "assertion_audience")
    check_ok(lab.ask(lab.party.assertion(jti=jti)))


@pytest.mark.rule("A13", "AS-CA-06")
def test_one_element_arrays_pass(lab: Lab) -> None:
    """An array of the issuer alone is as good as the string."""
    check_ok(lab.ask(lab.party.assertion(aud=[ISS])))


@pytest.mark.rule("AS-CA-06")
def test_the_token_endpoint_as_audience_is_a_setting_of_one_client(lab: Lab) -> None:
    """With the setting the token endpoint passes too, and the log counts it; nothing else does."""
    party = lab.add_client("lenient", assertion_audience="issuer-or-token-endpoint")
    answer = lab.ask(party.assertion(aud=TE))
    check_ok(answer)
    assert "token endpoint" in lab.event(answer)["hint"]
    check_ok(lab.ask(party.assertion()))
    for aud in ([ISS, TE], f"{TE}/", "https://other.example/token"):
        refused(lab, party.assertion(aud=aud), "assertion_audience")
    refused(lab, lab.party.assertion(aud=TE), "assertion_audience")


_LOOKALIKE = "b\u0456lling"  # a Cyrillic i


@pytest.mark.rule("A14", "AS-CA-04", "JOSE-25", "DEMO-05")
@pytest.mark.parametrize(
    "claims",
    [{"iss": ABSENT}, {"sub": ABSENT}, {"iss": "x"}, {"sub": "x"}, {"sub": "admin"}, {"iss": "other"}, {"sub": "other"},
     {"iss": "other", "sub": "other"}, {"iss": ["billing"]}, {"sub": ["billing"]}, {"sub": 5}, {"iss": 5}, {"sub": None},
     {"iss": "Billing"}, {"sub": "BILLING"}, {"sub": "bill"}, {"iss": "billing2"}, {"sub": "billing "}, {"iss": " billing"},
     {"iss": ISS}, {"sub": _LOOKALIKE}, {"iss": _LOOKALIKE, "sub": _LOOKALIKE}, {"sub": ""}, {"iss": ""},
     {"iss": unicodedata.normalize("NFD", "billing\u00e9")}, {"sub": "x" * 129}, {"sub": "bill\ning"}],
    ids=repr,
)  # fmt: skip
def test_iss_and_sub_are_both_the_client(lab: Lab, other: Party, claims: dict[str, Any]) -> None:
    """Both claims are present and exactly the client id; a good signature does not make up for it."""
    check_ec(lab.ask(lab.party.assertion(**claims)))


FAR: Final = 10**12
TIMES: Final[list[tuple[dict[str, Any], bool]]] = [
    ({"exp": ABSENT}, False), ({"exp": NOW}, False), ({"exp": NOW - 1}, False), ({"exp": NOW - 300}, False),
    ({"exp": NOW + 1}, True), ({"exp": NOW + 0.5}, True), ({"exp": NOW + 60.5}, True), ({"exp": NOW + 300}, True),
    ({"exp": NOW + 301}, False), ({"exp": NOW + 300.001}, False), ({"exp": NOW + 3600}, False), ({"exp": NOW + 86400}, False),
    ({"exp": 0}, False), ({"exp": -1}, False), ({"exp": FAR}, False), ({"exp": 1e12}, False), ({"exp": str(NOW + 60)}, False),
    ({"exp": True}, False), ({"exp": None}, False), ({"exp": []}, False), ({"exp": {}}, False), ({"exp": 10**30}, False),
    ({"iat": ABSENT}, True), ({"iat": NOW + 8}, True), ({"iat": NOW + 10}, True), ({"iat": NOW + 11}, False),
    ({"iat": NOW + 61}, False), ({"iat": NOW - 300}, True), ({"iat": NOW - 301}, False), ({"iat": NOW + 10, "exp": NOW + 9}, False),
    ({"iat": str(NOW)}, False), ({"iat": True}, False), ({"iat": None}, False), ({"iat": -FAR}, False),
    ({"nbf": NOW}, True), ({"nbf": NOW + 8}, True), ({"nbf": NOW + 10}, True), ({"nbf": NOW + 11}, False), ({"nbf": NOW + 61}, False),
    ({"nbf": str(NOW)}, False), ({"nbf": False}, False), ({"nbf": None}, False), ({"nbf": NOW - FAR}, True),
]  # fmt: skip


@pytest.mark.rule("A15", "AS-CA-07", "AS-CA-08", "JOSE-18", "JOSE-19", "JOSE-20", "DEMO-12")
@pytest.mark.parametrize(("claims", "good"), TIMES, ids=[repr(claims) for claims, _ in TIMES])
def test_time_claims(lab: Lab, claims: dict[str, Any], good: bool) -> None:
    """exp, iat and nbf at and around each boundary, and of every wrong type."""
    answer = lab.ask(lab.party.assertion(**claims))
    if good:
        check_ok(answer)
    else:
        check_ec(answer)


@pytest.mark.rule("AS-CA-07")
def test_a_longer_lifetime_is_a_setting_of_one_client(lab: Lab) -> None:
    """max_assertion_lifetime lets one client go up to its own limit, and no further."""
    party = lab.add_client("long-lived", max_assertion_lifetime=3600)
    check_ok(lab.ask(party.assertion(exp=NOW + 3600, iat=NOW - 3600)))
    refused(lab, party.assertion(exp=NOW + 3601), "assertion_lifetime")
    with pytest.raises(ConfigError):
        lab.add_client("too-long", max_assertion_lifetime=3601)


@pytest.mark.rule("AS-CA-09", "DEMO-10")
@pytest.mark.parametrize(
    "jti", [ABSENT, "", 5, None, [], {}, True, "x" * 257, "x" * 300, "x" * 7000], ids=lambda j: repr(j)[:9]
)
def test_jti_is_required(lab: Lab, jti: Any) -> None:
    """Absent, empty, of another type or too long: EC."""
    check_ec(lab.ask(lab.party.assertion(jti=jti)))


@pytest.mark.rule("AS-CA-09")
@pytest.mark.parametrize("jti", ["x", "x" * 256, "\U0001f600" * 256, " ", "a\r\nb"], ids=lambda j: repr(j)[:9])
def test_any_other_jti_works_once(lab: Lab, jti: str) -> None:
    """1 to 256 characters of any kind are a jti, once."""
    check_ok(lab.ask(lab.party.assertion(jti=jti)))
    refused(lab, lab.party.assertion(jti=jti), "assertion_replayed")


# AS-CA-19, AS-CA-21, AS-CA-22, A18


@pytest.mark.rule("AS-CA-19", "A18", "AS-CA-05")
def test_every_cause_looks_the_same(lab: Lab, other: Party) -> None:
    """All causes give the same status, headers and bytes; the log tells each apart."""
    disabled = lab.add_client("disabled")
    lab.operate(lambda op: operations.enable_client(op, "disabled", enabled=False))
    removed = lab.add_client("removed")
    lab.operate(lambda op: operations.remove_client(op, "removed"))
    used = lab.party.assertion()
    check_ok(lab.ask(used))
    good = base_fields(lab.party.assertion())
    causes = {
        "client_unknown": base(Party("nobody").assertion()),
        "client_unknown ": base(removed.assertion()),
        "client_disabled": base(disabled.assertion()),
        "assertion_key": base(lab.party.headed(kid="unknown")),
        "assertion_signature": base(lab.party.assertion()[:-6] + "AAAAAA"),
        "assertion_audience": base(lab.party.assertion(aud="x")),
        "assertion_issuer": base(lab.party.assertion(iss="x")),
        "assertion_subject": base(lab.party.assertion(sub=5)),
        "assertion_expired": base(lab.party.assertion(exp=NOW)),
        "assertion_not_yet": base(lab.party.assertion(nbf=NOW + 61)),
        "assertion_lifetime": base(lab.party.assertion(exp=NOW + 999)),
        "assertion_claims": base(lab.party.assertion(jti=5)),
        "assertion_replayed": base(used),
        "assertion_malformed": base("a.b.c"),
        "assertion_algorithm": base(lab.party.headed(alg="none")),
        "assertion_type": base(lab.party.headed(typ="at+jwt")),
        "assertion_method": encoded([*{**good, "client_assertion_type": "x"}.items()]),
        "auth_method": encoded(
            [("grant_type", "client_credentials"), ("client_secret", "s"), ("client_id", "billing")]
        ),
    }
    answers = {reason: lab.post(body) for reason, body in causes.items()}
    assert {reason: lab.reason(answer) for reason, answer in answers.items()} == {r: r.strip() for r in causes}
    assert len({answer.comparable() for answer in answers.values()}) == 1
    for answer in answers.values():
        check_ec(answer)


@pytest.mark.rule("AS-CA-19")
def test_a_disabled_client_is_only_told_apart_by_who_holds_its_key(lab: Lab) -> None:
    """A bad signature in the name of a disabled client is logged as that: state is judged after proof."""
    disabled = lab.add_client("disabled-2")
    lab.operate(lambda op: operations.enable_client(op, "disabled-2", enabled=False))
    refused(lab, disabled.assertion()[:-6] + "AAAAAA", "assertion_signature")
    refused(lab, disabled.assertion(), "client_disabled")


@pytest.mark.rule("AS-CA-05", "AS-CA-21")
def test_removed_clients_stay_removed(lab: Lab) -> None:
    """The key of a removed client opens nothing, and its id is never given away again."""
    party = lab.add_client("gone")
    check_ok(lab.ask(party.assertion()))
    lab.operate(lambda op: operations.remove_client(op, "gone"))
    refused(lab, party.assertion(), "client_unknown")
    with pytest.raises(StoreConflict):
        lab.add_client("gone")
    check_ok(lab.ask(lab.add_client("heir", party.key).assertion()))
    refused(lab, party.assertion(), "client_unknown")


@pytest.mark.rule("AS-CA-21")
@pytest.mark.parametrize(
    "client_id", ["", "\n", "a\nb", "a b", "a\0b", "\u00e9", 'a"b', "a\\b", "x" * 129, "a\x7f", "a\tb"]
)
def test_client_ids_are_printable_ascii(lab: Lab, client_id: str) -> None:
    """Ids that could confuse a log, a shell or a form cannot be registered."""
    with pytest.raises(ConfigError):
        lab.add_client(client_id)


@pytest.mark.rule("AS-CA-21")
def test_client_ids_are_unique(lab: Lab) -> None:
    """The same id cannot be registered twice; another case is another client."""
    with pytest.raises(StoreConflict):
        lab.add_client("billing")
    check_ok(lab.ask(lab.add_client("BILLING").assertion()))


@pytest.mark.rule("AS-CA-22", "DEMO-01")
def test_one_key_has_one_owner(lab: Lab) -> None:
    """A key of another client, or the server's own, cannot be registered, at first or later."""
    for key in (lab.party.key, _server_key(lab)):
        with pytest.raises(StoreConflict):
            lab.add_client("copycat", key)
        with pytest.raises(StoreConflict):
            add_key(lab, "billing", key)
    check_ec(lab.ask(Party("copycat", lab.party.key).assertion()))


@pytest.mark.rule("AS-CA-22", "KEY-13")
def test_one_modulus_has_one_algorithm(lab: Lab, rsa: Party) -> None:
    """The same RSA key under another algorithm and kid is the same key."""
    again = private_key(RSA_PAIR, "PS256", "another-kid")
    for client_id in ("rsa", "billing"):
        with pytest.raises(StoreConflict):
            add_key(lab, client_id, again)


@pytest.mark.rule("KEY-23", "AS-CA-24")
def test_a_client_changes_over_without_a_gap(lab: Lab) -> None:
    """Two registered keys both work; the removed one stops on the next request."""
    old = lab.add_client("rotating")
    new = Party("rotating", generate_private_key("ES256"))
    refused(lab, new.assertion(), "assertion_key")
    lab.operate(lambda op: operations.add_client_keys(op, "rotating", (new.key.public,)))
    for party in (old, new):
        check_ok(lab.ask(party.assertion()))
    lab.operate(lambda op: operations.remove_client_key(op, "rotating", old.key.kid))
    refused(lab, old.assertion(), "assertion_key")
    check_ok(lab.ask(new.assertion()))


@pytest.mark.rule("AS-CA-24", "A17")
def test_every_change_acts_on_the_next_request(lab: Lab) -> None:
    """Disable, enable, scope cut, grant cut and a stricter setting act at once, in both directions."""
    party = lab.add_client(
        "changing", allow={"orders": ["orders:read", "orders:write"]}, default_scopes=("orders:read",)
    )

    def update(**settings: Any) -> None:
        lab.operate(lambda op: operations.update_client(op, "changing", settings=settings))

    for _ in range(2):
        check_ok(lab.ask(party.assertion(), scope="orders:write"))
        lab.operate(lambda op: operations.enable_client(op, "changing", enabled=False))
        refused(lab, party.assertion(), "client_disabled")
        lab.operate(lambda op: operations.enable_client(op, "changing", enabled=True))
    lab.operate(lambda op: operations.update_client(op, "changing", {"orders": ["orders:read"]}))
    check_refused(lab.ask(party.assertion(), scope="orders:write"), "invalid_scope")
    update(strict_typ=True)
    refused(lab, party.headed(typ="JWT"), "assertion_type")
    update(signing_alg="PS256")
    refused(lab, party.assertion(), "assertion_algorithm")
    update(signing_alg=None, grant_types=())
    check_refused(lab.ask(party.assertion()), "unauthorized_client")


@pytest.mark.rule("AS-CA-24", "A17")
def test_a_scope_that_an_api_loses_is_gone(lab: Lab) -> None:
    """A scope taken from the API is gone from every client's next token."""
    lab.operate(lambda op: operations.add_api(op, "shrinking", "https://shrinking.example", ["s1", "s2"]))
    party = lab.add_client("shrunk", allow={"shrinking": ["s1", "s2"]})
    check_ok(lab.ask(party.assertion(), scope="s1 s2"))
    lab.operate(lambda op: operations.update_api(op, "shrinking", remove_scopes=("s2",)))
    check_refused(lab.ask(party.assertion(), scope="s1 s2"), "invalid_scope")
    check_ok(lab.ask(party.assertion(), scope="s1"))


@pytest.mark.rule("AS-CA-20")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "Ed25519", "RS256", "PS256"])
def test_unknown_clients_are_checked_against_a_decoy(lab: Lab, alg: str) -> None:
    """An unknown client's signature is really computed, whatever its algorithm, and refused like any other."""
    key = private_key(RSA_PAIR, alg) if alg in ("RS256", "PS256") else generate_private_key(alg)
    refused(lab, Party("nobody", key).assertion(), "client_unknown")
    check_ec(lab.post(base(Party("nobody", key).assertion()), FORM))
