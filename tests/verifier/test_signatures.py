"""The envelope and signature of access tokens, each with one fault, against keys from the wire (RFC 7515, RFC 8725)."""

import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode, generate_private_key
from groat.verifier import InvalidToken, Verifier
from tests.verifier.issuer import Issuer, json_answer, serving
from tests.verifier.tokens import ABSENT, claims, refused, segment, signed

ES256: Final = generate_private_key("ES256")
ES384: Final = generate_private_key("ES384")
PS256: Final = generate_private_key("PS256", 2048)
RS256: Final = generate_private_key("RS256", 2048)
ED25519: Final = generate_private_key("Ed25519")
CLIENT_KEY: Final = generate_private_key("ES256")  # a registered client's: no key of the issuer


@pytest.fixture(scope="module")
def served() -> Iterator[Issuer]:
    with serving() as running:
        running.keys = [ES384, PS256, RS256, ED25519, ES256]
        yield running


@pytest.fixture(scope="module")
def verifier(served: Issuer) -> Verifier:
    return served.verifier(algorithms=("ES256", "PS256", "Ed25519", "RS256"))


def head(**changes: Any) -> dict[str, Any]:
    members = {"alg": "ES256", "kid": ES256.kid, "typ": "at+jwt", **changes}
    return {name: value for name, value in members.items() if value is not ABSENT}


@pytest.mark.rule("RS-15", "JOSE-06", "JOSE-15", "JOSE-16", "JOSE-17")
@pytest.mark.parametrize("key", [ES256, PS256, RS256, ED25519], ids=lambda key: key.algorithm)
def test_every_allowed_algorithm(served: Issuer, verifier: Verifier, key: PrivateKey) -> None:
    """Each algorithm of the default list is accepted from its own key."""
    caller = verifier.verify(served.token(key))
    assert (caller.client_id, caller.subject, caller.scopes) == ("billing", "billing", frozenset({"orders:read"}))


@pytest.mark.rule("JOSE-17")
def test_eddsa_is_the_old_name_of_ed25519(served: Issuer, verifier: Verifier) -> None:
    """A server that still writes EdDSA is understood."""
    token = signed(claims(served.url), ED25519, header=head(alg="EdDSA", kid=ED25519.kid))
    assert verifier.verify(token).client_id == "billing"


@pytest.mark.rule("RS-15", "JOSE-07", "R01")
def test_algorithm_outside_the_allow_list(served: Issuer, verifier: Verifier) -> None:
    """A published key does not make its algorithm acceptable."""
    with refused("algorithm"):
        verifier.verify(served.token(ES384))
    with refused("algorithm"):
        served.verifier(algorithms=["PS256"]).verify(served.token())


def none_tokens() -> Iterator[Any]:
    for alg in ("none", "None", "NONE", "nOnE"):
        for kind, signature in (("empty", b""), ("random", b"x" * 64)):
            yield pytest.param({"alg": alg}, signature, id=f"{alg}-{kind}")


@pytest.mark.rule("R01", "JOSE-06", "A01")
@pytest.mark.parametrize(("change", "signature"), list(none_tokens()))
def test_alg_none(served: Issuer, verifier: Verifier, change: dict[str, Any], signature: bytes) -> None:
    """none in any spelling, with any signature, never proves anything."""
    data = segment(head(**change)) + b"." + segment(claims(served.url))
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(data + b"." + base64url_encode(signature))
    assert caught.value.reason in ("algorithm", "malformed")


@pytest.mark.rule("R01", "R02", "JOSE-06", "JOSE-17")
@pytest.mark.parametrize(
    "alg",
    [
        ABSENT,
        None,
        "",
        1,
        ["ES256"],
        "rs256",
        "es256",
        "ES256 ",
        "ES256\x00",
        "ＥＳ256",
        "ES256K",
        "ESP256",
        "HS256",
        "HS384",
        "HS512",
        "RSA-OAEP",
        "dir",
        "A128GCM",
    ],
    ids=ascii,
)
def test_strange_alg(served: Issuer, verifier: Verifier, alg: Any) -> None:
    """alg is compared letter by letter with the table, whatever the signature is worth."""
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(signed(claims(served.url), ES256, header=head(alg=alg)))
    assert caught.value.reason in ("algorithm", "malformed")


def public_bytes(key: PrivateKey) -> Iterator[bytes]:
    native = key.public.native
    spki, pkcs1 = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        yield native.public_bytes(encoding, spki)
        if key.algorithm in ("RS256", "PS256"):
            yield native.public_bytes(encoding, pkcs1)
    document = dict(key.public.jwk)
    yield json.dumps(document).encode()
    yield json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    yield json.dumps({"keys": [document]}, indent=2).encode()
    yield key.kid.encode()
    yield b""


