"""A private key in a file: JWK or PEM, read again when the file changes, refused when others may read it."""

import os
import stat
from pathlib import Path

from groat.client.errors import KeyUnusable
from groat.keys.files import handed_by_root
from groat.keys.key_text import for_file, is_key_text
from groat.keys.private_key import MAX_KEY_FILE_BYTES, read_private_key
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey
from groat.protocol.shell import shell_word

Fingerprint = tuple[int, ...]


class KeyFile:
    """One key file; `load` costs one stat call while the file stays as it is.

    `path`: a JWK or PEM file of mode 0600. `algorithm`: needed for an RSA key that does not say its own; `kid`:
    replaces the file's own, or the thumbprint (RFC 7638). `allow_shared`: accept a file that group or others may read,
    where an orchestrator sets the mode. Nothing is read before `load`. Raises ConfigError for the text of a key in
    place of a path. Not checked: the owner of the file, and the modes of the directories above it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        algorithm: str | None = None,
        kid: str | None = None,
        allow_shared: bool = False,
    ) -> None:
        if isinstance(path, str) and is_key_text(path):
            # Errors name the path, so a key must never be taken for one.
            raise ConfigError("key is the text of a key, not a path; see private_key_from_text")
        self._path = Path(path)
        self._algorithm = algorithm
        self._kid = kid
        self._allow_shared = allow_shared
        # One attribute, replaced as a whole: a reader in another thread sees the old pair or the new one.
        self._loaded: tuple[Fingerprint, PrivateKey] | None = None

    def load(self) -> PrivateKey:
        """The key as the file has it now. Raises KeyUnusable, naming the file and never its content."""
        try:
            seen = fingerprint(os.stat(self._path))
            if self._loaded is not None and self._loaded[0] == seen:
                return self._loaded[1]
            seen, key = self._read()
        except OSError as error:
            raise KeyUnusable(f"key file {self._path}: {error.strerror or type(error).__name__}") from None
        if isinstance(key, str):
            raise KeyUnusable(f"key file {self._path}: {for_file(key, str(self._path))}")
        self._loaded = (seen, key)
        return key

    def _read(self) -> tuple[Fingerprint, PrivateKey | str]:
        """The key, or what is wrong with it: an exception from here would carry the file's text in its frames.

        Judges and reads the same open file, so that no other can be put in its place in between.
        """
        with open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            check_mode(self._path, status, allow_shared=self._allow_shared)
            raw = file.read(MAX_KEY_FILE_BYTES + 1)
        return fingerprint(status), read_private_key(raw, self._algorithm, self._kid)


def check_mode(path: Path, status: os.stat_result, *, allow_shared: bool = False) -> None:
    """Raises KeyUnusable where others may read this file, and nobody has said that they may."""
    mode = status.st_mode
    shared = os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO)
    if shared and not allow_shared and not handed_by_root(status):
        raise KeyUnusable(
            f"key file {path}: mode {stat.S_IMODE(mode):04o} lets others at the private key",
            hint=f"chmod 600 {shell_word(str(path))}, or KeyFile(..., allow_shared=True) where an "
            "orchestrator sets the mode",
        )


def fingerprint(status: os.stat_result) -> Fingerprint:
    """What differs once a file has changed."""
    # The mode is part of it: a chmod must be judged too, although it leaves the content as it was.
    return (status.st_mtime_ns, status.st_ino, status.st_dev, status.st_size, status.st_mode)
