"""By what name of a certificate a client is known (RFC 8705 2.1.2): how it is registered, and how it is compared.

Exactly one name of one kind counts, letter by letter but where a name has no case. The common name is no such name.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509

from groat.protocol.client_certificate import decode_base64, parse_certificate
from groat.protocol.differences import shown
from groat.protocol.errors import CertificateError, ConfigError
from groat.protocol.uris import is_absolute

MAX_CERTIFICATES: Final = 8
_SPIFFE: Final = "spiffe://"
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_DNS: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_EMAIL: Final = re.compile(r"[!-?A-~]{1,64}@([!-?A-~]{1,255})")


def read_certificates(value: Any) -> tuple[str, ...]:
    """Certificates in DER and base64, as x5c has them (RFC 7517 4.7). Raises ConfigError, TypeError."""
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise TypeError
    found = tuple(value)
    if len(found) > MAX_CERTIFICATES:
        raise ConfigError(f"a client has {MAX_CERTIFICATES} certificates at most, and as many authorities")
    try:
        for one in found:
            parse_certificate(decode_base64(one.encode()))
    except CertificateError as error:
        raise ConfigError(error.hint) from None
    return found


def or_none(read: Callable[[str], str]) -> Callable[[Any], str | None]:
    """A reader that takes the empty text for none; what is no text raises TypeError."""

    def name(value: Any) -> str | None:
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            raise TypeError
        return read(value)

    return name


def read_dns(value: str) -> str:
    """A DNS name, in lower case; names have no case in ASCII. Raises ConfigError, for one with a wildcard, too."""
    if "*" in value:
        raise ConfigError(f"certificate_dns must be one whole name, not {shown(value)}: there are no wildcards")
    if not value.isascii() or _DNS.fullmatch(value.lower()) is None:
        raise ConfigError(f"certificate_dns must be a DNS name such as billing.example.com, not {shown(value)}")
    return value.lower()


def read_uri(value: str) -> str:
    """A URI, compared letter by letter. Raises ConfigError."""
    if not value.isascii() or not is_absolute(value):
        raise ConfigError(f"certificate_uri must be an absolute URI such as spiffe://prod/billing, not {shown(value)}")
    return value


def read_dn(value: str) -> str:
    """A distinguished name as RFC 4514 writes it, which begins with what is nearest: CN=billing,O=Example."""
    try:
        name = x509.Name.from_rfc4514_string(value)
    except ValueError:
        name = x509.Name([])
    if not name.rdns:
        raise ConfigError(f"certificate_dn must be a name as CN=billing,O=Example (RFC 4514), not {shown(value)}")
    return name.rfc4514_string()


def read_ip(value: str) -> str:
    """An address; its spellings are one address. Raises ConfigError."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigError(f"certificate_ip must be an address, not {shown(value)}") from None


def read_email(value: str) -> str:
    """A mailbox, its domain in lower case: before the @ every letter counts. Raises ConfigError."""
    if _EMAIL.fullmatch(value) is None:
        raise ConfigError(f"certificate_email must be a mailbox such as billing@example.com, not {shown(value)}")
    local, _, domain = value.rpartition("@")
    return f"{local}@{domain.lower()}"


def _among(kind: type[x509.GeneralName]) -> Callable[[x509.Certificate, str], bool]:
    def found(certificate: x509.Certificate, value: str) -> bool:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return any(_normal(kind, str(one.value)) == value for one in names if isinstance(one, kind))

    return found


def _has_uri(certificate: x509.Certificate, value: str) -> bool:
    """A SPIFFE ID counts in an X.509-SVID alone, which has no second URI and signs no certificates."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = [str(one.value) for one in names if isinstance(one, x509.UniformResourceIdentifier)]
    if not value.startswith(_SPIFFE):
        return value in uris
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    return uris == [value] and usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign


def _normal(kind: type[x509.GeneralName], value: str) -> str:
    if kind is x509.DNSName:
        return value.lower()
    local, at, domain = value.rpartition("@")
    return f"{local}{at}{domain.lower()}" if kind is x509.RFC822Name else value


# The settings of a client that may hold its one name, and whether a certificate has it.
NAMES: Final[Mapping[str, Callable[[x509.Certificate, str], bool]]] = MappingProxyType(
    {
        "certificate_dns": _among(x509.DNSName),
        "certificate_uri": _has_uri,
        # Attribute by attribute, in their order: how it is written does not matter.
        "certificate_dn": lambda found, value: found.subject == x509.Name.from_rfc4514_string(value),
        "certificate_ip": _among(x509.IPAddress),
        "certificate_email": _among(x509.RFC822Name),
    }
)


def has_name(certificate: x509.Certificate, setting: str, value: str) -> bool:
    """Whether the certificate has this name, as one of `read_` has written it."""
    try:
        return setting in NAMES and NAMES[setting](certificate, value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
