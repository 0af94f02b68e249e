"""Tokens that are bound to a certificate, at the verifier (RFC 8705 3): the certificate, whose word counts for it."""

import asyncio
import os
import re
import ssl
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.dpop import token_hash
from groat.verifier import (
    ApiRequest,
    Caller,
    Certificates,
    ConfigError,
    Connection,
    Dpop,
    ProtectedResource,
    VerificationError,
    Verifier,
)
from groat.verifier.environment import from_environment
from tests.leaves import WRITTEN, CallerCertificate, caller_certificate, written
from tests.proofs import PROOF_KEY, proof
from tests.verifier.issuer import Issuer, serving
from tests.verifier.tokens import AUD

JKT: Final = {"jkt": PROOF_KEY.public.thumbprint}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> CallerCertificate:
    return caller_certificate(tmp_path_factory.mktemp("certificates"), "mine")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> CallerCertificate:
    return caller_certificate(tmp_path_factory.mktemp("certificates"), "other")


def call(verifier: Verifier, token: str, certificate: Any = None, **more: Any) -> Caller:
    return verifier.verify_request([f"Bearer {token}"], certificate=certificate, **more)


def refused(verifier: Verifier, token: str, certificate: Any = None, **more: Any) -> VerificationError:
    with pytest.raises(VerificationError) as error:
        call(verifier, token, certificate, **more)
    return error.value


def spellings(one: CallerCertificate) -> dict[str, bytes | str]:
    """The same leaf in every way that somebody may hand it over."""
    body = "".join(one.pem.splitlines()[1:-1])
    wide = "\n".join(textwrap.wrap(body, 76))
    narrow = f"-----BEGIN CERTIFICATE-----\r\n{body}\r\n-----END CERTIFICATE-----\r\n"
    wrapped = f"-----BEGIN CERTIFICATE-----\n{wide}\n-----END CERTIFICATE-----\n"
    return {"der": one.der, "pem": one.pem, "pem bytes": one.pem.encode(), "one line": narrow, "wrapped": wrapped}


@pytest.mark.rule("RS-MT-01", "RS-MT-03", "AT-13")
@pytest.mark.parametrize("spelling", ["der", "pem", "pem bytes", "one line", "wrapped"])
def test_its_own_certificate(issuer: Issuer, mine: CallerCertificate, spelling: str) -> None:
    """Over the DER of the leaf, however it is written; the caller's confirmation says it."""
    caller = call(issuer.verifier(), issuer.token(cnf=mine.cnf), spellings(mine)[spelling])
    assert caller.client_id == "billing"
    assert caller.confirmation is not None
    assert (caller.confirmation.kind, caller.confirmation.thumbprint) == ("mtls", mine.thumbprint)


@pytest.mark.rule("RS-MT-01", "RS-DP-04")
def test_another_and_none(issuer: Issuer, mine: CallerCertificate, other: CallerCertificate) -> None:
    """401 invalid_token, with a reason of its own each; the challenge offers no proofs, which would not help."""
    verifier, token = issuer.verifier(), issuer.token(cnf=mine.cnf)
    for certificate, reason in (
        (None, "certificate_missing"),
        (other.der, "certificate_other"),
        (other.pem, "certificate_other"),
        (b"", "certificate_malformed"),
        (b"\x30\x03\x02\x01\x01", "certificate_malformed"),
        (mine.der + b"x", "certificate_malformed"),
        (mine.pem + other.pem, "certificate_malformed"),
        ("garbage", "certificate_malformed"),
    ):
        error = refused(verifier, token, certificate)
        assert (error.status, error.code, error.reason) == (401, "invalid_token", reason)
        assert str(error.www_authenticate).startswith('Bearer realm="api", error="invalid_token"')
        assert "DPoP" not in str(error.www_authenticate)
    with pytest.raises(VerificationError) as alone:
        verifier.verify(token)
    assert alone.value.reason == "certificate_missing"


