"""Who operates: the store, the policy, the log, the clock and the actor that every operation works with."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from groat.protocol.models import Policy
from groat.server.log.audit import Audit
from groat.server.store import RegistryMoved, Store
from groat.server.store.audit_trail import Actor, Deed, this_process
from groat.server.store.changes import Change


class NotRegistered(Exception):
    """There is no API, client or key of that name."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Where operations work: the store, the policy in force, the log, a clock; and who is at work, by which face."""

    store: Store
    policy: Policy
    audit: Audit = field(default_factory=Audit)
    clock: Callable[[], float] = time.time
    actor: Actor = field(default_factory=this_process)

    @property
    def now(self) -> int:
        return int(self.clock())

    def deed(self, operation: str) -> Deed:
        """What this actor does now; `operation` is the name of its log event."""
        return Deed(self.actor, operation, self.now)

    async def change(self, seen: int | None, many: Sequence[Change], operation: str, facts: Mapping[str, Any]) -> range:
        """`Store.change`, with its rows in the audit trail and its line in the log; the one way to change the registry.

        Returns the numbers of the rows. Raises as `Store.change` does.
        """
        rows = await self.store.change(self.deed(operation), seen, many)
        self.tell(operation, facts, rows)
        return rows

    def tell(self, operation: str, facts: Mapping[str, Any], rows: range) -> None:
        """Log what was done, with the numbers of its rows in the audit trail."""
        numbers = {"audit": rows[0]} if rows else {}
        if len(rows) > 1:
            numbers["audit_last"] = rows[-1]
        self.audit.operated(operation, {**facts, **numbers})


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
ATTEMPTS: Final = 10


def again_if_moved(
    operation: Callable[Arguments, Awaitable[Result]],
) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
    """Start over when somebody else changed the registry between reading and writing: no change is ever lost."""

    @wraps(operation)
    async def attempt(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(RegistryMoved):
                return await operation(*arguments, **options)
        return await operation(*arguments, **options)

    return attempt
