"""A certificate and its key in files: what a caller shows in the TLS handshake (RFC 8705), read again on change."""

import logging
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from groat.client.errors import KeyUnusable
from groat.client.key_file import Fingerprint, check_mode, fingerprint
from groat.keys.key_text import is_key_text
from groat.protocol.client_certificate import read_certificate
from groat.protocol.errors import CertificateError, ConfigError

MAX_FILE_BYTES: Final = 64 * 1024
_END: Final = b"-----END CERTIFICATE-----"
FilePath = str | os.PathLike[str]
CertificateSource = FilePath | tuple[FilePath, FilePath]
logger = logging.getLogger("groat.client")


@dataclass(frozen=True, slots=True)
class _Pair:
    seen: tuple[Fingerprint, Fingerprint]
    thumbprint: str


class CertificateFiles:
    """A PEM file with the certificate (and what stands between it and its authority behind it), and one with the key.

    They may be the same file. `thumbprint` and `context` cost two stat calls while the files stay as they are. Whoever
    replaces them does so one after the other: while the two are no pair, the one before serves on. Raises ConfigError.
    Not checked: times, names and chain of the certificate.
    """

    def __init__(self, certificate: FilePath, key: FilePath | None = None) -> None:
        if any(isinstance(one, str) and is_key_text(one) for one in (certificate, key)):
            raise ConfigError("certificate takes the names of files, not what is in them")
        self._certificate, self._key = Path(certificate), Path(certificate if key is None else key)
        # One attribute, replaced as a whole: a reader in another thread sees the old pair or the new one.
        self._pair: _Pair | None = None
        self._contexts: WeakSet[ssl.SSLContext] = WeakSet()

    @property
    def thumbprint(self) -> str:
        """`x5t#S256` of the certificate as the file has it now. Raises KeyUnusable, naming the file."""
        return self._current().thumbprint

    def give(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Have this context show the certificate, and each later one once it is noticed, in handshakes from then on.

        Raises KeyUnusable.
        """
        self._current()
        _load(context, self._certificate, self._key)
        self._contexts.add(context)
        return context

    def _current(self) -> _Pair:
        before = self._pair
        try:
            seen = (fingerprint(os.stat(self._certificate)), fingerprint(os.stat(self._key)))
            if before is not None and before.seen == seen:
                return before
            pair = _Pair(seen, self._read())
        except (OSError, KeyUnusable) as error:
            fault = error if isinstance(error, KeyUnusable) else KeyUnusable(f"certificate or key file: {error}")
            if before is None:
                raise fault from None
            logger.warning("the certificate that was loaded before stays in use: %s", fault)
            return before
        if before is not None:
            for context in list(self._contexts):
                with suppress(KeyUnusable):  # replaced again meanwhile: the next look has it
                    _load(context, self._certificate, self._key)
        self._pair = pair
        return pair

    def _read(self) -> str:
        """The thumbprint, once the two files are known to be a pair."""
        with open(self._key, "rb") as file:
            check_mode(self._key, os.fstat(file.fileno()))
        with open(self._certificate, "rb") as file:
            text = file.read(MAX_FILE_BYTES)
        leaf = text[text.find(b"-----BEGIN CERTIFICATE-----") :].partition(_END)[0] + _END
        try:
            thumbprint = read_certificate(leaf).thumbprint
        except CertificateError as error:
            raise KeyUnusable(f"certificate file {self._certificate}: {error.hint}") from None
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self._certificate, self._key)
        return thumbprint


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Raises KeyUnusable; an encrypted key is one, since nobody is there to be asked for its password."""
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        hint = "both must be PEM, the key not encrypted, and the certificate that of the key"
        raise KeyUnusable(f"{certificate} and {key} cannot be used: {why}", hint=hint) from None


def certificate_files(given: Any) -> CertificateFiles | None:
    """What the caller gave as `certificate`. Reads no file yet. Raises ConfigError."""
    if given is None or isinstance(given, CertificateFiles):
        return given
    if isinstance(given, str | os.PathLike):
        return CertificateFiles(given)
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, str | os.PathLike) for one in given):
        return CertificateFiles(*given)
    raise ConfigError("certificate must be a pair of paths: the certificate's and the key's, or one path of both")


__all__ = ["CertificateFiles", "CertificateSource", "certificate_files"]
