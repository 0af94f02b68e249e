"""Keys as the protocol sees them: one key, one algorithm, one thumbprint (RFC 7517, 7518 6, 7638, 8037).

joserfc imports, exports and generates; what stands here is the policy around it: which keys are acceptable at
all, and which algorithm a key is for. Not checked here: who owns a key, and whether it is still in use.
"""

import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from joserfc.jwk import ECKey, OKPKey, RSAKey

from groat.protocol.errors import JoseError
from groat.protocol.grammar import BASE64URL_ALPHABET
from groat.protocol.signatures import SIGNATURES, Signature

KeyPair = ECKey | OKPKey | RSAKey

PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
MAX_KID_CHARS: Final = 256
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
GENERATED_RSA_BITS: Final = 3072


@dataclass(frozen=True, slots=True)
class RsaBounds:
    """How large an RSA key may be: whoever checks a signature with it pays for its bits and for its exponent's."""

    bits: int
    exponent_bits: int

    def check(self, n: int, e: int) -> None:
        """Raise JoseError("key") for a key outside, or one that is none."""
        if not MIN_RSA_BITS <= n.bit_length() <= self.bits:
            raise JoseError("key", f"an RSA key needs {MIN_RSA_BITS} to {self.bits} bits, and n has {n.bit_length()}")
        if e.bit_length() > self.exponent_bits:
            raise JoseError("key", f"the RSA exponent is over 2^{self.exponent_bits}; 65537 is the usual one")
        if e < 3 or e % 2 == 0 or n % 2 == 0:
            raise JoseError("key", "the RSA exponent or modulus is not usable")


# Foreign keys; and what was accepted before there were these bounds, or is one's own.
FOREIGN: Final = RsaBounds(MAX_RSA_BITS, 32)
HELD: Final = RsaBounds(8192, 64)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One JWS algorithm: the key it needs and the size of its signature in bytes (None: as the RSA modulus)."""

    name: str
    key_type: str
    curve: str | None
    signature_bytes: int | None
    signature: Signature = field(repr=False)

    def fits(self, key: KeyPair) -> bool:
        """Whether a key of this type and curve can make or check such a signature (RFC 7518 3.1)."""
        return key.key_type == self.key_type and (isinstance(key, RSAKey) or key.curve_name == self.curve)


def _algorithm(name: str, key_type: str, curve: str | None = None, size: int | None = None) -> Algorithm:
    return Algorithm(name, key_type, curve, size, SIGNATURES[name])


_RSA_NAMES = ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512")

# ESP256 and its kin are COSE names and HMAC can never be proof of a key that is not shared: neither is here.
ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        "ES256": _algorithm("ES256", "EC", "P-256", 64),
        "ES384": _algorithm("ES384", "EC", "P-384", 96),
        "ES512": _algorithm("ES512", "EC", "P-521", 132),
        "Ed25519": _algorithm("Ed25519", "OKP", "Ed25519", 64),
        **{name: _algorithm(name, "RSA") for name in _RSA_NAMES},
    }
)
# RFC 9864 gave Ed25519 its own name; EdDSA with that curve is the same algorithm under the old one.
ALGORITHM_NAMES: Final[Mapping[str, Algorithm]] = MappingProxyType({**ALGORITHMS, "EdDSA": ALGORITHMS["Ed25519"]})
FAPI2_ALGORITHMS: Final = frozenset({"PS256", "ES256", "Ed25519"})  # FAPI 2.0 Security Profile 5.4.1


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A verified public key.

    `algorithms` holds canonical names: one for a key that declares its algorithm, several only for an RSA key of
    somebody else's JWKS that declares none. `jwk` is the public JWK with kid, use and (where known) alg.
    """

    kid: str
    algorithms: frozenset[str]
    thumbprint: str
    jwk: Mapping[str, Any]
    native: Any = field(repr=False)  # a public key of `cryptography`

    algorithm: str = field(init=False, compare=False)
    """The one algorithm of this key; for an undeclared RSA key, the first of its candidates."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", min(self.algorithms))


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key pair that signs with one algorithm; its private half shows in no repr."""

    public: PublicKey
    key: KeyPair = field(repr=False)

    native: Any = field(init=False, repr=False, compare=False)
    """The private key of `cryptography`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "native", self.key.private_key)

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def algorithm(self) -> str:
        return self.public.algorithm

    def private_jwk(self) -> dict[str, Any]:
        """The JWK with its private members; the caller must treat it as a secret."""
        return {**self.key.as_dict(private=True), **_labels(self.public)}


def base64url_decode(text: str | bytes) -> bytes:
    """Decode base64url without padding, strictly: RFC 7515 2, RFC 4648 3.5.

    Raises JoseError("malformed") for padding, foreign characters, an impossible length or non-zero unused bits.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise JoseError("malformed", "base64url holds a foreign character") from None
    if raw.translate(None, BASE64URL_ALPHABET):
        raise JoseError("malformed", "base64url holds a foreign character")
    return decode_checked_base64url(raw)


