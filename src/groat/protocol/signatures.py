"""The signature algorithms of RFC 7518 3 and RFC 8037, on `cryptography` keys.

joserfc has the same algorithms; these avoid its per-call set-up, which costs a tenth of an ES256 verification and
a third of a signature (docs/decisions/0004-signatures.md). Not checked here: that the key belongs to the algorithm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


class Signature(Protocol):
    """Raw signatures in JOSE form; `verify` returns whether the signature is good."""

    def sign(self, data: bytes, key: Any) -> bytes: ...

    def verify(self, signature: bytes, data: bytes, key: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class Ecdsa:
    """R and S, each of fixed size, one after the other (RFC 7518 3.4)."""

    hash: ec.ECDSA
    half: int

    def sign(self, data: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        r, s = decode_dss_signature(key.sign(data, self.hash))
        return r.to_bytes(self.half, "big") + s.to_bytes(self.half, "big")

    def verify(self, signature: bytes, data: bytes, key: ec.EllipticCurvePublicKey) -> bool:
        half = self.half
        if len(signature) != 2 * half:
            return False
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        try:
            key.verify(encode_dss_signature(r, s), data, self.hash)
        except InvalidSignature:
            return False
        return True


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
        "ES256": Ecdsa(ec.ECDSA(HASHES["256"]), 32),
        "ES384": Ecdsa(ec.ECDSA(HASHES["384"]), 48),
        "ES512": Ecdsa(ec.ECDSA(HASHES["512"]), 66),
        "Ed25519": EdDsa(),
        **{f"PS{bits}": _pss(bits) for bits in HASHES},
        **{f"RS{bits}": Rsa(padding.PKCS1v15(), hash_) for bits, hash_ in HASHES.items()},
    }
)
