"""Certificates at the token endpoint (RFC 8705 3), by a real server behind a proxy that this test plays."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from groat.protocol.binding import Binding
from groat.protocol.certificate_headers import CERTIFICATE_HEADERS, DIALECTS
from groat.protocol.client_certificate import certificate_thumbprint
from groat.protocol.client_settings import SettingsChange
from groat.server import operations
from tests.certificates import self_signed
from tests.proofs import PROOF_KEY, proof
from tests.server.builders import NOW, TE, Party, base, decoded
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import FORM, Answer, check_ok, check_refused

Header = tuple[str, str]


def behind(dialect: str, network: str = "127.0.0.0/8") -> str:
    return f'{DEFAULTS}[[server.proxy]]\nnetwork = "{network}"\ncertificate = "{dialect}"\n'


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    authority, _ = self_signed(tmp_path_factory.mktemp("certificate"))
    return x509.load_pem_x509_certificate(authority.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(prepare(tmp_path_factory.mktemp("proxied"), behind("rfc9440"))) as lab:
        yield lab


def client_cert(der: bytes) -> Header:
    return "Client-Cert", f":{b64encode(der).decode()}:"


def escaped_pem(der: bytes) -> str:
    return quote(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM), safe="")


WRITTEN: Final[dict[str, Callable[[bytes], Header]]] = {
    "rfc9440": client_cert,
    "nginx": lambda der: ("X-SSL-Client-Cert", escaped_pem(der)),
    "envoy": lambda der: ("X-Forwarded-Client-Cert", f'Hash=0;Cert="{escaped_pem(der)}"'),
    "haproxy": lambda der: ("X-SSL-Client-DER", b64encode(der).decode()),
    "traefik": lambda der: ("X-Forwarded-Tls-Client-Cert", b64encode(der).decode()),
    "caddy": lambda der: ("X-TLS-Client-DER", b64encode(der).decode()),
}


def ask(lab: Lab, party: Party, *headers: Header) -> Answer:
    return lab.post(base(party.assertion()), FORM, *headers)


def bound_to(answer: Answer) -> str:
    document = check_ok(answer)
    assert document["token_type"] == "Bearer"
    cnf = decoded(document["access_token"])[1]["cnf"]
    assert list(cnf) == ["x5t#S256"]
    return str(cnf["x5t#S256"])


def check_missing(lab: Lab, answer: Answer) -> str:
    check_refused(answer, "invalid_request")
    assert lab.reason(answer) == "certificate_missing"
    return str(lab.event(answer)["hint"])


@pytest.mark.rule("AS-MT-03", "AS-MT-10", "AT-13")
@pytest.mark.parametrize("binding", ["mtls", "any"])
def test_a_certificate_binds_the_token(proxied: Lab, der: bytes, binding: str) -> None:
    """Whoever the client is by its assertion; without a certificate there is no token, and the next one is bound again."""
    party = proxied.add_client(f"bound-{binding}", binding=binding)
    answer = ask(proxied, party, client_cert(der))
    assert bound_to(answer) == certificate_thumbprint(der) == proxied.event(answer)["x5t_s256"]
    refused = ask(proxied, party)
    if binding == "mtls":
        assert "groat client update bound-mtls --binding none" in check_missing(proxied, refused)
    else:
        check_refused(refused, "invalid_dpop_proof")
    assert bound_to(ask(proxied, party, client_cert(der))) == certificate_thumbprint(der)


@pytest.mark.rule("AS-MT-10")
def test_what_a_token_is_bound_to_where_both_are_there(proxied: Lab, der: bytes) -> None:
    """A proof was made for this request, a certificate comes with each: the operator's wish for one alone outweighs it."""
    for binding, kind in (("none", "jkt"), ("dpop", "jkt"), ("any", "jkt"), ("mtls", "x5t#S256")):
        party = proxied.add_client(f"both-{binding}", binding=binding)
        answer = ask(proxied, party, client_cert(der), ("DPoP", proof(TE, NOW, PROOF_KEY)))
        document = check_ok(answer)
        assert list(decoded(document["access_token"])[1]["cnf"]) == [kind]
        assert document["token_type"] == ("DPoP" if kind == "jkt" else "Bearer")
    only_dpop = ask(proxied, proxied.add_client("only-dpop", binding="dpop"), client_cert(der))
    check_refused(only_dpop, "invalid_dpop_proof")