_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_CLEAN_LAST = {2: b"AQgw", 3: b"AEIMQUYcgkosw048"}


def decode_checked_base64url(raw: bytes) -> bytes:
    """Decode base64url whose alphabet the caller has checked; the length and unused bits are checked here."""
    rest = len(raw) & 3
    if rest == 1 or (rest and raw[-1] not in _CLEAN_LAST[rest]):
        raise JoseError("malformed", "base64url has an impossible length or non-zero unused bits")
    return binascii.a2b_base64(raw.translate(_TO_STANDARD) + b"==="[: -rest % 4])


def base64url_encode(raw: bytes) -> bytes:
    """Encode base64url without padding."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL, b"=")


_TO_URL = bytes.maketrans(b"+/", b"-_")


def present_members(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """A JWK's members that have a value: .NET and Jackson write null for an absent one, and RFC 7517 knows no null."""
    return {name: value for name, value in jwk.items() if value is not None}


def import_public_jwk(jwk: Mapping[str, Any], *, kid_required: bool = False, bounds: RsaBounds = FOREIGN) -> PublicKey:
    """Accept one public JWK, or say why not (RFC 7517 4, RFC 7518 6).

    Raises JoseError("key"): private members, `use` other than sig, `key_ops` without verify, unknown kty or crv,
    RSA outside the bounds or with an even or unit exponent, a point off its curve, coordinates of the wrong
    length, an `alg` that does not fit. Null is absent. Not checked: x5c, which is ignored.
    """
    jwk = present_members(jwk)
    if PRIVATE_MEMBERS & jwk.keys():
        raise JoseError("key", "the JWK holds private members; give the public half only")
    _check_usage(jwk)
    key = _import_members(jwk, bounds)
    algorithms = _algorithms_of(jwk, key)
    return _public_key(key, algorithms, _kid_of(jwk, required=kid_required))


def import_private_jwk(jwk: Mapping[str, Any], algorithm: str | None = None) -> PrivateKey:
    """Accept one private JWK; `algorithm` is needed for an RSA JWK without alg. Raises JoseError("key").

    Null is absent.
    """
    jwk = present_members(jwk)
    if "d" not in jwk:
        raise JoseError("key", "the JWK holds no private key")
    _check_usage(jwk, operation="sign")
    key = _import_members(jwk, HELD, private=True)
    _check_pair(key)
    declared = jwk if "alg" in jwk or algorithm is None else {**jwk, "alg": algorithm}
    return private_key(key, _one_algorithm(_algorithms_of(declared, key)), _kid_of(jwk))


def private_key(key: KeyPair, algorithm: str, kid: str | None = None) -> PrivateKey:
    """Bind an imported key pair to its one algorithm. Raises JoseError("key") if the two do not fit."""
    known = ALGORITHM_NAMES.get(algorithm)
    if known is None or not known.fits(key):
        raise JoseError("key", _misfit(key, algorithm))
    if isinstance(key, RSAKey):
        numbers = key.public_key.public_numbers()
        HELD.check(numbers.n, numbers.e)
    return PrivateKey(_public_key(key, frozenset({known.name}), kid), key)


def _misfit(key: KeyPair, algorithm: str) -> str:
    fitting = ", ".join(name for name, known in ALGORITHMS.items() if known.fits(key))
    kind = "RSA" if isinstance(key, RSAKey) else str(key.curve_name)
    if not fitting:
        return f"the curve must be P-256, P-384, P-521 or Ed25519, and is {kind}"
    return f"alg {_shown(algorithm)} is unknown or does not fit a key of {kind}; it takes {fitting}"


