"""Trusts and their rules in memory, until the registry's version moves; none is read before a foreign token comes.

So what others registered costs a plain token nothing, and a foreign one looks at the few rules that can be about it.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol.federation.presets import keys_of, preset_of
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import Trust
from groat.server.registry.registry import Registry
from groat.server.store import Store, StoreUnavailable

MAX_REMEMBERED: Final = 10_000  # workloads, by what their rules are found by


@dataclass(slots=True)
class Trusts:
    """Answers from memory where it can. All raise StoreUnavailable."""

    store: Store
    registry: Registry
    _version: int = field(default=-1, init=False)
    _by_issuer: dict[str, Trust] | None = field(default=None, init=False)
    _read_last: dict[str, Trust] | None = field(default=None, init=False)  # under whatever version
    _rules: "OrderedDict[tuple[str, tuple[str, ...]], tuple[Rule, ...]]" = field(
        default_factory=OrderedDict, init=False
    )

    async def all(self) -> Mapping[str, Trust]:
        """Every trust by its issuer."""
        self._follow()
        if self._by_issuer is not None:
            return self._by_issuer
        version = self.registry.version
        found = {record.trust.issuer: record.trust for record in await self.store.list_trusts()}
        self._read_last = found
        if version == self.registry.version:  # else it may be older than what memory stands for now
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
        found = self._rules.get((trust.name, keys))
        if found is not None:
            return found
        version = self.registry.version
        found = tuple(record.rule for record in await self.store.rules_found_by(trust.name, keys))
        if version == self.registry.version:
            self._rules[trust.name, keys] = found
            if len(self._rules) > MAX_REMEMBERED:
                self._rules.popitem(last=False)
        return found

    def _follow(self) -> None:
        """Forget what was read under another version."""
        if self._version != self.registry.version:
            self._version, self._by_issuer = self.registry.version, None
            self._rules.clear()
