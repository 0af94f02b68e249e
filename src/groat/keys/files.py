"""Key files: private from the first byte, atomic, never overwritten silently, refused when others can read them.

Private PEM is PKCS#8, public PEM is SPKI; JSON files hold one JWK or a JWKS. Not checked: who owns the directory.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from base64 import b64encode
from pathlib import Path
from typing import IO, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from groat.keys import private_key
from groat.keys.key_text import for_file
from groat.keys.private_key import MAX_KEY_FILE_BYTES
from groat.keys.public_key import DEFAULT_RSA_ALGORITHM, parse_public_keys
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import PrivateKey, PublicKey
from groat.protocol.shell import shell_word

STALE_SECONDS: Final = 600
# What open says to O_TMPFILE where it does not exist: the flag contains O_DIRECTORY, so old kernels see a directory.
_NO_UNNAMED_FILES: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


def make_private_directory(path: Path) -> None:
    """Create a directory of mode 0700 with its parents; an existing one stays as it is. Raises ConfigError."""
    make_directory(path.parent)
    _make_directory(path, 0o700)


def make_directory(path: Path) -> None:
    """Create a directory of mode 0755 (less the umask) with its parents. Raises ConfigError.

    Whoever may write to a parent may put another directory in the place of a private one.
    """
    if not path.is_dir():
        make_directory(path.parent)
        _make_directory(path, 0o755)


def _make_directory(path: Path, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except OSError as error:
        if not path.is_dir():
            raise ConfigError(f"cannot make directory {path}: {error.strerror}") from None


def write_private_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600. Raises ConfigError if it exists; a crash leaves all of it or nothing."""
    _write_new(path, content, 0o600)


def write_public_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0644. Raises ConfigError if it exists."""
    _write_new(path, content, 0o644)


def replace_private_file(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, in the place of one that exists. Raises ConfigError; a reader sees old or new."""
    _sweep(path)
    temporary = _temporary(path)
    try:
        _write_named(temporary, content, 0o600)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    finally:
        _remove(temporary)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    if os.path.lexists(path):
        raise _exists(path)
    try:
        if not _write_unnamed(path, content, mode):
            _write_and_link(path, content, mode)
        sync_directory(path.parent)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _exists(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists; nothing was written. Choose another name or move it away")


def _write_unnamed(path: Path, content: bytes, mode: int) -> bool:
    """Write a file that gets its name when it is complete: a crash before that leaves nothing at all (K08).

    Returns False where the system or the file system has no such files. Raises OSError.
    """
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, mode)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return False
        raise
    with os.fdopen(descriptor, "wb") as file:
        _write_durably(file, content)
        # With src_dir_fd this is linkat with AT_SYMLINK_FOLLOW, the one call that can name such a file.
        try:
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
        except FileNotFoundError:  # no /proc
            return False
    return True


def _write_and_link(path: Path, content: bytes, mode: int) -> None:
    _sweep(path)
    temporary = _temporary(path)
    try:
        _write_named(temporary, content, mode)
        # link, unlike rename, refuses to replace a file that appeared meanwhile.
        os.link(temporary, path)
    finally:
        _remove(temporary)


def _write_named(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(descriptor, "wb") as file:
        _write_durably(file, content)


def _write_durably(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what a crash of an earlier attempt at this file left behind; not what another process is writing now."""
    pattern = re.compile(re.escape(f".{path.name}.") + "[0-9a-f]{8}")
    with contextlib.suppress(OSError):
        for left in path.parent.iterdir():
            if pattern.fullmatch(left.name) and left.stat().st_mtime < time.time() - STALE_SECONDS:
                _remove(left)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private_file(path: Path, *, allow_shared: bool = False) -> bytes:
    """Read a secret. Raises ConfigError: missing, unreadable, too large, or readable by group or others.

    A file that root handed to our group (0440, 0640) passes: see `handed_by_root`. `allow_shared` is for mounts of
    orchestrators that cannot set a mode.
    """
    content, status = _read(path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 and not allow_shared and not handed_by_root(status):
        raise ConfigError(f"{path} is readable by others (mode {mode:04o}). Fix: chmod 600 {shell_word(str(path))}")
    return content


def handed_by_root(status: os.stat_result) -> bool:
    """Whether root owns the file, its group may only read it, others nothing, and we are not root ourselves.

    That is how Kubernetes (fsGroup) and systemd (LoadCredential) hand a secret to an unprivileged process; such a
    process cannot make it more private. Not checked: who else is in the group.
    """
    return os.name == "posix" and status.st_uid == 0 != os.geteuid() and not status.st_mode & 0o037


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_KEY_FILE_BYTES:
        raise ConfigError(f"{path} is too large for a key file")
    return content, status


def read_private_key(path: Path, algorithm: str | None = None, *, allow_shared: bool = False) -> PrivateKey:
    """Read a private JWK or a PKCS#8 PEM; `algorithm` overrides what a file leaves open. Raises ConfigError."""
    content = read_private_file(path, allow_shared=allow_shared)
    return parse_private_key(content, str(path), algorithm, is_file=True)


def parse_private_key(content: bytes, name: str, algorithm: str | None = None, *, is_file: bool = False) -> PrivateKey:
    """Read a private key from bytes; `name` is how errors call it. Raises ConfigError, without any content."""
    key = private_key.read_private_key(content, algorithm, rsa_algorithm=DEFAULT_RSA_ALGORITHM)
    if isinstance(key, str):
        raise ConfigError(f"{name} holds no usable private key: {for_file(key, name) if is_file else key}")
    return key


def read_public_keys(path: Path, algorithm: str | None = None) -> tuple[PublicKey, ...]:
    """Read all public keys of a JWK, a JWKS or an SPKI PEM. Raises ConfigError; private members are refused."""
    content, _ = _read(path)
    try:
        return parse_public_keys(content, algorithm)
    except JoseError as error:
        raise ConfigError(f"{path} holds no usable public key: {for_file(error.hint, str(path))}") from None


def read_certificates(path: Path) -> tuple[str, ...]:
    """Every certificate of a PEM file, or the one in DER, each in base64 as x5c has it. Raises ConfigError."""
    content, _ = _read(path)
    try:
        if b"-----BEGIN" in content:
            found = x509.load_pem_x509_certificates(content)
        else:
            found = [x509.load_der_x509_certificate(content)]
    except (ValueError, x509.InvalidVersion):
        raise ConfigError(f"{path} holds no certificate, in PEM or in DER") from None
    return tuple(b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in found)


def private_key_bytes(key: PrivateKey, *, pem: bool = False) -> bytes:
    """A private key as PKCS#8 PEM or as a JWK in JSON."""
    if pem:
        encoded: bytes = key.native.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return encoded
    return strict_json.dumps(key.private_jwk()) + b"\n"


def public_key_pem(key: PublicKey) -> bytes:
    """A public key as SPKI PEM."""
    encoded: bytes = key.native.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def write_key_pair(key: PrivateKey, path: Path) -> None:
    """Write the private half to `path`: PKCS#8 PEM if the name ends in .pem, a JWK otherwise. Raises ConfigError."""
    write_private_file(path, private_key_bytes(key, pem=path.suffix == ".pem"))
