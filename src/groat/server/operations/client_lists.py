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
