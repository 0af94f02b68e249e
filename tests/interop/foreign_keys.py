"""Key pairs made by another library (jwcrypto), in the forms in which people hand them to theirs."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from jwcrypto.jwk import JWK

SPECIFICATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ES256": {"kty": "EC", "crv": "P-256"},
    "ES384": {"kty": "EC", "crv": "P-384"},
    "ES512": {"kty": "EC", "crv": "P-521"},
    "Ed25519": {"kty": "OKP", "crv": "Ed25519"},
    **{f"{family}{bits}": {"kty": "RSA", "size": 2048} for family in ("RS", "PS") for bits in (256, 384, 512)},
}
# EdDSA is the older name of Ed25519 (RFC 9864) and shares its key.
NAMES: Final = (*SPECIFICATIONS, "EdDSA")


@cache
def key_pair(owner: str, algorithm: str) -> JWK:
    """The one key pair of this owner for this algorithm, the same for the whole run."""
    name = "Ed25519" if algorithm == "EdDSA" else algorithm
    if name != algorithm:
        return key_pair(owner, name)
    return JWK.generate(**SPECIFICATIONS[name], kid=f"{owner}-{name.lower()}", alg=name, use="sig")


def private_jwk(owner: str, algorithm: str) -> dict[str, Any]:
    """The JWK with its private members, kid, alg and use."""
    members: dict[str, Any] = key_pair(owner, algorithm).export_private(as_dict=True)
    return members


def public_jwks(owner: str, algorithms: Iterable[str] = SPECIFICATIONS) -> list[dict[str, Any]]:
    """The public JWKs of an owner."""
    return [key_pair(owner, algorithm).export_public(as_dict=True) for algorithm in algorithms]


def private_pem(owner: str, algorithm: str) -> str:
    """PKCS#8 PEM, which says neither kid nor algorithm."""
    pem: bytes = key_pair(owner, algorithm).export_to_pem(private_key=True, password=None)
    return pem.decode("ascii")
