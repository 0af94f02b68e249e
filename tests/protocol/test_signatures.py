"""The signature algorithms: known answers, and the shapes of a signature that must fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from groat.protocol import jose, signatures
from groat.protocol.jwk import ALGORITHMS, PrivateKey, base64url_decode, import_private_jwk, import_public_jwk

from .builders import CLIENT_KEY, KEYS, assertion, authenticate, client_refused, header_of, jose_refused, segment

# Published answers: RFC 7515 appendix A, RFC 7520 section 4, RFC 8037 appendix A.
VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
CURVES = {"ES256": (ec.SECP256R1(), 32), "ES384": (ec.SECP384R1(), 48), "ES512": (ec.SECP521R1(), 66)}
ORDERS = {"ES256": ec.SECP256R1().group_order, "ES384": ec.SECP384R1().group_order, "ES512": ec.SECP521R1().group_order}
PS = [name for name in KEYS if name.startswith("PS")]
RS = [name for name in KEYS if name.startswith("RS")]


def _signed(key: PrivateKey, signature: bytes) -> jose.UnverifiedJwt:
    data = _data(key).decode()
    return jose.parse_jwt(f"{data}.{segment(signature)}")


def _data(key: PrivateKey) -> bytes:
    return f"{segment(header_of(key, 't'))}.{segment({'a': 1})}".encode()


def _fails(key: PrivateKey, signature: bytes) -> None:
    with jose_refused("signature"):
        jose.verify_signature(_signed(key, signature), key.public)


@pytest.mark.rule("JOSE-15", "JOSE-16", "JOSE-17")
@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=lambda v: v["source"])
def test_published_signatures_verify(vector: dict[str, Any]) -> None:
    """The answers printed in the RFCs are accepted, and not with one byte changed."""
    key = import_public_jwk({**vector["jwk"], "alg": vector["alg"]})
    verify = ALGORITHMS[vector["alg"]].signature.verify
    signature, data = base64url_decode(vector["signature"]), vector["signing_input"].encode()
    assert verify(signature, data, key.native)
    assert not verify(signature, data + b"x", key.native)
    assert not verify(signature[:-1] + bytes([signature[-1] ^ 1]), data, key.native)


@pytest.mark.rule("JOSE-17", "KEY-04")
def test_the_published_ed25519_signature_is_ours() -> None:
    """Ed25519 is deterministic: with the key of RFC 8037 A.1 we write the signature of A.4."""
    key = import_private_jwk(VECTORS["signing_key"]["jwk"])
    vector = next(v for v in VECTORS["signatures"] if v["source"] == "RFC 8037 A.4")
    assert jose.sign(vector["signing_input"].encode(), key) == base64url_decode(vector["signature"])


@pytest.mark.rule("JOSE-15", "A07")
@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_signatures_are_raw_and_of_one_size(name: str) -> None:
    """DER, one byte less or more, and stripped or added zeros are refused though R and S are right."""
    key, half = KEYS[name], CURVES[name][1]
    good = jose.sign(_data(key), key)
    assert len(good) == 2 * half
    jose.verify_signature(_signed(key, good), key.public)
    r, s = int.from_bytes(good[:half], "big"), int.from_bytes(good[half:], "big")
    for bad in (
        encode_dss_signature(r, s),
        good[:-1],
        good[1:],
        good + b"\0",
        b"\0" + good,
        b"\0" + good[:half] + b"\0" + good[half:],
        good[:half],
        good + good,
        b"",
    ):
        _fails(key, bad)


@pytest.mark.rule("JOSE-15")
@pytest.mark.parametrize("name", CURVES)
def test_the_size_is_checked_where_the_halves_are_cut(name: str) -> None:
    """Also without the envelope's own check, leading zeros that keep R and S equal do not pass."""
    key, half = KEYS[name], CURVES[name][1]
    good = jose.sign(_data(key), key)
    verify = ALGORITHMS[name].signature.verify
    assert verify(good, _data(key), key.public.native)
    stretched = good[:half] + b"\0" + good[half:]
    for bad in (b"", good[:-1], stretched, b"\0" + stretched):
        assert not verify(bad, _data(key), key.public.native)


@pytest.mark.rule("JOSE-15", "A07")
@pytest.mark.parametrize("name", CURVES)
def test_degenerate_ecdsa_signatures_fail(name: str) -> None:
    """Zero, the group order and all ones are no R and no S."""
    key, half = KEYS[name], CURVES[name][1]
    good = jose.sign(_data(key), key)
    order = ORDERS[name].to_bytes(half, "big")
    above = (ORDERS[name] + 1).to_bytes(half, "big")
    zero, ones = bytes(half), b"\xff" * half
    r, s = good[:half], good[half:]
    for bad in (zero + zero, zero + s, r + zero, order + s, r + order, order + order, ones + ones, above + s, s + r):
        _fails(key, bad)
    if int.from_bytes(s, "big") + ORDERS[name] < 1 << (8 * half):
        _fails(key, r + (int.from_bytes(s, "big") + ORDERS[name]).to_bytes(half, "big"))


