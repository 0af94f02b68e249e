"""Bound tokens in the tests of others: what callers hold, and what a verifier says of it."""

import ssl
import time

import pytest

from groat.protocol.certificate_headers import DIALECTS
from groat.testing import CallerCertificate, DpopKey, FakeIssuer
from groat.verifier import ApiRequest, Certificates, ConfigError, Connection, ProtectedResource, VerificationError
from tests.verifier.issuer import outcome

AUD = "https://orders.example.com"


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer(audience=AUD)


@pytest.mark.rule("UT-6")
@pytest.mark.parametrize("algorithm", ["ES256", "Ed25519"])
def test_a_key(issuer: FakeIssuer, algorithm: str) -> None:
    """Its proofs are good, once each, and every way to spoil one is met with the reason of production."""
    key, verifier = DpopKey(algorithm), issuer.verifier()
    token = issuer.token("billing", dpop_key=key)

    def asked(headers: dict[str, str], method: str = "GET") -> str:
        lines, proofs = [headers["Authorization"]], [headers["DPoP"]]
        return outcome(lambda: verifier.verify_request(lines, method=method, url="/orders?x=1", dpop=proofs))

    url = AUD + "/orders?x=1#y"
    good = key.headers(token, "GET", url)
    assert [asked(good), asked(good)] == ["accepted", "dpop_replayed"]
    assert asked(key.headers(token, "POST", url), "POST") == "accepted"
    for headers, reason in (
        (key.headers(token, "POST", url), "dpop_method"),
        (key.headers(token, "GET", AUD + "/other"), "dpop_url"),
        (key.headers(token, "GET", url, iat=time.time() - 3600), "dpop_expired"),
        (key.headers(token, "GET", url, jti=None), "dpop_claims"),
        (key.headers(token, "GET", url, ath="x"), "dpop_token"),
        (DpopKey().headers(token, "GET", url), "binding"),
        ({**good, "Authorization": f"Bearer {token}"}, "binding"),
    ):
        assert asked(headers) == reason
    assert "ath" not in key.proof("POST", issuer.url + "/token")


@pytest.mark.rule("UT-6")
def test_a_clock_of_the_tests(issuer: FakeIssuer) -> None:
    """Proofs are made by it."""
    key = DpopKey(now=lambda: 1000.0)
    token = issuer.token(dpop_key=key)
    proof = key.headers(token, "GET", AUD + "/")
    assert (
        outcome(
            lambda: issuer.verifier().verify_request(
                [proof["Authorization"]], method="GET", url="/", dpop=[proof["DPoP"]]
            )
        )
        == "dpop_expired"
    )


@pytest.mark.rule("UT-6", "RS-MT-01")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_certificate(issuer: FakeIssuer, dialect: str) -> None:
    """As bytes and as text; by hand, and by the header of every proxy."""
    mine, other = CallerCertificate(), CallerCertificate()
    assert ssl.PEM_cert_to_DER_cert(mine.pem) == mine.der
    verifier = issuer.verifier(certificates=Certificates("192.0.2.1", dialect))

    def behind_a_proxy(token: str, headers: dict[str, str]) -> str:
        def lines(name: str) -> list[str]:
            every = {"authorization": f"Bearer {token}", **headers}
            return [value for key, value in every.items() if key == name]

        request = ApiRequest(lines, connection=lambda: Connection("192.0.2.1", None, lines))
        return outcome(lambda: ProtectedResource(verifier).admit(request))

    for token in (issuer.token(certificate=mine.pem), issuer.token(certificate=mine.der)):
        assert verifier.verify_request([f"Bearer {token}"], certificate=mine.der).confirmation is not None
        assert behind_a_proxy(token, mine.headers(dialect)) == "accepted"
        assert behind_a_proxy(token, other.headers(dialect)) == "certificate_other"
        assert behind_a_proxy(token, {}) == "certificate_missing"


def test_what_cannot_be(issuer: FakeIssuer) -> None:
    """A dialect that there is not; two bindings make a token that no API takes."""
    with pytest.raises(ConfigError, match="rfc9440"):
        CallerCertificate().headers("apache")
    mine = CallerCertificate()
    token = issuer.token(dpop_key=DpopKey(), certificate=mine.pem)
    with pytest.raises(VerificationError) as error:
        issuer.verifier().verify_request([f"Bearer {token}"], certificate=mine.pem)
    assert error.value.reason == "binding"
