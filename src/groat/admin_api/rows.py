"""A row of the admin API: one method at one path, the operation behind it, what it takes and gives."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import UNSET, to_builtins

from groat.admin_api.documents import DryRun, Query
from groat.keys.custody import Custody
from groat.keys.invitation import Invitations
from groat.protocol import strict_json
from groat.protocol.jwk import base64url_encode
from groat.server.log.refusals import Refusals
from groat.server.operations.losses import Loss
from groat.server.operations.operation import OPERATIONS, Access, Operation
from groat.server.operations.operator import Operator
from groat.server.operations.signing_keys import Ring
from groat.server.registry.health import Health
from groat.server.settings.config import Config

PREFIX: Final = "/admin/v1"
TAG_CHARS: Final = 22


@dataclass(frozen=True, slots=True)
class Desk:
    """What the rows work with: the operator of this process, who keeps the keys, what it remembers, the settings."""

    operator: Operator
    custody: Custody
    invitations: Invitations
    health: Health
    refusals: Refusals
    config: Config


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that was let in and read. `path`: what stands in the braces of the row's path, decoded."""

    desk: Desk
    operator: Operator
    path: Mapping[str, str]
    query: Any
    body: Any = None

    @property
    def ring(self) -> Ring:
        """The signing keys, on behalf of who asks."""
        config = self.desk.config
        return Ring(self.operator, self.desk.custody, config.key_files.algorithm, config.timing.lead)

    @property
    def members(self) -> dict[str, Any]:
        """The members of the body that are there, of those that may be left out."""
        found = {name: getattr(self.body, name) for name in self.body.__struct_fields__}
        return {name: value for name, value in found.items() if value is not UNSET}

    def by(self, operator: Operator) -> "Ask":
        """The same request, worked at by another operator."""
        return replace(self, operator=operator)


Answer = Callable[[Ask], Awaitable[Any]]
Plan = Callable[[Ask], Awaitable[Sequence[Loss]]]


async def nobody(ask: Ask) -> Sequence[Loss]:
    """A change by which nobody loses anything."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`path` below PREFIX; `answer` does the work, and gives what `gives` says as JSON has it.

    `current`: what is there before a change, for its ETag and the answer; such a row gives an Outcome. `losses`: whom
    the change hits, asked before it. `location`: the member of the result that ends the URL of what was added.
    `preview`: what `answer` would give, where to try it would do more than to write and roll back.
    """

    method: str
    path: str
    operation: str
    answer: Answer
    gives: Any
    takes: Any = None
    query: type[Query] = Query
    current: Answer | None = None
    losses: Plan = nobody
    location: str = ""
    preview: Answer | None = None

    @property
    def row(self) -> Operation:
        return OPERATIONS[self.operation]

    @property
    def access(self) -> Access:
        return self.row.access

    @property
    def trial(self) -> Answer:
        """What answers for it with dry_run."""
        return self.preview or self.answer

    @property
    def adds(self) -> bool:
        """Whether something is there afterwards that has a URL of its own."""
        return bool(self.location)

    @property
    def tries(self) -> bool:
        """Whether it can say what it would do."""
        return issubclass(self.query, DryRun)

    @property
    def tagged(self) -> bool:
        """Whether the answer is one thing that has a state, and so an ETag."""
        return self.method == "GET" and "{" in self.path.rpartition("/")[2]

    @property
    def about(self) -> str:
        """The first sentence of the operation."""
        return (self.row.call.__doc__ or "").strip().splitlines()[0]


def etag(document: Any) -> str:
    """The entity tag of a document: strong, for the same document has the same bytes."""
    digest = hashlib.sha256(strict_json.dumps(document)).digest()
    return f'"{base64url_encode(digest)[:TAG_CHARS].decode()}"'


def plain(record: Any) -> Any:
    """A record as JSON would have it."""
    return to_builtins(record)
