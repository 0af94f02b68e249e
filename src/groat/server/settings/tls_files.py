"""The certificate and key that `groat serve` speaks https with, read again while it runs."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from groat.keys.files import read_private_file
from groat.protocol.errors import ConfigError

# For TLS 1.2 what RFC 9325 4.2 recommends, which is all that FAPI 2.0 5.2.2 allows; TLS 1.3 has good ones only.
TLS12_SUITES: Final = "ECDHE+AESGCM"


def _no_passphrase() -> str:
    """A key that needs one is refused, never asked about on a terminal that is not there."""
    return ""


@dataclass(slots=True)
class TlsFiles:
    """Both files, and the contexts of this process that were made from them; goes to the workers when they start.

    `authorities`: whose certificates callers may show, if they are asked for any. Python's ssl lets none through that
    OpenSSL finds no way to from these; the certificates themselves may stand in the file, too. Not checked: the names
    in the certificate and its dates.
    """

    certificate: Path
    key: Path
    authorities: Path | None = None
    _contexts: list[ssl.SSLContext] = field(default_factory=list, repr=False)

    def check(self) -> None:
        """Try both. Raises ConfigError: not readable, readable by others, not a pair."""
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def context(self, _settings: object, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """What uvicorn asks for at its start: TLS 1.3, or 1.2 with the suites of RFC 9325 alone."""
        context = make()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(TLS12_SUITES)
        if self.authorities is not None:
            self._ask(context, self.authorities)
        self._contexts.append(context)
        return context

    def renew(self) -> str:
        """Use what is in the files now for every later handshake; returns when it runs out (RFC 3339).

        Raises ConfigError like check(), and nothing has changed then. Open connections go on as they are. An authority
        that is gone from the file counts in handshakes until a restart: a context forgets none.
        """
        self.check()
        for context in self._contexts:
            self._load(context)
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc.isoformat()

    def _load(self, context: ssl.SSLContext) -> None:
        read_private_file(self.key)
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not usable"
            where = f"server.tls_certificate_file {self.certificate} with tls_key_file {self.key}"
            raise ConfigError(f"{where}: {reason}") from None
        if self.authorities is not None:
            self._ask(context, self.authorities)

    def _ask(self, context: ssl.SSLContext, authorities: Path) -> None:
        """Ask callers for certificates; who has none is served as anybody."""
        context.verify_mode = ssl.CERT_OPTIONAL
        # So that an authority below another one, or a certificate itself, is enough.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(authorities)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "has no certificate in PEM"
            raise ConfigError(f"tls.client_ca_file {authorities}: {reason}") from None
