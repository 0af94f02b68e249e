"""Certificates at the token endpoint (RFC 8705 3), by a real server behind a proxy that this test plays."""

import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from groat.protocol.binding import Binding
from groat.protocol.certificate_headers import CERTIFICATE_HEADERS, DIALECTS
from groat.protocol.client_certificate import certificate_thumbprint
from groat.protocol.client_settings import ClientSettings, SettingsChange
from groat.server import operations
from tests.certificates import Issued, Wish, issued, self_signed
from tests.proofs import PROOF_KEY, proof
from tests.server.builders import NOW, TE, Party, base, decoded
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_refused

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


@pytest.mark.rule("AS-MT-10", "AS-DP-19")
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
    assert document["mtls_endpoint_aliases"] == {
        "token_endpoint": alias,
        "introspection_endpoint": "https://mtls.as.example/introspect",
        "revocation_endpoint": "https://mtls.as.example/revoke",
    }
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
    proxied.operate(
        lambda op: operations.add_api(op, "safe", audience, ["read"], operations.ApiTerms(binding=Binding.MTLS))
    )
    party = proxied.add_client("visits-safe", allow=allow, default_scopes=("read",))
    made = ("DPoP", proof(TE, NOW))
    assert bound_to(ask(proxied, party, client_cert(der))) == certificate_thumbprint(der)
    assert bound_to(ask(proxied, party, client_cert(der), made)) == certificate_thumbprint(der)
    for headers in ((), (("DPoP", proof(TE, NOW)),)):
        assert "groat api update safe --binding none" in check_missing(proxied, ask(proxied, party, *headers))
    strict = proxied.add_client("visits-safe-with-proof", allow=allow, default_scopes=("read",), binding="dpop")
    both = (client_cert(der), ("DPoP", proof(TE, NOW)))
    check_missing(proxied, ask(proxied, strict, *both))


# Client authentication (RFC 8705 2)

CLIENT_AUTH: Final = [ExtendedKeyUsageOID.CLIENT_AUTH]
AT: Final = datetime.fromtimestamp(NOW, UTC)
ROOT: Final = issued(Wish("CN=root", authority=True, ends=timedelta(days=1)), now=AT)
MIDDLE: Final = issued(Wish("CN=middle", authority=True), ROOT, AT)
BILLING: Final = x509.DNSName("billing.example")


def text(made: Issued) -> str:
    return b64encode(made.der).decode()


def by_certificate(lab: Lab, client_id: str, *made: Issued, dialect: str = "rfc9440", **fields: str) -> Answer:
    """A request with this certificate, and what came along, and no other proof."""
    form = {"grant_type": "client_credentials", "scope": "orders:read", "client_id": client_id, **fields}
    headers = [WRITTEN[dialect](made[0].der)] if made else []
    headers += [("Client-Cert-Chain", client_cert(one.der)[1]) for one in made[1:]]
    return lab.post(urlencode({name: value for name, value in form.items() if value}).encode(), FORM, *headers)


def register(lab: Lab, client_id: str, **settings: Any) -> None:
    made = ClientSettings(**settings)
    lab.operate(lambda op: operations.add_client(op, client_id, {"orders": ["orders:read"]}, None, made))


def check_nobody(lab: Lab, answer: Answer, reason: str) -> str:
    check_ec(answer)
    assert lab.reason(answer) == reason
    return str(lab.event(answer)["hint"])


