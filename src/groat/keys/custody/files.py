"""Private signing keys as encrypted PEM files (PKCS#8) in one directory, for whoever backs up and audits files.

The passphrase comes from a file of its own. Replicas need the same directory; the store holds the name alone.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from groat.keys.custody import KeyLost, LocalSigner, Signer
from groat.keys.custody.several import facts_of, reference
from groat.keys.files import make_private_directory, read_private_file, write_private_file
from groat.keys.private_key import read_private_key
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, PublicKey, generate_private_key

NAME: Final = "files"
MIN_PASSPHRASE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class EncryptedFiles:
    """One file of mode 0600 per key, named by its thumbprint. Raises ConfigError for a weak passphrase."""

    directory: Path
    _passphrase: bytes = field(repr=False)

    @classmethod
    def open(cls, directory: Path, passphrase_file: Path) -> "EncryptedFiles":
        """Read the passphrase, make the directory. Raises ConfigError."""
        passphrase = read_private_file(passphrase_file).strip()
        if len(passphrase) < MIN_PASSPHRASE_BYTES:
            raise ConfigError(f"{passphrase_file} holds a passphrase of less than {MIN_PASSPHRASE_BYTES} bytes")
        make_private_directory(directory)
        return cls(directory, passphrase)

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        return await asyncio.to_thread(self._generate, algorithm)

    def _generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        key = generate_private_key(algorithm)
        name = f"{key.public.thumbprint}.pem"
        pem = key.native.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._passphrase),
        )
        write_private_file(self.directory / name, pem)
        return key.public, reference(NAME, file=name)

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        return await asyncio.to_thread(self._signer, public, sealed)

    def _signer(self, public: PublicKey, sealed: bytes) -> Signer:
        path = self._path(public, sealed)
        if not path.exists() and self.directory.is_dir():
            raise KeyLost(public.kid, f"there is no file {path}; restore it from your backup if you have one")
        content = read_private_file(path)
        return LocalSigner(_decrypted(content, self._passphrase, public))

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        """Remove the file. Not done: overwriting, which no file system of today promises to do in place."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(public, sealed))

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        """Nothing to do: no key-encryption key is involved."""
        return None

    def _path(self, public: PublicKey, sealed: bytes) -> Path:
        # The store is not trusted with paths: the name must be the one that `generate` would choose.
        (name,) = facts_of(sealed, public, "file")
        if name != f"{public.thumbprint}.pem":
            raise ConfigError(f"the reference to signing key {public.kid} names another file")
        return self.directory / name


def _decrypted(content: bytes, passphrase: bytes, public: PublicKey) -> PrivateKey:
    try:
        native = serialization.load_pem_private_key(content, passphrase)
        plain = native.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = read_private_key(plain, public.algorithm, public.kid)
    except Exception:
        # The texts of these exceptions may quote the file.
        raise ConfigError(f"the file of signing key {public.kid} cannot be decrypted: wrong passphrase?") from None
    if isinstance(key, str) or key.public.thumbprint != public.thumbprint:
        raise ConfigError(f"the file of signing key {public.kid} holds another key")
    return key
