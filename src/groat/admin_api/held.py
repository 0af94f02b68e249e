"""Changes by an entity tag, and changes that are only tried.

The tag was judged under one version of the registry; the change is written under that version, or not at all. So
nothing can come between, whichever operation it is. What is tried is written, checked by everything that checks a
change, and rolled back in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from groat.server.log.audit import Audit
from groat.server.operations.operator import Operator
from groat.server.store import RegistryMoved, Store
from groat.server.store.audit_trail import Deed, Effect
from groat.server.store.changes import Change, Transaction


class Moved(Exception):
    """The registry is past the version under which the tag was judged; nothing was written."""


class _Tried(Exception):
    """Everything was written, and is rolled back."""


@dataclass(frozen=True, slots=True)
class _RollBack(Change):
    """The last of changes that are only tried."""

    @property
    def object(self) -> str:
        return "store"

    async def touched(self, transaction: Transaction) -> Sequence[str]:
        """Nothing of its own."""
        return ()

    async def write(self, transaction: Transaction) -> None:
        raise _Tried


class _HeldStore:
    """A store that changes under one version alone (None: whichever), or not at all."""

    def __init__(self, store: Store, version: int | None, trial: bool) -> None:
        self._store = store
        self._version = version
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def registry_version(self) -> int:
        return await self._store.registry_version() if self._version is None else self._version

    async def change(self, deed: Deed, seen: int | None, many: Sequence[Change]) -> range:
        """`Store.change`. Raises Moved."""
        under = seen if self._version is None else self._version
        try:
            return await self._store.change(deed, under, [*many, _RollBack()] if self._trial else many)
        except RegistryMoved:
            if self._version is None:
                raise
            raise Moved from None
        except _Tried:
            return range(0)

    async def record(self, deed: Deed, effect: Effect) -> range:
        """`Store.record`: what is only tried leaves no row."""
        return range(0) if self._trial else await self._store.record(deed, effect)


class _Unheard(Audit):
    """What is only tried is no event."""

    def operated(self, operation: str, facts: Mapping[str, Any]) -> None:
        """Say nothing."""


def held(operator: Operator, version: int | None = None, *, trial: bool = False) -> Operator:
    """The same operator, who changes under this version alone, or only tries to."""
    store = cast("Store", _HeldStore(operator.store, version, trial))
    audit = _Unheard(operator.audit.log, operator.audit.tally) if trial else operator.audit
    return replace(operator, store=store, audit=audit)
