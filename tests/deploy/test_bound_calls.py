"""Bound calls (DPoP) to an API behind real proxies, which end TLS and take a prefix away."""

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.dpop import token_hash
from tests.proofs import PROOF_KEY, proof
from tests.verifier.issuer import Issuer, serving
from tests.verifier.tokens import AUD

from .plain_proxies import PLAIN, PREFIX
from .proxies import BIN, Bench, placed, process

pytestmark = pytest.mark.slow

API: Final = """
import os
import uvicorn
from groat.demo.example_api import create_app
from groat.verifier import Dpop, Verifier

proofs = Dpop(required=True, nonces="required", nonce_secret=os.environ["SECRET"])
uvicorn.run(create_app(Verifier.from_env(dpop=proofs)), port=int(os.environ["PORT"]), log_level="warning")
"""
EVIL: Final = "https://evil.example"
# Names by which callers could say where they think they are.
MADE_UP: Final = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "80",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Uri": "/evil",
    "X-Forwarded-Method": "POST",
    "X-Original-URI": "/evil",
    "X-Original-Host": "evil.example",
    "X-Rewrite-URL": "/evil",
    "X-Envoy-Original-Path": "/evil",
    "Forwarded": "host=evil.example;proto=http",
}


@dataclass(frozen=True)
class Behind:
    """A proxy, and the API that it leads to; `nonce`: what proofs must have."""

    bench: Bench
    token: str
    nonce: str

    @property
    def url(self) -> str:
        return f"https://localhost:{self.bench.public}{PREFIX}/protected"

    def ask(self, url: str, method: str = "GET", target: str = f"{PREFIX}/protected?x=1", **headers: str) -> int:
        """The status of a GET with a good proof for this URL and method."""
        signed = proof(url, time.time(), method=method, ath=token_hash(self.token), nonce=self.nonce)
        sent = {**headers, "Authorization": f"DPoP {self.token}", "DPoP": signed}
        status, _, body = self.bench.request("GET", target, sent)
        assert status != 200 or json.loads(body)["client"] == "billing"
        return status


def _nonce(bench: Bench, token: str) -> str:
    """What the API demands, as it comes through the proxy."""
    url = f"https://localhost:{bench.public}{PREFIX}/protected"
    signed = proof(url, time.time(), method="GET", ath=token_hash(token))
    status, headers, _ = bench.request("GET", f"{PREFIX}/protected", {"Authorization": f"DPoP {token}", "DPoP": signed})
    assert (status, 'error="use_dpop_nonce"' in headers["WWW-Authenticate"]) == (401, True)
    return str(headers["DPoP-Nonce"])


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module", params=PLAIN)
def behind(
    request: pytest.FixtureRequest, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """Everything runs; the API has been told its public URL."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    token = issuer.token(cnf={"jkt": PROOF_KEY.public.thumbprint})
    with placed(folder) as bench:
        told: dict[str, Any] = {
            "GROAT_ISSUER": issuer.url,
            "GROAT_AUDIENCE": AUD,
            "GROAT_PUBLIC_URL": f"https://localhost:{bench.public}{PREFIX}",
            "PORT": str(bench.api),
            "SECRET": secrets.token_hex(16),
        }
        with process(folder, bench.api, (str(BIN / "python"), "-c", API), bench.env(told)):
            PLAIN[request.param](bench)
            yield Behind(bench, token, _nonce(bench, token))


@pytest.mark.rule("RS-DP-12", "RS-DP-13", "RS-DP-08")
def test_the_public_url_counts(behind: Behind) -> None:
    """What callers ask for, with the prefix that never reaches the API; and neither another method nor path nor host."""
    assert behind.ask(behind.url) == 200
    inside = f"http://127.0.0.1:{behind.bench.api}/protected"
    outside = f"https://localhost:{behind.bench.public}/protected"
    for url in (inside, outside, behind.url.replace("/protected", "/orders"), f"{EVIL}{PREFIX}/protected"):
        assert behind.ask(url) == 401, url
    assert behind.ask(behind.url, "POST") == 401


@pytest.mark.rule("RS-DP-12", "RS-DP-13")
def test_what_callers_say_of_the_url_counts_nothing(behind: Behind) -> None:
    """Forwarded headers, made up: the right proof stays right, and none for what they say becomes right."""
    assert behind.ask(behind.url, **MADE_UP) == 200
    evil = ["/protected", f"{PREFIX}/protected", "/evil", "/evil/protected"]
    for url in (*(f"{scheme}://evil.example{path}" for scheme in ("https", "http") for path in evil), EVIL):
        assert behind.ask(url, **MADE_UP) == 401, url
    assert behind.ask(behind.url.replace("https:", "http:"), **MADE_UP) == 401
    assert behind.ask(behind.url, "POST", **MADE_UP) == 401
