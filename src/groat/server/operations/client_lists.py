"""Which clients an operator looks for: by API, label and state, and by how long nobody used them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from groat.server.operations.apis import find_api
from groat.server.operations.operation import reads
from groat.server.operations.operator import Operator
from groat.server.store.records import ClientRecord


@dataclass(frozen=True, slots=True)
class ClientFilter:
    """Which clients are meant: all that is set must be so. `unused`: for so many seconds at least."""

    api: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    disabled: bool = False
    unused: int | None = None

    def admits(self, found: "ListedClient", now: int) -> bool:
        """Whether this is one of them."""
        record = found.record
        return (
            (not self.api or self.api in record.allow)
            and self.labels.items() <= record.settings.labels.items()
            and not (self.disabled and record.enabled)
            and (self.unused is None or found.unused_since <= now - self.unused)
        )


MAX_LOOKED_AT: Final = 2000  # clients of one part of the list: what a request for it costs is bounded
LOOKED_AT_ONCE: Final = 200
EVERY_CLIENT: Final = ClientFilter()


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client, and since when no use of it is known, in epoch seconds.

    That is its last use, up to an hour before it; its registration, where there was none; or the instant from which on
    the store remembers, where that is later.
    """

    record: ClientRecord
    unused_since: int

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it."""
        return self.record.document() | {"unused_since": self.unused_since}


@reads("client.list")
async def list_clients(operator: Operator, wanted: ClientFilter = EVERY_CLIENT) -> tuple[ListedClient, ...]:
    """The clients that are meant, by id. Raises NotRegistered for an API that is not there."""
    if wanted.api:
        await find_api(operator, wanted.api)
    since = await operator.store.unused_since()
    found = [
        ListedClient(record, since.get(record.client_id, record.created_at))  # one that was added in between is new
        for record in await operator.store.list_clients()
    ]
    return tuple(one for one in found if wanted.admits(one, operator.now))


@dataclass(frozen=True, slots=True)
class ClientsPart:
    """A part of the list. `last`: the id behind which the next one begins, None at the end."""

    found: tuple[ListedClient, ...]
    last: str | None


async def list_some_clients(operator: Operator, wanted: ClientFilter, behind: str, limit: int) -> ClientsPart:
    """The first clients behind this id that are meant, `limit` at most; fewer where few of many are meant.

    It looks at MAX_LOOKED_AT clients and then says how to go on. Raises NotRegistered for an API that is not there.
    """
    if wanted.api:
        await find_api(operator, wanted.api)
    found: list[ListedClient] = []
    for _ in range(MAX_LOOKED_AT // LOOKED_AT_ONCE):
        records = await operator.store.clients_behind(behind, LOOKED_AT_ONCE)
        since = await operator.store.unused_since(behind, records[-1].client_id) if records else {}
        for record in records:
            one = ListedClient(record, since.get(record.client_id, record.created_at))
            behind = record.client_id
            if wanted.admits(one, operator.now):
                found.append(one)
            if len(found) == limit:
                return ClientsPart(tuple(found), behind)
        if len(records) < LOOKED_AT_ONCE:
            return ClientsPart(tuple(found), None)
    return ClientsPart(tuple(found), behind)
