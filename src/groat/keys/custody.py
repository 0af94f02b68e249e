"""Where private signing keys live: sealed in the store under a key-encryption key that is not in the store.

AES-256-GCM with the kid as associated data, so that a sealed key cannot be moved under another name. Signing is
async because other custodians (KMS, PKCS#11) sign over a network.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from groat.keys.files import read_private_file, write_private_file
from groat.protocol import jose, strict_json
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, PublicKey, base64url_decode, base64url_encode, import_private_jwk

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


class Signer(Protocol):
    """Something that signs with one key and never shows it."""

    @property
    def public(self) -> PublicKey: ...

    async def sign(self, data: bytes) -> bytes:
        """The JOSE signature over `data`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """Signs in this process with an unsealed key."""

    key: PrivateKey

    @property
    def public(self) -> PublicKey:
        return self.key.public

    async def sign(self, data: bytes) -> bytes:
        return jose.sign(data, self.key)


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """The 256-bit key that seals signing keys; shows in no repr."""

    _secret: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "KeyEncryptionKey":
        """Read the key file. Raises ConfigError: missing, readable by others, or not 32 bytes of base64url."""
        text = read_private_file(path).decode("ascii", "replace").strip()
        try:
            secret = base64url_decode(text)
        except Exception:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"{path} is not a key-encryption key (32 bytes, base64url)")
        return cls(secret)

    @classmethod
    def create(cls, path: Path) -> "KeyEncryptionKey":
        """Make a new key file. Raises ConfigError if the file exists."""
        secret = os.urandom(KEY_BYTES)
        write_private_file(path, base64url_encode(secret) + b"\n")
        return cls(secret)

    def seal(self, key: PrivateKey) -> bytes:
        """Encrypt a private JWK; 12 bytes of nonce, then the ciphertext with its tag."""
        nonce = os.urandom(NONCE_BYTES)
        plain = strict_json.dumps(key.private_jwk())
        return nonce + AESGCM(self._secret).encrypt(nonce, plain, key.kid.encode())

    def unseal(self, sealed: bytes, kid: str) -> PrivateKey:
        """Decrypt. Raises ConfigError when this is not the key that sealed, or the bytes were changed."""
        try:
            plain = AESGCM(self._secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], kid.encode())
        except (InvalidTag, ValueError):
            raise ConfigError(f"signing key {kid} cannot be unsealed: wrong key-encryption key?") from None
        return import_private_jwk(strict_json.loads_object(plain))
