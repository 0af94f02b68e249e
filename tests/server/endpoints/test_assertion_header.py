"""A01 to A06, A10, A16: algorithms, keys and types that an assertion names."""

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from groat.keys.files import public_key_pem
from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import (
    PrivateKey,
    base64url_decode,
    decoy_key,
    generate_private_key,
    private_key,
)
from groat.server import operations
from tests.proofs import proof
from tests.server.assertions import B64, RSA_PAIR, refused, server_key
from tests.server.builders import ABSENT, ISS, NOW, TE, TYP, Party, base, compact, segment
from tests.server.lab import DEFAULTS, Lab
from tests.server.wire import FORM, check_ec, check_ok

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
    check_ok(lab.post(base(lab.party.assertion()), FORM, ("DPoP", proof(TE, NOW))))
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
    server = server_key(lab)
    for signer in (other.key, server):
        for kid in (signer.kid, lab.party.key.kid, ABSENT):
            check_ec(lab.ask(compact(lab.party.header(kid=kid), lab.party.claims(), signer)))
    header = {**lab.party.header(), "kid": decoy_key("ES256").kid}
    check_ec(lab.ask(compact(header, lab.party.claims(), generate_private_key("ES256"))))


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
    server = server_key(lab)
    check_ec(lab.ask(jose.sign_jwt(claims, server, TYP)))
    check_ec(lab.ask(jose.sign_jwt(claims, server, "at+jwt")))
    proof = compact({**other.header(typ="dpop+jwt"), "jwk": dict(other.key.public.jwk)}, other.claims(), other.key)
    check_ec(lab.ask(proof))
