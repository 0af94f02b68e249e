"""Which certificates lead to an authority of the client, which name it has, and how long that is remembered."""

import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from groat.protocol.certificate_chain import find_path, leads_to_any
from groat.protocol.certificate_names import has_name
from groat.protocol.client_certificate import ClientCertificate
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import CertificateError, ConfigError
from tests.certificates import Issued, Wish, issued

from .builders import NOW

AT = datetime.fromtimestamp(NOW, UTC)
CLIENT, SERVER = [ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.SERVER_AUTH]
DAY = timedelta(days=1)
ROOT = issued(Wish("CN=root", authority=True, ends=DAY), now=AT)
MIDDLE = issued(Wish("CN=middle", authority=True, path_length=0), ROOT, AT)
STRANGE = issued(Wish("CN=root", authority=True), now=AT)  # the same name, another key


def leads(wish: Wish, by: Issued, *along: Issued, to: Issued = ROOT) -> str:
    """Empty where there is a path, else why there is none."""
    made = issued(wish, by, AT)
    certificate = ClientCertificate(made.der, tuple(one.der for one in along))
    try:
        find_path(certificate, [to.certificate], NOW)
    except CertificateError as error:
        return error.hint
    assert leads_to_any(certificate, [to.certificate])
    return ""


@pytest.mark.rule("AS-MT-07", "AS-MT-01")
def test_what_leads_to_the_authority() -> None:
    """Directly or by others that came along, in whatever order; usages that are not there forbid nothing."""
    assert not leads(Wish(), ROOT)
    assert not leads(Wish(usages=CLIENT, key_usage={"digital_signature": True}), ROOT)
    assert not leads(Wish(usages=[*CLIENT, *SERVER]), ROOT)
    assert not leads(Wish(), MIDDLE, MIDDLE)
    assert not leads(Wish(), MIDDLE, STRANGE, MIDDLE, ROOT)
    assert not leads(Wish(), MIDDLE, to=MIDDLE)
    assert not leads(Wish(key=ed25519.Ed25519PrivateKey.generate()), ROOT)
    by_rsa = issued(Wish("CN=rsa", authority=True, key=rsa.generate_private_key(65537, 2048)), now=AT)
    assert not leads(Wish(), by_rsa, to=by_rsa)
    by_p384 = issued(Wish("CN=p384", authority=True, key=ec.generate_private_key(ec.SECP384R1())), now=AT)
    assert not leads(Wish(), by_p384, to=by_p384)


@pytest.mark.rule("AS-MT-07")
def test_what_does_not_lead_there() -> None:
    """Each defect of RFC 5280 and of what a certificate may be used for, with a reason."""
    assert "candidates exhausted" in leads(Wish(), STRANGE)
    assert "candidates exhausted" in leads(Wish(), MIDDLE)  # nothing came along
    assert "it ended at" in leads(Wish(begins=-2 * DAY, ends=-DAY), ROOT)
    assert "it begins at" in leads(Wish(begins=DAY, ends=2 * DAY), ROOT)
    assert "no clientAuth" in leads(Wish(usages=SERVER), ROOT)
    assert "no digitalSignature" in leads(Wish(key_usage={"key_agreement": True}), ROOT)
    assert "that of an authority" in leads(Wish(authority=True), ROOT)
    leaf = issued(Wish("CN=leaf"), ROOT, AT)
    assert leads(Wish(), leaf, leaf)  # who is no authority signs for nobody
    below = issued(Wish("CN=below", authority=True), MIDDLE, AT)
    assert leads(Wish(), below, below, MIDDLE)  # path length
    over = issued(Wish("CN=over", authority=True, begins=-2 * DAY, ends=-DAY), ROOT, AT)
    assert leads(Wish(), over, over)
    unfit = issued(Wish("CN=unfit", authority=True, key_usage={"digital_signature": True}), ROOT, AT)
    assert leads(Wish(), unfit, unfit)


def test_a_path_is_as_long_as_its_shortest_certificate() -> None:
    short = issued(Wish("CN=short", authority=True, ends=timedelta(minutes=5)), ROOT, AT)
    made = ClientCertificate(issued(Wish(), short, AT).der, (short.der,))
    path = find_path(made, [ROOT.certificate], NOW)
    assert (path.begin, path.end) == (NOW - 3600, NOW + 300)


def test_a_signature_decides_whether_a_path_is_looked_for() -> None:
    """Neither the name of an authority nor its certificate among those that came along is enough."""
    forged = ClientCertificate(issued(Wish(), STRANGE, AT).der, (STRANGE.der,))
    assert not leads_to_any(forged, [ROOT.certificate])
    assert not leads_to_any(forged, [])
    small = rsa.generate_private_key(65537, 2048)
    other_kind = ClientCertificate(issued(Wish(), issued(Wish("CN=root", authority=True, key=small), now=AT), AT).der)
    assert not leads_to_any(other_kind, [ROOT.certificate])
    edwards = ed25519.Ed25519PrivateKey.generate()
    by_edwards = ClientCertificate(issued(Wish(), issued(Wish("CN=e", authority=True, key=edwards), now=AT), AT).der)
    assert not leads_to_any(by_edwards, [ROOT.certificate])


def named(*names: x509.GeneralName, subject: str = "CN=billing,O=Example") -> x509.Certificate:
    return issued(Wish(subject, names), ROOT, AT).certificate


