"""The table of requests that every adapter answers alike, each in a real server of its framework."""

import http.client
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from groat.protocol.proof_rules import PROOF_ALGORITHMS
from tests.ports import free_port
from tests.verifier.issuer import Answer, Issuer, serving
from tests.verifier.status.published import LIST, PublishedList
from tests.verifier.tokens import AUD
from tests.waiting import wait_until

APPS: Final = [
    "aiohttp_app",
    "asgi_app",
    "django_app",
    "django_asgi_app",
    "drf_app",
    "fastapi_app",
    "flask_app",
]
METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
METADATA_URL: Final = AUD + METADATA_PATH
Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Got:
    """An answer, as it came."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def one(self, name: str) -> str | None:
        """The one value of a header; None where it is absent."""
        values = self.headers.get(name, [])
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    @property
    def challenge(self) -> dict[str, str]:
        """The parameters of the one challenge, each once."""
        value = self.one("www-authenticate") or ""
        pairs = re.findall(r'([a-z_]+)="([^"]*)"', value)
        assert value == "Bearer " + ", ".join(f'{name}="{words}"' for name, words in pairs)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)


@dataclass(frozen=True)
class Served:
    """One framework's server, without a prefix and with one."""

    port: int
    prefix: str
    context: ssl.SSLContext | None = None  # of a caller, where it is asked over TLS

    def ask(self, path: str, headers: Headers | None = None, method: str = "GET") -> Got:
        with closing(self.connection()) as connection:
            return self.ask_on(connection, path, headers, method)

    def connection(self) -> http.client.HTTPConnection:
        if self.context is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask_on(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        headers: Headers | None = None,
        method: str = "GET",
        body: bytes = b"",
    ) -> Got:
        connection.putrequest(method, self.prefix + path)
        for name, value in headers or []:
            connection.putheader(name, value)
        if method == "POST":
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
        seen: dict[str, list[str]] = {}
        for name, value in answer.getheaders():
            seen.setdefault(name.lower(), []).append(value)
        return Got(answer.status, seen, content)


@dataclass(frozen=True)
class Sides:
    """Whose tokens are asked with: an issuer that is there, and one whose keys cannot be had."""

    issuer: Issuer
    away: Issuer

    def good(self, **changes: Any) -> str:
        return self.issuer.token(**{"scope": "orders:write", **changes})

    def listed(self, index: int, path: str = LIST) -> str:
        """A token of a list, in which that of place 1 was taken back."""
        published = PublishedList(self.issuer, path)
        published.statuses[1] = 1
        return self.good(status=published.claim(index))


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with serving() as issuer, serving() as away:
        away.close()
        yield Sides(issuer, away)


@contextmanager
def started(
    name: str, sides: Sides, prefix: str = "", context: ssl.SSLContext | None = None, **names: str
) -> Iterator[Served]:
    """The program of one framework, with these variables in its environment; `context`: to ask it over TLS."""
    port = free_port()
    env = {**os.environ, "ISSUERS": f"{sides.issuer.url},{sides.away.url}", "AUDIENCE": AUD, **names}
    command = [sys.executable, "-m", f"tests.verifier.frameworks.apps.{name}", str(port), *filter(None, [prefix])]
    process = subprocess.Popen(command, env=env)
    served = Served(port, prefix, context)

    def up() -> bool:
        assert process.poll() is None, f"{name} ended"
        try:
            return served.ask("/health").status == 200
        except OSError:
            return False

    try:
        wait_until(up, 60)
        yield served
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=APPS)
def served(request: pytest.FixtureRequest, sides: Sides) -> Iterator[Served]:
    with started(request.param, sides) as running:
        yield running


def bearer(token: str) -> Headers:
    return [("Authorization", f"Bearer {token}")]


