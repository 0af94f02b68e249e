"""Trusts and rules in memory: read under which version, and who pushes out whom."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.server import operations
from groat.server.operations.trusts import TrustChange
from groat.server.registry import trusts
from groat.server.registry.trusts import MAX_KEY_CHARS, MAX_UNNAMED, Trusts
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.sqlite.store import SqliteStore
from tests.protocol.federation.platforms import GENERIC
from tests.server.registry.test_registry import Scene

NOWHERE: Final = TrustChange(source=KeySource(SourceKind.FILE, "/nowhere/jwks.json"))


class Counting(SqliteStore):
    """Counts what is asked of it about trusts, and answers later where it is told to."""

    late: asyncio.Event | None = None
    asked = 0

    async def list_trusts(self) -> tuple[TrustRecord, ...]:
        found = await super().list_trusts()
        if self.late is not None:
            await self.late.wait()
        return found

    async def rules_found_by(self, trust: str, keys: Sequence[str]) -> tuple[RuleRecord, ...]:
        self.asked += 1
        found = await super().rules_found_by(trust, keys)
        if self.late is not None:
            await self.late.wait()
        return found


async def furnish(scene: Scene, *conditions: str) -> None:
    await operations.add_trust(scene.operator, "ci", "https://ci.example", "", NOWHERE)
    for condition in conditions:
        await operations.add_rule(scene.operator, "billing", "ci", [Condition.parse(condition)], [])
    await scene.registry.refresh()


def store_of(scene: Scene) -> Counting:
    assert isinstance(scene.store, Counting)
    return scene.store


@pytest.mark.rule("ST-10")
@pytest.mark.parametrize("rules", [False, True])
def test_what_was_read_before_a_change_is_not_kept_for_after_it(tmp_path: Path, rules: bool) -> None:
    """The version goes on, back for a moment (an answer comes late) and on: what was read before counts no more."""

    async def work() -> None:
        async with Scene(tmp_path, Counting) as scene:
            known, store, trust = (
                Trusts(scene.store, scene.registry),
                store_of(scene),
                replace(GENERIC.trust, name="ci"),
            )

            async def look() -> Any:
                found = await (known.rules_about(trust, {"sub": "x"}) if rules else known.all())
                return len(found)

            await furnish(scene, "sub=x")
            before, store.late = scene.registry.version, asyncio.Event()
            slow = asyncio.create_task(look())
            await asyncio.sleep(0.1)
            late, store.late = store.late, None
            await operations.remove_trust(scene.operator, "ci")
            after = await scene.registry.refresh()
            assert await look() == 0
            scene.registry.observe(before)
            late.set()
            assert await slow == 1
            scene.registry.observe(after)
            assert await look() == 0

    asyncio.run(work())


def test_tokens_that_no_rule_names_push_out_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those that nothing is found for, nor those that only a pattern can be about, nor the very long."""
    monkeypatch.setattr(trusts, "MAX_REMEMBERED", 3)

    async def work() -> None:
        async with Scene(tmp_path, Counting) as scene:
            known, store, trust = (
                Trusts(scene.store, scene.registry),
                store_of(scene),
                replace(GENERIC.trust, name="ci"),
            )
            await furnish(scene, "sub=org/worker")
            assert len(await known.rules_about(trust, {"sub": "org/worker"})) == 1
            for number in range(10):
                assert await known.rules_about(trust, {"sub": f"org/stranger-{number}"}) == ()
            asked = store.asked
            assert len(await known.rules_about(trust, {"sub": "org/worker"})) == 1
            assert store.asked == asked
            await furnish_pattern(scene)
            assert len(await known.rules_about(trust, {"sub": "org/worker"})) == 2
            for number in range(MAX_UNNAMED + 5):
                assert len(await known.rules_about(trust, {"sub": f"org/stranger-{number}"})) == 1
            asked = store.asked
            assert len(await known.rules_about(trust, {"sub": "org/worker"})) == 2
            assert len(await known.rules_about(trust, {"sub": f"org/stranger-{MAX_UNNAMED}"})) == 1
            assert store.asked == asked
            assert len(known._unnamed) == MAX_UNNAMED
            long = {"sub": "org/" + "x" * MAX_KEY_CHARS}
            assert [len(await known.rules_about(trust, long)) for _ in range(2)] == [1, 1]
            assert store.asked == asked + 2

    asyncio.run(work())


async def furnish_pattern(scene: Scene) -> None:
    condition = Condition.parse("sub^=org/")
    await operations.add_rule(scene.operator, "billing", "ci", [condition], [])
    await scene.registry.refresh()