@pytest.mark.rule("R03", "JOSE-07", "A03")
@pytest.mark.parametrize("key", [RS256, ES256], ids=lambda key: key.algorithm)
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_public_key_as_hmac_secret(served: Issuer, verifier: Verifier, key: PrivateKey, digest: str) -> None:
    """A MAC keyed with anything public is refused for its algorithm alone."""
    for secret in public_bytes(key):
        data = segment(head(alg=f"HS{digest[3:]}", kid=key.kid)) + b"." + segment(claims(served.url))
        mac = hmac.new(secret, data, digest).digest()
        with refused("algorithm"):
            verifier.verify(data + b"." + base64url_encode(mac))


@pytest.mark.rule("R04", "JOSE-07", "JOSE-13", "KEY-13")
@pytest.mark.parametrize(
    ("key", "header", "reason"),
    [
        pytest.param(PS256, head(alg="RS256", kid=PS256.kid), "algorithm", id="RS256 by a PS256 key"),
        pytest.param(RS256, head(alg="PS256", kid=RS256.kid), "algorithm", id="PS256 by an RS256 key"),
        pytest.param(ES384, head(alg="ES256", kid=ES384.kid), "algorithm", id="ES256 by a P-384 key"),
        pytest.param(ES256, head(alg="RS256"), "algorithm", id="RS256 by an EC key"),
        pytest.param(ES256, head(alg="EdDSA"), "algorithm", id="EdDSA by an EC key"),
        pytest.param(CLIENT_KEY, head(kid=CLIENT_KEY.kid), "key_unknown", id="a client's key by its own kid (DEMO-01)"),
        pytest.param(CLIENT_KEY, head(), "signature", id="a client's key under the issuer's kid"),
        pytest.param(CLIENT_KEY, head(kid=ABSENT), "signature", id="a client's key without kid"),
    ],
)
@pytest.mark.rule("DEMO-01")
def test_wrong_key(served: Issuer, verifier: Verifier, key: PrivateKey, header: dict[str, Any], reason: str) -> None:
    """Only the issuer's own key, under its own algorithm, proves a token."""
    with refused(reason):
        verifier.verify(signed(claims(served.url), key, header=header))


@pytest.mark.rule("R05", "JOSE-11", "A05")
@pytest.mark.parametrize("with_kid", [True, False], ids=["real kid", "own kid"])
@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "x5t#S256"])
def test_header_supplies_no_key(served: Issuer, verifier: Verifier, member: str, with_kid: bool) -> None:
    """Keys and addresses in the header are ignored; nobody is called."""
    with serving() as evil:
        evil.spoil("/evil", json_answer({"keys": [dict(CLIENT_KEY.public.jwk)]}))
        url = evil.origin + "/evil"
        value = {"jwk": dict(CLIENT_KEY.public.jwk), "x5c": ["AAAA"], "x5t#S256": "AAAA"}.get(member, url)
        header = head(kid=ES256.kid if with_kid else CLIENT_KEY.kid, **{member: value})
        with refused("signature" if with_kid else "key_unknown"):
            verifier.verify(signed(claims(served.url), CLIENT_KEY, header=header))
        assert evil.requests.total() == 0
    header = head(**{member: value})
    assert verifier.verify(signed(claims(served.url), ES256, header=header)).client_id == "billing"


@pytest.mark.rule("R06", "JOSE-12", "A06")
@pytest.mark.parametrize(
    "kid",
    [
        7,
        None,
        "",
        ["a"],
        "x" * 257,
        "x" * 4000,
        "../../dev/null",
        "/dev/null",
        "' OR 1=1--",
        "|sleep 10",
        "\x00",
        "a\nb",
        "https://evil.example/key",
        "\u2028",
    ],
    ids=lambda kid: ascii(kid)[:20],
)
def test_strange_kid(served: Issuer, verifier: Verifier, kid: Any) -> None:
    """A kid is a name in the issuer's set and nothing else; strange ones are refused without side effects."""
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(signed(claims(served.url), ES256, header=head(kid=kid)))
    assert caught.value.reason in ("malformed", "key_unknown")
    assert "\n" not in caught.value.hint
    assert "\x00" not in caught.value.hint


ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


@pytest.mark.rule("R07", "JOSE-15", "A07")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: b"", id="empty"),
        pytest.param(lambda s: bytes(64), id="zero"),
        pytest.param(lambda s: ORDER.to_bytes(32, "big") + s[32:], id="r=n"),
        pytest.param(lambda s: s[:32] + ORDER.to_bytes(32, "big"), id="s=n"),
        pytest.param(der, id="DER"),
        pytest.param(lambda s: s[:-1], id="one byte short"),
        pytest.param(lambda s: s + b"\0", id="one byte long"),
        pytest.param(lambda s: s[32:] + s[:32], id="halves swapped"),
        pytest.param(lambda s: bytes([s[0] ^ 1]) + s[1:], id="one bit"),
    ],
)
def test_spoilt_signature(served: Issuer, verifier: Verifier, change: Callable[[bytes], bytes]) -> None:
    """Every byte of the signature counts."""
    data, _, signature = served.token().rpartition(".")
    spoilt = base64url_encode(change(base64url_decode(signature))).decode()
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(f"{data}.{spoilt}")
    assert caught.value.reason in ("signature", "malformed")


