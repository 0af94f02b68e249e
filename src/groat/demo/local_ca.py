"""A certificate authority for one set of containers: it vouches for their names alone, and for nothing elsewhere.

For demos and test benches; a real deployment has certificates of its own authority. Not here: revocation.
"""

import datetime
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from groat.keys.files import read_private_file
from groat.protocol.errors import ConfigError

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 397
RENEW_DAYS: Final = 30
_DAY: Final = datetime.timedelta(days=1)
_SIGNING: Final = {"key_cert_sign": True, "crl_sign": True, "digital_signature": False}
_SERVING: Final = {"key_cert_sign": False, "crl_sign": False, "digital_signature": True}


@dataclass(frozen=True, slots=True)
class LocalCa:
    """The authority: its certificate, which everybody may have, and its key, which stays with the bootstrapper."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def ensure(
        cls, certificate: Path, key: Path, names: Sequence[str], now: datetime.datetime
    ) -> tuple["LocalCa", bool]:
        """Read the authority, or make it where it is missing, runs out, or vouches for other names; True if made."""
        found = cls._read(certificate, key)
        if found is not None and _good(found.certificate, now) and _permitted(found.certificate) == set(names):
            return found, False
        made = cls._make(names, now)
        _replace(key, _key_pem(made.key), 0o600)
        _replace(certificate, made.certificate.public_bytes(Encoding.PEM), 0o644)
        return made, True

    @classmethod
    def _read(cls, certificate: Path, key: Path) -> "LocalCa | None":
        if not certificate.exists() or not key.exists():
            return None
        found, secret = _read_certificate(certificate), load_pem_private_key(read_private_file(key), None)
        if not isinstance(secret, ec.EllipticCurvePrivateKey) or not _belongs(found, secret):
            return None  # the certificate of another key: a run that was cut short
        return cls(found, secret)

    @classmethod
    def _make(cls, names: Sequence[str], now: datetime.datetime) -> "LocalCa":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"groat local CA {secrets.token_hex(4)}")])
        # Whoever trusts this authority trusts it for these names only.
        limits = x509.NameConstraints([x509.DNSName(name) for name in names], None)
        certificate = (
            _builder(name, name, key.public_key(), now, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(_SIGNING), critical=True)
            .add_extension(limits, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def ensure_server(self, directory: Path, names: Sequence[str], now: datetime.datetime) -> bool:
        """Make tls.pem and tls.key.pem for these names unless good ones are there; True if made."""
        return self._ensure(directory, names, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def ensure_caller(self, directory: Path, name: str, now: datetime.datetime) -> bool:
        """The same for who shows it to servers, and may be none."""
        return self._ensure(directory, [name], ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _ensure(
        self, directory: Path, names: Sequence[str], usage: x509.ObjectIdentifier, now: datetime.datetime
    ) -> bool:
        certificate, key = directory / "tls.pem", directory / "tls.key.pem"
        if certificate.exists() and key.exists() and self._vouches(certificate, key, names, now):
            return False
        secret = ec.generate_private_key(ec.SECP256R1())
        common_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        signed = (
            _builder(common_name, self.certificate.subject, secret.public_key(), now, SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(_SERVING), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _replace(key, _key_pem(secret), 0o600)
        _replace(certificate, signed.public_bytes(Encoding.PEM), 0o644)
        return True

    def _vouches(self, certificate: Path, key: Path, names: Sequence[str], now: datetime.datetime) -> bool:
        found, secret = _read_certificate(certificate), load_pem_private_key(read_private_file(key), None)
        try:
            found.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        listed = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        same = set(listed.get_values_for_type(x509.DNSName)) == set(names)
        return same and _good(found, now) and isinstance(secret, ec.EllipticCurvePrivateKey) and _belongs(found, secret)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # clocks differ
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(given: dict[str, bool]) -> x509.KeyUsage:
    never = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    return x509.KeyUsage(**dict.fromkeys((*never, "decipher_only"), False), **given)


def _good(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_DAYS * _DAY


def _permitted(certificate: x509.Certificate) -> set[str]:
    limits = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    return {str(name.value) for name in limits.permitted_subtrees or ()}


def _belongs(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise ConfigError(f"{path} is no certificate; move it away and run again") from None


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place as a whole. Raises ConfigError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
