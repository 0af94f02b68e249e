"""Trusts and their rules in memory, until the registry's version moves; no rule is read before a foreign token comes.

So what others registered costs a plain token nothing, and a foreign one looks at the few rules that can be about it.
Of a public issuer anybody has good tokens: what such a one makes us read pushes out nobody whom a rule names.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol.federation.presets import key_of, keys_of, preset_of
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import Trust
from groat.server.registry.registry import Registry
from groat.server.store import Store, StoreUnavailable

MAX_REMEMBERED: Final = 10_000  # workloads that a rule names, by what their rules are found by
MAX_UNNAMED: Final = 1_000  # the same of those that only rules without one value can be about
MAX_KEY_CHARS: Final = 1024  # of what is remembered for one of them
_Found = OrderedDict[tuple[str, tuple[str, ...]], tuple[Rule, ...]]


@dataclass(slots=True)
class Trusts:
    """Answers from memory where it can. All raise StoreUnavailable."""

    store: Store
    registry: Registry
    _changes: int = field(default=-1, init=False)  # the version itself may go back for a moment
    _by_issuer: dict[str, Trust] | None = field(default=None, init=False)
    _read_last: dict[str, Trust] | None = field(default=None, init=False)  # under whatever version
    _named: _Found = field(default_factory=OrderedDict, init=False)
    _unnamed: _Found = field(default_factory=OrderedDict, init=False)

    async def all(self) -> Mapping[str, Trust]:
        """Every trust by its issuer."""
        self._follow()
        if self._by_issuer is not None:
            return self._by_issuer
        changes = self.registry.changes
        found = {record.trust.issuer: record.trust for record in await self.store.list_trusts()}
        self._read_last = found
        if changes == self.registry.changes:  # else it may be older than what memory stands for now
            self._by_issuer = found
        return found

    async def read_last(self) -> Mapping[str, Trust]:
        """Every trust by its issuer; where the store cannot answer, as they were read last.

        Good for what is public and changes slowly, never for letting anybody in.
        """
        try:
            return await self.all()
        except StoreUnavailable:
            if self._read_last is None:
                raise
            return self._read_last

    async def find(self, issuers: Sequence[str]) -> Trust | None:
        """The trust of the first of these issuers that has one; an unknown one is looked up nowhere else."""
        known = await self.all()
        return next((known[issuer] for issuer in issuers if issuer in known), None)

    async def rules_about(self, trust: Trust, claims: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The rules of a trust that a token with these claims can meet."""
        self._follow()
        keys = keys_of(claims, preset_of(trust))
        sought = trust.name, keys
        found = self._named.get(sought) or self._unnamed.get(sought)
        if found is not None:
            return found
        changes = self.registry.changes
        found = tuple(record.rule for record in await self.store.rules_found_by(trust.name, keys))
        if found and changes == self.registry.changes and sum(map(len, keys)) <= MAX_KEY_CHARS:
            named = any(key_of(rule, preset_of(trust)) for rule in found)
            memory, most = (self._named, MAX_REMEMBERED) if named else (self._unnamed, MAX_UNNAMED)
            _remember(memory, most, sought, found)
        return found

    def _follow(self) -> None:
        """Forget what was read before the last change."""
        if self._changes != self.registry.changes:
            self._changes, self._by_issuer = self.registry.changes, None
            self._named.clear()
            self._unnamed.clear()


def _remember(memory: _Found, most: int, sought: tuple[str, tuple[str, ...]], found: tuple[Rule, ...]) -> None:
    memory[sought] = found
    if len(memory) > most:
        memory.popitem(last=False)