def generate_private_key(algorithm: str, rsa_bits: int = GENERATED_RSA_BITS) -> PrivateKey:
    """Make a new key pair; its kid is the RFC 7638 thumbprint. Raises JoseError("key") for RSA under 2048 bits."""
    known = ALGORITHM_NAMES.get(algorithm)
    if known is None:
        raise JoseError("key", f"unknown algorithm; known: {', '.join(ALGORITHMS)}")
    if known.key_type == "RSA":
        if not MIN_RSA_BITS <= rsa_bits <= MAX_RSA_BITS:
            raise JoseError("key", f"an RSA key needs {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        return private_key(RSAKey.generate_key(rsa_bits), known.name)
    if known.key_type == "EC":
        return private_key(ECKey.generate_key(known.curve), known.name)
    return private_key(OKPKey.generate_key("Ed25519"), known.name)


def printable(text: str) -> str:
    """A foreign string made safe for one log line: ASCII, no controls, at most 64 characters."""
    return ascii(text[:64])[1:-1]


@lru_cache(maxsize=64)  # more than there are: algorithms, by the sizes of RSA
def decoy_key(algorithm: str, bits: int = MIN_RSA_BITS) -> PublicKey:
    """A fixed public key that nobody can sign with, so that refusing an unknown client costs what a check costs.

    The RSA modulus is a hash-derived odd number of so many bits and no known factors; the curve keys come from
    published scalars but are never registered, so a signature by them proves nothing.
    """
    known = ALGORITHMS[algorithm]
    return _public_key(_decoy_key_pair(known, bits), frozenset({known.name}), "decoy")


def _decoy_key_pair(algorithm: Algorithm, bits: int) -> KeyPair:
    if algorithm.key_type == "EC":
        return ECKey.derive_key("groat decoy", algorithm.curve or "", private=False)
    if algorithm.key_type == "OKP":
        return OKPKey.derive_key("groat decoy", "Ed25519", private=False)
    digest = hashlib.shake_256(b"groat decoy").digest(bits // 8)
    modulus = bytes([digest[0] | 0x80]) + digest[1:-1] + bytes([digest[-1] | 1])
    return RSAKey.import_key({"kty": "RSA", "n": base64url_encode(modulus).decode(), "e": "AQAB"})


def _public_key(key: KeyPair, algorithms: frozenset[str], kid: str | None) -> PublicKey:
    thumbprint = key.thumbprint()
    members = {name: key.dict_value[name] for name in _REQUIRED[key.key_type]}
    labels = {"kid": kid or thumbprint, "use": "sig"}
    if len(algorithms) == 1:
        labels["alg"] = min(algorithms)
    jwk = MappingProxyType({**members, **labels})
    return PublicKey(labels["kid"], algorithms, thumbprint, jwk, key.public_key)


def _labels(public: PublicKey) -> dict[str, Any]:
    return {name: public.jwk[name] for name in ("kid", "use", "alg") if name in public.jwk}


_REQUIRED: Final = {
    "EC": ("kty", "crv", "x", "y"),
    "OKP": ("kty", "crv", "x"),
    "RSA": ("kty", "n", "e"),
}
_CURVE_BYTES: Final = {"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32}


def _import_members(jwk: Mapping[str, Any], bounds: RsaBounds, *, private: bool = False) -> KeyPair:
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _REQUIRED:
        raise JoseError("key", f"kty must be RSA, EC or OKP, and is {_shown(kty) if kty else 'missing'}")
    names = _REQUIRED[kty] + (_PRIVATE[kty] if private else ())
    members = {name: jwk[name] for name in names if name in jwk}
    _check_members(members, kty)
    if kty == "RSA" and {"n", "e"} <= members.keys():
        bounds.check(*(int.from_bytes(base64url_decode(members[name])) for name in ("n", "e")))
    try:
        return _import(kty, members)
    except Exception:
        # joserfc and cryptography raise many types here; their texts may quote key material.
        raise JoseError("key", "the JWK does not describe a valid key") from None


def _import(kty: str, members: dict[str, Any]) -> KeyPair:
    if kty == "EC":
        return ECKey.import_key(members)
    return OKPKey.import_key(members) if kty == "OKP" else RSAKey.import_key(members)


_PRIVATE: Final = {
    "EC": ("d",),
    "OKP": ("d",),
    "RSA": ("d", "p", "q", "dp", "dq", "qi"),
}


def _check_members(members: Mapping[str, Any], kty: str) -> None:
    size = _CURVE_BYTES.get(str(members.get("crv"))) if kty != "RSA" else None
    if kty != "RSA" and size is None:
        found = _shown(members["crv"]) if "crv" in members else "missing"
        raise JoseError("key", f"crv must be P-256, P-384, P-521 or Ed25519, and is {found}")
    if (kty == "OKP") != (members.get("crv") == "Ed25519"):
        raise JoseError("key", "crv does not belong to kty")
    for name in members.keys() - {"kty", "crv"}:
        if not isinstance(members[name], str):
            raise JoseError("key", f"member {name} must be a string")
        raw = _decoded(name, members[name])
        if size is not None and len(raw) != size:
            raise JoseError("key", f"member {name} must be {size} bytes long, and is {len(raw)}")
        if kty == "OKP" and name == "x" and _is_low_order(raw):
            raise JoseError("key", "x is a point of low order: anybody could sign for it")
        if kty == "RSA" and raw[:1] in (b"", b"\0"):
            raise JoseError("key", f"member {name} must not be empty or begin with a zero byte")


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64url_decode(value)
    except JoseError as error:
        raise JoseError("key", f"member {name}: {error.hint}") from None


# The y coordinates of the points of order 1, 2, 4 and 8 (RFC 7748 7), and the same plus p, which also decode.
_P25519: Final = 2**255 - 19
_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_LOW_ORDER_Y: Final = frozenset({0, 1, _P25519 - 1, _P25519, _P25519 + 1, _ORDER_8, _P25519 - _ORDER_8})


def _is_low_order(x: bytes) -> bool:
    """Whether an encoded Ed25519 point has a small order; the sign bit does not matter."""
    return int.from_bytes(x, "little") & (2**255 - 1) in _LOW_ORDER_Y


def _check_pair(key: KeyPair) -> None:
    """Refuse an Ed25519 pair whose halves differ; joserfc notices that for the other types, but not here."""
    if isinstance(key, OKPKey):
        raw = key.private_key.public_key().public_bytes_raw() if key.private_key is not None else b""
        if base64url_encode(raw).decode() != key.dict_value["x"]:
            raise JoseError("key", "x is not the public half of d")


def _check_usage(jwk: Mapping[str, Any], operation: str = "verify") -> None:
    use = jwk.get("use", "sig")
    if use != "sig":
        raise JoseError("key", f"use must be sig, and is {_shown(use)}")
    key_ops = jwk.get("key_ops", [operation])
    allowed = {"sign", "verify"}
    if (
        not isinstance(key_ops, list)
        or operation not in key_ops
        or any(not isinstance(op, str) or op not in allowed for op in key_ops)
    ):
        raise JoseError("key", f"key_ops must allow {operation} and agree with use, and is {_shown(key_ops)}")


def _shown(value: Any) -> str:
    """A member that is no secret, for an error."""
    return printable(value if isinstance(value, str) else repr(value)) or '""'


def _algorithms_of(jwk: Mapping[str, Any], key: KeyPair) -> frozenset[str]:
    if "alg" not in jwk:
        return frozenset(name for name, known in ALGORITHMS.items() if known.fits(key))
    known = ALGORITHM_NAMES.get(jwk["alg"]) if isinstance(jwk["alg"], str) else None
    if known is None or not known.fits(key):
        raise JoseError("key", f"alg {_shown(jwk['alg'])} is unknown or does not fit kty and crv")
    return frozenset({known.name})


def _one_algorithm(algorithms: frozenset[str]) -> str:
    if len(algorithms) != 1:
        raise JoseError("key", "an RSA JWK needs alg: one key, one algorithm")
    return min(algorithms)


def _kid_of(jwk: Mapping[str, Any], *, required: bool = False) -> str | None:
    kid = jwk.get("kid")
    if kid is None and not required:
        return None
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS or not kid.isprintable():
        raise JoseError("key", "kid must be a printable string of 1 to 256 characters")
    return kid