REFUSED: Final[dict[str, tuple[int, str | None, Callable[[Sides], Headers]]]] = {
    # id: status, error code, what is sent
    "no token": (401, None, lambda sides: []),
    "basic": (401, None, lambda sides: [("Authorization", "Basic dTpw")]),
    "garbage": (401, "invalid_token", lambda sides: bearer("garbage")),
    "expired": (401, "invalid_token", lambda sides: bearer(sides.good(exp=1))),
    "wrong audience": (401, "invalid_token", lambda sides: bearer(sides.good(aud="https://x.example"))),
    "wrong issuer": (401, "invalid_token", lambda sides: bearer(sides.good(iss="https://x.example"))),
    "missing scope": (403, "insufficient_scope", lambda sides: bearer(sides.good(scope="orders:read"))),
    "taken back": (401, "invalid_token", lambda sides: bearer(sides.listed(1))),
    "scheme alone": (400, "invalid_request", lambda sides: [("Authorization", "Bearer")]),
    "two words": (400, "invalid_request", lambda sides: [("Authorization", "Bearer a b")]),
    "two headers": (400, "invalid_request", lambda sides: bearer(sides.good()) * 2),
    "two schemes": (400, "invalid_request", lambda sides: [("Authorization", "Basic dTpw"), *bearer(sides.good())]),
}


@pytest.mark.rule("RS-02", "RS-03", "RS-04", "RS-05", "RS-08", "RS-09", "RS-28", "RS-MD-03", "RS-MD-08")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(served: Served, sides: Sides, case: str, method: str) -> None:
    """Status, challenge and body, whatever the method."""
    status, code, headers = REFUSED[case]
    got = served.ask("/protected", headers(sides), method)
    assert got.status == status
    assert got.one("cache-control") == "no-store"
    assert got.one("content-type") == "application/json"
    wanted = {"realm": "api", "resource_metadata": METADATA_URL}
    if status != 400:
        wanted["scope"] = "orders:write"
    error = {"error": code, "error_description": got.challenge.get("error_description", "")} if code else {}
    assert got.challenge == {**wanted, **error}
    if method != "HEAD":
        assert json.loads(got.body) == (error or {"detail": "Authentication is required."})


@pytest.mark.rule("RS-01", "RS-26")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
def test_let_in(served: Served, sides: Sides, method: str) -> None:
    """The caller is known to the endpoint, and no cache keeps the answer."""
    got = served.ask("/protected", bearer(sides.good()), method)
    assert (got.status, got.one("cache-control"), got.one("www-authenticate")) == (200, "no-store", None)
    if method != "HEAD":
        assert json.loads(got.body) == {"client": "billing"}
    assert served.ask("/protected", [("authorization", f"BEARER  {sides.good()}")], method).status == 200


@pytest.mark.rule("RS-SL-03", "RS-SL-04", "RS-28")
def test_nobody_can_tell_whether_it_was_taken_back(served: Served, sides: Sides) -> None:
    """A token of the list that counts passes; one of a list that cannot be had is 503 and Retry-After, no challenge."""
    assert served.ask("/protected", bearer(sides.listed(0))).status == 200
    token = sides.listed(0, "/status/none")
    sides.issuer.spoil("/status/none", Answer(status=500))
    got = served.ask("/protected", bearer(token))
    assert (got.status, got.one("www-authenticate")) == (503, None)
    assert int(got.one("retry-after") or 0) >= 1


def test_a_caller_without_scopes(served: Served, sides: Sides) -> None:
    """Any caller, where no scope is asked for; the challenge then names none."""
    got = served.ask("/whoami", bearer(sides.good(scope="orders:read")))
    assert json.loads(got.body) == {"client": "billing", "scopes": ["orders:read"]}
    assert served.ask("/whoami").challenge == {"realm": "api", "resource_metadata": METADATA_URL}


@pytest.mark.rule("RS-06")
def test_a_token_in_the_query(served: Served, sides: Sides) -> None:
    """Alone it is no credential; beside a header the request is malformed."""
    assert served.ask(f"/protected?access_token={sides.good()}").status == 401
    assert served.ask(f"/protected?access_token={sides.good()}", bearer(sides.good())).status == 400
    assert served.ask("/protected?x=access_token", bearer(sides.good())).status == 200


