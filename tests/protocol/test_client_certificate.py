"""The certificate of a caller: its thumbprint, how it is read, and how six kinds of proxies hand it on."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from groat.protocol.binding import Confirmation
from groat.protocol.certificate_headers import CERTIFICATE_HEADERS, DIALECTS, MAX_HEADER_BYTES
from groat.protocol.client_certificate import ClientCertificate, read_certificate
from groat.protocol.errors import CertificateError
from groat.protocol.jwk import base64url_encode
from tests.certificates import self_signed

Lines = list[tuple[bytes, bytes]]
Write = Callable[[bytes, list[bytes]], Lines]


def pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)


def escaped(der: bytes) -> bytes:
    return quote(pem(der), safe="").encode()


def sequence(der: bytes) -> bytes:
    return b":" + base64.b64encode(der) + b":"


def made(folder: Path) -> bytes:
    authority, _ = self_signed(folder)
    return x509.load_pem_x509_certificate(authority.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def ders(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return [made(tmp_path_factory.mktemp("certificate")) for _ in range(3)]


def rfc9440(der: bytes, chain: list[bytes]) -> Lines:
    return [(b"client-cert", sequence(der)), *((b"client-cert-chain", sequence(one)) for one in chain)]


def envoy(der: bytes, chain: list[bytes]) -> Lines:
    whole = b"".join(map(pem, [der, *chain]))
    element = (
        f'By=spiffe://a/b;Hash={"0" * 64};Cert="{quote(pem(der), safe="")}";Chain="{quote(whole, safe="")}"'
        ';Subject="CN=a\\"b,O=c;d";URI=spiffe://a/c'
    )
    return [(b"x-forwarded-client-cert", element.encode())]


def haproxy(der: bytes, chain: list[bytes]) -> Lines:
    lines = [(b"x-ssl-client-der", base64.b64encode(der))]
    return [*lines, (b"x-ssl-client-chain-der", base64.b64encode(b"".join(chain)))] if chain else lines


def traefik(der: bytes, chain: list[bytes]) -> Lines:
    return [(b"x-forwarded-tls-client-cert", b",".join(map(base64.b64encode, [der, *chain])))]


WRITERS: dict[str, tuple[Write, bool]] = {
    "rfc9440": (rfc9440, True),
    "nginx": (lambda der, _: [(b"x-ssl-client-cert", escaped(der))], False),
    "envoy": (envoy, True),
    "haproxy": (haproxy, True),
    "traefik": (traefik, True),
    "caddy": (lambda der, _: [(b"x-tls-client-der", base64.b64encode(der))], False),
}


def refused(dialect: str, lines: Lines) -> str:
    with pytest.raises(CertificateError) as caught:
        DIALECTS[dialect].certificate(lines)
    assert caught.value.hint
    return caught.value.reason


@pytest.mark.rule("RS-MT-03")
def test_the_thumbprint_is_of_the_leaf_alone_however_it_is_written(ders: list[bytes]) -> None:
    """RFC 8705 3.1: SHA-256 over the DER; other line lengths or ends in PEM change nothing, nor does a chain."""
    der = ders[0]
    expected = base64url_encode(hashlib.sha256(der).digest()).decode()
    body = base64.b64encode(der).decode()
    wrapped = f"-----BEGIN CERTIFICATE-----\r\n{body}\r\n-----END CERTIFICATE-----\r\n"
    for value in (der, pem(der), pem(der).decode(), wrapped):
        certificate = read_certificate(value, chain=ders[1:])
        assert certificate == ClientCertificate(der)
        assert certificate.thumbprint == expected
        assert certificate.has(expected)
        assert not certificate.has(expected[:-1])
        assert not certificate.has("\N{POUND SIGN}" + expected[1:])
        assert certificate.confirmation == Confirmation(x5t_s256=expected)
    assert body[:40] not in repr(certificate)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda der: b"",
        lambda der: der[:-1],
        lambda der: der + b"\0",
        lambda der: der + der,
        lambda der: pem(der) + pem(der),
        lambda der: b"text in front\n" + pem(der),
        lambda der: pem(der).replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        lambda der: base64.b64encode(der),
        lambda der: b"0" * 9000,
        lambda der: der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12", 1),  # of version 19
        lambda der: "\N{SNOWMAN}",
    ],
)
def test_what_is_no_certificate_is_refused(ders: list[bytes], spoil: Callable[[bytes], bytes | str]) -> None:
    with pytest.raises(CertificateError) as caught:
        read_certificate(spoil(ders[0]))
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_brings_the_same_certificate(ders: list[bytes], dialect: str) -> None:
    write, has_chain = WRITERS[dialect]
    found = DIALECTS[dialect].certificate([(b"host", b"a"), *write(ders[0], ders[1:]), (b"accept", b"*/*")])
    assert found == ClientCertificate(ders[0])
    assert found.chain == (tuple(ders[1:]) if has_chain else ())
    alone = DIALECTS[dialect].certificate(write(ders[0], []))
    assert alone == found
    assert alone.chain == ()
    assert DIALECTS[dialect].certificate([(b"host", b"a")]) is None
    assert DIALECTS[dialect].certificate([(DIALECTS[dialect].header, b"")]) is None


@pytest.mark.rule("AS-MT-06")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_second_dialect_is_refused(ders: list[bytes], dialect: str) -> None:
    """A proxy writes over the header of its own dialect; whatever stands in another one came from the caller."""
    own = WRITERS[dialect][0](ders[0], [])
    mine = {DIALECTS[dialect].header, DIALECTS[dialect].chain}
    for other in CERTIFICATE_HEADERS - mine:
        assert refused(dialect, [*own, (other, b"x")]) == "dialect"
        assert refused(dialect, [(other, b"x")]) == "dialect"
        assert DIALECTS[dialect].certificate([*own, (other, b"")]) is not None


@pytest.mark.rule("AS-MT-05")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_header_that_needs_a_guess_brings_no_certificate(ders: list[bytes], dialect: str) -> None:
    write, has_chain = WRITERS[dialect]
    ((name, good), *_) = write(ders[0], [])
    assert refused(dialect, [(name, good), (name, good)]) == "header"
    url_safe = base64.urlsafe_b64encode(b"\xff\xff\xff" + ders[0])
    for bad in (
        good + b", " + good if dialect != "traefik" else good + b",,",
        b"hello",
        b"=",
        good[:-9] if dialect != "envoy" else b'Cert="' + escaped(ders[0])[:-9] + b'"',
        url_safe,
        sequence(ders[0] + b"\0"),
        pem(ders[0]).replace(b"\n", b" "),
        good + good,
        b"x" * (MAX_HEADER_BYTES + 1),
        b"(null)",
    ):
        assert refused(dialect, [(name, bad)]) in ("header", "malformed")
    if dialect != "rfc9440":
        assert refused(dialect, [(name, sequence(ders[0]))]) in ("header", "malformed")
    if has_chain and DIALECTS[dialect].chain:
        assert refused(dialect, [(name, good), (DIALECTS[dialect].chain, b"MIIB")]) in ("header", "malformed")


@pytest.mark.parametrize(
    "bad", [b":", b"::", b"abc", b":YQ:", b":YR==:", b":YQ==", b":YQ==:;a=1", b'"YQ=="', b":YQ== :"]
)
def test_byte_sequences_are_read_strictly(bad: bytes) -> None:
    """RFC 8941 3.3.5 lets a reader mend what is missing; nothing of a certificate is worth a guess."""
    assert refused("rfc9440", [(b"client-cert", bad)]) in ("header", "malformed")


@pytest.mark.parametrize(
    "element",
    [
        b"Hash=00",
        b"Cert",
        b"Cert=;Hash=00",
        b'By="a;Cert="x"',
        b'Cert="%s";Cert="%s"',
        b'Cert="%s",Cert="%s"',
        b'By=a,Cert="%s"',
        b'Cert="%s"x',
        b'Cert="%s\\',
    ],
)
def test_elements_of_envoy_are_read_strictly(ders: list[bytes], element: bytes) -> None:
    value = element.replace(b"%s", escaped(ders[0]))
    assert refused("envoy", [(b"x-forwarded-client-cert", value)]) in ("header", "malformed")


def test_chains_are_bounded(ders: list[bytes]) -> None:
    """What comes along is written by the caller: no more of it is read than belongs to a chain."""
    for dialect in ("rfc9440", "envoy", "haproxy", "traefik"):
        found = DIALECTS[dialect].certificate(WRITERS[dialect][0](ders[0], ders[1:2] * 9))
        assert found is not None
        assert found.chain == (ders[1],) * 6


def test_traefik_may_escape(ders: list[bytes]) -> None:
    value = b",".join(quote(base64.b64encode(der), safe="").encode() for der in ders)
    found = DIALECTS["traefik"].certificate([(b"x-forwarded-tls-client-cert", value)])
    assert found is not None
    assert (found.der, list(found.chain)) == (ders[0], ders[1:])


@pytest.mark.parametrize("broken", [b"0", b"0\x80", b"1\x01a", b"0\x84\0\0\0\x01a", b"0\x82\x01", b"0\x02a"])
def test_a_chain_in_der_that_does_not_add_up_is_a_fault(ders: list[bytes], broken: bytes) -> None:
    lines = [(b"x-ssl-client-der", base64.b64encode(ders[0])), (b"x-ssl-client-chain-der", base64.b64encode(broken))]
    assert refused("haproxy", lines) == "header"
