"""`groat doctor api`: what an API's operator sees of the issuer, the keys, clocks, and what callers find."""

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from groat.protocol import strict_json
from groat.protocol.jwk import generate_private_key
from groat.protocol.metadata import metadata_paths
from groat.protocol.resource_metadata import RESOURCE_WELL_KNOWN, resource_metadata
from tests.client.servers import Reply
from tests.client.test_api_metadata import JSON, DescribedApi
from tests.ports import free_port
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.status.published import Introspection, PublishedFeed

from .running import Home

CHECKS = ["metadata", "jwks", "clock", "tls", "public_url", "resource", "proofs", "revocation"]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving() as running:
        yield running


@pytest.fixture
def api(issuer: Issuer) -> Iterator[DescribedApi]:
    with DescribedApi() as server:
        server.document = resource_metadata(server.url, [issuer.url], ["orders:read"])
        yield server


@pytest.fixture
def host(tmp_path: Path) -> Home:
    return Home(tmp_path)


def examined(host: Home, issuer: str, audience: str, *more: str) -> tuple[int, dict[str, str]]:
    """Exit code, and the outcome of each check."""
    done = host("--json", "doctor", "api", "--issuer", issuer, "--audience", audience, *more)
    return done.code, {row["check"]: f"{row['outcome']}: {row['detail']}" for row in done.json}


def outcomes(found: dict[str, str]) -> list[str]:
    return [row.partition(":")[0] for row in found.values()]


@pytest.mark.rule("RS-MD-07")
def test_a_healthy_api(host: Home, issuer: Issuer, api: DescribedApi) -> None:
    """By options, and by the variables that its verifier reads; this issuer has neither Date nor certificate."""
    code, found = examined(host, issuer.url, api.url)
    assert (code, list(found), outcomes(found)) == (0, CHECKS, ["ok"] * 2 + ["unknown"] * 2 + ["ok"] * 4), found
    assert f"below {api.url}." in found["proofs"]
    host.env |= {"GROAT_ISSUER": issuer.url, "GROAT_AUDIENCE": api.url, "GROAT_PUBLIC_URL": f"{api.url}/orders"}
    plain = host("doctor", "api")
    assert [line.split()[0] for line in plain.out.splitlines()] == outcomes(found)
    assert f"{api.url}/orders asks for a token" in plain.out
    host.env["GROAT_JWKS_URI"] = issuer.origin + JWKS
    issuer.overrides |= dict.fromkeys(metadata_paths(issuer.url), lambda: Answer(status=500))
    assert host("doctor", "api").code == 0


@pytest.mark.rule("RS-DP-12")
def test_public_url_and_audience_that_differ(host: Home, issuer: Issuer, api: DescribedApi) -> None:
    """It is said which of the two proofs must name; an API that has neither takes no proof, and fails if it must."""
    api.challenge = "Bearer"
    _, found = examined(host, issuer.url, "https://orders.invalid", "--public-url", f"{api.url}/v1")
    assert found["proofs"].startswith(f"ok: must name URLs below {api.url}/v1; not https://orders.invalid")
    assert found["resource"].startswith("unknown: https://orders.invalid/.well-known/")
    code, found = examined(host, issuer.url, "urn:orders")
    assert (code, outcomes(found)[-4:]) == (0, ["unknown"] * 3 + ["ok"])
    host.env["GROAT_REQUIRE_BINDING"] = "dpop"
    code, found = examined(host, issuer.url, "urn:orders")
    assert (code, found["proofs"]) == (7, "failed: no URL is known, so no proof fits: set GROAT_PUBLIC_URL")
    _, found = examined(host, issuer.url, f"{api.url}/shop")
    assert f'takes "/shop" away: GROAT_PUBLIC_URL="{api.url}/shop"' in found["proofs"]


def test_what_callers_find_wrong(host: Home, issuer: Issuer, api: DescribedApi) -> None:
    """Metadata of another API or issuer, or none where the challenge leads; one check does not hide the others."""
    api.document = resource_metadata("https://other.example.com", [issuer.url])
    code, found = examined(host, issuer.url, api.url)
    assert (code, outcomes(found)[-3]) == (7, "failed")
    assert 'resource is "https://other.example.com"' in found["resource"]
    api.document = resource_metadata(api.url, ["https://auth.example.com"])
    assert "does not name" in examined(host, issuer.url, api.url)[1]["resource"]
    api.reply = Reply(404, {}, JSON)
    assert "challenge names it" in examined(host, issuer.url, api.url)[1]["resource"]
    api.challenge = "Bearer"
    assert examined(host, issuer.url, api.url)[1]["resource"].startswith("unknown:")  # nobody must have them
    api.challenge = f'Bearer resource_metadata="http://127.0.0.1:9{RESOURCE_WELL_KNOWN}"'
    code, found = examined(host, issuer.url, api.url)
    assert (code, found["public_url"].startswith(f"failed: {api.url} is an API of another audience")) == (7, True)
    api.challenge = ""
    assert "drops it" in examined(host, issuer.url, api.url)[1]["public_url"]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(502, {}, JSON), "failed"),
        (Reply(301, {}, {"Location": "http://internal:3002/orders"}), "failed"),
        (Reply(301, {}, {"Location": "http://[broken"}), "failed"),
        (Reply(301, {}, {"Location": "/login"}), "unknown"),
        (Reply(404, {}, JSON), "unknown"),
        (Reply(200, {}, JSON), "unknown"),
    ],
)
def test_what_is_no_challenge(host: Home, issuer: Issuer, api: DescribedApi, reply: Reply, outcome: str) -> None:
    """A gateway without an API, one that leads elsewhere, and routes that need no token."""
    api.script += [reply, reply]
    assert examined(host, issuer.url, api.url)[1]["public_url"].partition(":")[0] == outcome


