"""Private signing keys sealed in the store under a key-encryption key that is not in the store.

AES-256-GCM with the kid as associated data, so that a sealed key cannot be moved under another name.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from groat.keys.custody import LocalSigner, Signer, check_kept
from groat.keys.files import read_private_file, write_private_file
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import (
    PrivateKey,
    PublicKey,
    base64url_decode,
    base64url_encode,
    generate_private_key,
    import_private_jwk,
)
from groat.protocol.stray import stray

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32


def _odd_key(text: str, size: int) -> str:
    """What a text is instead, without any of it; empty where nobody can tell."""
    if "\0" in text:
        return ": it is UTF-16; save it as UTF-8"
    if odd := stray(text):
        return f": {odd}"
    if set("+/=") & set(text):
        return ": it is base64 with + / or =, where base64url without padding is needed: tr '+/' '-_' | tr -d ="
    return f": it has {size} bytes" if size else ""


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """The 256-bit key that seals signing keys; shows in no repr. By itself the simplest custody."""

    _secret: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> "KeyEncryptionKey":
        """Read the key file. Raises ConfigError: missing, readable by others, or not 32 bytes of base64url."""
        text = read_private_file(path).decode("utf-8", "replace").strip()
        try:
            secret = base64url_decode(text)
        except Exception:
            secret = b""
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"{path} is not a key-encryption key (32 bytes, base64url){_odd_key(text, len(secret))}")
        return cls(secret)

    @classmethod
    def create(cls, path: Path) -> "KeyEncryptionKey":
        """Make a new key file. Raises ConfigError if the file exists."""
        secret = os.urandom(KEY_BYTES)
        write_private_file(path, base64url_encode(secret) + b"\n")
        return cls(secret)

    def derived(self, purpose: bytes) -> bytes:
        """32 bytes for another purpose, from which nothing about this key follows (HKDF, RFC 5869)."""
        return HKDF(SHA256(), KEY_BYTES, None, purpose).derive(self._secret)

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

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        key = await asyncio.to_thread(generate_private_key, algorithm)  # RSA takes its time
        return key.public, self.seal(key)

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        check_kept(public, sealed)
        return LocalSigner(self.unseal(sealed, public.kid))

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        """Nothing: the store forgets the ciphertext, and there is no other copy."""

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        self.unseal(sealed, public.kid)
        return None


@dataclass(frozen=True, slots=True)
class SealedInStore:
    """Several key-encryption keys, so that they can change without downtime: one seals, all of them open."""

    seals: KeyEncryptionKey
    others: Sequence[KeyEncryptionKey] = ()

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        return await self.seals.generate(algorithm)

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        check_kept(public, sealed)
        return LocalSigner(self._unseal(public, sealed)[0])

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        """Nothing, as above."""

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        key, by = self._unseal(public, sealed)
        return None if by is self.seals else self.seals.seal(key)

    def _unseal(self, public: PublicKey, sealed: bytes) -> tuple[PrivateKey, KeyEncryptionKey]:
        with contextlib.suppress(ConfigError):
            return self.seals.unseal(sealed, public.kid), self.seals
        for kek in self.others:
            with contextlib.suppress(ConfigError):
                return kek.unseal(sealed, public.kid), kek
        raise ConfigError(f"signing key {public.kid} cannot be unsealed: wrong key-encryption key?")
