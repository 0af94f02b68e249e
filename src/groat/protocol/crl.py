"""Which certificates their authorities have taken back (RFC 5280 5, 6.3): the lists that an operator keeps in a file.

An authority that has a list here is believed about its certificates only while that list counts; one that has none is
believed as ever. Not understood, and refused: lists of changes alone (5.2.4), of some reasons, or by somebody else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from groat.protocol.errors import CertificateError
from groat.protocol.jwk import printable

MAX_CRL_BYTES: Final = 4 * 1024 * 1024  # about a hundred thousand certificates
REVOKED, STALE = "revoked", "stale"
_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"
_SEQUENCE: Final = b"0"  # the tag that a list in DER begins with


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One list, as its authority has signed it; by whose key is proven when it is asked. Times: epoch seconds."""

    crl: x509.CertificateRevocationList = field(repr=False)
    serials: frozenset[int] = field(repr=False)
    begins: float
    ends: float

    def fault(self, now: float) -> str:
        """Why it says nothing of this moment; empty where it does."""
        if now > self.ends:
            return f"ended at {_moment(self.crl.next_update_utc)}: put a newer one into the file"
        return f"begins at {_moment(self.crl.last_update_utc)}" if now < self.begins else ""


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """All that is known. `fault`: why nothing could be read, so that nobody is believed."""

    lists: Sequence[RevocationList] = ()
    fault: str = ""
    _proven: dict[tuple[int, bytes], bool] = field(default_factory=dict, repr=False)  # a signature is checked once

    def check(self, chain: Sequence[x509.Certificate], now: float) -> None:
        """Raise CertificateError if one of this proven chain, from the leaf upwards, was taken back ("revoked").

        Or if that cannot be told, though its authority has a list here ("stale").
        """
        if self.fault:
            raise CertificateError(STALE, self.fault)
        for one, issuer in pairwise(chain):
            named = [found for found in self.lists if found.crl.issuer == issuer.subject]
            own = [found for found in named if self._is_of(found, issuer)]
            name = printable(issuer.subject.rfc4514_string())
            if named and not own:
                raise CertificateError(STALE, f"no list in the name of {name} is signed by its key, for signing lists")
            for found in own:
                if fault := found.fault(now):
                    raise CertificateError(STALE, f"the list of {name} {fault}")
                if one.serial_number in found.serials:
                    raise CertificateError(REVOKED, f"{name} has taken back its certificate {one.serial_number:x}")

    def _is_of(self, found: RevocationList, issuer: x509.Certificate) -> bool:
        known = id(found), issuer.tbs_certificate_bytes
        if known not in self._proven:
            self._proven[known] = _signs_lists(issuer) and _signed(found.crl, issuer)
        return self._proven[known]


class Revocations(Protocol):
    """Where the lists are had from, as they are now."""

    def current(self) -> RevocationLists: ...

    def check(self) -> None:
        """Raises ConfigError where nothing can be read."""


class NoRevocations:
    """Where an operator keeps no lists."""

    def current(self) -> RevocationLists:
        return _NOTHING

    def check(self) -> None:
        return


_NOTHING: Final = RevocationLists()


def read_lists(raw: bytes) -> RevocationLists:
    """The lists of a file: PEM, one behind the other, or one in DER. Raises CertificateError."""
    if len(raw) > MAX_CRL_BYTES:
        raise CertificateError("malformed", f"it has more than {MAX_CRL_BYTES} bytes")
    blocks = [raw] if raw[:1] == _SEQUENCE else list(_blocks(raw))
    if not blocks:
        raise CertificateError("malformed", "it has no X509 CRL in PEM")
    return RevocationLists([_list(block) for block in blocks])


def _blocks(raw: bytes) -> Iterator[bytes]:
    _, *parts = raw.split(_BEGIN)
    for part in parts:
        yield _BEGIN + part.partition(_END)[0] + _END + b"\n"


def _list(block: bytes) -> RevocationList:
    load = x509.load_der_x509_crl if block[:1] == _SEQUENCE else x509.load_pem_x509_crl
    try:
        crl = load(block)
        ends, unknown = crl.next_update_utc, [one for one in crl.extensions if one.critical and _odd(one.value)]
        serials = frozenset(one.serial_number for one in crl)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise CertificateError("malformed", "it has what is no list of revoked certificates") from None
    if ends is None:
        raise CertificateError("malformed", "a list does not say when the next one comes (nextUpdate)")
    if unknown:
        what = unknown[0].oid.dotted_string
        raise CertificateError("malformed", f"a list is not a whole one, or by somebody else (critical {what})")
    return RevocationList(crl, serials, crl.last_update_utc.timestamp(), ends.timestamp())


def _odd(extension: x509.ExtensionType) -> bool:
    """Whether this critical extension makes it another list than one authority's of all reasons."""
    if not isinstance(extension, x509.IssuingDistributionPoint):
        return True
    return extension.indirect_crl or bool(extension.only_some_reasons) or extension.only_contains_attribute_certs


def _signs_lists(issuer: x509.Certificate) -> bool:
    """RFC 5280 6.3.3 (f)."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # of what else, TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _moment(at: Any) -> str:
    return "" if at is None else str(at.isoformat())


__all__ = ["MAX_CRL_BYTES", "REVOKED", "STALE", "NoRevocations", "RevocationLists", "Revocations", "read_lists"]
