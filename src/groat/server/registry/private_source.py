"""Files that an operator named for calls to his own servers: a bearer token, the authorities that alone count."""

import ssl
from pathlib import Path
from typing import Final

from groat.outbound.published import Refused

MAX_TOKEN_BYTES: Final = 16 * 1024


def bytes_of(path: str, most: int) -> bytes:
    """A small file. Raises Refused."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > most:
        raise Refused(f"{path} is larger than {most} bytes")
    return raw


def secret_of(path: str) -> str:
    """A bearer token, read each time, for it changes. Raises Refused."""
    token = bytes_of(path, MAX_TOKEN_BYTES).decode("latin-1").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Refused(f"{path} holds no token")
    return token


def private_context(ca_file: str) -> ssl.SSLContext:
    """These authorities alone: those of the system say nothing about a cluster. Read each time, for they change.

    Raises Refused.
    """
    try:
        alone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        alone.minimum_version = ssl.TLSVersion.TLSv1_2
        alone.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise Refused(f"{ca_file} holds no certificate in PEM form, or cannot be read") from None
    return alone
