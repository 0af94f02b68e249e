"""Which of the TLS 1.2 cipher suites that OpenSSL knows does a server agree to? Asked one by one."""

import contextlib
import socket
import ssl
import warnings
from typing import Final

RECOMMENDED: Final = {
    f"ECDHE-{kind}-{cipher}" for kind in ("ECDSA", "RSA") for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")
}
# Caddy chooses by itself, and has ChaCha20 too: fresh keys and AEAD as well (RFC 7905).
AEAD: Final = RECOMMENDED | {f"ECDHE-{kind}-CHACHA20-POLY1305" for kind in ("ECDSA", "RSA")}
_EVERYTHING: Final = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


def agreed(address: tuple[str, int]) -> set[str]:
    """The names of the suites, as OpenSSL spells them."""
    names = [suite["name"] for suite in _context(_EVERYTHING).get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert len(names) > 100
    return {name for name in names if _shakes_hands(address, _context(f"{name}:@SECLEVEL=0"))}


def speaks(address: tuple[str, int], version: ssl.TLSVersion) -> bool:
    """Whether the server shakes hands in this version, with whatever suite."""
    return _shakes_hands(address, _context(_EVERYTHING, version))


def _context(ciphers: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the versions that nobody should speak
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    return context


def _shakes_hands(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    with socket.create_connection(address, 10) as raw:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            context.wrap_socket(raw, server_hostname="localhost").close()
            return True
    return False