@pytest.mark.rule("RS-21", "R17")
def test_keys_unavailable(served: Served, sides: Sides) -> None:
    """503 and Retry-After, no challenge; others are served meanwhile."""
    got = served.ask("/protected", bearer(sides.good(key=sides.away.key, iss=sides.away.url)))
    assert (got.status, got.one("www-authenticate")) == (503, None)
    assert int(got.one("retry-after") or 0) >= 1
    assert json.loads(got.body)["error"] == "temporarily_unavailable"
    assert served.ask("/protected", bearer(sides.good())).status == 200


@pytest.mark.rule("RS-MD-01", "RS-MD-02", "RS-MD-06")
def test_the_metadata(served: Served, sides: Sides) -> None:
    """Anybody reads them, from any origin; every adapter writes the same."""
    got = served.ask(METADATA_PATH)
    assert got.status == 200
    assert json.loads(got.body) == {
        "resource": AUD,
        "authorization_servers": [sides.issuer.url, sides.away.url],
        "scopes_supported": ["orders:read", "orders:write"],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": sorted(PROOF_ALGORITHMS),
        "resource_name": "Orders",
    }
    assert got.one("content-type") == "application/json"
    assert got.one("cache-control") == "public, max-age=300"
    assert got.one("access-control-allow-origin") == "*"
    head = served.ask(METADATA_PATH, method="HEAD")
    assert (head.status, head.body, head.one("content-length")) == (200, b"", str(len(got.body)))


@pytest.mark.rule("RS-05")
def test_headers_of_the_callers_own(served: Served, sides: Sides) -> None:
    """No other header says who called, and none stands in for Authorization."""
    token = sides.good()
    claims = [("X-Groat-Client", "root"), ("X-Forwarded-User", "root"), ("Remote-User", "root"), ("Caller", "root")]
    assert json.loads(served.ask("/protected", [*claims, *bearer(token)]).body) == {"client": "billing"}
    for name in ("Proxy-Authorization", "X-Authorization", "X-Forwarded-Authorization", "X-HTTP-Authorization"):
        assert served.ask("/protected", [*claims, (name, f"Bearer {token}")]).status == 401


@pytest.mark.rule("RS-07")
def test_requests_with_a_body(served: Served, sides: Sides) -> None:
    """A token in it is not looked for, and what nobody read is no request of its own on the connection."""
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    body = f"access_token={sides.good()}".encode()
    smuggled = f"GET /protected HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sides.good()}\r\n\r\n".encode()
    with closing(served.connection()) as connection:
        for headers, content, status in (
            (form, body, 401),
            ([*form, *bearer("garbage")], smuggled, 401),
            ([*form, *bearer(sides.good())], body, 200),
            ([*form, *bearer(sides.good(scope="orders:read"))], body * 50, 403),
            (form, smuggled, 401),
        ):
            assert served.ask_on(connection, "/protected", headers, "POST", content).status == status
        assert served.ask_on(connection, "/whoami").status == 401


@pytest.mark.parametrize("name", APPS)
def test_explanations(sides: Sides, name: str) -> None:
    """On a developer's machine (GROAT_DEV=1) the body says why; status and challenge are as ever."""
    with started(name, sides, GROAT_DEV="1") as served:
        got = served.ask("/protected", bearer(sides.good(aud=AUD + "/")))
        assert (got.status, got.challenge["error"]) == (401, "invalid_token")
        assert "trailing slash" in json.loads(got.body)["hint"]
        denied = served.ask("/protected", bearer(sides.good(scope="orders:read")))
        assert json.loads(denied.body)["hint"] == '"orders:write" is not granted'


@pytest.mark.parametrize("name", APPS)
def test_below_a_prefix(sides: Sides, name: str) -> None:
    """Exempt paths are those inside of the application, and only those; the rest is as without a prefix."""
    with started(name, sides, "/base") as served:
        assert served.ask("/health").status == 200
        assert served.ask("/health/x").status in (401, 404)
        assert served.ask("/protected").status == 401
        assert served.ask("/protected", bearer(sides.good())).status == 200
        assert json.loads(served.ask(METADATA_PATH).body)["resource"] == AUD
