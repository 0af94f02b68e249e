"""What was taken back, and the keys by which APIs ask about tokens, as the admin API has them.

A revocation wants no tag: it is right whatever else has changed, and who pulls a kill switch does not read first.
"""

from typing import Any, Final

from msgspec import Struct

from groat.admin_api.client_keys import keys_of
from groat.admin_api.documents import DryRun, Instant, Jwk, Outcome, Page, Paged
from groat.admin_api.paging import page_of
from groat.admin_api.rows import Ask, Row, plain
from groat.protocol.errors import ConfigError
from groat.protocol.revocation import Cut, CutKind
from groat.server.operations import api_keys, revocations
from groat.server.operations.operator import NotRegistered


class CutDocument(Struct):
    """Every token of the subject with an earlier iat is over; the subject of `all` is empty."""

    cut: str
    kind: CutKind
    subject: str
    not_before: Instant
    made_at: Instant


class TokenToRevoke(Struct, forbid_unknown_fields=True):
    """One access token, whole or by its jti."""

    token: str


class RevokedDocument(Struct):
    """Until when it is remembered that the token was taken back; `client_id` is empty where only a jti was given."""

    client_id: str
    ends_at: Instant


class RevokedClients(Struct):
    """The clients that workloads of a trust are."""

    clients: list[str]


class NewApiKey(Struct, forbid_unknown_fields=True):
    """A public key of an API."""

    jwk: Jwk


class ApiKeyDocument(Struct):
    """A public key by which an API proves who it is when it asks about tokens."""

    kid: str
    api: str
    thumbprint: str
    algorithm: str
    jwk: Jwk
    created_at: Instant


def _document(cut: Cut) -> dict[str, Any]:
    found: dict[str, Any] = plain(cut)
    return {"cut": f"{cut.kind}/{cut.subject}", **found}


async def _list(ask: Ask) -> Any:
    return page_of([_document(cut) for cut in await revocations.list_revocations(ask.operator)], "cut", ask.query)


async def _token(ask: Ask) -> Any:
    taken = await revocations.revoke_token(ask.operator, ask.body.token)
    return {"client_id": taken.client_id, "ends_at": taken.ends_at}


async def _client(ask: Ask) -> Any:
    return _document(await revocations.revoke_client_tokens(ask.operator, ask.path["client_id"]))


async def _api(ask: Ask) -> Any:
    return _document(await revocations.revoke_api_tokens(ask.operator, ask.path["name"]))


async def _trust(ask: Ask) -> Any:
    return {"clients": list(await revocations.revoke_trust_tokens(ask.operator, ask.path["name"]))}


async def _all(ask: Ask) -> Any:
    return _document(await revocations.revoke_all_tokens(ask.operator))


async def _keys(ask: Ask) -> Any:
    records = await api_keys.list_api_keys(ask.operator, ask.path["name"])
    return page_of([plain(record) for record in records], "kid", ask.query)


async def _key(ask: Ask) -> Any:
    for record in await api_keys.list_api_keys(ask.operator, ask.path["name"]):
        if record.kid == ask.path["kid"]:
            return plain(record)
    raise NotRegistered(f"API {ask.path['name']} has no key {ask.path['kid']}")


async def _add_key(ask: Ask) -> Any:
    keys = keys_of([ask.body.jwk])
    if len(keys) != 1:
        raise ConfigError("jwk must be one public key")
    (record,) = await api_keys.add_api_keys(ask.operator, ask.path["name"], keys)
    return plain(record)


async def _remove_key(ask: Ask) -> Any:
    await api_keys.remove_api_key(ask.operator, ask.path["name"], ask.path["kid"])


_KEYS: Final = "/apis/{name}/keys"
_ONE_KEY: Final = f"{_KEYS}/{{kid}}"
ROWS: Final = (
    Row(
        method="GET", path="/revocations", operation="revocation.list", answer=_list, gives=Page[CutDocument],
        query=Paged,
    ),
    Row(
        method="POST", path="/revocations/token", operation="revocation.token", answer=_token,
        gives=RevokedDocument, takes=TokenToRevoke, query=DryRun,
    ),
    Row(
        method="POST", path="/revocations/all", operation="revocation.all", answer=_all, gives=CutDocument,
        query=DryRun,
    ),
    Row(
        method="POST", path="/clients/{client_id}/revoke", operation="revocation.client", answer=_client,
        gives=CutDocument, query=DryRun,
    ),
    Row(
        method="POST", path="/apis/{name}/revoke", operation="revocation.api", answer=_api, gives=CutDocument,
        query=DryRun,
    ),
    Row(
        method="POST", path="/trusts/{name}/revoke", operation="revocation.trust", answer=_trust,
        gives=RevokedClients, query=DryRun,
    ),
    Row(method="GET", path=_KEYS, operation="api_key.list", answer=_keys, gives=Page[ApiKeyDocument], query=Paged),
    Row(
        method="POST", path=_KEYS, operation="api_key.add", answer=_add_key, gives=ApiKeyDocument, takes=NewApiKey,
        query=DryRun, location="kid",
    ),
    Row(method="GET", path=_ONE_KEY, operation="api_key.list", answer=_key, gives=ApiKeyDocument),
    Row(
        method="DELETE", path=_ONE_KEY, operation="api_key.remove", answer=_remove_key,
        gives=Outcome[ApiKeyDocument], query=DryRun, current=_key,
    ),
)  # fmt: skip
