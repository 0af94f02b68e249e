"""Lists of revoked certificates: which count, whom they are about, and which are not read at all."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from groat.protocol.crl import MAX_CRL_BYTES, read_lists
from groat.protocol.errors import CertificateError
from tests.certificates import Issued, Wish, issued, revoking

from .builders import NOW

AT = datetime.fromtimestamp(NOW, UTC)
ROOT = issued(Wish("CN=root", authority=True), now=AT)
MIDDLE = issued(Wish("CN=middle", authority=True), ROOT, AT)
NAMESAKE = issued(Wish("CN=root", authority=True), now=AT)
MUTE = issued(Wish("CN=mute", authority=True, key_usage={"key_cert_sign": True}), now=AT)
LEAF, OTHER = (issued(Wish(f"CN={name}"), ROOT, AT) for name in ("leaf", "other"))
BELOW = issued(Wish("CN=below"), MIDDLE, AT)
HOUR = 3600


def judged(raw: bytes, chain: Sequence[Issued], now: float = NOW) -> str:
    """The reason of the refusal; empty where the chain counts."""
    try:
        read_lists(raw).check([one.certificate for one in chain], now)
    except CertificateError as error:
        return error.reason
    return ""


@pytest.mark.rule("AS-MT-12")
def test_what_is_in_a_list() -> None:
    """By its number and its own issuer: the leaf, or an authority on the way; of others nothing is known."""
    assert judged(revoking(ROOT, LEAF, OTHER, at=AT), [LEAF, ROOT]) == "revoked"
    assert judged(revoking(ROOT, OTHER, at=AT), [LEAF, ROOT]) == ""
    assert judged(revoking(ROOT, MIDDLE, at=AT), [BELOW, MIDDLE, ROOT]) == "revoked"
    assert judged(revoking(ROOT, MIDDLE, at=AT), [BELOW, MIDDLE]) == "", "the operator trusts that one itself"
    assert judged(revoking(MIDDLE, BELOW, at=AT), [LEAF, ROOT]) == ""
    both = revoking(MIDDLE, BELOW, at=AT) + b"text between them\n" + revoking(ROOT, LEAF, at=AT)
    assert [judged(both, chain) for chain in ([LEAF, ROOT], [BELOW, MIDDLE, ROOT], [OTHER, ROOT])] == [
        "revoked", "revoked", "",
    ]  # fmt: skip
    der = x509.load_pem_x509_crl(revoking(ROOT, LEAF, at=AT)).public_bytes(Encoding.DER)
    assert judged(der, [LEAF, ROOT]) == "revoked"


@pytest.mark.rule("AS-MT-12")
def test_lists_that_do_not_count() -> None:
    """Over, not begun, by another key of that name, by a key that may sign none: then nobody of that authority does."""
    good = revoking(ROOT, at=AT)
    assert [judged(good, [LEAF, ROOT], NOW + later) for later in (-HOUR - 1, -HOUR, HOUR, HOUR + 1)] == [
        "stale", "", "", "stale",
    ]  # fmt: skip
    assert judged(good, [BELOW, MIDDLE], NOW + 2 * HOUR) == "", "it is of another authority"
    assert judged(revoking(NAMESAKE, at=AT), [LEAF, ROOT]) == "stale"
    assert judged(revoking(NAMESAKE, at=AT) + good, [LEAF, ROOT]) == ""
    assert judged(revoking(MUTE, at=AT), [issued(Wish(), MUTE, AT), MUTE]) == "stale"
    assert judged(good + revoking(ROOT, at=AT, ends=-timedelta(minutes=1)), [LEAF, ROOT]) == "stale", (
        "one of two is over"
    )


POINT = {"full_name": None, "relative_name": None, "only_contains_user_certs": False, "only_contains_ca_certs": False,
         "only_some_reasons": None, "indirect_crl": False, "only_contains_attribute_certs": False}  # fmt: skip


@pytest.mark.rule("AS-MT-12")
def test_what_is_not_read() -> None:
    """Parts of a list, lists by somebody else, no lists at all, too much; a place of distribution is none of these."""
    place = [x509.UniformResourceIdentifier("https://ca.example/crl")]
    whole = revoking(ROOT, LEAF, at=AT, critical=[x509.IssuingDistributionPoint(**{**POINT, "full_name": place})])  # type: ignore[arg-type]
    assert judged(whole, [LEAF, ROOT]) == "revoked"
    indirect = x509.IssuingDistributionPoint(**{**POINT, "indirect_crl": True})  # type: ignore[arg-type]
    some = x509.IssuingDistributionPoint(**{**POINT, "only_some_reasons": frozenset([x509.ReasonFlags.key_compromise])})  # type: ignore[arg-type]
    for raw in (
        revoking(ROOT, at=AT, critical=[x509.DeltaCRLIndicator(1)]),
        revoking(ROOT, at=AT, critical=[indirect]),
        revoking(ROOT, at=AT, critical=[some]),
        LEAF.pem,
        b"",
        b"0" * 100,
        revoking(ROOT, at=AT).replace(b"\nMI", b"\nXX"),
        revoking(ROOT, at=AT) + b" " * MAX_CRL_BYTES,
    ):
        with pytest.raises(CertificateError) as error:
            read_lists(raw)
        assert error.value.reason == "malformed"