@pytest.mark.rule("RS-MT-03")
def test_the_same_key_in_another_certificate(issuer: Issuer, tmp_path: Path, mine: CallerCertificate) -> None:
    """The certificate counts, and not its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    key = load_pem_private_key(mine.both.read_bytes(), None)
    old = x509.load_pem_x509_certificate(mine.pem.encode())
    again = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), x509.random_serial_number(), old.not_valid_before_utc, old.not_valid_after_utc
    ).sign(key, hashes.SHA256())  # type: ignore[arg-type]  # fmt: skip
    assert (
        refused(issuer.verifier(), issuer.token(cnf=mine.cnf), again.public_bytes(Encoding.DER)).reason
        == "certificate_other"
    )


@pytest.mark.rule("RS-MT-01", "RS-24")
def test_a_cached_verdict_never_skips_the_comparison(
    issuer: Issuer, mine: CallerCertificate, other: CallerCertificate
) -> None:
    """Of a token that is remembered, too."""
    token, verifier = issuer.token(cnf=mine.cnf), issuer.verifier(cache_size=100)
    call(verifier, token, mine.der)
    assert refused(verifier, token).reason == "certificate_missing"
    assert refused(verifier, token, other.der).reason == "certificate_other"
    call(verifier, token, mine.der)


@pytest.mark.rule("RS-MT-01")
def test_after_a_wait_for_keys(issuer: Issuer, mine: CallerCertificate, other: CallerCertificate) -> None:
    """The certificate is compared after it, too, in both ways of waiting."""
    token = issuer.token(cnf=mine.cnf)
    assert refused(issuer.verifier(), token, other.der).reason == "certificate_other"

    def later(leaf: CallerCertificate) -> Caller:
        return asyncio.run(issuer.verifier().averify_request([f"Bearer {token}"], certificate=lambda: leaf.pem))

    assert later(mine).client_id == "billing"
    with pytest.raises(VerificationError) as error:
        later(other)
    assert error.value.reason == "certificate_other"


@pytest.mark.rule("RS-DP-15", "RS-MT-01")
def test_confirmations_of_both_kinds(issuer: Issuer, mine: CallerCertificate) -> None:
    """Nobody meets both: such a token is refused with the right certificate, with a proof, and with the two."""
    verifier = issuer.verifier()
    for cnf in (
        {**JKT, **mine.cnf},
        {**mine.cnf, "kid": "x"},
        {"x5t": mine.thumbprint},
        {"x5t#S256": [mine.thumbprint]},
    ):
        token = issuer.token(cnf=cnf)
        assert refused(verifier, token, mine.der).reason == "binding"
        with pytest.raises(VerificationError) as error:
            verifier.verify_request(
                [f"DPoP {token}"], method="GET", url="/", certificate=mine.der,
                dpop=[proof(AUD + "/", 0, ath=token_hash(token))],
            )  # fmt: skip
        assert error.value.reason == "binding"


@pytest.mark.rule("RS-DP-05", "RS-MT-01")
def test_under_the_scheme_of_proofs(issuer: Issuer, mine: CallerCertificate) -> None:
    """A token that is bound to a certificate is a bearer token (RFC 8705 3)."""
    token = issuer.token(cnf=mine.cnf)
    with pytest.raises(VerificationError) as error:
        issuer.verifier().verify_request([f"DPoP {token}"], dpop=["x"], certificate=mine.der)
    assert (error.value.status, error.value.code, error.value.reason) == (401, "invalid_token", "binding")


@pytest.mark.rule("RS-MT-01")
def test_plain_tokens_ask_for_no_certificate(issuer: Issuer) -> None:
    """Neither does one that is refused: strangers cause nothing to be read."""

    def asked() -> bytes:
        raise AssertionError("the certificate was asked for")

    verifier = issuer.verifier()
    call(verifier, issuer.token(), asked)
    for token in ("garbage", issuer.token(exp=1), issuer.token(aud="https://x.example", cnf={"x5t#S256": "x" * 43})):
        refused(verifier, token, asked)


@pytest.mark.rule("RS-MT-01", "RS-DP-07", "RS-MD-06")
@pytest.mark.parametrize(
    ("demand", "passes"),
    [("none", "plain dpop mtls"), ("dpop", "dpop"), ("mtls", "mtls"), ("any", "dpop mtls")],
)
def test_tokens_that_must_be_bound(issuer: Issuer, mine: CallerCertificate, demand: str, passes: str) -> None:
    """What is demanded, what is refused, and what challenges and metadata say of it."""
    verifier = issuer.verifier(require_binding=demand)
    tokens = {"plain": issuer.token(), "mtls": issuer.token(cnf=mine.cnf), "dpop": issuer.token(cnf=JKT)}
    for kind, token in tokens.items():
        scheme = "DPoP" if kind == "dpop" else "Bearer"
        shown = [proof(AUD + "/x", time.time(), method="GET", ath=token_hash(token))]
        try:
            verifier.verify_request([f"{scheme} {token}"], method="GET", url="/x", dpop=shown, certificate=mine.der)
            found = True
        except VerificationError as error:
            found = False
            assert (error.status, error.code, error.reason) == (401, "invalid_token", "binding")
            value = str(error.www_authenticate)
            assert value.startswith("DPoP") if demand == "dpop" else value.startswith("Bearer")
            assert ("DPoP" in value) is (demand != "mtls")
        assert found is (kind in passes.split()), kind
    taken = verifier.proofs_taken
    assert (taken.required, taken.certificates) == (demand == "dpop", demand in ("mtls", "any"))


@pytest.mark.rule("RS-MD-06")
def test_the_metadata_say_that_certificates_are_taken(issuer: Issuer) -> None:
    """Where somebody has said where they come from."""
    name = "tls_client_certificate_bound_access_tokens"
    for options, said in (({}, None), ({"certificates": Certificates()}, True), ({"require_binding": "any"}, True)):
        answer = ProtectedResource(issuer.verifier(**options)).public("GET", "/.well-known/oauth-protected-resource")
        assert answer is not None
        assert (b'"' + name.encode() + b'":true' in answer.body.replace(b" ", b"")) is bool(said)


def test_a_misspelt_keyword(issuer: Issuer, mine: CallerCertificate) -> None:
    """An error of the program's, and not a request without a certificate."""
    wrong: Any = {"certifcate": mine.der}
    with pytest.raises(TypeError, match="certifcate"):
        issuer.verifier().verify_request([f"Bearer {issuer.token()}"], **wrong)
    with pytest.raises(TypeError, match="certificate"):
        asyncio.run(issuer.verifier().averify_request([], **wrong))


