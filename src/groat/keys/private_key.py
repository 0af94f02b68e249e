"""A private key in bytes, as a JWK or a PEM: one reading for the client library and the command line."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey

from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import ALGORITHM_NAMES, KeyPair, PrivateKey, import_private_jwk, printable, private_key

MAX_KEY_FILE_BYTES: Final = 64 * 1024
_CURVE_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}


def read_private_key(
    raw: bytes, algorithm: str | None = None, kid: str | None = None, rsa_algorithm: str | None = None
) -> PrivateKey | str:
    """Read a private JWK or an unencrypted PEM (PKCS#8, SEC 1, PKCS#1); a string says what is wrong with it.

    `rsa_algorithm`: what an RSA PEM is for when `algorithm` does not say; without it such a PEM is refused.
    """
    try:
        return _parse(raw, algorithm, kid, rsa_algorithm)
    except JoseError as error:
        return error.hint


def _parse(raw: bytes, algorithm: str | None, kid: str | None, rsa_algorithm: str | None) -> PrivateKey:
    text = raw.strip()
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise JoseError("key", f"longer than {MAX_KEY_FILE_BYTES} bytes")
    if text.startswith(b"{"):
        return _from_jwk(text, algorithm, kid)
    if text.startswith(b"-----BEGIN "):
        return _from_pem(text, algorithm, kid, rsa_algorithm)
    raise JoseError("key", "neither a JWK nor a PEM")


def _from_jwk(text: bytes, algorithm: str | None, kid: str | None) -> PrivateKey:
    key = import_private_jwk(strict_json.loads_object(text), algorithm)
    if algorithm is not None and ALGORITHM_NAMES.get(algorithm) is not ALGORITHM_NAMES[key.algorithm]:
        raise JoseError("key", f"the key is for {key.algorithm}, not for {printable(algorithm)}")
    return private_key(key.key, key.algorithm, kid) if kid else key


def _from_pem(text: bytes, algorithm: str | None, kid: str | None, rsa_algorithm: str | None) -> PrivateKey:
    key = _import_pem(text)
    if isinstance(key, RSAKey):
        algorithm = algorithm or rsa_algorithm
    if isinstance(key, RSAKey) and algorithm is None:
        raise JoseError("key", 'an RSA PEM does not say its algorithm: add algorithm="PS256" (or "RS256")')
    curve = "" if isinstance(key, RSAKey) else str(key.curve_name)
    return private_key(key, algorithm or _CURVE_ALGORITHMS.get(curve, curve), kid)


def _import_pem(text: bytes) -> KeyPair:
    if b"ENCRYPTED" in text:
        raise JoseError("key", "the PEM is encrypted; give an unencrypted file of mode 0600, or a signer")
    try:
        kind = _kind(load_pem_private_key(text, password=None))
        return kind.import_key(text)
    except Exception:
        # cryptography and joserfc raise many types here; their texts may quote key material.
        raise JoseError("key", "the PEM holds no usable EC, RSA or Ed25519 private key") from None


def _kind(native: object) -> type[KeyPair]:
    if isinstance(native, EllipticCurvePrivateKey):
        return ECKey
    return RSAKey if isinstance(native, RSAPrivateKey) else OKPKey
