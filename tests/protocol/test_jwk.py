"""Keys: which ones are acceptable, for which one algorithm, under which name."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from groat.protocol import jwk as jwk_module
from groat.protocol.errors import JoseError
from groat.protocol.jwk import (
    ALGORITHMS,
    HELD,
    PRIVATE_MEMBERS,
    KeyPair,
    PrivateKey,
    base64url_decode,
    base64url_encode,
    decoy_key,
    generate_private_key,
    import_private_jwk,
    import_public_jwk,
    printable,
    private_key,
)
from groat.protocol.key_set import MAX_KEYS_IN_SET, check_unique_kids, import_key_set, public_key_set, read_key_set

from .builders import ABSENT, AS_KEY, CLIENT_KEY, KEYS, OTHER_KEY, changed, jose_refused
from .test_signatures import VECTORS

PUBLIC: dict[str, dict[str, Any]] = {name: dict(key.public.jwk) for name, key in KEYS.items()}
SIZES = {"ES256": 32, "ES384": 48, "ES512": 66, "Ed25519": 32}


def _b64(raw: bytes) -> str:
    return base64url_encode(raw).decode()


def _number(value: int) -> str:
    return _b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _spoilt(name: str, **changes: Any) -> dict[str, Any]:
    return changed(PUBLIC[name], changes)


def _edit(name: str, member: str, change: Callable[[bytes], bytes]) -> dict[str, Any]:
    return _spoilt(name, **{member: _b64(change(base64url_decode(PUBLIC[name][member])))})


def _flip_last(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


DEFECTS: dict[str, dict[str, Any]] = {
    "no kty": _spoilt("ES256", kty=ABSENT),
    "kty oct": {"kty": "oct", "alg": "HS256"},
    "kty AKP": _spoilt("ES256", kty="AKP"),
    "kty lower case": _spoilt("ES256", kty="ec"),
    "kty list": _spoilt("ES256", kty=["EC"]),
    "kty null": _spoilt("ES256", kty=None),
    "kty RSA on an EC key": _spoilt("ES256", kty="RSA", alg=ABSENT),
    "kty OKP on an EC key": _spoilt("ES256", kty="OKP", alg=ABSENT),
    "kty EC on an Ed25519 key": _spoilt("Ed25519", kty="EC", alg=ABSENT),
    "no crv": _spoilt("ES256", crv=ABSENT),
    "crv secp256k1": _spoilt("ES256", crv="secp256k1"),
    "crv P-384 for a P-256 point": _spoilt("ES256", crv="P-384", alg=ABSENT),
    "crv Ed448": {"kty": "OKP", "crv": "Ed448", "x": _b64(bytes(57))},
    "crv Ed448, 32 bytes": _spoilt("Ed25519", crv="Ed448", alg=ABSENT),
    "crv X25519": _spoilt("Ed25519", crv="X25519", alg=ABSENT),
    "crv number": _spoilt("ES256", crv=5),
    "crv list": _spoilt("ES256", crv=["P-256"]),
    "no x": _spoilt("ES256", x=ABSENT),
    "no y": _spoilt("ES256", y=ABSENT),
    "Ed25519 without x": _spoilt("Ed25519", x=ABSENT),
    "off-curve y": _edit("ES256", "y", _flip_last),
    "off-curve x": _edit("ES384", "x", _flip_last),
    "point at zero": _spoilt("ES256", x=_b64(bytes(32)), y=_b64(bytes(32))),
    "coordinates over the field": _spoilt("ES256", x=_b64(b"\xff" * 32), y=_b64(b"\xff" * 32)),
    "x a byte short": _edit("ES256", "x", lambda raw: raw[1:]),
    "x a byte long": _edit("ES256", "x", lambda raw: b"\0" + raw),
    "y empty": _spoilt("ES512", y=""),
    "Ed25519 x 31 bytes": _edit("Ed25519", "x", lambda raw: raw[1:]),
    "Ed25519 x 33 bytes": _edit("Ed25519", "x", lambda raw: raw + b"\0"),
    "x a number": _spoilt("ES256", x=7),
    "x null": _spoilt("ES256", x=None),
    "n a list": _spoilt("RS256", n=["AQAB"]),
    "no n": _spoilt("RS256", n=ABSENT),
    "no e": _spoilt("RS256", e=ABSENT),
    "n with a leading zero": _edit("RS256", "n", lambda raw: b"\0" + raw),
    "e with a leading zero": _spoilt("RS256", e="AAEAAQ"),
    "n empty": _spoilt("RS256", n=""),
    "e empty": _spoilt("RS256", e=""),
    "n of 1024 bits": _spoilt("RS256", n=_number((1 << 1024) - 109)),
    "n of 2047 bits": _spoilt("RS256", n=_number((1 << 2047) - 19)),
    "n of 8200 bits": _spoilt("RS256", n=_number((1 << 8200) - 1)),
    "n even": _edit("RS256", "n", lambda raw: raw[:-1] + b"\x02"),
    "e 1": _spoilt("RS256", e="AQ"),
    "e 2": _spoilt("RS256", e="Ag"),
    "e even": _spoilt("RS256", e=_number(65536)),
    "e huge": _spoilt("RS256", e=_number((1 << 65) + 1)),
    "alg RS256 on an EC key": _spoilt("ES256", alg="RS256"),
    "alg ES384 on P-256": _spoilt("ES256", alg="ES384"),
    "alg EdDSA on an EC key": _spoilt("ES256", alg="EdDSA"),
    "alg ES256 on an RSA key": _spoilt("RS256", alg="ES256"),
    "alg ESP256": _spoilt("ES256", alg="ESP256"),
    "alg none": _spoilt("ES256", alg="none"),
    "alg HS256": _spoilt("RS256", alg="HS256"),
    "alg lower case": _spoilt("ES256", alg="es256"),
    "alg list": _spoilt("ES256", alg=["ES256"]),
    "alg RSA-OAEP": _spoilt("RS256", alg="RSA-OAEP"),
    "use enc": _spoilt("ES256", use="enc"),
    "use in capitals": _spoilt("ES256", use="SIG"),
    "key_ops encrypt": _spoilt("RS256", key_ops=["encrypt"]),
    "key_ops sign only": _spoilt("ES256", key_ops=["sign"]),
    "key_ops against use": _spoilt("RS256", use="sig", key_ops=["verify", "encrypt"]),
    "key_ops empty": _spoilt("ES256", key_ops=[]),
    "key_ops string": _spoilt("ES256", key_ops="verify"),
    "key_ops of a list": _spoilt("ES256", key_ops=["verify", ["verify"]]),
    "kid number": _spoilt("ES256", kid=7),
    "kid empty": _spoilt("ES256", kid=""),
    "kid of 257 characters": _spoilt("ES256", kid="k" * 257),
    "kid with a newline": _spoilt("ES256", kid="a\nb"),
    "kid with a NUL": _spoilt("ES256", kid="a\0"),
}
BAD_BASE64 = {
    "padding": _spoilt("ES256", x=PUBLIC["ES256"]["x"] + "="),
    "standard alphabet": _spoilt("ES256", x="+/" + PUBLIC["ES256"]["x"][2:]),
    "whitespace": _spoilt("ES256", x=" " + PUBLIC["ES256"]["x"]),
    "unused bits": _spoilt("ES256", x=PUBLIC["ES256"]["x"][:-1] + "B"),
    "non-ASCII": _spoilt("ES256", x="é" + PUBLIC["ES256"]["x"][1:]),
    "n not base64url": _spoilt("RS256", n="*" + PUBLIC["RS256"]["n"][1:]),
}

# joserfc warns of small RSA keys, and warnings are errors in this suite: the refusal under test is our own.
pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")


@pytest.mark.rule("KEY-02", "KEY-03", "KEY-05", "KEY-15", "KEY-16", "JOSE-17", "K03")
@pytest.mark.parametrize("jwk", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defective_key_is_refused(jwk: dict[str, Any]) -> None:
    """Each defect alone keeps a key out."""
    with jose_refused("key"):
        import_public_jwk(jwk)


@pytest.mark.rule("KEY-15", "JOSE-02")
@pytest.mark.parametrize("jwk", BAD_BASE64.values(), ids=BAD_BASE64.keys())
def test_key_members_are_strict_base64url(jwk: dict[str, Any]) -> None:
    """A second spelling of a coordinate is refused."""
    with pytest.raises(JoseError):
        import_public_jwk(jwk)


@pytest.mark.rule("KEY-12", "KEY-17", "K01")
@pytest.mark.parametrize("member", sorted(PRIVATE_MEMBERS))
@pytest.mark.parametrize("name", ["ES256", "Ed25519", "RS256"])
def test_a_private_member_keeps_a_key_out(name: str, member: str) -> None:
    """A JWK that shows any private member is refused, and the value is not repeated."""
    with pytest.raises(JoseError) as caught:
        import_public_jwk({**PUBLIC[name], member: "c2VjcmV0"})
    assert caught.value.reason == "key"
    assert "c2VjcmV0" not in str(caught.value) + caught.value.hint


@pytest.mark.rule("KEY-17")
@pytest.mark.parametrize("name", KEYS)
def test_a_whole_private_jwk_is_no_public_one(name: str) -> None:
    """Handing over the private file by mistake is noticed."""
    with jose_refused("key"):
        import_public_jwk(KEYS[name].private_jwk())


@pytest.mark.rule("KEY-03", "KEY-04", "KEY-12", "KEY-15")
@pytest.mark.parametrize("name", KEYS)
def test_a_good_key_comes_back_as_it_is(name: str) -> None:
    """Import and export keep the members, add nothing private, and bind one algorithm."""
    key = import_public_jwk(PUBLIC[name])
    assert dict(key.jwk) == PUBLIC[name]
    assert key.algorithms == {name}
    assert key.algorithm == name
    assert not PRIVATE_MEMBERS & key.jwk.keys()
    assert {"kty", "kid", "use", "alg"} <= key.jwk.keys()
    assert key.jwk["use"] == "sig"


@pytest.mark.rule("KEY-04", "JOSE-17")
def test_eddsa_in_a_jwk_means_ed25519() -> None:
    """The old alg name is read as the new one."""
    assert import_public_jwk(_spoilt("Ed25519", alg="EdDSA")).algorithms == {"Ed25519"}
    key = generate_private_key("EdDSA")
    assert (key.algorithm, key.public.jwk["crv"], key.public.jwk["kty"]) == ("Ed25519", "Ed25519", "OKP")
    assert len(base64url_decode(key.public.jwk["x"])) == 32


@pytest.mark.rule("KEY-13", "KEY-15", "K02")
def test_without_alg_the_kind_of_key_decides() -> None:
    """A curve has one algorithm; an RSA key that declares none fits all six, and never an EC one."""
    assert import_public_jwk(_spoilt("ES384", alg=ABSENT)).algorithms == {"ES384"}
    undeclared = import_public_jwk(_spoilt("RS256", alg=ABSENT))
    assert undeclared.algorithms == {name for name, known in ALGORITHMS.items() if known.key_type == "RSA"}
    assert "alg" not in undeclared.jwk


@pytest.mark.rule("KEY-15", "KEY-16")
@pytest.mark.parametrize(
    "jwk",
    [
        _spoilt("ES256", use=ABSENT),
        _spoilt("ES256", key_ops=["verify"]),
        _spoilt("ES256", key_ops=["sign", "verify"], use=ABSENT),
        _spoilt("ES256", foo={"bar": 1}, x5c=["AAAA"], x5t="AA"),
        _spoilt("RS256", e="Aw"),
        _spoilt("ES256", kid="k" * 256),
        _spoilt("ES256", kid="schlüssel 1"),
    ],
)
def test_harmless_differences_are_accepted(jwk: dict[str, Any]) -> None:
    """Members that say no more than the default, and unknown ones, do not matter."""
    assert import_public_jwk(jwk).jwk["use"] == "sig"


NULLS: dict[str, dict[str, Any]] = {
    **{name: {name: None} for name in ("use", "alg", "key_ops", "kid", "x5c", "x5t", "x5u", "foo", "d", "k", "oth")},
    "as .NET writes it": dict.fromkeys(("alg", "d", "dp", "dq", "e", "k", "keyOps", "kid", "n", "oth", "p", "q", "qi")),
}


@pytest.mark.rule("FO-16", "KEY-15")
@pytest.mark.parametrize("nulls", NULLS.values(), ids=NULLS.keys())
def test_null_is_absent(nulls: dict[str, Any]) -> None:
    """A member that is null is one that is not there: for a key alone, in a set, and for its private half."""
    written, bare = {**PUBLIC["ES256"], **nulls}, changed(PUBLIC["ES256"], dict.fromkeys(nulls, ABSENT))
    assert import_public_jwk(written) == import_public_jwk(bare)
    assert read_key_set({"keys": [written, {"kty": "oct", "k": None}]}).keys == (import_public_jwk(bare),)
    if "d" not in nulls:
        pair = import_private_jwk({**CLIENT_KEY.private_jwk(), **nulls})
        assert pair.public.thumbprint == CLIENT_KEY.public.thumbprint


@pytest.mark.rule("FO-16", "KEY-13")
def test_a_null_alg_is_filled_in() -> None:
    """The algorithm given beside an RSA JWK counts where its own is null; what is required stays required."""
    assert import_private_jwk({**KEYS["RS256"].private_jwk(), "alg": None}, "PS384").algorithm == "PS384"
    for name in ("kty", "crv", "x", "y"):
        with jose_refused("key"):
            import_public_jwk({**PUBLIC["ES256"], name: None})


@pytest.mark.rule("FO-18", "KEY-15")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use": "enc"}, "use must be sig, and is enc"),
        ({"use": "SIG"}, "use must be sig, and is SIG"),
        ({"use": ""}, 'use must be sig, and is ""'),
        ({"use": "e\u202en\x1b[1m"}, r"use must be sig, and is e\u202en\x1b[1m"),
        ({"key_ops": []}, "key_ops must allow verify and agree with use, and is []"),
        ({"key_ops": ["sign"]}, "key_ops must allow verify and agree with use, and is ['sign']"),
        ({"alg": "ES512"}, "alg ES512 is unknown or does not fit kty and crv"),
        ({"alg": 7}, "alg 7 is unknown or does not fit kty and crv"),
        ({"kty": "oct"}, "kty must be RSA, EC or OKP, and is oct"),
        ({"kty": None}, "kty must be RSA, EC or OKP, and is missing"),
        ({"crv": "secp256k1"}, "crv must be P-256, P-384, P-521 or Ed25519, and is secp256k1"),
        ({"crv": None}, "crv must be P-256, P-384, P-521 or Ed25519, and is missing"),
        ({"x": _b64(bytes(31))}, "member x must be 32 bytes long, and is 31"),
        ({"x": 5}, "member x must be a string"),
        ({"y": "*"}, "member y: base64url holds a foreign character"),
        ({"kid": ""}, "kid must be a printable string of 1 to 256 characters"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(change: dict[str, Any], words: str) -> None:
    """The member, what it is and what it should be: printable, whether the key stands alone or in a set."""
    jwk = {**PUBLIC["ES256"], **change}
    with pytest.raises(JoseError) as caught:
        import_public_jwk(jwk)
    assert caught.value.hint == words
    (skipped,) = read_key_set({"keys": [jwk, PUBLIC["Ed25519"]]}).skipped
    assert (skipped.kid, skipped.why) == (jwk["kid"], words)


@pytest.mark.rule("KEY-10", "KEY-11")
@pytest.mark.parametrize("vector", VECTORS["thumbprints"], ids=lambda v: v["source"])
def test_published_thumbprints(vector: dict[str, Any]) -> None:
    """The thumbprint is that of the RFC, whatever else the JWK says and in whatever order; it is the default kid."""
    assert import_public_jwk(vector["jwk"]).thumbprint == vector["thumbprint"]
    noisy = dict(reversed([*vector["jwk"].items(), ("use", "sig"), ("kid", "mine"), ("foo", 1)]))
    assert import_public_jwk(noisy).thumbprint == vector["thumbprint"]
    assert import_public_jwk(vector["jwk"]).kid == vector["thumbprint"]
    assert import_public_jwk(noisy).kid == "mine"


@pytest.mark.rule("KEY-10")
def test_the_kid_may_be_demanded() -> None:
    """Where a kid is required, its absence is a defect."""
    with jose_refused("key"):
        import_public_jwk(_spoilt("ES256", kid=ABSENT), kid_required=True)
    assert import_public_jwk(PUBLIC["ES256"], kid_required=True).kid == CLIENT_KEY.kid


@pytest.mark.rule("KEY-03", "KEY-05")
@pytest.mark.parametrize("name", ["ES256", "ES384", "ES512"])
def test_coordinates_keep_their_leading_zeros(name: str) -> None:
    """A point whose x is small is still written at full length, and read back."""
    for _ in range(3000):
        key = generate_private_key(name)
        raw = base64url_decode(key.public.jwk["x"])
        assert len(raw) == len(base64url_decode(key.public.jwk["y"])) == SIZES[name]
        assert len(base64url_decode(key.private_jwk()["d"])) == SIZES[name]
        if raw[0] == 0:
            break
    else:
        pytest.fail("no small x in 3000 keys")
    assert import_public_jwk(key.public.jwk).thumbprint == key.public.thumbprint


@pytest.mark.rule("KEY-02", "KEY-05")
def test_rsa_keys_are_generated_large_enough() -> None:
    """The default is 3072 bits with exponent 65537 and no leading zero byte; under 2048 nothing is made."""
    key = generate_private_key("PS256")
    n = base64url_decode(key.public.jwk["n"])
    assert (len(n), key.public.jwk["e"]) == (384, "AQAB")
    assert n[0] != 0
    for bits in (0, 512, 1024, 2047, 8193, 1 << 20):
        with jose_refused("key"):
            generate_private_key("PS256", bits)


@pytest.mark.rule("KEY-13", "JOSE-17")
@pytest.mark.parametrize("name", ["none", "HS256", "ESP256", "es256", "", "RSA"])
def test_unknown_algorithms_have_no_keys(name: str) -> None:
    """Only names of the table make or bind a key."""
    with jose_refused("key"):
        generate_private_key(name)
    with jose_refused("key"):
        private_key(CLIENT_KEY.key, name)


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize(
    ("pair", "name"),
    [
        (CLIENT_KEY.key, "ES384"),
        (CLIENT_KEY.key, "RS256"),
        (KEYS["RS256"].key, "ES256"),
        (KEYS["Ed25519"].key, "ES256"),
        (ECKey.generate_key("secp256k1"), "ES256"),
        (OKPKey.generate_key("Ed448"), "EdDSA"),
        (OKPKey.generate_key("X25519"), "Ed25519"),
    ],
)
def test_a_pair_is_bound_only_to_what_fits(pair: KeyPair, name: str) -> None:
    """Curve, type and size are checked also where a pair comes from elsewhere."""
    with jose_refused("key"):
        private_key(pair, name)


@pytest.mark.rule("KEY-02", "KEY-13")
def test_a_small_rsa_pair_is_not_bound() -> None:
    """A pair that was made elsewhere with 1024 bits signs nothing here."""
    with jose_refused("key"):
        private_key(RSAKey.generate_key(1024), "RS256")


@pytest.mark.rule("KEY-06", "KEY-13")
@pytest.mark.parametrize("name", KEYS)
def test_private_jwks_go_there_and_back(name: str) -> None:
    """The private JWK describes the same key as the public one and keeps kid, use and alg."""
    key = KEYS[name]
    written = json.loads(json.dumps(key.private_jwk()))
    again = import_private_jwk(written)
    assert again.public.jwk == key.public.jwk
    assert again.kid == key.kid
    assert (again.algorithm, written["alg"], written["use"]) == (name, name, "sig")
    assert again.private_jwk() == key.private_jwk()


PRIVATE_DEFECTS: dict[str, dict[str, Any]] = {
    "public only": PUBLIC["ES256"],
    "use enc": {**CLIENT_KEY.private_jwk(), "use": "enc"},
    "key_ops verify only": {**CLIENT_KEY.private_jwk(), "key_ops": ["verify"]},
    "RSA without alg": changed(KEYS["RS256"].private_jwk(), {"alg": ABSENT}),
    "d of another key": {**CLIENT_KEY.private_jwk(), "d": OTHER_KEY.private_jwk()["d"]},
    "d zero": {**CLIENT_KEY.private_jwk(), "d": _b64(bytes(32))},
    "d short": {**CLIENT_KEY.private_jwk(), "d": _b64(b"\x01" * 31)},
    "d null": {**CLIENT_KEY.private_jwk(), "d": None},
    "RSA p changed": {**KEYS["RS256"].private_jwk(), "p": KEYS["RS256"].private_jwk()["q"]},
    "RSA q missing": changed(KEYS["RS256"].private_jwk(), {"q": ABSENT}),
    "RSA d changed": {**KEYS["RS256"].private_jwk(), "d": KEYS["RS256"].private_jwk()["n"]},
    "Ed25519 x of another key": {**KEYS["Ed25519"].private_jwk(), "x": generate_private_key("Ed25519").public.jwk["x"]},
    "Ed25519 d short": {**KEYS["Ed25519"].private_jwk(), "d": _b64(b"\x01" * 31)},
    "alg of another kind": {**CLIENT_KEY.private_jwk(), "alg": "RS256"},
    "kid number": {**CLIENT_KEY.private_jwk(), "kid": 1},
    "no kty": changed(CLIENT_KEY.private_jwk(), {"kty": ABSENT}),
}


@pytest.mark.rule("KEY-06", "KEY-13", "KEY-15")
@pytest.mark.parametrize("jwk", PRIVATE_DEFECTS.values(), ids=PRIVATE_DEFECTS.keys())
def test_a_defective_private_jwk_is_refused(jwk: dict[str, Any]) -> None:
    """A private half that is missing, broken or of another key is refused, and no error quotes it."""
    with pytest.raises(JoseError) as caught:
        import_private_jwk(jwk)
    assert caught.value.reason == "key"
    assert caught.value.__cause__ is None
    shown = str(caught.value) + caught.value.hint
    assert not any(isinstance(jwk.get(name), str) and jwk[name] in shown for name in PRIVATE_MEMBERS)


@pytest.mark.rule("KEY-13")
def test_the_algorithm_of_an_rsa_jwk_may_be_given_beside_it() -> None:
    """A given name fills in for a missing alg, and never overrides a declared one."""
    bare = changed(KEYS["RS256"].private_jwk(), {"alg": ABSENT})
    assert import_private_jwk(bare, "PS384").algorithm == "PS384"
    assert import_private_jwk(KEYS["RS256"].private_jwk(), "PS384").algorithm == "RS256"
    with jose_refused("key"):
        import_private_jwk(bare, "ES256")


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("name", KEYS)
def test_a_private_key_shows_nothing(name: str) -> None:
    """repr, str and format of a key pair hold no private member and no PEM."""
    key = KEYS[name]
    secret = [value for member, value in key.private_jwk().items() if member in PRIVATE_MEMBERS]
    shown = f"{key!r} {key} {key.key!r} {key.native!r} {vars(type(key))}"
    assert secret
    assert not any(value in shown for value in secret)
    assert "PRIVATE KEY" not in shown


@pytest.mark.rule("KEY-18", "K01", "K02", "K04")
@pytest.mark.parametrize("name", [n for n in DEFECTS if n != "kty oct"])
def test_an_unusable_key_in_a_set_is_skipped(name: str) -> None:
    """One bad entry, before or after, does not take the good one away."""
    good = PUBLIC["Ed25519"]
    for entries in ([DEFECTS[name], good], [good, DEFECTS[name]]):
        assert [key.kid for key in import_key_set({"keys": entries})] == [good["kid"]]


@pytest.mark.rule("KEY-18", "K04")
@pytest.mark.parametrize(
    "entry", [None, 1, "x", [], [{}], {}, {"kty": "XYZ"}, {"kty": "oct", "alg": "HS256"}], ids=repr
)
def test_entries_that_are_no_keys_are_skipped(entry: Any) -> None:
    """Foreign entries are not ours to judge."""
    assert len(import_key_set({"keys": [entry, PUBLIC["ES256"]]})) == 1


@pytest.mark.rule("KEY-17", "K01")
@pytest.mark.parametrize("member", sorted(PRIVATE_MEMBERS))
def test_a_set_with_private_members_is_refused_whole(member: str) -> None:
    """Whoever publishes a private key has lost the whole set; even on an entry that would be skipped."""
    for entry in ({**PUBLIC["ES256"], member: "AA"}, {"kty": "oct", member: "AA"}):
        with jose_refused("key"):
            import_key_set({"keys": [PUBLIC["Ed25519"], entry]})


@pytest.mark.rule("KEY-12", "K04")
@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, PUBLIC["ES256"]])
def test_a_document_without_keys_is_no_set(document: dict[str, Any]) -> None:
    """A JWKS has a keys array."""
    with jose_refused("key"):
        import_key_set(document)


@pytest.mark.rule("K04")
def test_sets_are_bounded() -> None:
    """No keys is a set; more than the bound is none, and is refused before any key is read."""
    assert import_key_set({"keys": []}) == ()
    assert import_key_set({"keys": [None] * MAX_KEYS_IN_SET}) == ()
    for size in (MAX_KEYS_IN_SET + 1, 10_000):
        with jose_refused("key"):
            import_key_set({"keys": [None] * size})


@pytest.mark.rule("KEY-10", "KEY-13", "AS-MD-16", "K05")
@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([PUBLIC["ES256"], _spoilt("Ed25519", kid=PUBLIC["ES256"]["kid"])], id="two keys, one kid"),
        pytest.param([PUBLIC["ES256"], _spoilt("ES256", kid="b")], id="one key under two kids"),
        pytest.param(
            [_spoilt("RS256", kid="a"), _spoilt("PS256", kid="b")],
            id="one modulus for two algorithms",
        ),
        pytest.param([PUBLIC["RS256"], _spoilt("RS256", alg=ABSENT)], id="one modulus with and without alg"),
        pytest.param(
            [PUBLIC["ES256"], _spoilt("Ed25519", kid=CLIENT_KEY.public.thumbprint)],
            id="a kid that is another key's thumbprint",
        ),
    ],
)
def test_a_set_names_each_key_once(keys: list[dict[str, Any]]) -> None:
    """One key, one kid, one algorithm."""
    with jose_refused("key"):
        import_key_set({"keys": keys})
    with jose_refused("key"):
        public_key_set([import_public_jwk(key) for key in keys])


@pytest.mark.rule("FO-17", "KEY-10")
@pytest.mark.parametrize(
    "again",
    [
        pytest.param(PUBLIC["RS256"], id="the same entry"),
        pytest.param(dict(reversed(PUBLIC["RS256"].items())), id="in another order"),
        pytest.param({**PUBLIC["RS256"], "x5c": ["AAAA"], "x5t": "AA"}, id="with a certificate"),
        pytest.param(_spoilt("RS256", use=ABSENT), id="without use"),
        pytest.param({**PUBLIC["RS256"], "key_ops": ["verify"]}, id="with key_ops"),
    ],
)
def test_an_entry_that_stands_twice_is_one(again: dict[str, Any]) -> None:
    """The same kid, key and algorithm contradict nobody, however often they are listed."""
    read = read_key_set({"keys": [PUBLIC["RS256"], PUBLIC["ES256"], again, again]})
    assert [key.kid for key in read.keys] == [PUBLIC["RS256"]["kid"], PUBLIC["ES256"]["kid"]]
    assert read.skipped == ()
    with jose_refused("key"):
        public_key_set([import_public_jwk(key) for key in (PUBLIC["RS256"], again)])


@pytest.mark.rule("KEY-12", "KEY-13", "AS-MD-13")
def test_a_written_set_is_public() -> None:
    """The JWKS holds every key once with kty, kid, use and alg, and no private member anywhere."""
    keys = [KEYS[name] for name in ("ES256", "ES384", "ES512", "Ed25519", "PS256")]
    document = json.loads(json.dumps(public_key_set(key.public for key in keys)))
    assert list(document) == ["keys"]
    assert [entry["kid"] for entry in document["keys"]] == [key.kid for key in keys]
    for entry in document["keys"]:
        assert {"kty", "kid", "use", "alg"} <= entry.keys()
        assert not PRIVATE_MEMBERS & entry.keys()
    assert [key.algorithm for key in import_key_set(document)] == [key.algorithm for key in keys]
    check_unique_kids([key.public for key in keys])


@pytest.mark.rule("AS-CA-20")
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_there_is_a_decoy_for_every_algorithm(name: str, bits: int) -> None:
    """A decoy is a sound public key of its kind and size, always the same, and none of ours."""
    decoy = decoy_key(name, bits)
    assert decoy is decoy_key(name, bits)
    assert not name.startswith(("RS", "PS")) or decoy.native.key_size == bits
    assert decoy.algorithms == {name}
    assert import_public_jwk(decoy.jwk).thumbprint == decoy.thumbprint
    assert decoy.thumbprint not in {key.public.thumbprint for key in (*KEYS.values(), AS_KEY, OTHER_KEY)}


@pytest.mark.rule("JOSE-12", "OPS-04")
@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "é\u202e", "x" * 500, "\ud800", "\0", "'\"\\"])
def test_foreign_text_is_made_printable(text: str) -> None:
    """One line, ASCII, bounded."""
    shown = printable(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 64 * 10


@pytest.mark.rule("KEY-12")
def test_published_members_cannot_be_changed() -> None:
    """A key that passed its checks stays as it was."""
    with pytest.raises(TypeError):
        CLIENT_KEY.public.jwk["kid"] = "x"  # type: ignore[index]
    with pytest.raises(AttributeError):
        CLIENT_KEY.public.kid = "x"  # type: ignore[misc]
    assert isinstance(CLIENT_KEY, PrivateKey)


@pytest.mark.rule("JOSE-17", "JOSE-06")
def test_the_table_of_algorithms_is_closed() -> None:
    """Ten algorithms, all asymmetric, none of the COSE names, and no way to add one at run time."""
    assert set(ALGORITHMS) == {"ES256", "ES384", "ES512", "Ed25519"} | {
        f"{kind}{size}" for kind in ("PS", "RS") for size in (256, 384, 512)
    }
    with pytest.raises(TypeError):
        jwk_module.ALGORITHMS["HS256"] = ALGORITHMS["ES256"]  # type: ignore[index]
    assert base64.b64decode("AQAB") == (65537).to_bytes(3, "big")


def _rsa(bits: int, exponent: int = 65537) -> dict[str, Any]:
    """A public key of so many bits that nobody has the private half of."""
    return {"kty": "RSA", "alg": "RS256", "n": _number(1 << bits - 1 | 1), "e": _number(exponent)}


@pytest.mark.rule("ST-7", "I14", "T9", "KEY-15")
@pytest.mark.parametrize(
    ("jwk", "words"),
    [
        (_rsa(4097), "needs 2048 to 4096 bits, and n has 4097"),
        (_rsa(8192), "needs 2048 to 4096 bits, and n has 8192"),
        (_rsa(40_000), "needs 2048 to 4096 bits, and n has 40000"),
        (_rsa(4096, 2**32 + 1), "exponent is over 2^32"),
        (_rsa(2048, 2**64 - 1), "exponent is over 2^32"),
        (_rsa(2048, 2**40_000 + 1), "exponent is over 2^32"),
    ],
)
def test_a_foreign_rsa_key_that_costs_too_much(jwk: dict[str, Any], words: str) -> None:
    """It is refused before anything is computed with it, alone and in a set; the message says what is the bound."""
    with pytest.raises(JoseError, match=re.escape(words)):
        import_public_jwk(jwk)
    found = read_key_set({"keys": [jwk, PUBLIC["ES256"]]})
    assert [key.kid for key in found.keys] == [CLIENT_KEY.kid]
    assert words in str(found.skipped[0])


@pytest.mark.rule("ST-7")
@pytest.mark.parametrize("jwk", [_rsa(4096), _rsa(4096, 2**32 - 1), _rsa(2048, 3), _rsa(2048, 2**31 + 1)])
def test_foreign_rsa_keys_at_the_bounds(jwk: dict[str, Any]) -> None:
    """4096 bits and 32 bits of exponent are in."""
    assert import_public_jwk(jwk).algorithm == "RS256"


@pytest.mark.rule("ST-7")
def test_what_was_registered_before_is_still_read() -> None:
    """A store may hold larger keys; they are read from there and nowhere else."""
    assert import_public_jwk(_rsa(8192, 2**64 - 1), bounds=HELD).algorithm == "RS256"
    with pytest.raises(JoseError, match="8192"):
        import_public_jwk(_rsa(8193), bounds=HELD)
