"""Public keys in bytes, as a JWK, a JWK set or PEM blocks: what an operator registers for a client."""

import contextlib
from collections.abc import Iterable
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_csr
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from groat.keys import key_text
from groat.keys.key_text import Block
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import ALGORITHM_NAMES, ALGORITHMS, KeyPair, PublicKey, import_public_jwk, printable

# A PEM cannot say which algorithm it is for; RSA keys then get the one that every server knows (RFC 7518 3.1).
DEFAULT_RSA_ALGORITHM: Final = "RS256"
_READ_LABELS: Final = frozenset({"PUBLIC KEY", "RSA PUBLIC KEY"})
_CERTIFICATE: Final = (
    "the PEM holds a certificate, whose validity and issuer would not count here; "
    "take its key: openssl x509 -in FILE -noout -pubkey > key.pub.pem"
)
_REQUEST: Final = "the PEM holds a certificate request; take its key: openssl req -in FILE -noout -pubkey > key.pub.pem"
_PRIVATE: Final = (
    "the file holds a private key; give the public half only (of a PEM: openssl pkey -in FILE -pubout -out key.pub.pem)"
)


def parse_public_keys(raw: bytes, algorithm: str | None = None) -> tuple[PublicKey, ...]:
    """Every key of a JWK, a JWK set, or a PEM with any number of PUBLIC KEY blocks; identical ones once.

    Raises JoseError: one key that cannot be used refuses all, and so does a private one, or a certificate of another
    key. Registering the first of several would leave those who hold the others wondering.
    """
    text = key_text.text_of(raw)
    if text.startswith(b"{"):
        return _once(_public_jwks(strict_json.loads_object(text), algorithm))
    if blocks := key_text.pem_blocks(text):
        return _once(_public_blocks(blocks, algorithm))
    raise JoseError("key", key_text.foreign_form(raw))


def parse_public_pem(content: bytes, algorithm: str | None = None) -> PublicKey:
    """Read one SPKI PEM; its kid is the RFC 7638 thumbprint. Raises JoseError("key"), also for a private PEM."""
    keys = _public_blocks(key_text.pem_blocks(key_text.text_of(content)), algorithm)
    if len(keys) != 1:
        raise JoseError("key", f"{len(keys)} public keys where one is needed")
    return keys[0]


def _once(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple({(key.kid, key.thumbprint, key.algorithms): key for key in keys}.values())


def _public_blocks(blocks: tuple[Block, ...], algorithm: str | None) -> list[PublicKey]:
    if any("PRIVATE KEY" in block.label for block in blocks):
        raise JoseError("key", _PRIVATE)
    certificates = [block for block in blocks if "CERTIFICATE" in block.label]
    keys = [_public_key(block, algorithm) for block in blocks if block not in certificates]
    # `openssl x509 -pubkey` and `openssl req -pubkey` write the key and what it stands in; a chain has other keys.
    known = {spki(key) for key in keys}
    for block in certificates:
        if _certified(block) not in known:
            raise JoseError("key", _REQUEST if "REQUEST" in block.label else _CERTIFICATE)
    return keys


def spki(key: PublicKey) -> bytes:
    """A public key in DER."""
    return _spki(key.native)


def _spki(native: Any) -> bytes:
    encoded: bytes = native.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _certified(block: Block) -> bytes | None:
    """The public key of a certificate (request) in DER; None for what cannot be read. Nothing else is looked at."""
    load = load_pem_x509_csr if "REQUEST" in block.label else load_pem_x509_certificate
    try:
        return _spki(load(block.pem).public_key())
    except Exception:  # cryptography raises many types for what it does not like
        return None


def _public_key(block: Block, algorithm: str | None) -> PublicKey:
    if block.label not in _READ_LABELS:
        raise JoseError("key", f"a PEM of {printable(block.label)} is not read; give PUBLIC KEY blocks")
    key = _import_block(block)
    if not isinstance(key, RSAKey):
        return import_public_jwk({**key.as_dict(), "alg": algorithm or _curve_algorithm(key)})
    allowed = key_text.pss_algorithms(block.der)
    chosen = algorithm or (min(allowed) if allowed else DEFAULT_RSA_ALGORITHM)
    key_text.check_pss(allowed, chosen)
    return import_public_jwk({**key.as_dict(), "alg": chosen})


def _import_block(block: Block) -> KeyPair:
    for kind in ("EC", "OKP", "RSA"):
        with contextlib.suppress(Exception):
            key = import_key(block.pem, kind)
            if isinstance(key, (ECKey, OKPKey, RSAKey)):
                return key
    raise JoseError("key", "not a PEM of an RSA, EC or Ed25519 key")


def _curve_algorithm(key: ECKey | OKPKey) -> str:
    fitting = [name for name, known in ALGORITHMS.items() if known.fits(key)]
    if not fitting:
        raise JoseError("key", f"the curve must be P-256, P-384, P-521 or Ed25519, and is {key.curve_name}")
    return fitting[0]


def _public_jwks(document: dict[str, Any], algorithm: str | None) -> tuple[PublicKey, ...]:
    entries = document.get("keys", [document])
    if not isinstance(entries, list) or not entries or any(not isinstance(e, dict) for e in entries):
        raise JoseError("key", "keys must be a non-empty array of JWKs")
    labelled = [{**e, "alg": algorithm} if algorithm and e.get("alg") is None else e for e in entries]
    for entry in labelled if algorithm else ():
        if ALGORITHM_NAMES.get(str(entry["alg"])) is not ALGORITHM_NAMES.get(algorithm or ""):
            raise JoseError("key", f"a JWK is for another algorithm than {algorithm}")
    return tuple(import_public_jwk(_with_algorithm(entry)) for entry in labelled)


def _with_algorithm(entry: dict[str, Any]) -> dict[str, Any]:
    # One key, one algorithm: an RSA JWK that declares none is registered for the default one.
    return {**entry, "alg": DEFAULT_RSA_ALGORITHM} if entry.get("kty") == "RSA" and entry.get("alg") is None else entry