@pytest.mark.rule("AS-MT-01", "AS-MT-07", "AS-MT-08")
def test_a_client_by_its_name_in_a_certificate(proxied: Lab) -> None:
    """Directly from the authority or by another one that came along; unbound, since nobody demands that."""
    register(proxied, "named", certificate_ca=(text(ROOT),), certificate_dns="billing.example")
    own = issued(Wish(names=[BILLING], usages=CLIENT_AUTH), ROOT, AT)
    answer = by_certificate(proxied, "named", own)
    assert "cnf" not in decoded(check_ok(answer)["access_token"])[1]
    assert proxied.event(answer)["certificate"] == certificate_thumbprint(own.der)
    check_ok(by_certificate(proxied, "named", own))
    check_ok(by_certificate(proxied, "named", issued(Wish(names=[BILLING]), MIDDLE, AT), MIDDLE))
    for wish, by, reason in (
        (Wish(names=[x509.DNSName("other.example")]), ROOT, "certificate_name"),
        (Wish("CN=billing.example"), ROOT, "certificate_name"),
        (Wish(names=[BILLING]), None, "certificate_unknown"),
        (Wish(names=[BILLING]), MIDDLE, "certificate_unknown"),
        (Wish(names=[BILLING], usages=[ExtendedKeyUsageOID.SERVER_AUTH]), ROOT, "certificate_untrusted"),
        (Wish(names=[BILLING], begins=-timedelta(days=2), ends=-timedelta(days=1)), ROOT, "certificate_untrusted"),
    ):
        check_nobody(proxied, by_certificate(proxied, "named", issued(wish, by, AT)), reason)


@pytest.mark.rule("AS-MT-02", "AS-MT-09")
def test_a_client_by_a_registered_certificate(proxied: Lab) -> None:
    """The certificate, not its key; its dates hold, nobody has to have signed it, and there may be two at a time."""
    key = ec.generate_private_key(ec.SECP256R1())
    own, same_key = (issued(Wish("CN=own", key=key), now=AT) for _ in range(2))
    old = issued(Wish("CN=own", begins=-timedelta(days=2), ends=-timedelta(days=1)), now=AT)
    register(proxied, "self-signed", certificates=(text(own), text(old)), binding="mtls")
    for _ in range(2):
        assert bound_to(by_certificate(proxied, "self-signed", own)) == certificate_thumbprint(own.der)
    check_nobody(proxied, by_certificate(proxied, "self-signed", same_key), "certificate_unknown")
    assert "it ended at" in check_nobody(
        proxied, by_certificate(proxied, "self-signed", old), "certificate_untrusted")  # fmt: skip
    change = SettingsChange(certificates=(text(same_key),))
    proxied.operate(lambda op: operations.update_client(op, "self-signed", change=change))
    check_ok(by_certificate(proxied, "self-signed", same_key))
    check_nobody(proxied, by_certificate(proxied, "self-signed", own), "certificate_unknown")


@pytest.mark.rule("AS-MT-01", "AS-MT-02", "AS-CA-20")
def test_every_refusal_of_a_certificate_looks_alike(proxied: Lab) -> None:
    """Nobody registered, another method, another certificate, switched off: the same bytes."""
    own, other = (issued(Wish(f"CN={name}"), now=AT) for name in ("one", "two"))
    register(proxied, "alike", certificates=(text(own),))
    register(proxied, "off", certificates=(text(own),))
    proxied.operate(lambda op: operations.enable_client(op, "off", enabled=False))
    answers = {
        "client_unknown": by_certificate(proxied, "nobody-knows", own),
        "certificate_unknown": by_certificate(proxied, "alike", other),
        "client_disabled": by_certificate(proxied, "off", own),
        "certificate_client": by_certificate(proxied, "", own),
        "auth_method": by_certificate(proxied, "alike"),
    }
    for reason, answer in answers.items():
        check_nobody(proxied, answer, reason)
    check_nobody(proxied, by_certificate(proxied, proxied.party.client_id, own), "certificate_unknown")
    assert len({answer.body for answer in answers.values()}) == 1


@pytest.mark.rule("AS-MT-01", "AS-MT-10")
def test_an_assertion_outweighs_the_certificate_of_the_connection(proxied: Lab, der: bytes) -> None:
    """A client that signs is judged by what it signs, whatever its connection shows; two ways in a form are refused."""
    own = issued(Wish("CN=mixed"), now=AT)
    party = proxied.add_client("mixed", certificates=(text(own),))
    check_ok(ask(proxied, party, client_cert(own.der)))
    check_ok(by_certificate(proxied, "mixed", own))
    check_ec(proxied.post(base(Party("mixed").assertion()), FORM, client_cert(own.der)))
    secret = by_certificate(proxied, "mixed", own, client_secret="s")
    check_nobody(proxied, secret, "auth_method")


