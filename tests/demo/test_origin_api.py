"""The mistakes of the demo that this one descends from: those of its API, tried again."""

import secrets
import subprocess
import sys
import time
from typing import Any, Final

import httpx2
import pytest

from groat.demo.stage import free_ports
from groat.protocol.jose import sign_jwt

from .running import Kept


def _token_claims(kept: Kept, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    good = {"iss": kept.issuer, "sub": "billing", "aud": "https://orders.demo", "client_id": "billing", "iat": now}
    claims = {**good, "exp": now + 60, "jti": secrets.token_urlsafe(16), "scope": "orders:read", **changes}
    return {name: value for name, value in claims.items() if value is not None}


SPOILT: Final[dict[str, tuple[dict[str, Any], str, int]]] = {
    "nothing": ({}, "at+jwt", 200),
    "aud": ({"aud": "x"}, "at+jwt", 401),
    "iss": ({"iss": "http://127.0.0.1:1"}, "at+jwt", 401),
    "no exp": ({"exp": None}, "at+jwt", 401),
    "typ": ({}, "JWT", 401),
    "expired": ({"exp": 1_700_000_000}, "at+jwt", 401),
    "no scope": ({"scope": None}, "at+jwt", 403),
}


@pytest.mark.parametrize(("changes", "typ", "status"), SPOILT.values(), ids=SPOILT.keys())
@pytest.mark.rule("DEMO-14", "RS-11", "RS-12", "RS-13", "RS-14", "RS-22")
def test_tokens_with_one_thing_wrong(kept: Kept, changes: dict[str, Any], typ: str, status: int) -> None:
    """Signed with the issuer's own key, a token is still refused for anything it should not say."""
    token = sign_jwt(_token_claims(kept, **changes), kept.signing_key(), typ)
    assert kept.call(f"Bearer {token}").status_code == status


@pytest.mark.rule("DEMO-01", "KEY-01")
def test_a_client_key_makes_no_tokens(kept: Kept) -> None:
    """The same token signed with a client's registered key proves nothing to the API."""
    response = kept.call(f"Bearer {sign_jwt(_token_claims(kept), kept.billing_key, 'at+jwt')}")
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


AUTHORIZATION: Final[dict[str, tuple[str | None, int, str]]] = {
    "none": (None, 401, 'Bearer realm="api"'),
    "another scheme": ("Basic eDp5", 401, 'Bearer realm="api"'),
    "no token": ("Bearer", 400, 'error="invalid_request"'),
    "junk behind": ("Bearer {token} x", 400, 'error="invalid_request"'),
    "garbage": ("Bearer garbage", 401, 'error="invalid_token"'),
    "lower case": ("bearer {token}", 200, ""),
    "two spaces": ("Bearer  {token}", 200, ""),
}


@pytest.mark.parametrize(("value", "status", "challenge"), AUTHORIZATION.values(), ids=AUTHORIZATION.keys())
@pytest.mark.rule("DEMO-16", "DEMO-17", "RS-01", "RS-02", "RS-03", "RS-04", "RS-08", "R19")
def test_authorization_headers(kept: Kept, value: str | None, status: int, challenge: str) -> None:
    """Missing, malformed and bad credentials get three different answers; the scheme's spelling does not matter."""
    response = kept.call(None if value is None else value.format(token=kept.token()))
    assert response.status_code == status
    header = response.headers.get("www-authenticate", "")
    assert challenge in header
    assert ("error" in header) is ("error" in challenge)


@pytest.mark.rule("DEMO-16", "RS-09")
def test_too_little_scope(kept: Kept) -> None:
    """Writing with a token for reading is forbidden, and the challenge says what is needed."""
    response = kept.call(f"Bearer {kept.token()}", "/orders", "POST")
    assert response.status_code == 403
    assert ', scope="orders:write", ' in response.headers["www-authenticate"]


@pytest.mark.rule("RS-09", "RS-26")
def test_enough_scope(kept: Kept) -> None:
    """The same route lets a token for writing through, and nobody may keep the answer."""
    token = sign_jwt(_token_claims(kept, scope="orders:read orders:write"), kept.signing_key(), "at+jwt")
    response = kept.call(f"Bearer {token}", "/orders", "POST")
    assert (response.status_code, response.json()["client"]) == (201, "billing")
    assert response.headers["cache-control"] == "no-store"


def test_a_forgotten_route_is_closed(kept: Kept) -> None:
    """Only /health is open: whoever has no token does not even learn which other paths exist."""
    assert kept.call(None, "/health").status_code == 200
    assert kept.call(None, "/unknown").status_code == 401
    assert kept.call(f"Bearer {kept.token()}", "/unknown").status_code == 404


@pytest.mark.rule("DEMO-33", "RS-21", "R17")
def test_an_outage_is_no_refusal(kept: Kept) -> None:
    """An API that never saw its issuer's keys says 503 and when to come back, and lets nobody in."""
    nowhere, port = free_ports(0, 0)
    token = kept.token()
    env = {"GROAT_ISSUER": f"http://127.0.0.1:{nowhere}", "GROAT_AUDIENCE": "https://orders.demo", "PORT": str(port)}
    with subprocess.Popen([sys.executable, "-P", "-m", "groat.demo.example_api"], env=env) as process:
        try:
            response = _first_answer(kept.http, f"http://127.0.0.1:{port}/protected", f"Bearer {token}")
        finally:
            process.terminate()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "www-authenticate" not in response.headers


def _first_answer(http: httpx2.Client, url: str, authorization: str) -> httpx2.Response:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return http.get(url, headers={"Authorization": authorization}, timeout=10)
        except httpx2.ConnectError:
            time.sleep(0.05)
    raise AssertionError("the API did not start")