def test_who_demands_nothing_gets_what_everybody_gets(proxied: Lab, der: bytes) -> None:
    """A certificate that comes along by itself binds nothing (RFC 8705 3.4: the client, or its API, has to want it)."""
    document = check_ok(ask(proxied, proxied.party, client_cert(der)))
    assert "cnf" not in decoded(document["access_token"])[1]


@pytest.mark.rule("AS-MT-03", "AS-DP-18")
def test_the_strict_profile_takes_either(fresh_lab: Callable[..., Lab], der: bytes) -> None:
    lab = fresh_lab(settings='profile = "fapi2"\n' + behind("rfc9440"))
    assert bound_to(ask(lab, lab.party, client_cert(der))) == certificate_thumbprint(der)
    check_ok(ask(lab, lab.party, ("DPoP", proof(TE, NOW))))
    check_refused(ask(lab, lab.party), "invalid_dpop_proof")


@pytest.mark.rule("AS-MT-06")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_and_no_second_one(fresh_lab: Callable[..., Lab], der: bytes, dialect: str) -> None:
    """The same cnf from all of them; a header of another one makes the request void, with or without one's own."""
    lab = fresh_lab(settings=behind(dialect))
    party = lab.add_client("bound", binding="mtls")
    header = WRITTEN[dialect](der)
    assert bound_to(ask(lab, party, header)) == certificate_thumbprint(der)
    foreign = next(write(der) for name, write in WRITTEN.items() if name != dialect)
    for headers in ((header, foreign), (foreign,)):
        answer = ask(lab, party, *headers)
        check_refused(answer, "invalid_request")
        assert lab.reason(answer) == "certificate_dialect"
        assert foreign[0].lower() in lab.event(answer)["hint"]


@pytest.mark.rule("AS-MT-04", "AS-MT-06")
@pytest.mark.parametrize("settings", [DEFAULTS, behind("rfc9440", "192.0.2.0/24"), behind("rfc9440", "::/0")])
def test_headers_of_everybody_else_say_nothing(fresh_lab: Callable[..., Lab], der: bytes, settings: str) -> None:
    """As if they were not there: not for the binding, and not as a second dialect."""
    lab = fresh_lab(settings=settings)
    party = lab.add_client("bound", binding="mtls")
    forged = [write(der) for write in WRITTEN.values()]
    assert {name.lower().encode() for name, _ in forged} <= CERTIFICATE_HEADERS
    hint = check_missing(lab, ask(lab, party, *forged))
    assert ("takes none yet" in hint) == (settings == DEFAULTS)
    document = check_ok(ask(lab, lab.party, *forged))
    assert "cnf" not in decoded(document["access_token"])[1]


@pytest.mark.rule("AS-MT-05")
def test_a_header_that_cannot_be_read_is_none_and_is_said(fresh_lab: Callable[..., Lab], der: bytes) -> None:
    """In the line about the request, and in one about the proxy, of which there are not too many."""
    lab = fresh_lab(settings=behind("rfc9440"))
    party = lab.add_client("bound", binding="mtls")
    name, good = client_cert(der)
    two = ((name, good), (name, good))
    for headers in (two, ((name, good[1:-1]),), ((name, "hello"),), ((name, f"{good}, {good}"),)):
        assert "No certificate came: client-cert" in check_missing(lab, ask(lab, party, *headers))
    for _ in range(40):
        check_ok(ask(lab, lab.party, (name, "hello")))
    lines = [line for line in lab.lines() if b'"proxy.certificate_unreadable"' in line]
    assert len(lines) == 30
    assert b"client-cert is there twice" in lines[0]
    assert b"127.0.0.1" in lines[0]


