"""Operations of several operators at once: nobody's change is lost."""

import ast
import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from groat.protocol.client_settings import ClientSettings, SettingsChange
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_limits import KeyLimits
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.operations import Operator
from groat.server.operations.client_keys import MAX_OWN_KEYS
from groat.server.store import StoreConflict
from groat.server.store.records import ClientRecord
from groat.server.store.sqlite.store import SqliteStore


class DistantStore(SqliteStore):
    """A store whose answers take a moment, as over a network: between reading and writing others get their turn."""

    async def find_client(self, client_id: str) -> ClientRecord | None:
        found = await super().find_client(client_id)
        await asyncio.sleep(0.01)
        return found


async def _two_operators(path: Path) -> tuple[Operator, Operator]:
    SqliteStore.create(path)
    one, two = (Operator(DistantStore.open(path), Policy("https://as.example")) for _ in range(2))
    await operations.add_api(one, "orders", "https://orders.example.com", ["read", "write"])
    key = generate_private_key("ES256").public
    await operations.add_client(
        one, "billing", {"orders": ["read", "write"]}, [key], ClientSettings(default_scopes=("write",))
    )
    return one, two


@pytest.mark.rule("AS-CA-24", "I6")
def test_two_operators_change_one_client(tmp_path: Path) -> None:
    """Each asks for another change of the same record at the same time, and both are in force afterwards."""

    async def work() -> None:
        one, two = await _two_operators(tmp_path / "groat.db")
        await asyncio.gather(
            operations.update_client(one, "billing", change=SettingsChange(strict_typ=True)),
            operations.update_client(two, "billing", {"orders": ["write"]}),
            operations.enable_client(two, "billing", enabled=False),
        )
        after = await operations.find_client(one, "billing")
        assert (after.settings.strict_typ, after.allow, after.enabled) == (True, {"orders": ("write",)}, False)
        for operator in (one, two):
            await operator.store.close()

    asyncio.run(work())


@pytest.mark.rule("AS-TE-14", "AS-CA-24")
def test_a_scope_and_its_grants_go_together(tmp_path: Path) -> None:
    """A scope that an API loses leaves grants and defaults in the same transaction: one version, not several."""

    async def work() -> None:
        one, two = await _two_operators(tmp_path / "groat.db")
        before = await one.store.registry_version()
        await operations.update_api(one, "orders", operations.ApiWish(remove_scopes=["write"]))
        assert await two.store.registry_version() == before + 1
        after = await operations.find_client(two, "billing")
        assert (after.allow, after.settings.default_scopes) == ({"orders": ("read",)}, ())
        for operator in (one, two):
            await operator.store.close()

    asyncio.run(work())


@pytest.mark.rule("AS-CA-24", "KEY-23")
def test_a_key_makes_room_only_for_one_that_comes(tmp_path: Path) -> None:
    """At the limit the key that expired first goes in the change that brings the new one, and stays if that is refused."""
    keys = [generate_private_key("Ed25519").public for _ in range(MAX_OWN_KEYS)]
    foreign, new = (generate_private_key("Ed25519").public for _ in range(2))
    now = 2_000_000_000.0

    async def work() -> None:
        SqliteStore.create(tmp_path / "groat.db")
        operator = Operator(SqliteStore.open(tmp_path / "groat.db"), Policy("https://as.example"), clock=lambda: now)
        await operations.add_client(operator, "other", {}, [foreign])
        await operations.add_client(operator, "billing", {}, keys[1:])
        await operations.add_client_keys(operator, "billing", keys[:1], KeyLimits(expires_at=int(now) + 1))
        later = replace(operator, clock=lambda: now + 2)
        before = await operator.store.registry_version()
        with pytest.raises(StoreConflict):
            await operations.enrol_client_key(later, "billing", foreign, "code")
        assert keys[0].kid in {key.kid for key in await operations.list_client_keys(operator, "billing")}
        await operations.enrol_client_key(later, "billing", new, "code")
        kids = {key.kid for key in await operations.list_client_keys(operator, "billing")}
        assert kids == {key.kid for key in (*keys[1:], new)}
        assert await operator.store.registry_version() == before + 1
        await operator.store.close()

    asyncio.run(work())


def _readings(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How often a function asks an operator what time it is."""
    return len(re.findall(r"operator\.(?:now\b|clock\(\))", ast.unparse(function)))


@pytest.mark.parametrize("name", ["apis", "client_keys", "clients", "signing_keys", "store"])
def test_an_operation_takes_its_instant_once(name: str) -> None:
    """And tells it to whatever it calls: what is written in one act is of one moment."""
    path = Path(operations.__file__).with_name(f"{name}.py")
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert sum(map(_readings, functions)) > 0
    for function in functions:
        assert _readings(function) <= (0 if function.name.startswith("_") else 1), function.name
