"""Who operates: the store, the policy, the audit trail and the clock that every operation works with."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from groat.protocol.models import Policy
from groat.server.log.audit import Audit
from groat.server.store import RegistryMoved, Store


class NotRegistered(Exception):
    """There is no API, client or key of that name."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Where operations work: the store, the policy in force, the audit trail, a clock."""

    store: Store
    policy: Policy
    audit: Audit = field(default_factory=Audit)
    clock: Callable[[], float] = time.time

    @property
    def now(self) -> int:
        return int(self.clock())


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