def asked(token: str, peer: str, headers: list[tuple[str, str]], leaf: bytes | None = None) -> ApiRequest:
    def lines(name: str) -> list[str]:
        every = [("authorization", f"Bearer {token}"), *headers]
        return [value for key, value in every if key.lower() == name]

    return ApiRequest(lines, connection=lambda: Connection(peer, leaf, lines))


def outcome(verifier: Verifier, request: ApiRequest) -> str:
    """The reason of a refusal, or who came in."""
    try:
        return ProtectedResource(verifier).admit(request).client_id
    except VerificationError as error:
        if error.reason == "certificate_dialect":
            assert (error.status, error.code) == (400, "invalid_request")
        return error.reason


@pytest.mark.rule("RS-MT-02")
@pytest.mark.parametrize("dialect", WRITTEN)
def test_the_word_of_a_proxy(issuer: Issuer, mine: CallerCertificate, other: CallerCertificate, dialect: str) -> None:
    """Counts from a named peer, in the one dialect; from everybody else no header says anything."""
    verifier = issuer.verifier(certificates=Certificates(["10.0.0.0/8", "::1", "unix"], dialect))
    token, line = issuer.token(cnf=mine.cnf), written(dialect, mine)
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "::1", ""):
        assert outcome(verifier, asked(token, peer, [line])) == "billing"
        assert outcome(verifier, asked(token, peer, [written(dialect, other)])) == "certificate_other"
        assert outcome(verifier, asked(token, peer, [])) == "certificate_missing"
        # The proxy's own certificate, by which it came to us, is not its callers'.
        assert outcome(verifier, asked(token, peer, [], mine.der)) == "certificate_missing"
    for peer in ("11.0.0.1", "203.0.113.9", "::2", "unknown", "localhost", "10.0.0.0/8"):
        assert outcome(verifier, asked(token, peer, [line])) == "certificate_missing"
        assert outcome(verifier, asked(token, peer, [written(dialect, other)], mine.der)) == "billing"
    without = issuer.verifier()
    assert outcome(without, asked(token, "10.1.2.3", [line])) == "certificate_missing"


