"""The certificate by which a caller proved, in the TLS handshake, that he holds a key (RFC 8705).

For whoever was called: an authorization server, which binds its token to the certificate, and an API, which wants the
one that a token is bound to. Whether the handshake took place is known to who terminated TLS: a connection of one's
own, or a proxy (`certificate_headers.py`). Not checked here: times, chain, names, revocation.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509

from groat.protocol.binding import Confirmation
from groat.protocol.errors import CertificateError
from groat.protocol.jwk import base64url_encode

MAX_CERTIFICATE_BYTES: Final = 8192  # of DER; one of RSA 4096 with twenty names has 3,000
MAX_CHAIN: Final = 6  # that come along with a leaf
_PEM: Final = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----[\r\n]+([A-Za-z0-9+/=\r\n]+)[\r\n]-----END CERTIFICATE-----\s*"
)
_SEQUENCE: Final = b"0"  # the tag that a certificate in DER begins with
_PEM_LABEL: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The leaf that the caller holds the key of, in DER, as it came.

    `chain`: what came along, in DER, from its issuer upwards; anybody may have written that. `thumbprint`: SHA-256 of
    the leaf alone, in base64url, as `x5t#S256` has it (RFC 8705 3.1).
    """

    der: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False, compare=False)
    thumbprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thumbprint", certificate_thumbprint(self.der))

    def has(self, thumbprint: str) -> bool:
        """Whether this is its thumbprint; takes the same time whatever differs."""
        return hmac.compare_digest(self.thumbprint.encode(), thumbprint.encode())

    @property
    def confirmation(self) -> Confirmation:
        """What a token is bound to that is given to the holder of this certificate."""
        return Confirmation(x5t_s256=self.thumbprint)


@dataclass(frozen=True, slots=True)
class Presented:
    """What of a certificate came with a request. `fault`: why none could be read from what came, for the log."""

    certificate: ClientCertificate | None = None
    fault: str = ""


NOTHING: Final = Presented()
# For the hint of whoever misses one on a server that can have none.
NOT_HERE: Final = ". This server takes none yet: tls.client_certificates, or [[server.proxy]] for a proxy in front"


def certificate_thumbprint(der: bytes) -> str:
    """`x5t#S256` of a certificate in DER (RFC 8705 3.1): SHA-256, in base64url."""
    return base64url_encode(hashlib.sha256(der).digest()).decode()


def read_certificate(value: bytes | str, chain: Iterable[bytes] = ()) -> ClientCertificate:
    """One certificate, in DER or as one block of PEM. Raises CertificateError("malformed").

    `chain`: in DER; looked at when somebody builds a chain of it.
    """
    raw = value.encode("ascii", "replace") if isinstance(value, str) else value
    return certificate_from(raw if raw[:1] == _SEQUENCE else decode_pem(raw), chain)


def certificate_from(der: bytes, chain: Iterable[bytes] = ()) -> ClientCertificate:
    """The same from DER alone. Raises CertificateError("malformed")."""
    parse_certificate(der)
    return ClientCertificate(der, tuple(chain)[:MAX_CHAIN])


def decode_pem(text: bytes) -> bytes:
    """The bytes of the one block of PEM in this text (RFC 7468 5). Raises CertificateError("malformed")."""
    if text.count(_PEM_LABEL) > 1:
        raise CertificateError("malformed", "there are several certificates where the leaf alone belongs")
    block = _PEM.fullmatch(text)
    if block is None:
        raise CertificateError("malformed", "this is no certificate in PEM")
    return decode_base64(block[1].translate(None, b"\r\n"))


def decode_base64(text: bytes) -> bytes:
    """base64 with its padding, strictly (RFC 4648 4). Raises CertificateError("malformed")."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raw = b""
    # The decoder passes over bits that nothing uses, by which one certificate had several spellings.
    if not raw or base64.b64encode(raw) != text:
        raise CertificateError("malformed", "a certificate is not in base64 as RFC 4648 4 has it")
    return raw


def parse_certificate(der: bytes) -> x509.Certificate:
    """What stands in these bytes: one certificate, and nothing behind it. Raises CertificateError("malformed")."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise CertificateError("malformed", f"a certificate has {len(der)} bytes, {MAX_CERTIFICATE_BYTES} at most")
    try:
        found = x509.load_der_x509_certificate(der)
        # Read late otherwise, and written by whoever made it: nobody else need expect that a name cannot be read.
        _ = found.issuer, found.subject, found.not_valid_before_utc, found.not_valid_after_utc
    except (ValueError, TypeError, x509.InvalidVersion):
        raise CertificateError("malformed", "these bytes are no X.509 certificate in DER") from None
    return found
