"""Trusts and rules in memory: read under which version, and who pushes out whom."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from groat.outbound.published import fetch_key_set
from groat.protocol.client_auth.workload import ForeignCredential
from groat.protocol.dpop_nonce import Nonces
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.foreign_token import read
from groat.protocol.federation.trust import KeySource, SourceKind, Use
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.places import Places
from groat.server.endpoints.possession import Possession
from groat.server.endpoints.token import TokenEndpoint
from groat.server.endpoints.workloads import Workloads, name_of
from groat.server.http.entrance import Entrance
from groat.server.http.in_force import Current, InForce
from groat.server.http.routes import POST, Served
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.log.tally import Ledger
from groat.server.operations.trusts import TrustChange
from groat.server.registry import trusts
from groat.server.registry.key_sets import ClientKeySets
from groat.server.registry.publishers import Publishers
from groat.server.registry.trust_keys import TrustKeys
from groat.server.registry.trusts import MAX_KEY_CHARS, MAX_UNNAMED, Trusts
from groat.server.store import StoreUnavailable
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.sqlite.store import SqliteStore
from tests.protocol.federation.platforms import GENERIC, GITHUB
from tests.server.builders import ISS, NOW
from tests.server.registry.test_registry import Scene
from tests.server.registry.test_registry import _ask as ask

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


class Away(SqliteStore):
    """Cannot be reached from some instant on."""

    away = False

    async def registry_version(self) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return await super().registry_version()


@pytest.mark.rule("AS-JB-19")
def test_a_stranger_is_refused_from_memory_while_the_store_is_away(tmp_path: Path) -> None:
    """Of an issuer that nobody trusts; where anything could have changed what was found, it is 503."""

    async def work() -> None:
        async with Scene(tmp_path, Away) as scene:
            assert isinstance(scene.store, Away)
            known, sets = scene.registry, ClientKeySets(fetch_key_set)
            source = TrustChange(
                source=KeySource(SourceKind.COPIED, json.dumps({"keys": [dict(GITHUB.key.public.jwk)]}))
            )
            await operations.add_trust(scene.operator, "ci", GITHUB.trust.issuer, "github", source)
            await known.refresh()
            with (tmp_path / "log").open("w") as log:
                audit = Audit(EventLog(log, "debug", False))
                workloads = Workloads(known, Trusts(scene.store, known), TrustKeys())
                asking = Asking(known, scene.store, Publishers(scene.store, known, sets), workloads, lambda: NOW)
                possession, places = Possession(Nonces([b""]), asking.throttle), Places(scene.store, lambda: NOW)
                token = TokenEndpoint(asking, audit, possession, places)
                served = Served(token, POST, Ledger("token"))
                entrance = Entrance({"/token": served}, Current(InForce(Policy(ISS))), audit)
                await workloads.warm()
                scene.store.away = True
                stranger, forged = GITHUB.token(iss="https://evil.example"), GITHUB.token({"kid": "made-up"})
                assert await ask(entrance, "", form(stranger)) == 400
                assert await ask(entrance, "", form(forged)) == 503

    asyncio.run(work())


def form(token: str) -> bytes:
    fields = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": token, "scope": "read"}
    return urlencode(fields).encode()


def test_in_whose_name_a_token_comes() -> None:
    """By issuer and subject: who writes a public issuer into a forged one holds up that one workload alone."""

    def name(**claims: Any) -> str:
        return name_of(ForeignCredential("workload", "", read(GITHUB.token(**claims), Use.GRANT)))

    assert name() == name(jti="another")
    others = [name(sub="repo:evil/evil"), name(iss="https://evil.example"), name(sub=7), name(sub=None), name(iss=None)]
    assert name() not in others
    assert all(len(one) < 2000 and "\n" in one for one in [*others, name(sub="x" * 5000)]), "no client's id"