@pytest.mark.rule("RS-MT-02")
@pytest.mark.parametrize("dialect", WRITTEN)
def test_a_second_dialect_and_a_second_line(issuer: Issuer, mine: CallerCertificate, dialect: str) -> None:
    """Somebody else may have written that: 400, or no certificate, and never a guess."""
    verifier = issuer.verifier(certificates=Certificates("127.0.0.1", dialect))
    token, line = issuer.token(cnf=mine.cnf), written(dialect, mine)
    for second in (name for name in WRITTEN if name != dialect):
        for headers in ([line, written(second, mine)], [written(second, mine)]):
            assert outcome(verifier, asked(token, "127.0.0.1", headers)) == "certificate_dialect"
    assert outcome(verifier, asked(token, "127.0.0.1", [line, line])) == "certificate_malformed"
    assert outcome(verifier, asked(token, "127.0.0.1", [(line[0], "garbage")])) == "certificate_malformed"
    # No token needs one here, so what stands in the headers is nobody's business.
    assert outcome(verifier, asked(issuer.token(), "127.0.0.1", [line, line])) == "billing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"proxies": ["10.0.0.0/8"]}, "both"),
        ({"dialect": "nginx"}, "both"),
        ({"proxies": ["10.0.0.0/8"], "dialect": "apache"}, "rfc9440, nginx"),
        ({"proxies": ["10.0.0.1/8"], "dialect": "nginx"}, "networks"),
        ({"proxies": ["proxy.internal"], "dialect": "nginx"}, "networks"),
        ({"proxies": ["0.0.0.0/0"], "dialect": "nginx"}, "everybody"),
        ({"proxies": ["::/0"], "dialect": "nginx"}, "everybody"),
        ({"proxies": [7], "dialect": "nginx"}, "proxies"),
    ],
)
def test_settings_that_cannot_be(words: dict[str, Any], said: str) -> None:
    """Said at once."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        Certificates(**words)


def test_demands_that_cannot_be() -> None:
    """An unknown one, and two that differ."""
    with pytest.raises(ConfigError, match="none, dpop, mtls, any"):
        Verifier("https://auth.example.com", AUD, require_binding="tls")
    with pytest.raises(ConfigError, match="require_binding='mtls'"):
        Verifier("https://auth.example.com", AUD, require_binding="mtls", dpop=Dpop(required=True))
    assert Verifier("https://auth.example.com", AUD, dpop=Dpop(required=True)).proofs_taken.required


def test_the_environment(monkeypatch: pytest.MonkeyPatch, issuer: Issuer, mine: CallerCertificate) -> None:
    """Proxies with commas, one dialect, the demand; half of it is an error that names the variables."""
    monkeypatch.setenv("GROAT_ISSUER", issuer.url)
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    monkeypatch.setenv("GROAT_CERTIFICATE_PROXIES", "10.0.0.0/8, unix")
    with pytest.raises(ConfigError, match="GROAT_CERTIFICATE_DIALECT"):
        Verifier.from_env()
    monkeypatch.setenv("GROAT_CERTIFICATE_DIALECT", "caddy")
    monkeypatch.setenv("GROAT_REQUIRE_BINDING", "mtls")
    verifier = Verifier.from_env()
    token = issuer.token(cnf=mine.cnf)
    assert outcome(verifier, asked(token, "10.0.0.1", [written("caddy", mine)])) == "billing"
    assert outcome(verifier, asked(issuer.token(), "10.0.0.1", [])) == "binding"


def test_the_memory_of_proofs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A word or a URL; what is neither is named by its variable, and not shown: there may be a password in it."""
    monkeypatch.setenv("GROAT_ISSUER", "https://auth.example.com")
    monkeypatch.setenv("GROAT_AUDIENCE", AUD)
    for good in ("memory", "none", f"sqlite:{tmp_path / 'proofs.db'}", "postgresql://orders@db/proofs"):
        monkeypatch.setenv("GROAT_DPOP_REPLAY", good)
        assert from_environment(os.environ)["dpop"].replay == good
    for wrong in ("redis://:secret@cache", '"postgresql:///proofs?password=secret"'):
        monkeypatch.setenv("GROAT_DPOP_REPLAY", wrong)
        with pytest.raises(ConfigError, match="GROAT_DPOP_REPLAY") as error:
            Verifier.from_env()
        assert "secret" not in str(error.value)


def test_thumbprints_of_others(mine: CallerCertificate) -> None:
    """What this test calls the thumbprint is what the standard library says."""
    assert ssl.PEM_cert_to_DER_cert(mine.pem) == mine.der
    assert len(mine.thumbprint) == 43
