"""The file with the lists of revoked certificates, read again whenever it has changed."""

import os
from pathlib import Path

from groat.protocol.crl import MAX_CRL_BYTES, RevocationLists, read_lists
from groat.protocol.errors import CertificateError, ConfigError

SETTING = "tls.client_crl_file"


class CrlFile:
    """What stands in the file now, for one stat call. A file that cannot be read leaves the lists of before in force,

    which end by themselves; where there were none before, no certificate of an authority counts. Not checked: who
    signed the lists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._lists = RevocationLists(fault=f"{SETTING} {path} was not read yet")

    def current(self) -> RevocationLists:
        """The lists in force."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            return self._lists if self._seen is not None else RevocationLists(fault=self._named(error.strerror or ""))
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen != self._seen:
            lists = self._read()
            if not lists.fault or self._seen is None:
                self._lists = lists
            self._seen = seen
        return self._lists

    def check(self) -> None:
        """Raises ConfigError where nothing can be read."""
        if fault := self._read().fault:
            raise ConfigError(fault)

    def _read(self) -> RevocationLists:
        try:
            with self._path.open("rb") as file:
                return read_lists(file.read(MAX_CRL_BYTES + 1))
        except OSError as error:
            return RevocationLists(fault=self._named(error.strerror or type(error).__name__))
        except CertificateError as error:
            return RevocationLists(fault=self._named(error.hint))

    def _named(self, why: str) -> str:
        return f"{SETTING} {self._path}: {why}"