@pytest.mark.rule("AS-MT-04", "AS-MT-07")
def test_what_a_proxy_says_of_its_own_checks_proves_nothing(fresh_lab: Callable[..., Lab]) -> None:
    """Neither that it has verified a certificate, nor whom it takes the caller for."""
    lab = fresh_lab(settings=behind("envoy"))
    register(lab, "named", certificate_ca=(text(ROOT),), certificate_dn="CN=billing,O=Example")
    forged = issued(Wish("CN=billing,O=Example"), issued(Wish("CN=root", authority=True), now=AT), AT)
    name, value = WRITTEN["envoy"](forged.der)
    said = (name, f'{value};Subject="CN=billing,O=Example"'), ("X-SSL-Client-Verify", "SUCCESS")
    form = b"grant_type=client_credentials&client_id=named&scope=orders:read"
    check_nobody(lab, lab.post(form, FORM, *said), "certificate_unknown")
    good = issued(Wish("CN=billing,O=Example"), ROOT, AT)
    check_ok(lab.post(form, FORM, WRITTEN["envoy"](good.der)))


def test_certificates_end_while_they_are_remembered(fresh_lab: Callable[..., Lab]) -> None:
    """To the second, also where the authority's own one ends."""
    lab = fresh_lab(settings=behind("rfc9440"))
    root = issued(Wish("CN=short", authority=True, ends=timedelta(seconds=90)), now=AT)
    register(lab, "short", certificate_ca=(text(root),), certificate_dn="CN=client")
    own = issued(Wish(), root, AT)
    for seconds, works in ((0, True), (10, True), (90, False), (95, False)):
        with lab.clock.at(NOW + seconds):
            answer = by_certificate(lab, "short", own)
        assert (answer.status == 200) is works, seconds


@pytest.mark.rule("AS-MT-01")
def test_the_methods_are_offered_where_they_can_be_had(proxied: Lab, lab: Lab) -> None:
    member = "token_endpoint_auth_methods_supported"
    assert lab.get("/.well-known/oauth-authorization-server").json[member] == ["private_key_jwt"]
    assert proxied.get("/.well-known/oauth-authorization-server").json[member] == [
        "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"]  # fmt: skip


def test_each_token_has_its_row(fresh_lab: Callable[..., Lab]) -> None:
    """Though there is nothing to use up: the record of the issuance is the same, under the token's own id."""
    lab, own = fresh_lab(settings=behind("rfc9440")), issued(Wish("CN=rows"), now=AT)
    register(lab, "rows", certificates=(text(own),))
    ids = {decoded(check_ok(by_certificate(lab, "rows", own))["access_token"])[1]["jti"] for _ in range(3)}
    with closing(sqlite3.connect(lab.database)) as connection:
        rows = connection.execute("SELECT token_id FROM used_once WHERE client_id = 'rows'").fetchall()
    assert {row[0] for row in rows} == ids


@pytest.mark.rule("AS-MT-07")
@pytest.mark.parametrize("part", [b"zzzzzzzz", b"yyyyyyyy"])
def test_a_certificate_that_cannot_be_read_to_its_end(proxied: Lab, part: bytes) -> None:
    """Names are looked at late, and whoever makes a certificate writes into them what he likes: a refusal, and no fault."""
    register(proxied, f"odd-{part[:1].decode()}", certificate_ca=(text(ROOT),), certificate_dns="billing.example")
    by = issued(Wish("CN=zzzzzzzz", authority=True), now=AT)
    made = issued(Wish("CN=yyyyyyyy", names=[BILLING]), by, AT)
    broken = made.der.replace(part, b"\xff\xfe" * 4)
    for client_id in (f"odd-{part[:1].decode()}", "nobody-knows-odd"):
        form = f"grant_type=client_credentials&client_id={client_id}".encode()
        for headers in ((client_cert(broken),), (client_cert(made.der), ("Client-Cert-Chain", client_cert(broken)[1]))):
            check_ec(proxied.post(form, FORM, *headers))
