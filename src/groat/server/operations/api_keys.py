"""What an operator may do with the keys by which APIs prove who they are when they ask about tokens."""

from collections.abc import Sequence

from groat.protocol.jwk import PublicKey
from groat.server.operations.client_keys import check_algorithms
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator
from groat.server.store.records import ApiKeyRecord
from groat.server.store.revocation_changes import AddApiKey, RemoveApiKey


async def _keys(operator: Operator, name: str) -> tuple[ApiKeyRecord, ...]:
    _, found = await operator.store.look_up_api(name)
    if found is None:
        raise NotRegistered(f"no API {name}. See: groat api list")
    return found[1]


@writes("api_key.add")
async def add_api_keys(operator: Operator, name: str, keys: Sequence[PublicKey]) -> tuple[ApiKeyRecord, ...]:
    """Register public keys of an API, which may ask about its tokens from then on (RFC 7662 2.1)."""
    await _keys(operator, name)
    check_algorithms(operator.policy, keys)
    records = tuple(
        ApiKeyRecord(key.kid, name, key.thumbprint, key.algorithm, dict(key.jwk), operator.now) for key in keys
    )
    facts = {"api": name, "keys": [key.kid for key in keys]}
    await operator.change(None, [*map(AddApiKey, records)], "api.key_added", facts)
    return records


@reads("api_key.list")
async def list_api_keys(operator: Operator, name: str) -> tuple[ApiKeyRecord, ...]:
    """The public keys of an API. Raises NotRegistered."""
    return await _keys(operator, name)


@writes("api_key.remove")
async def remove_api_key(operator: Operator, name: str, kid: str) -> None:
    """Remove a key, with effect on the API's next question. Its callers' tokens go on. Raises NotRegistered."""
    if all(key.kid != kid for key in await _keys(operator, name)):
        raise NotRegistered(f"API {name} has no key {kid}. See: groat api key list {name}")
    await operator.change(None, [RemoveApiKey(name, kid)], "api.key_removed", {"api": name, "kid": kid})