@pytest.mark.rule("AS-MT-11")
def test_the_aliases_are_where_certificates_are_asked_for(fresh_lab: Callable[..., Lab], der: bytes) -> None:
    """In the metadata; a proof may be for one, an assertion for none of them."""
    alias = "https://mtls.as.example/token"
    lab = fresh_lab(settings=behind("rfc9440") + '[tls]\ncertificate_url = "https://mtls.as.example/"\n')
    document = lab.get("/.well-known/oauth-authorization-server").json
    assert document["mtls_endpoint_aliases"] == {"token_endpoint": alias}
    assert document["token_endpoint"] == TE
    assert document["tls_client_certificate_bound_access_tokens"] is True
    for url in (TE, alias):
        check_ok(ask(lab, lab.party, ("DPoP", proof(url, NOW))))
    assert lab.reason(lab.ask(lab.party.assertion(aud=alias))) == "assertion_audience"
    tolerant = lab.add_client("tolerant", assertion_audience="issuer-or-token-endpoint")
    check_ok(lab.ask(tolerant.assertion(aud=TE)))
    assert lab.reason(lab.ask(tolerant.assertion(aud=alias))) == "assertion_audience"


def test_who_takes_no_certificates_offers_none(lab: Lab) -> None:
    document = lab.get("/.well-known/oauth-authorization-server").json
    assert not {"mtls_endpoint_aliases", "tls_client_certificate_bound_access_tokens"} & document.keys()


@pytest.mark.rule("AS-MT-10")
def test_what_must_be_bound_is_known_at_once(proxied: Lab, der: bytes) -> None:
    """A change of the client holds for its next request."""
    party = proxied.add_client("changes-to-mtls")
    check_ok(ask(proxied, party))
    change = SettingsChange(binding=Binding.MTLS)
    proxied.operate(lambda op: operations.update_client(op, party.client_id, change=change))
    check_missing(proxied, ask(proxied, party))
    assert bound_to(ask(proxied, party, client_cert(der))) == certificate_thumbprint(der)


def test_certificates_of_two_callers_do_not_mix(proxied: Lab, der: bytes, tmp_path: Path) -> None:
    """What is remembered of a grant, and of a header, never carries another request's certificate."""
    authority, _ = self_signed(tmp_path)
    other = x509.load_pem_x509_certificate(authority.read_bytes()).public_bytes(Encoding.DER)
    party = proxied.add_client("two-certificates", binding="mtls")
    for one in (der, other, der, other):
        assert bound_to(ask(proxied, party, client_cert(one))) == certificate_thumbprint(one)


@pytest.mark.rule("AS-MT-10")
def test_an_api_that_wants_a_certificate(proxied: Lab, der: bytes) -> None:
    """It gets tokens that are bound to one, whatever else comes; with a client that wants a proof nothing meets both."""
    audience, allow = "https://safe.example", {"safe": ["read"]}
    proxied.operate(lambda op: operations.add_api(op, "safe", audience, ["read"], None, Binding.MTLS))
    party = proxied.add_client("visits-safe", allow=allow, default_scopes=("read",))
    made = ("DPoP", proof(TE, NOW))
    assert bound_to(ask(proxied, party, client_cert(der))) == certificate_thumbprint(der)
    assert bound_to(ask(proxied, party, client_cert(der), made)) == certificate_thumbprint(der)
    for headers in ((), (("DPoP", proof(TE, NOW)),)):
        assert "groat api update safe --binding none" in check_missing(proxied, ask(proxied, party, *headers))
    strict = proxied.add_client("visits-safe-with-proof", allow=allow, default_scopes=("read",), binding="dpop")
    both = (client_cert(der), ("DPoP", proof(TE, NOW)))
    check_missing(proxied, ask(proxied, strict, *both))
