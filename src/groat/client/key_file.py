"""A private key in a file: JWK or PEM, read again when the file changes, refused when others may read it."""

import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey

from groat.client.errors import KeyUnusable
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import ALGORITHM_NAMES, KeyPair, PrivateKey, import_private_jwk, printable, private_key

MAX_KEY_FILE_BYTES: Final = 64 * 1024
_CURVE_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}
Fingerprint = tuple[int, ...]


class KeyFile:
    """One key file; `load` costs one stat call while the file stays as it is.

    `algorithm`: needed for an RSA key that does not say its own; `kid`: replaces the file's own, or the thumbprint.
    Not checked: the owner of the file, and the modes of the directories above it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        algorithm: str | None = None,
        kid: str | None = None,
        allow_shared: bool = False,
    ) -> None:
        self._path = Path(path)
        self._algorithm = algorithm
        self._kid = kid
        self._allow_shared = allow_shared
        # One attribute, replaced as a whole: a reader in another thread sees the old pair or the new one.
        self._loaded: tuple[Fingerprint, PrivateKey] | None = None

    def load(self) -> PrivateKey:
        """The key as the file has it now. Raises KeyUnusable, naming the file and never its content."""
        try:
            fingerprint = _fingerprint(os.stat(self._path))
            if self._loaded is not None and self._loaded[0] == fingerprint:
                return self._loaded[1]
            fingerprint, key = self._read()
        except OSError as error:
            raise KeyUnusable(f"key file {self._path}: {error.strerror or type(error).__name__}") from None
        if isinstance(key, str):
            raise KeyUnusable(f"key file {self._path}: {key}")
        self._loaded = (fingerprint, key)
        return key

    def _read(self) -> tuple[Fingerprint, PrivateKey | str]:
        """The key, or what is wrong with it: an exception from here would carry the file's text in its frames.

        Judges and reads the same open file, so that no other can be put in its place in between.
        """
        with open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            self._check_mode(status.st_mode)
            raw = file.read(MAX_KEY_FILE_BYTES + 1)
        return _fingerprint(status), read_private_key(raw, self._algorithm, self._kid)

    def _check_mode(self, mode: int) -> None:
        shared = os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO)
        if shared and not self._allow_shared:
            raise KeyUnusable(
                f"key file {self._path}: mode {stat.S_IMODE(mode):04o} lets others at the private key",
                hint=f"chmod 600 {self._path}, or allow_shared_key_file=True where an orchestrator sets the mode",
            )


def _fingerprint(status: os.stat_result) -> Fingerprint:
    # The mode is part of it: a chmod must be judged too, although it leaves the content as it was.
    return (status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size, status.st_mode)


def read_private_key(raw: bytes, algorithm: str | None = None, kid: str | None = None) -> PrivateKey | str:
    """Read a private JWK or an unencrypted PEM (PKCS#8, SEC 1, PKCS#1); a string says what is wrong with it."""
    try:
        return _parse(raw, algorithm, kid)
    except JoseError as error:
        return error.hint


def _parse(raw: bytes, algorithm: str | None, kid: str | None) -> PrivateKey:
    text = raw.strip()
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise JoseError("key", f"longer than {MAX_KEY_FILE_BYTES} bytes")
    if text.startswith(b"{"):
        return _from_jwk(text, algorithm, kid)
    if text.startswith(b"-----BEGIN "):
        return _from_pem(text, algorithm, kid)
    raise JoseError("key", "neither a JWK nor a PEM")


def _from_jwk(text: bytes, algorithm: str | None, kid: str | None) -> PrivateKey:
    key = import_private_jwk(strict_json.loads_object(text), algorithm)
    if algorithm is not None and ALGORITHM_NAMES.get(algorithm) is not ALGORITHM_NAMES[key.algorithm]:
        raise JoseError("key", f"the key is for {key.algorithm}, not for {printable(algorithm)}")
    return private_key(key.key, key.algorithm, kid) if kid else key


def _from_pem(text: bytes, algorithm: str | None, kid: str | None) -> PrivateKey:
    key = _import_pem(text)
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
