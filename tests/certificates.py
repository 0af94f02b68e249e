"""A certificate for loopback that nobody trusts unless told to."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID


def self_signed(
    folder: Path,
    addresses: Sequence[str] = ("127.0.0.1",),
    names: Sequence[str] = (),
    *,
    with_rsa: bool = False,
    common_name: str = "groat test",
) -> tuple[Path, Path]:
    """Two PEM files: the certificate alone, to be trusted as its own authority, and the certificate with its key."""
    key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), datetime.now(UTC)
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


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, and whoever it can sign for."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Two PEM files: certificate and key."""
        secret = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(self.pem)
        (folder / f"{name}.key.pem").write_bytes(secret)
        return folder / f"{name}.pem", folder / f"{name}.key.pem"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate is to be like."""

    name: str = "CN=client"
    names: Sequence[x509.GeneralName] = ()
    authority: bool = False
    usages: Sequence[x509.ObjectIdentifier] | None = None
    key_usage: Mapping[str, bool] | None = None
    begins: timedelta = timedelta(hours=-1)
    ends: timedelta = timedelta(hours=1)
    path_length: int | None = None
    key: CertificateIssuerPrivateKeyTypes | None = None


def revoking(
    by: Issued,
    *taken_back: Issued,
    at: datetime,
    ends: timedelta = timedelta(hours=1),
    critical: Sequence[x509.ExtensionType] = (),
) -> bytes:
    """A list of this authority in PEM, from an hour before to `ends` after that moment."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(at - timedelta(hours=1))
        .next_update(at + ends)
    )
    for one in taken_back:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(at)
        builder = builder.add_revoked_certificate(entry.build())
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def issued(wish: Wish, by: Issued | None = None, now: datetime | None = None) -> Issued:
    """A certificate, signed by that one or by itself."""
    key, now = wish.key or ec.generate_private_key(ec.SECP256R1()), now or datetime.now(UTC)
    subject = x509.Name.from_rfc4514_string(wish.name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + wish.begins)
        .not_valid_after(now + wish.ends)
    )
    if wish.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(wish.names), critical=False)
    if wish.authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=wish.path_length), critical=True)
    if wish.usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.usages), critical=False)
    if wish.key_usage is not None:
        bits = {one: wish.key_usage.get(one, False) for one in _KEY_USAGES}
        builder = builder.add_extension(x509.KeyUsage(**bits), critical=True)
    signer = by.key if by else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, digest), key)
