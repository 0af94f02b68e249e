"""The certificate and key that `groat serve` speaks https with."""

import ssl
from pathlib import Path

from groat.keys.files import read_private_file
from groat.protocol.errors import ConfigError
from groat.server.config import Config


def tls_files(config: Config) -> tuple[Path, Path] | tuple[None, None]:
    """Certificate and key, tried before anything listens. Raises ConfigError. TLS 1.2 is the least that is spoken.

    Not checked: the names in the certificate and its dates; a renewed one is read at the next start.
    """
    if config.tls is None:
        return None, None
    certificate, key = config.tls
    read_private_file(key)  # refuses one that others may read
    try:
        # An empty passphrase: a key that needs one is refused, never asked about on a terminal that is not there.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not usable"
        raise ConfigError(f"server.tls_certificate_file {certificate} with tls_key_file {key}: {reason}") from None
    return certificate, key
