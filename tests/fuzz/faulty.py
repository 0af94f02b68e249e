"""`groat` with a rule taken out, to see whether the judge notices: `python -m tests.fuzz.faulty PROGRAM serve ...`.

GROAT_TEST_FAULT names the rule. The product knows nothing of it; a part that is no longer there is an error.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from groat.protocol import jose, strict_json, token_request
from groat.protocol.client_auth import private_key_jwt
from groat.protocol.errors import InvalidClient
from groat.protocol.grants import client_credentials
from groat.protocol.models import OneTimeKind, OneTimeValue
from groat.server.endpoints.asking import Asking
from groat.server.store.sqlite.store import SqliteStore


def _replaced(owner: Any, name: str, part: Any) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} any more")
    setattr(owner, name, part)


def audience() -> None:
    """Any audience is this server."""
    _replaced(private_key_jwt, "_check_audience", lambda claims, client, policy: policy.issuer)


def signature() -> None:
    """Any signature is good."""
    _replaced(jose, "verify_signature", lambda jwt, key: None)


def times() -> None:
    """Nothing is too old or too new."""
    _replaced(private_key_jwt, "_check_lifetime", lambda claims, lifetime, tolerance, now: (now + 60, now))


def names() -> None:
    """iss need not be the client."""
    good = private_key_jwt._check_claims

    def lax(credential: Any, client: Any, *rest: Any) -> Any:
        claims = {**credential.jwt.claims, "iss": client.client_id, "sub": client.client_id}
        return good(replace(credential, jwt=replace(credential.jwt, claims=claims)), client, *rest)

    _replaced(private_key_jwt, "_check_claims", lax)


def members() -> None:
    """JSON as the standard library reads it: the last of two members counts."""
    _replaced(strict_json, "loads", lambda raw: json.loads(raw))


def fields() -> None:
    """The last of two form fields counts."""

    def collect(pairs: Any, known: Any) -> tuple[dict[str, str], tuple[str, ...]]:
        listed = list(pairs)
        return dict(listed), tuple({value for name, value in listed if name in ("resource", "audience") and value})

    _replaced(token_request, "_collect", collect)


def methods() -> None:
    """A second method of authentication is overlooked."""
    _replaced(token_request, "_presented_methods", lambda once, authorization: ("client_assertion",))


def scopes() -> None:
    """Whatever is asked is granted."""
    _replaced(client_credentials, "_granted", lambda wanted, permission, client, explicit: tuple(wanted))


def replays() -> None:
    """What was used is fresh again."""
    good = SqliteStore.use_once

    async def use_once(self: Any, *args: Any) -> Any:
        return (await good(self, *args))._replace(fresh=True)

    _replaced(SqliteStore, "use_once", use_once)


def rows() -> None:
    """What is refused is remembered all the same."""
    good = Asking.prove

    async def prove(self: Any, claimant: Any) -> Any:
        try:
            return await good(self, claimant)
        except InvalidClient:
            credential, now = claimant.credential, claimant.now
            jti = str(credential.jwt.claims.get("jti"))
            once = OneTimeValue(OneTimeKind.ASSERTION, credential.client_id, jti, int(now) + 600, now)
            await self.store.use_once(once, None)
            raise

    _replaced(Asking, "prove", prove)


def types() -> None:
    """A claim is taken for a string without a look."""

    def string_claim(claims: Mapping[str, Any], name: str, max_chars: int = 4096) -> str:
        return str(claims[name].strip())

    _replaced(jose, "string_claim", string_claim)


FAULTS: Final = {
    fault.__name__: fault
    for fault in (audience, signature, times, names, members, fields, methods, scopes, replays, rows, types)
}

if __name__ == "__main__":
    FAULTS[os.environ.pop("GROAT_TEST_FAULT")]()
    from groat.cli import main

    del sys.argv[1]
    main()
