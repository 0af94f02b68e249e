"""A private key in bytes, as a JWK or a PEM: one reading for the client library and the command line."""

from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey

from groat.keys import key_text
from groat.keys.key_text import Block
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import ALGORITHM_NAMES, KeyPair, PrivateKey, import_private_jwk, printable, private_key

MAX_KEY_FILE_BYTES: Final = 64 * 1024
CURVE_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}
_READ_LABELS: Final = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"})
_ENCRYPTED: Final = (
    "the PEM is encrypted; give an unencrypted file of mode 0600 (openssl pkey -in FILE -out key.pem), or a signer"
)


def read_private_key(
    raw: bytes, algorithm: str | None = None, kid: str | None = None, rsa_algorithm: str | None = None
) -> PrivateKey | str:
    """Read a private JWK, a JWK set with one, or an unencrypted PEM (PKCS#8, SEC 1, PKCS#1); a string says why not.

    Public keys and certificates beside it do not count. `rsa_algorithm`: what an RSA PEM is for when neither
    `algorithm` nor the key itself (RSASSA-PSS) says so; without it such a PEM is refused.
    """
    try:
        return _parse(raw, algorithm, kid, rsa_algorithm)
    except JoseError as error:
        return error.hint


def _parse(raw: bytes, algorithm: str | None, kid: str | None, rsa_algorithm: str | None) -> PrivateKey:
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise JoseError("key", f"longer than {MAX_KEY_FILE_BYTES} bytes")
    text = key_text.text_of(raw)
    if text.startswith(b"{"):
        return _from_jwk(_private_member(strict_json.loads_object(text)), algorithm, kid)
    if blocks := key_text.pem_blocks(text):
        return _from_pem(_private_block(blocks), algorithm, kid, rsa_algorithm)
    raise JoseError("key", key_text.foreign_form(raw))


def _private_member(document: dict[str, Any]) -> dict[str, Any]:
    """The JWK itself, or the one private key of a set."""
    if document.get("type") == "service_account":
        raise JoseError("key", "a Google service account file; its member private_key is a PEM that could be used")
    if "keys" not in document:
        return document
    entries = document["keys"] if isinstance(document["keys"], list) else []
    private = [entry for entry in entries if isinstance(entry, dict) and "d" in entry]
    if len(private) != 1:
        raise JoseError("key", f"this is a JWK set with {len(private)} private keys; give one JWK, or a set with one")
    return dict(private[0])


def _from_jwk(members: dict[str, Any], algorithm: str | None, kid: str | None) -> PrivateKey:
    key = import_private_jwk(members, algorithm)
    if algorithm is not None and ALGORITHM_NAMES.get(algorithm) is not ALGORITHM_NAMES[key.algorithm]:
        raise JoseError("key", f"the key is for {key.algorithm}, not for {printable(algorithm)}")
    return private_key(key.key, key.algorithm, kid) if kid else key


def _private_block(blocks: tuple[Block, ...]) -> Block:
    """The one private key among the blocks, wherever it stands."""
    private = [block for block in blocks if "PRIVATE KEY" in block.label]
    if not private:
        labels = ", ".join(dict.fromkeys(block.label for block in blocks))
        raise JoseError("key", f"the PEM holds {printable(labels)} and no PRIVATE KEY; the private half is needed here")
    if len(private) > 1:
        raise JoseError("key", f"the PEM holds {len(private)} private keys; give a file with one")
    return private[0]


def _from_pem(block: Block, algorithm: str | None, kid: str | None, rsa_algorithm: str | None) -> PrivateKey:
    key = _import_block(block)
    if isinstance(key, RSAKey):
        return private_key(key, _rsa_algorithm(block, algorithm, rsa_algorithm), kid)
    curve = str(key.curve_name)
    return private_key(key, algorithm or CURVE_ALGORITHMS.get(curve, curve), kid)


def _rsa_algorithm(block: Block, algorithm: str | None, default: str | None) -> str:
    allowed = key_text.pss_algorithms(block.der)
    chosen = algorithm or (min(allowed) if allowed else default)
    if chosen is None:
        raise JoseError("key", 'an RSA PEM does not say its algorithm: add algorithm="PS256" (or "RS256")')
    key_text.check_pss(allowed, chosen)
    return chosen


def _import_block(block: Block) -> KeyPair:
    if block.label == "OPENSSH PRIVATE KEY":
        raise JoseError("key", _openssh(block.der))
    if block.encrypted:
        raise JoseError("key", _ENCRYPTED)
    if block.label not in _READ_LABELS:
        raise JoseError("key", f"a PEM of {printable(block.label)} is not read; give a PKCS#8 PEM (BEGIN PRIVATE KEY)")
    try:
        kind = _kind(load_pem_private_key(block.pem, password=None))
        return kind.import_key(block.pem)
    except Exception:
        # cryptography and joserfc raise many types here; their texts may quote key material.
        raise JoseError("key", "the PEM holds no usable EC, RSA or Ed25519 private key") from None


def _openssh(content: bytes) -> str:
    """What to do with a key in OpenSSH's own form; ssh-keygen writes all types but Ed25519 as a PEM."""
    name = "a private key in OpenSSH's own form"
    if b"ssh-ed25519" in content[:200]:
        return f"{name}, and ssh-keygen cannot convert Ed25519; make another: openssl genpkey -algorithm ed25519"
    return f'{name}; convert a copy of it: cp FILE key.pem && ssh-keygen -p -N "" -m PEM -f key.pem'


def _kind(native: object) -> type[KeyPair]:
    if isinstance(native, EllipticCurvePrivateKey):
        return ECKey
    return RSAKey if isinstance(native, RSAPrivateKey) else OKPKey
