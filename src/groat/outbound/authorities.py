"""Whose certificates count: the system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name.

OpenSSL and the HTTP libraries say nothing of use when such a variable is wrong: the one trusts nobody without a word,
the others raise "No such file or directory" without any name.
"""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError

FILE_VARIABLE: Final = "SSL_CERT_FILE"
DIRECTORY_VARIABLE: Final = "SSL_CERT_DIR"


class AuthoritiesUnusable(ConfigError):
    """A variable of the environment names certificates that cannot be had."""


def check_authorities(environ: Mapping[str, str] | None = None) -> None:
    """Raise AuthoritiesUnusable, naming variable and path, if the certificates they lead to cannot be read.

    An empty variable is one that is not set, and beside a file the directory does not count. Not checked: whether the
    files of a directory have the names of their hashes, without which OpenSSL does not find them.
    """
    given = os.environ if environ is None else environ
    if path := given.get(FILE_VARIABLE):
        fault = _file_fault(path)
        if fault:
            raise AuthoritiesUnusable(f"{FILE_VARIABLE} names {shown(path)}, {fault}")
    elif paths := given.get(DIRECTORY_VARIABLE):
        if not any(Path(one).is_dir() for one in paths.split(os.pathsep)):
            raise AuthoritiesUnusable(f"{DIRECTORY_VARIABLE} names {shown(paths)}, which is no directory")


def tls_context() -> ssl.SSLContext:
    """A context that checks certificate and host name, with TLS 1.2 as the minimum. Raises AuthoritiesUnusable."""
    check_authorities()
    context = ssl.create_default_context()
    # The default is that of whoever built this Python, and some leave it to the system's OpenSSL.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _file_fault(path: str) -> str:
    try:
        with open(path, "rb"):  # for the reason: OpenSSL's own does not tell a missing file from a forbidden one
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "which holds no certificate in PEM form"
    except (OSError, ValueError) as error:
        return f"which cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"
    return ""
