"""A certificate for loopback that nobody trusts unless told to."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def self_signed(
    folder: Path, addresses: Sequence[str] = ("127.0.0.1",), names: Sequence[str] = (), *, with_rsa: bool = False
) -> tuple[Path, Path]:
    """Two PEM files: the certificate alone, to be trusted as its own authority, and the certificate with its key."""
    key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "groat test")]), datetime.now(UTC)
    known = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(address)) for address in addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, authority, both = serialization.Encoding.PEM, folder / "ca.pem", folder / "server.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    authority.write_bytes(certificate.public_bytes(pem))
    both.write_bytes(certificate.public_bytes(pem) + secret)
    return authority, both


def serving(both: Path) -> ssl.SSLContext:
    """The context of a server with this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context
