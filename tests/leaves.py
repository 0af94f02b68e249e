"""Certificates of callers, for tests: the bytes, the files, and how each kind of proxy writes them."""

import base64
import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from tests.certificates import self_signed


@dataclass(frozen=True)
class CallerCertificate:
    """One certificate that is its own authority. `path`: the certificate alone; `both`: with its key."""

    path: Path
    both: Path

    @property
    def pem(self) -> str:
        return self.path.read_text()

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.pem)

    @property
    def thumbprint(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()

    @property
    def cnf(self) -> dict[str, str]:
        """What a token says that is bound to it."""
        return {"x5t#S256": self.thumbprint}


def caller_certificate(folder: Path, name: str) -> CallerCertificate:
    (place := folder / name).mkdir()
    # TLS libraries look for an authority by its subject, so each has its own.
    return CallerCertificate(*self_signed(place, common_name=name))


def _base64(one: CallerCertificate) -> str:
    return base64.b64encode(one.der).decode()


# By dialect: the header, and what its value is for a certificate; as the proxies' manuals have it.
WRITTEN: Final[Mapping[str, tuple[str, Callable[[CallerCertificate], str]]]] = {
    "rfc9440": ("Client-Cert", lambda one: f":{_base64(one)}:"),
    "nginx": ("X-SSL-Client-Cert", lambda one: quote(one.pem, safe="")),
    "envoy": ("X-Forwarded-Client-Cert", lambda one: f'Hash=00;Cert="{quote(one.pem, safe="")}";Subject="CN=a, O=b"'),
    "haproxy": ("X-SSL-Client-Der", _base64),
    "traefik": ("X-Forwarded-Tls-Client-Cert", _base64),
    "caddy": ("X-Tls-Client-Der", _base64),
}


def written(dialect: str, one: CallerCertificate) -> tuple[str, str]:
    """The header line of a proxy."""
    name, write = WRITTEN[dialect]
    return name, write(one)