@pytest.mark.rule("AS-MT-08", "AS-MT-01")
@pytest.mark.parametrize(
    ("registered", "certificate", "same"),
    [
        ({"certificate_dns": "A.example"}, named(x509.DNSName("a.EXAMPLE")), True),
        ({"certificate_dns": "a.example"}, named(x509.DNSName("b.example"), x509.DNSName("a.example")), True),
        ({"certificate_dns": "a.example"}, named(x509.DNSName("*.example")), False),
        ({"certificate_dns": "a.example"}, named(x509.DNSName("x.a.example")), False),
        ({"certificate_dns": "a.example"}, named(x509.UniformResourceIdentifier("a.example")), False),
        ({"certificate_dns": "a.example"}, named(subject="CN=a.example"), False),
        ({"certificate_uri": "https://a/B"}, named(x509.UniformResourceIdentifier("https://a/B")), True),
        ({"certificate_uri": "https://a/B"}, named(x509.UniformResourceIdentifier("https://a/b")), False),
        ({"certificate_uri": "https://a/B"}, named(x509.UniformResourceIdentifier("https://a/B/")), False),
        ({"certificate_ip": "2001:DB8::0:1"}, named(x509.IPAddress(ip_address("2001:db8::1"))), True),
        ({"certificate_ip": "192.0.2.1"}, named(x509.IPAddress(ip_address("192.0.2.2"))), False),
        ({"certificate_email": "Ops@A.example"}, named(x509.RFC822Name("Ops@a.EXAMPLE")), True),
        ({"certificate_email": "ops@a.example"}, named(x509.RFC822Name("Ops@a.example")), False),
        ({"certificate_dn": "CN=billing,O=Example"}, named(), True),
        ({"certificate_dn": "O=Example,CN=billing"}, named(), False),
        ({"certificate_dn": "CN=billing"}, named(), False),
        ({"certificate_dn": "CN=Billing,O=Example"}, named(), False),
        ({"certificate_dn": r"CN=a\,b\2C,O=\45x"}, named(subject=r"CN=a\2Cb\,,O=Ex"), True),
    ],
)
def test_names_are_compared(registered: dict[str, str], certificate: x509.Certificate, same: bool) -> None:
    """By kind: DNS without case and wildcards, URI by the letter, addresses by value, DN by its attributes; CN never."""
    settings = ClientSettings(certificate_ca=(b64encode(ROOT.der).decode(),), **registered)  # type: ignore[arg-type]
    assert settings.certificate_name is not None
    assert has_name(certificate, *settings.certificate_name) is same


SVID = x509.UniformResourceIdentifier("spiffe://prod.example/billing")
SIGNING = {"digital_signature": True}


@pytest.mark.rule("AS-SP-04")
@pytest.mark.parametrize(
    ("wish", "counts"),
    [
        (Wish("O=SPIRE", [SVID], key_usage=SIGNING), True),
        (Wish("O=SPIRE", [SVID, x509.DNSName("billing")], key_usage=SIGNING), True),
        (Wish("O=SPIRE", [SVID, x509.UniformResourceIdentifier("https://a")], key_usage=SIGNING), False),
        (Wish("O=SPIRE", [x509.UniformResourceIdentifier("spiffe://prod.example/other")], key_usage=SIGNING), False),
        (Wish("O=SPIRE", [SVID]), False),
        (Wish("O=SPIRE", [SVID], key_usage={"key_agreement": True}), False),
        (Wish("O=SPIRE", [SVID], key_usage={**SIGNING, "key_cert_sign": True}), False),
        (Wish("O=SPIRE", [SVID], key_usage={**SIGNING, "crl_sign": True}), False),
    ],
)
def test_a_spiffe_id_counts_in_an_svid_alone(wish: Wish, counts: bool) -> None:
    """One URI, for signatures and for no certificates; DNS names beside it are allowed (X.509-SVID 2, 4.3)."""
    assert has_name(issued(wish, ROOT, AT).certificate, "certificate_uri", SVID.value) is counts


@pytest.mark.rule("AS-MT-08", "AS-MT-01")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"certificate_dns": "*.example"}, "there are no wildcards"),
        ({"certificate_dns": "a..example"}, "must be a DNS name"),
        ({"certificate_dns": "https://a.example"}, "must be a DNS name"),
        ({"certificate_uri": "billing"}, "must be an absolute URI"),
        ({"certificate_dn": "billing"}, "must be a name as CN="),
        ({"certificate_ip": "192.0.2.0/24"}, "must be an address"),
        ({"certificate_email": "billing"}, "must be a mailbox"),
        ({"certificate_dns": "a.example", "certificate_uri": "spiffe://a/b"}, "one name in its certificates, not"),
        ({}, "belong together"),
    ],
)
def test_what_is_refused_when_it_is_registered(wrong: dict[str, str], said: str) -> None:
    """Not at the token endpoint: exactly one name, of a form that a certificate can have."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        ClientSettings(certificate_ca=(b64encode(ROOT.der).decode(),), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        ClientSettings(certificate_dns="a.example")
    with pytest.raises(ConfigError, match="these bytes are no"):
        ClientSettings(certificates=("MIIB",))
    with pytest.raises(ConfigError, match="at most"):
        ClientSettings(certificates=(b64encode(ROOT.der).decode(),) * 9)