def test_an_issuer_that_is_wrong_or_away(host: Home, issuer: Issuer, api: DescribedApi) -> None:
    """Its name, its keys, its clock; nobody there is a failed check, and what can be found is found."""
    document = {**issuer.metadata(), "issuer": "https://auth.example.com"}
    issuer.overrides |= dict.fromkeys(metadata_paths(issuer.url), lambda: Answer(strict_json.dumps(document)))
    code, found = examined(host, issuer.url, api.url)
    assert (code, outcomes(found)[:2]) == (7, ["failed", "unknown"])
    assert "https://auth.example.com" in found["metadata"]
    issuer.overrides.clear()
    host.env["GROAT_ALGORITHMS"] = "PS256"
    assert examined(host, issuer.url, api.url)[1]["jwks"] == "failed: 1 keys, none of them for PS256"
    code, found = examined(host, f"http://127.0.0.1:{free_port()}", api.url)
    assert (code, outcomes(found)[:3], found["public_url"][:3]) == (7, ["failed", "unknown", "unknown"], "ok:")


def test_a_clock_that_is_wrong(host: Home, issuer: Issuer, api: DescribedApi) -> None:
    """By Date, and by the Age of what a cache in between has kept."""
    headers = {"Date": formatdate(time.time() - 40, usegmt=True), "Content-Type": "application/json"}
    with DescribedApi() as far:
        keys, far.scripted_path = issuer.document(), "/jwks"
        far.script += [Reply(200, keys, headers), Reply(200, keys, {**headers, "Age": "40"})]
        host.env["GROAT_JWKS_URI"] = f"{far.url}/jwks"
        code, found = examined(host, issuer.url, api.url)
        assert (code, "differ by 4" in found["clock"] or "differ by 39" in found["clock"]) == (7, True), found
        code, found = examined(host, issuer.url, api.url)
        assert (code, found["clock"].startswith("ok: within ")) == (0, True), found


def test_what_the_api_would_not_start_with(host: Home) -> None:
    """Settings that its verifier refuses are wrong input, in one line; nothing is asked."""
    for more in (
        ("ftp://x", "a"),
        ("https://auth.example.com", " a"),
        ("https://auth.example.com", "a", "--public-url", "x"),
    ):
        done = host("--json", "doctor", "api", "--issuer", more[0], "--audience", *more[1:])
        assert (done.code, done.out, json.loads(done.err)["error"]) == (3, "", "invalid_input"), done
    assert host("doctor", "api", "--issuer", "https://auth.example.com").code == 2


@pytest.mark.rule("AS-RV-08")
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("none", "counts until its end, 10 minutes"),
        ("list", "within the list's ttl and 1 s, 31 s"),
        ("feed", "within 2 s while the feed is connected; the feed can be had, its number is 1"),
        ("introspection", "with the next question; the issuer answers this API's questions"),
    ],
)
def test_from_when_on_a_token_is_refused(host: Home, issuer: Issuer, api: DescribedApi, mode: str, words: str) -> None:
    """The promise of the mode, in the words of the guide; and whether it can be kept at this moment."""
    feed, desk = PublishedFeed(issuer), Introspection(issuer)
    host.env |= {"GROAT_REVOCATION": mode}
    if mode == "introspection":
        key = generate_private_key("ES256")
        host.file("key.json", strict_json.dumps(key.private_jwk()))
        host.env |= {"GROAT_API_NAME": "orders", "GROAT_API_KEY_FILE": "key.json", "GROAT_INTROSPECTION_CACHE": "0"}
    code, found = examined(host, issuer.url, api.url)
    assert (code, words in found["revocation"], found["revocation"].startswith(f"ok: {mode}: ")) == (0, True, True), (
        found
    )
    assert found["revocation"].endswith("while nobody can tell: refuse") is (mode != "none")
    feed.typ = "JWT"
    desk.answers.append(Answer(status=401))
    code, found = examined(host, issuer.url, api.url)
    assert (code == 7) is found["revocation"].startswith("failed: ") is (mode in ("feed", "introspection")), found
