"""The APIs that the guides show in other languages, judged twice: before a real groat, and before an issuer that lies.

`groat serve` signs good tokens only. What a stranger or a broken issuer could send is signed by `tests.verifier.issuer`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import httpx2

from groat.client import MachineClient
from groat.protocol.jwk import generate_private_key
from tests.verifier.issuer import JWKS, Answer, Issuer, serving
from tests.verifier.tokens import ABSENT

from .processes import OTHER_RESOURCE, GroatServer, groat_server

AUDIENCE: Final = "https://orders.example.com"
KEY: Final = "billing.key.json"
# Starts the API that trusts the issuer of this URL; yields its origin.
Start = Callable[[str], AbstractContextManager[str]]


@contextmanager
def guide_server(directory: Path) -> Iterator[GroatServer]:
    """A groat with the names that the guides use; `billing` may also call another API."""
    with groat_server(directory, "ES256") as server:
        server.run("api", "add", "shop", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
        allowed = ("--allow", "shop=orders:read,orders:write", "--allow", "stock=stock:read")
        server.run("client", "add", "billing", *allowed, "--new-key", KEY)
        yield server


def ask(origin: str, token: str | None) -> httpx2.Response:
    """GET /orders with this token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx2.get(f"{origin}/orders", headers=headers, timeout=20)


def check_tokens_of_groat(start: Start, server: GroatServer) -> None:
    """A token for this API and scope is let in; one for another API, of another scope or spoilt is not."""
    with MachineClient(server.issuer, "billing", server.directory / KEY) as client, start(server.issuer) as origin:
        good = client.token(AUDIENCE, ["orders:read"]).value
        answer = ask(origin, good)
        assert (answer.status_code, "an order of billing" in answer.text) == (200, True), answer.text
        spoilt = good[:-20] + ("A" if good[-20] != "A" else "B") + good[-19:]
        other_scope = client.token(AUDIENCE, ["orders:write"]).value
        other_api = client.token(OTHER_RESOURCE, ["stock:read"]).value
        refused = {token: ask(origin, token) for token in (None, spoilt, "x", other_api, other_scope)}
        statuses = [one.status_code for one in refused.values()]
        assert statuses == [401, 401, 401, 401, 403], statuses
        assert all(one.headers["www-authenticate"].startswith("Bearer") for one in refused.values())
        assert "error=" not in refused[None].headers["www-authenticate"]


def lies(issuer: Issuer) -> Mapping[str, tuple[str, int]]:
    """Tokens that carry a good signature, mostly, and the status that each must get."""
    now, stranger = int(time.time()), generate_private_key("ES256")
    return {
        "good": (issuer.token(), 200),
        "several audiences": (issuer.token(aud=[OTHER_RESOURCE, AUDIENCE]), 200),
        "several scopes": (issuer.token(scope="orders:write orders:read"), 200),
        "type of other tokens": (issuer.token(typ="JWT"), 401),
        "no type": (issuer.token(typ=None), 401),
        "expired": (issuer.token(iat=now - 900, exp=now - 300), 401),
        "without end": (issuer.token(exp=ABSENT), 401),
        "another issuer": (issuer.token(iss="https://auth.example.org"), 401),
        "another audience": (issuer.token(aud=OTHER_RESOURCE), 401),
        "no audience": (issuer.token(aud=ABSENT), 401),
        "a prefix of the audience": (issuer.token(aud=AUDIENCE + "/"), 401),
        "another key under this kid": (issuer.token(key=stranger, kid=issuer.key.kid), 401),
        "a longer scope": (issuer.token(scope="orders:readonly"), 403),
        "no scope": (issuer.token(scope=ABSENT), 403),
    }


def check_lies(start: Start, *, without_keys: int) -> None:
    """Everything that `lies` has; `without_keys` is the status while the issuer cannot be asked for its keys."""
    with serving() as issuer, start(issuer.url) as origin:
        issuer.spoil(JWKS, Answer(status=500))
        answer = ask(origin, issuer.token(issuer.rotate()))
        assert answer.status_code == without_keys, (answer.status_code, answer.headers, answer.text)
        issuer.mend()
        told = lies(issuer)
        answered = {name: ask(origin, token).status_code for name, (token, _) in told.items()}
        wrong = {name: status for name, status in answered.items() if status != told[name][1]}
        assert not wrong, wrong
