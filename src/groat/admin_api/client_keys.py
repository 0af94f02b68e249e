"""The public keys of clients, as the admin API has them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from groat.admin_api.documents import (
    ClientKeyDocument,
    ClientKeyPatch,
    DryRun,
    Force,
    ListedClientKey,
    NewClientKey,
    Outcome,
    Page,
    Paged,
)
from groat.admin_api.paging import page_of
from groat.admin_api.rows import Ask, Row, plain
from groat.keys.public_key import parse_public_keys
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import KeyLimits, LimitsChange
from groat.server.operations import client_keys
from groat.server.operations.losses import Loss
from groat.server.operations.operator import NotRegistered
from groat.server.store.records import ClientKeyRecord


def keys_of(jwks: Sequence[Mapping[str, Any]]) -> tuple[PublicKey, ...]:
    """Public keys from JWKs. Raises ConfigError; a private one is refused, and nothing of it is repeated."""
    try:
        return tuple(key for one in jwks for key in parse_public_keys(strict_json.dumps(dict(one))))
    except JoseError as error:
        raise ConfigError(f"no usable public key: {error.hint}") from None


def _document(record: ClientKeyRecord) -> dict[str, Any]:
    """Without its last use, which would make another thing of it with each token."""
    found: dict[str, Any] = plain(record)
    found.pop("last_used_at")
    return found


async def _list(ask: Ask) -> Any:
    records = await client_keys.list_client_keys(ask.operator, ask.path["client_id"])
    spans = ask.desk.config.client_keys
    found = client_keys.describe_client_keys(records, ask.operator.now, spans.key_idle, spans.key_warning)
    return page_of([plain(one) for one in found], "kid", ask.query)


async def _show(ask: Ask) -> Any:
    kid = ask.path["kid"]
    for record in await client_keys.list_client_keys(ask.operator, ask.path["client_id"]):
        if record.kid == kid:
            return _document(record)
    raise NotRegistered(f"client {ask.path['client_id']} has no key {kid}")


async def _add(ask: Ask) -> Any:
    new: NewClientKey = ask.body
    keys, limits = keys_of([new.jwk]), KeyLimits(new.not_before, new.expires_at)
    if len(keys) != 1:
        raise ConfigError("jwk must be one public key")
    (record,) = await client_keys.add_client_keys(ask.operator, ask.path["client_id"], keys, limits)
    return _document(record)


async def _update(ask: Ask) -> Any:
    change = LimitsChange(**ask.members)
    client_id, kid = ask.path["client_id"], ask.path["kid"]
    return _document(await client_keys.update_client_key(ask.operator, client_id, kid, change, force=ask.query.force))


async def _remove(ask: Ask) -> Any:
    idle, force = ask.desk.config.client_keys.key_idle, ask.query.force
    await client_keys.remove_client_key(
        ask.operator, ask.path["client_id"], ask.path["kid"], force=force, idle=idle
    )  # fmt: skip


async def _removal_hits(ask: Ask) -> Sequence[Loss]:
    idle = ask.desk.config.client_keys.key_idle
    plan = await client_keys.plan_client_key_removal(ask.operator, ask.path["client_id"], ask.path["kid"], idle)
    return plan.losses


_ALL: Final = "/clients/{client_id}/keys"
_ONE: Final = f"{_ALL}/{{kid}}"
_OUTCOME: Final = Outcome[ClientKeyDocument]
ROWS: Final = (
    Row(method="GET", path=_ALL, operation="client_key.list", answer=_list, gives=Page[ListedClientKey], query=Paged),
    Row(
        method="POST", path=_ALL, operation="client_key.add", answer=_add, gives=ClientKeyDocument,
        takes=NewClientKey, query=DryRun, location="kid",
    ),
    Row(method="GET", path=_ONE, operation="client_key.list", answer=_show, gives=ClientKeyDocument),
    Row(
        method="PATCH", path=_ONE, operation="client_key.update", answer=_update, gives=_OUTCOME,
        takes=ClientKeyPatch, query=Force, current=_show,
    ),
    Row(
        method="DELETE", path=_ONE, operation="client_key.remove", answer=_remove, gives=_OUTCOME, query=Force,
        current=_show, losses=_removal_hits,
    ),
)  # fmt: skip
