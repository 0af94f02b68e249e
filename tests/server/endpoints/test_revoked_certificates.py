"""tls.client_crl_file at the token endpoint: what it says now, without a signal, and what happens where it says nothing."""

import os
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509

from groat.protocol.errors import ConfigError
from groat.server.settings.crl_file import CrlFile
from tests.certificates import Issued, Wish, issued, revoking
from tests.server.builders import NOW, decoded
from tests.server.lab import Lab
from tests.server.wire import check_ok

from .test_certificates import AT, BILLING, ROOT, behind, by_certificate, check_nobody, register, text

LISTED = behind("rfc9440") + '[tls]\nclient_crl_file = "ca.crl"\n'


@pytest.mark.rule("AS-MT-12")
def test_the_file_is_followed(fresh_lab: Callable[..., Lab]) -> None:
    """Revoked; not any more; over; gone, and written by halves: the last good list goes on until it ends."""
    lab = fresh_lab(settings=LISTED)
    register(lab, "named", certificate_ca=(text(ROOT),), certificate_dns="billing.example")
    own, file = issued(Wish(names=[BILLING]), ROOT, AT), lab.directory / "ca.crl"

    def listed(raw: bytes) -> None:
        (lab.directory / "new").write_bytes(raw)
        os.replace(lab.directory / "new", file)

    assert "No such file" in check_nobody(lab, by_certificate(lab, "named", own), "certificate_list")
    listed(revoking(ROOT, own, at=AT))
    hint = check_nobody(lab, by_certificate(lab, "named", own), "certificate_revoked")
    assert f"{own.certificate.serial_number:x}" in hint
    listed(revoking(ROOT, issued(Wish(), ROOT, AT), at=AT, ends=timedelta(minutes=30)))
    check_ok(by_certificate(lab, "named", own))
    for gone in (False, True):
        if gone:
            file.unlink()
        else:
            listed(b"half of it")
        check_ok(by_certificate(lab, "named", own))
        with lab.clock.at(NOW + 1801):
            fresh = issued(Wish(names=[BILLING]), ROOT, AT)
            assert "put a newer one" in check_nobody(lab, by_certificate(lab, "named", fresh), "certificate_list")


@pytest.mark.rule("AS-MT-12")
def test_what_the_file_is_not_about(fresh_lab: Callable[..., Lab]) -> None:
    """A certificate that is registered itself, and one of another authority; refusals look alike."""
    lab, other = fresh_lab(settings=LISTED), issued(Wish("CN=other", authority=True), now=AT)
    own, theirs = issued(Wish("CN=own"), ROOT, AT), issued(Wish(names=[x509.DNSName("their.example")]), other, AT)
    register(lab, "itself", certificates=(text(own),))
    register(lab, "theirs", certificate_ca=(text(other),), certificate_dns="their.example")
    (lab.directory / "ca.crl").write_bytes(revoking(ROOT, own, at=AT))
    check_ok(by_certificate(lab, "itself", own))
    check_ok(by_certificate(lab, "theirs", theirs))
    (lab.directory / "ca.crl").write_bytes(revoking(other, theirs, own, at=AT))
    refused = by_certificate(lab, "theirs", theirs)
    check_nobody(lab, refused, "certificate_revoked")
    assert refused.body == by_certificate(lab, "nobody", theirs).body


@pytest.mark.rule("AS-SP-04")
def test_a_workload_by_its_svid(fresh_lab: Callable[..., Lab]) -> None:
    """The client may be named as the workload is; an SVID of another, or an authority's, is nobody."""
    lab, name = fresh_lab(settings=behind("rfc9440")), "spiffe://prod.example/billing"
    register(lab, name, certificate_ca=(text(ROOT),), certificate_uri=name)
    usage = {"digital_signature": True}

    def svid(uri: str, *, authority: bool = False) -> Issued:
        return issued(Wish("O=SPIRE", [x509.UniformResourceIdentifier(uri)], authority, key_usage=usage), ROOT, AT)

    assert decoded(check_ok(by_certificate(lab, name, svid(name)))["access_token"])[1]["sub"] == name
    check_nobody(lab, by_certificate(lab, name, svid("spiffe://prod.example/other")), "certificate_name")
    check_nobody(lab, by_certificate(lab, name, svid(name, authority=True)), "certificate_untrusted")
    check_nobody(lab, by_certificate(lab, "spiffe://prod.example/other", svid(name)), "client_unknown")


def test_a_start_wants_a_list(fresh_lab: Callable[..., Lab]) -> None:
    """Whoever names a file has one when the server starts and when it reads its settings again."""
    lab = fresh_lab(settings=LISTED)
    for raw, said in ((None, "No such file"), (b"x", "has no X509 CRL")):
        if raw is not None:
            (lab.directory / "ca.crl").write_bytes(raw)
        with pytest.raises(ConfigError, match=f"tls.client_crl_file .*{said}"):
            lab.config.policy.revocations.check()
    (lab.directory / "ca.crl").write_bytes(revoking(ROOT, at=AT))
    lab.config.policy.revocations.check()
    assert isinstance(lab.config.policy.revocations, CrlFile)
