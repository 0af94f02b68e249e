"""Whether a certificate leads to an authority that an operator named for a client (RFC 8705 2.1, RFC 5280 6.1).

groat checks this itself, whatever who terminated TLS says of it. The path is what `cryptography` finds and checks:
signatures, names, times, basic constraints, path length, name constraints, critical extensions that nobody knows. What
is added here: what the certificate may be used for. Not checked here: revocation (`crl.py`).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from groat.protocol.client_certificate import ClientCertificate, parse_certificate
from groat.protocol.errors import CertificateError
from groat.protocol.jwk import decoy_key

MAX_DEPTH: Final = 4  # authorities between the certificate and one that is trusted


@dataclass(frozen=True, slots=True)
class Path:
    """A way that was found. `begin`, `end`: from when to when all of it is valid, in epoch seconds.

    `chain`: from the leaf to the authority.
    """

    begin: float
    end: float
    chain: Sequence[x509.Certificate] = field(repr=False)


def leads_to_any(certificate: ClientCertificate, authorities: Sequence[x509.Certificate]) -> bool:
    """Whether an authority has signed the certificate, or one that came along; costs the same if there is none.

    So a refusal takes the same time whoever is registered, with whichever authority: each certificate costs the check
    of one signature, by the key of the authority that has the name of its issuer, or by a decoy. Nothing else is
    checked, so a yes says no more than that it is worth to look for a path. Raises CertificateError.
    """
    found = False
    for one in map(parse_certificate, (certificate.der, *certificate.chain)):
        named = [issuer.public_key() for issuer in authorities if issuer.subject == one.issuer]
        keys = [key for key in named if _fits(one, key)]
        signed = [_signed(one, key) for key in keys or (_decoy(one),)]
        found = found or (bool(keys) and any(signed))
    return found


def find_path(certificate: ClientCertificate, authorities: Sequence[x509.Certificate], now: float) -> Path:
    """The way to one of the authorities. Raises CertificateError with what is in its way."""
    leaf = parse_certificate(certificate.der)
    along = [parse_certificate(der) for der in certificate.chain]
    moment = leaf.not_valid_before_utc
    try:
        verifier = (
            PolicyBuilder()
            .store(Store(list(authorities)))
            .time(moment.fromtimestamp(now, moment.tzinfo))
            .max_chain_depth(MAX_DEPTH)
            .extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
            .build_client_verifier()
        )
        chain = verifier.verify(leaf, along).chain
    except (VerificationError, ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise CertificateError("untrusted", _why(leaf, now, error)) from None
    return Path(
        max(one.not_valid_before_utc.timestamp() for one in chain),
        min(one.not_valid_after_utc.timestamp() for one in chain),
        tuple(chain),
    )


def time_fault(certificate: x509.Certificate, now: float) -> str:
    """Why it is not valid at this moment, as a sentence; empty where it is."""
    if now > certificate.not_valid_after_utc.timestamp():
        return f"it ended at {certificate.not_valid_after_utc.isoformat()}"
    if now < certificate.not_valid_before_utc.timestamp():
        return f"it begins at {certificate.not_valid_before_utc.isoformat()}"
    return ""


def _why(leaf: x509.Certificate, now: float, error: Exception) -> str:
    if fault := time_fault(leaf, now):
        return fault
    for sentence in (_NO_SIGNATURES, _NO_CLIENT, _NO_LEAF):
        if sentence in str(error):
            return sentence
    return str(error).partition(" (encountered")[0][:200]


_NO_SIGNATURES: Final = "its key usage has no digitalSignature"
_NO_CLIENT: Final = "its extended key usage has no clientAuth"
_NO_LEAF: Final = "it is that of an authority"


def _may_sign(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.digital_signature:
        raise ValueError(_NO_SIGNATURES)


def _may_authenticate(policy: Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise ValueError(_NO_CLIENT)


def _is_leaf(policy: Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError(_NO_LEAF)


def _may_certify(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key usage of an authority has no keyCertSign")


_ANY: Final = Criticality.AGNOSTIC
# Less than browsers ask of servers: authorities of one's own often leave out what nobody needs.
_LEAF: Final = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.KeyUsage, _ANY, _may_sign)
    .may_be_present(x509.ExtendedKeyUsage, _ANY, _may_authenticate)
    .may_be_present(x509.BasicConstraints, _ANY, _is_leaf)
)
_AUTHORITY: Final = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, _ANY, None)
    .may_be_present(x509.KeyUsage, _ANY, _may_certify)
)


def _signed(one: x509.Certificate, key: Any) -> bool:
    """Whether this key made the signature of the certificate; whose name stands in it does not matter."""
    with contextlib.suppress(InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        digest: Any = one.signature_hash_algorithm
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(one.signature, one.tbs_certificate_bytes, ec.ECDSA(digest))
            return True
        if isinstance(key, rsa.RSAPublicKey):
            how: Any = one.signature_algorithm_parameters
            key.verify(one.signature, one.tbs_certificate_bytes, how, digest)
            return True
    return False


def _fits(one: x509.Certificate, key: Any) -> bool:
    """Whether it takes a look at the key to find out that it did not make this signature."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size == len(one.signature) * 8 and one.signature_algorithm_oid in _RSA
    return isinstance(key, ec.EllipticCurvePublicKey) and one.signature_algorithm_oid not in _RSA


def _decoy(one: x509.Certificate) -> Any:
    if one.signature_algorithm_oid not in _RSA:
        return decoy_key("ES256").native
    bits = len(one.signature) * 8
    return decoy_key("RS256", bits if bits in _DECOY_BITS else _DECOY_BITS[0]).native


_DECOY_BITS: Final = (2048, 3072, 4096)
_RSA: Final = frozenset({
    SignatureAlgorithmOID.RSA_WITH_SHA256, SignatureAlgorithmOID.RSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512, SignatureAlgorithmOID.RSASSA_PSS,
})  # fmt: skip
