"""Tokens that are bound to a certificate, at the guard: the word of its proxy counts, and nobody else's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guard.running import GROAT, Guard, environment, guarding
from tests.leaves import CallerCertificate, caller_certificate, written
from tests.verifier.issuer import Issuer, serving

NAMED = [("X-Original-Method", "GET"), ("X-Original-URI", "/orders")]


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> tuple[CallerCertificate, CallerCertificate]:
    folder = tmp_path_factory.mktemp("leaves")
    return caller_certificate(folder, "mine"), caller_certificate(folder, "other")


def status(guard: Guard, token: str, *headers: tuple[str, str]) -> int:
    return guard.ask("/forward-auth", token, [*NAMED, *headers]).status


@pytest.mark.rule("RS-MT-01", "RS-MT-02")
def test_the_word_of_the_proxy(
    issuer: Issuer, tmp_path: Path, leaves: tuple[CallerCertificate, CallerCertificate]
) -> None:
    """In the header of its dialect, where it asks from; and the metadata say so."""
    mine, other = leaves
    token = issuer.token(cnf=mine.cnf)
    with guarding(tmp_path, environment(issuer.url), "--proxy", "nginx", "--certificates", "127.0.0.1") as guard:
        assert status(guard, token, written("nginx", mine)) == 204
        assert status(guard, token, written("nginx", other)) == 401
        assert status(guard, token) == 401
        assert status(guard, token, ("X-SSL-Client-Cert", "")) == 401
        assert status(guard, token, written("nginx", mine), written("nginx", mine)) == 401
        assert status(guard, token, written("nginx", mine), written("rfc9440", mine)) == 400
        assert status(guard, token, written("rfc9440", mine)) == 400
        assert status(guard, issuer.token(), written("nginx", mine)) == 204
        assert guard.metric("groat_verify_total", result="refused", reason="certificate_other") == 1
        document = guard.ask("/.well-known/oauth-protected-resource").body
        assert b'"tls_client_certificate_bound_access_tokens":true' in document.replace(b" ", b"")


@pytest.mark.rule("RS-MT-02")
@pytest.mark.parametrize("options", [(), ("--certificates", "10.0.0.0/8", "--certificates", "192.0.2.1")])
def test_nobody_else_is_believed(
    issuer: Issuer, tmp_path: Path, leaves: tuple[CallerCertificate, CallerCertificate], options: tuple[str, ...]
) -> None:
    """Without the option, and from elsewhere: a header that a caller may have written says nothing."""
    mine, _ = leaves
    with guarding(tmp_path, environment(issuer.url), "--proxy", "nginx", *options) as guard:
        assert status(guard, issuer.token(cnf=mine.cnf), written("nginx", mine)) == 401


@pytest.mark.rule("RS-MT-02")
def test_the_environment(issuer: Issuer, tmp_path: Path, leaves: tuple[CallerCertificate, CallerCertificate]) -> None:
    """Another dialect than that of the question, as for HAProxy, and the demand that every token is bound."""
    names = {"PROXIES": "127.0.0.0/8", "DIALECT": "haproxy"}
    env = environment(
        issuer.url, GROAT_REQUIRE_BINDING="mtls", **{f"GROAT_CERTIFICATE_{k}": v for k, v in names.items()}
    )
    mine, _ = leaves
    with guarding(tmp_path, env, "--proxy", "nginx") as guard:
        assert status(guard, issuer.token(cnf=mine.cnf), written("haproxy", mine)) == 204
        assert status(guard, issuer.token(), written("haproxy", mine)) == 401


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        (("--certificates", "10.0.0.1"), {}, "--proxy"),
        (("--proxy", "nginx", "--certificates", "0.0.0.0/0"), {}, "everybody"),
        ((), {"GROAT_CERTIFICATE_PROXIES": "10.0.0.1"}, "GROAT_CERTIFICATE_DIALECT"),
        ((), {"GROAT_REQUIRE_BINDING": "tls"}, "GROAT_REQUIRE_BINDING"),
        ((), {"GROAT_DPOP_REPLAY": "redis:x"}, "GROAT_DPOP_REPLAY"),
    ],
)
def test_what_cannot_be(options: tuple[str, ...], variables: dict[str, str], said: str) -> None:
    """Exit code 3 before anything listens."""
    command = [str(GROAT), "guard", "serve", "--port", "0", *options]
    env = environment("https://auth.example.com", **variables)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert said in done.stderr
