"""The requests that must be refused, each really made, and what the answer must be (RFC 6749 5.2, RFC 6750 3.1)."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx2

from groat.client.challenge import bearer_challenge
from groat.client.possession import Possession
from groat.demo.provision import CLIENT, ORDERS, Clients
from groat.protocol import strict_json
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import PrivateKey, base64url_encode

READ: Final = "orders:read"
_HEARD_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
_NO_CHALLENGE: Final = "(no challenge)"
_NO_ERROR: Final = "(no OAuth error)"


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of a refusal that a client acts on. `error`: the OAuth code; `scope`: what an API asks for."""

    status: int
    error: str | None = None
    scope: str | None = None

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.status, self.error, self.scope) if part)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One attempt with the answer that must come and the one that came."""

    name: str
    at: str
    expected: Answer
    actual: Answer

    @property
    def ok(self) -> bool:
        return self.actual == self.expected

    def __str__(self) -> str:
        shown = f"{self.name} {self.actual.status}"
        return shown if self.ok else f"{self.name} {self.actual}, not {self.expected}"

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True, repr=False)
class Loot:
    """What an attacker might have got hold of; most of it is secret, so it has no repr."""

    issuer: str
    api: str
    used_assertion: str
    orders_token: str
    invoices_token: str
    bound_token: str
    clients: Clients


def attempt_all(loot: Loot) -> Iterator[Refusal]:
    """Make every attempt. Raises httpx2.HTTPError where there is no answer at all."""
    with httpx2.Client(trust_env=False) as http:
        for name, expected, attempt in _attempts(loot, http):
            response = attempt()
            path = response.request.url.path
            actual = token_endpoint_answer(response) if path == "/token" else api_answer(response)
            yield Refusal(name, f"{response.request.method} {path}", expected, actual)


def _attempts(loot: Loot, http: httpx2.Client) -> list[tuple[str, Answer, Callable[[], httpx2.Response]]]:
    def call(token: str | None, method: str = "GET", path: str = "/protected", **proof: str) -> httpx2.Response:
        scheme = "DPoP" if proof else "Bearer"
        headers = {} if token is None else {"Authorization": f"{scheme} {token}", **proof}
        return http.request(method, loot.api + path, headers=headers)

    def ask(assertion: str) -> httpx2.Response:
        return http.post(f"{loot.issuer}/token", data=_form(assertion))

    # A 401 of an API names the scopes of the route, too: a machine asks for them at once (RFC 9728 5.1).
    no_token, bad_token = Answer(401, None, READ), Answer(401, "invalid_token", READ)
    bad_client = Answer(401, "invalid_client")
    needs_write = Answer(403, "insufficient_scope", "orders:write")
    return [
        ("no token", no_token, lambda: call(None)),
        ("assertion used as token", bad_token, lambda: call(loot.used_assertion)),
        ("wrong audience", bad_token, lambda: call(loot.invoices_token)),
        ("missing scope", needs_write, lambda: call(loot.orders_token, "POST", "/orders")),
        ("replayed assertion", bad_client, lambda: ask(loot.used_assertion)),
        ("alg none", bad_token, lambda: call(_unsigned(loot.orders_token))),
        ("other client's key", bad_client, lambda: ask(_by_other_client(loot))),
        ("stolen bound token", bad_token, lambda: call(loot.bound_token)),
        ("with a proof by another key", bad_token, lambda: call(loot.bound_token, DPoP=_by_other_key(loot))),
        ("token taken back", bad_token, lambda: _once_taken_back(loot, http, lambda: call(loot.orders_token))),
    ]


def _once_taken_back(loot: Loot, http: httpx2.Client, call: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The client takes its token back (RFC 7009), and the API hears of it: within two seconds it lets it in no more."""
    assertion = _assertion(loot, loot.clients.billing)
    form = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion, "token": loot.orders_token}
    http.post(f"{loot.issuer}/revoke", data=form)
    deadline = time.monotonic() + _HEARD_SECONDS
    while (response := call()).status_code == 200 and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return response


def _form(assertion: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
        "resource": ORDERS,
        "scope": READ,
    }


def _unsigned(token: str) -> str:
    """A good token that says it needs no signature, and has none (RFC 8725 2.1)."""
    header = base64url_encode(strict_json.dumps({"alg": "none", "typ": "at+jwt"})).decode("ascii")
    return f"{header}.{token.split('.')[1]}."


def _by_other_client(loot: Loot) -> str:
    """An assertion in the name of one client, honestly signed with the registered key of another."""
    return _assertion(loot, loot.clients.shipping)


def _assertion(loot: Loot, key: PrivateKey) -> str:
    now = int(time.time())
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": loot.issuer, "iat": now, "exp": now + 60}
    return sign_jwt({**claims, "jti": secrets.token_urlsafe(16)}, key, ASSERTION_TYP)


def _by_other_key(loot: Loot) -> str:
    """A good proof for the request (RFC 9449 4.2), by a key that the thief has made."""
    thief = Possession(lambda: loot.clients.shipping, time.time)
    return thief.proof("GET", f"{loot.api}/protected", loot.bound_token)


def api_answer(response: httpx2.Response) -> Answer:
    """An API's refusal, read from the challenge that says what is wrong; one without any breaks RFC 6750 3."""
    challenge = bearer_challenge(response, "dpop")
    if "error" not in challenge:
        challenge = bearer_challenge(response)
    error = challenge.get("error") if challenge else _NO_CHALLENGE
    return Answer(response.status_code, error, challenge.get("scope"))


def token_endpoint_answer(response: httpx2.Response) -> Answer:
    """The token endpoint's refusal, read from its JSON body."""
    try:
        body = response.json()
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    return Answer(response.status_code, error if isinstance(error, str) else _NO_ERROR)
