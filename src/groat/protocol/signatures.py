"""The signature algorithms of RFC 7518 3 and RFC 8037, on `cryptography` keys.

joserfc has the same algorithms; these avoid its per-call set-up, which costs a tenth of an ES256 verification and
a third of a signature (docs/decisions/0004-signatures.md). Not checked here: that the key belongs to the algorithm.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class Signature(Protocol):
    """Raw signatures in JOSE form; `verify` returns whether the signature is good."""

    def sign(self, data: bytes, key: Any) -> bytes: ...

    def verify(self, signature: bytes, data: bytes, key: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Ecdsa:
    """R and S, each of fixed size, one after the other (RFC 7518 3.4).

    `hash`: from `hashlib`, in half the time that `cryptography` takes to set up its own.
    """

    prehashed: ec.ECDSA
    hash: Callable[[bytes], Any]
    half: int

    def sign(self, data: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        return from_der(key.sign(self.hash(data).digest(), self.prehashed), self.half)

    def verify(self, signature: bytes, data: bytes, key: ec.EllipticCurvePublicKey) -> bool:
        if len(signature) != 2 * self.half:
            return False
        try:
            key.verify(to_der(signature, self.half), self.hash(data).digest(), self.prehashed)
        except InvalidSignature:
            return False
        return True


def to_der(signature: bytes, half: int) -> bytes:
    """R and S as DER has them (RFC 3279 2.2.3); `cryptography` would make whole numbers of them first.

    That way takes twice as long.
    """
    r, s = _shortest(signature[:half]), _shortest(signature[half:])
    body = b"\x02%c%b\x02%c%b" % (len(r), r, len(s), s)
    return (b"\x30%c%b" if len(body) < 128 else b"\x30\x81%c%b") % (len(body), body)


def _shortest(number: bytes) -> bytes:
    """As an INTEGER is written: no zero before it, but for the one that keeps it from being negative."""
    if 0 < number[0] < 128:
        return number
    short = number.lstrip(b"\0")
    return short if short and short[0] < 128 else b"\0" + short


def from_der(der: bytes, half: int) -> bytes:
    """Of a signature that was made here: what others send does not come this way."""
    r = 4 if der[1] < 128 else 5
    end = r + der[r - 1]
    return der[r:end][-half:].rjust(half, b"\0") + der[end + 2 :][-half:].rjust(half, b"\0")


@dataclass(frozen=True, slots=True)
class Rsa:
    """RSASSA-PKCS1-v1_5 or RSASSA-PSS (MGF1 with the same hash, salt as long as the hash: RFC 7518 3.5)."""

    padding: padding.PKCS1v15 | padding.PSS
    hash: hashes.HashAlgorithm

    def sign(self, data: bytes, key: Any) -> bytes:
        signature: bytes = key.sign(data, self.padding, self.hash)
        return signature

    def verify(self, signature: bytes, data: bytes, key: Any) -> bool:
        try:
            key.verify(signature, data, self.padding, self.hash)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class EdDsa:
    """Ed25519 (RFC 8037 3.1)."""

    def sign(self, data: bytes, key: Any) -> bytes:
        signature: bytes = key.sign(data)
        return signature

    def verify(self, signature: bytes, data: bytes, key: Any) -> bool:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def _pss(bits: str) -> Rsa:
    hash_ = HASHES[bits]
    return Rsa(padding.PSS(padding.MGF1(hash_), hash_.digest_size), hash_)


SIGNATURES: Final[Mapping[str, Signature]] = MappingProxyType(
    {
        "ES256": Ecdsa(ec.ECDSA(Prehashed(HASHES["256"])), hashlib.sha256, 32),
        "ES384": Ecdsa(ec.ECDSA(Prehashed(HASHES["384"])), hashlib.sha384, 48),
        "ES512": Ecdsa(ec.ECDSA(Prehashed(HASHES["512"])), hashlib.sha512, 66),
        "Ed25519": EdDsa(),
        **{f"PS{bits}": _pss(bits) for bits in HASHES},
        **{f"RS{bits}": Rsa(padding.PKCS1v15(), hash_) for bits, hash_ in HASHES.items()},
    }
)
