"""The signing keys, as the admin API has them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from groat.admin_api.documents import (
    AtOnce,
    DryRun,
    NewSigningKey,
    Outcome,
    Page,
    Paged,
    Query,
    SigningKeyDocument,
)
from groat.admin_api.paging import page_of
from groat.admin_api.rows import Ask, Row
from groat.keys.ring.keyring import SigningKey
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.server.operations import signing_keys
from groat.server.operations.clock import check_clock
from groat.server.operations.losses import Loss
from groat.server.operations.operator import NotRegistered
from groat.server.operations.signing_keys import Ring, describe_signing_key
from groat.server.unavailable import Unavailable


def _documents(ask: Ask, records: Iterable[SigningKey]) -> list[dict[str, Any]]:
    return [describe_signing_key(record, ask.operator.now) for record in records]


async def _list(ask: Ask) -> Any:
    return page_of(_documents(ask, await signing_keys.list_signing_keys(ask.operator)), "kid", ask.query)


async def _show(ask: Ask) -> Any:
    kid = ask.path["kid"]
    for document in _documents(ask, await signing_keys.list_signing_keys(ask.operator)):
        if document["kid"] == kid:
            return document
    raise NotRegistered(f"no signing key {kid}. See: groat key list")


async def _ring(ask: Ask, algorithm: str | None = None) -> Ring:
    """What a key does from when to when is what a wrong clock would say. Raises Unavailable, ConfigError."""
    if doubt := await check_clock(ask.operator.store, ask.operator.clock):
        raise Unavailable("clock_in_doubt", f"no key is changed: {doubt}")
    if algorithm is not None and algorithm not in ALGORITHM_NAMES:
        raise ConfigError(f"algorithm must be one of {', '.join(ALGORITHM_NAMES)}")
    return replace(ask.ring, algorithm=algorithm or ask.ring.algorithm)


async def _prepare(ask: Ask) -> Any:
    changed = await signing_keys.prepare_signing_key(await _ring(ask, ask.body.algorithm))
    return _documents(ask, changed)[0]


async def _rotate(ask: Ask) -> Any:
    return _documents(ask, await signing_keys.rotate_signing_key(await _ring(ask)))[0]


async def _reseal(ask: Ask) -> Any:
    return page_of(_documents(ask, await signing_keys.reseal_signing_keys(ask.ring)), "kid", Paged())


async def _after(ask: Ask, changed: Iterable[SigningKey]) -> Any:
    """What became of the key in question, which need not be among those that were changed."""
    own = [one for one in _documents(ask, changed) if one["kid"] == ask.path["kid"]]
    return own[0] if own else await _show(ask)


async def _activate(ask: Ask) -> Any:
    ring = await _ring(ask)
    return await _after(
        ask, await signing_keys.activate_signing_key(ring, ask.path["kid"], at_once=ask.body.at_once)
    )  # fmt: skip


async def _retire(ask: Ask) -> Any:
    ring = await _ring(ask)
    return await _after(ask, await signing_keys.retire_signing_key(ring, ask.path["kid"], at_once=ask.body.at_once))


async def _revoke(ask: Ask) -> Any:
    return await _after(ask, await signing_keys.revoke_signing_key(await _ring(ask), ask.path["kid"]))


async def _revoked(ask: Ask) -> Any:
    """What it would be; to try it would make the key that takes over, with whichever custodian."""
    return await _show(ask) | {"state": "removed", "retires_at": ask.operator.now, "removes_at": ask.operator.now}


async def _revocation_hits(ask: Ask) -> Sequence[Loss]:
    return (await signing_keys.plan_signing_key_end(ask.operator, ask.path["kid"])).losses


_ONE: Final = "/keys/{kid}"
_OUTCOME: Final = Outcome[SigningKeyDocument]
ROWS: Final = (
    Row(method="GET", path="/keys", operation="key.list", answer=_list, gives=Page[SigningKeyDocument], query=Paged),
    Row(
        method="POST", path="/keys", operation="key.prepare", answer=_prepare, gives=SigningKeyDocument,
        takes=NewSigningKey, location="kid",
    ),
    # Before the keys: what follows is no kid, which is a thumbprint.
    Row(
        method="POST", path="/keys/rotation", operation="key.rotate", answer=_rotate, gives=SigningKeyDocument,
        query=Query,
    ),
    Row(
        method="POST", path="/keys/sealing", operation="key.reseal", answer=_reseal, gives=Page[SigningKeyDocument],
        query=Query,
    ),
    Row(method="GET", path=_ONE, operation="key.list", answer=_show, gives=SigningKeyDocument),
    Row(
        method="POST", path=f"{_ONE}/activate", operation="key.activate", answer=_activate, gives=_OUTCOME,
        takes=AtOnce, current=_show,
    ),
    Row(
        method="POST", path=f"{_ONE}/retire", operation="key.retire", answer=_retire, gives=_OUTCOME, takes=AtOnce,
        current=_show,
    ),
    Row(
        method="DELETE", path=_ONE, operation="key.revoke", answer=_revoke, gives=_OUTCOME, query=DryRun,
        current=_show, losses=_revocation_hits, preview=_revoked,
    ),
)  # fmt: skip