@pytest.mark.rule("JOSE-15")
@pytest.mark.parametrize("name", CURVES)
def test_short_halves_are_padded(name: str) -> None:
    """A small R or S keeps its leading zero bytes (they come once in 128 signatures)."""
    key, half = KEYS[name], CURVES[name][1]
    for _ in range(2000):
        signature = jose.sign(_data(key), key)
        assert len(signature) == 2 * half
        if 0 in (signature[0], signature[half]):
            break
    else:
        pytest.fail("no small half in 2000 signatures")
    jose.verify_signature(_signed(key, signature), key.public)


@pytest.mark.rule("JOSE-15")
@pytest.mark.parametrize("name", CURVES)
def test_r_and_s_are_converted_as_cryptography_does_it(name: str) -> None:
    """Every first byte that matters, every length, and the zero that keeps an INTEGER from being negative."""
    half = CURVES[name][1]
    halves = [bytes([first]) + bytes(half - 1) for first in (0, 1, 127, 128, 255)]
    halves += [(b"\xff" * size).rjust(half, b"\0") for size in range(1, half + 1)]
    halves += [(b"\x7f" * size).rjust(half, b"\0") for size in range(1, half + 1)]
    for r, s in [*zip(halves, reversed(halves), strict=True), *zip(halves, halves, strict=True)]:
        der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        assert signatures.to_der(r + s, half) == der
        assert signatures.from_der(der, half) == r + s


@pytest.mark.rule("JOSE-07", "JOSE-15")
@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_uses_the_hash_of_its_name(name: str) -> None:
    """A signature over another digest fails."""
    key, half = KEYS[name], CURVES[name][1]
    for other in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256()):
        if other.name == f"sha{name[2:]}":
            continue
        r, s = decode_dss_signature(key.native.sign(_data(key), ec.ECDSA(other)))
        _fails(key, r.to_bytes(half, "big") + s.to_bytes(half, "big"))


@pytest.mark.rule("JOSE-16")
@pytest.mark.parametrize("name", PS)
def test_pss_salt_is_as_long_as_the_hash(name: str) -> None:
    """No salt and the longest salt are refused, one byte off as well; the hash's length is accepted."""
    key, digest = KEYS[name], ALGORITHMS[name].signature.hash  # type: ignore[attr-defined]
    size = digest.digest_size
    for salt in (0, size - 1, size + 1, padding.PSS.MAX_LENGTH):
        _fails(key, key.native.sign(_data(key), padding.PSS(padding.MGF1(digest), salt), digest))
    good = key.native.sign(_data(key), padding.PSS(padding.MGF1(digest), size), digest)
    jose.verify_signature(_signed(key, good), key.public)


@pytest.mark.rule("JOSE-16")
def test_pss_mask_uses_the_same_hash() -> None:
    """MGF1 with another hash than the signature's is refused."""
    key = KEYS["PS256"]
    for other in (hashes.SHA1(), hashes.SHA384()):
        _fails(key, key.native.sign(_data(key), padding.PSS(padding.MGF1(other), 32), hashes.SHA256()))


@pytest.mark.rule("JOSE-07", "JOSE-16", "A04")
@pytest.mark.parametrize("name", PS + RS)
@pytest.mark.parametrize("other", PS + RS)
def test_rsa_schemes_do_not_mix(name: str, other: str) -> None:
    """With one RSA pair, the signature of one scheme and hash is never that of another."""
    key = KEYS[name]
    signature = jose.sign(_data(key), KEYS[other])
    if name == other:
        jose.verify_signature(_signed(key, signature), key.public)
    else:
        _fails(key, signature)


@pytest.mark.rule("JOSE-07", "A07")
@pytest.mark.parametrize("name", ["PS256", "RS256"])
def test_degenerate_rsa_signatures_fail(name: str) -> None:
    """Zero, one, the modulus, its neighbours, and a signature plus the modulus are refused without an exception."""
    key = KEYS[name]
    n = key.public.native.public_numbers().n
    good = jose.sign(_data(key), key)
    numbers = (0, 1, n - 1, n, n + 1, 2**2048 - 1)
    for bad in (b"", good[:-1], good + b"\0", b"\0" + good, *(value.to_bytes(256, "big") for value in numbers)):
        _fails(key, bad)
    _fails(key, (int.from_bytes(good, "big") + n).to_bytes(257, "big"))


@pytest.mark.rule("JOSE-17", "A07")
def test_degenerate_ed25519_signatures_fail() -> None:
    """Zero bytes, other sizes, and S plus the group order (a second spelling of one signature) are refused."""
    key = KEYS["Ed25519"]
    good = jose.sign(_data(key), key)
    order = 2**252 + 27742317777372353535851937790883648493
    again = (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    for bad in (b"", bytes(64), good[:-1], good + b"\0", good[:32] + again, b"\xff" * 64, good[32:] + good[:32]):
        _fails(key, bad)


@pytest.mark.rule("JOSE-15", "A07")
@pytest.mark.parametrize(
    "signature", [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64], ids=["none", "63", "64", "65", "ones"]
)
def test_a_null_signature_is_no_assertion(signature: bytes) -> None:
    """The whole way: an assertion under a signature of zeros is refused as badly signed."""
    with client_refused("assertion_signature"):
        authenticate(f"{assertion().rpartition('.')[0]}.{segment(signature)}")


@pytest.mark.rule("AS-CA-05")
def test_a_good_assertion_is_good() -> None:
    """The control of the tables above: unchanged, the assertion passes and names the key."""
    assert authenticate(assertion()).key is CLIENT_KEY.public