@pytest.mark.rule("JOSE-16")
@pytest.mark.parametrize(("salt", "accepted"), [(32, True), (0, False), (222, False)])
def test_pss_salt(served: Issuer, verifier: Verifier, salt: int, accepted: bool) -> None:
    """PS256 has a salt as long as its hash."""
    data = segment(head(alg="PS256", kid=PS256.kid)) + b"." + segment(claims(served.url))
    signature = PS256.native.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    token = data + b"." + base64url_encode(signature)
    if accepted:
        assert verifier.verify(token).client_id == "billing"
        return
    with refused("signature"):
        verifier.verify(token)


def padded(token: str) -> str:
    return token + "=="


def flip_unused_bits(token: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


@pytest.mark.rule("R07", "R08", "JOSE-01", "JOSE-02", "A08", "R09")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(padded, id="padding"),
        pytest.param(flip_unused_bits, id="unused bits"),
        pytest.param(lambda t: t.replace("-", "+").replace("_", "/") + "+", id="other alphabet"),
        pytest.param(lambda t: t + "!", id="foreign character"),
        pytest.param(lambda t: t + "\n", id="newline"),
        pytest.param(lambda t: " " + t, id="space"),
        pytest.param(lambda t: "Bearer " + t, id="scheme"),
        pytest.param(lambda t: t.replace(".", "%2E"), id="encoded dots"),
        pytest.param(lambda t: "\ufeff" + t, id="BOM"),
        pytest.param(lambda t: t + "\u00e9", id="not ASCII"),
        pytest.param(lambda t: t + "\ud800", id="lone surrogate"),
        pytest.param(lambda t: t.partition(".")[0], id="1 part"),
        pytest.param(lambda t: t.rpartition(".")[0], id="2 parts"),
        pytest.param(lambda t: t + ".AAAA", id="4 parts"),
        pytest.param(lambda t: t + ".AAAA.AAAA", id="5 parts, as a JWE"),
        pytest.param(lambda t: t + "." + t, id="two tokens"),
        pytest.param(lambda t: "." + t, id="leading dot"),
        pytest.param(lambda t: t + ".", id="trailing dot"),
        pytest.param(lambda t: "." * 100_000, id="100 k dots"),
        pytest.param(lambda t: "A" * 9000 + t, id="9 kB"),
        pytest.param(lambda t: "", id="empty"),
        pytest.param(lambda t: json.dumps({"payload": t.split(".")[1], "signature": t.split(".")[2]}), id="JSON"),
    ],
)
def test_not_a_compact_jws(served: Issuer, verifier: Verifier, change: Callable[[str], str]) -> None:
    """There is one spelling of a token, with no byte to spare; the cache in front does not change that."""
    token = served.token()
    cached = served.verifier(cache_size=10)
    cached.verify(token)
    for judge in (verifier, cached):
        with pytest.raises(InvalidToken) as caught:
            judge.verify(change(token))
        assert caught.value.reason in ("malformed", "signature")


@pytest.mark.rule("R09", "JOSE-25")
@pytest.mark.parametrize("members", [{"alg": "dir", "enc": "A128GCM"}, {"enc": "A256GCM"}, {"zip": "DEF"}, {"epk": {}}])
def test_encrypted_forms(served: Issuer, verifier: Verifier, members: dict[str, Any]) -> None:
    """Nothing that belongs to JWE is understood, at no cost in key operations."""
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(signed(claims(served.url), ES256, header=head(**members)))
    assert caught.value.reason in ("malformed", "algorithm")


@pytest.mark.rule("R10", "JOSE-08", "JOSE-09", "A10")
@pytest.mark.parametrize(
    "members",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"crit": ["bork"], "bork": 1},
        {"crit": []},
        {"crit": "x"},
        {"crit": ["alg", "alg"]},
        {"cty": "JWT"},
        {"cty": "application/jwt"},
    ],
    ids=json.dumps,
)
def test_header_members_that_change_the_reading(served: Issuer, verifier: Verifier, members: dict[str, Any]) -> None:
    """Extensions that we do not understand are refused, not ignored."""
    with refused("malformed"):
        verifier.verify(signed(claims(served.url), ES256, header=head(**members)))


@pytest.mark.rule("JOSE-10")
def test_unknown_members_are_ignored(served: Issuer, verifier: Verifier) -> None:
    """Other header members and claims do no harm."""
    token = signed(claims(served.url, foo={"bar": [1]}), ES256, header=head(**{"x-foo": 1}))
    assert verifier.verify(token).claims["foo"] == {"bar": [1]}
