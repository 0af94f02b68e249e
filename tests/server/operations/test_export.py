"""What is exported is the whole registry: applied to an empty store it is the same again, whatever there was."""

import asyncio
import json
import os
import tomllib
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import pytest

from groat.protocol.models import Policy
from groat.server import operations
from groat.server.desired.reading import read_wanted
from groat.server.desired.writing import written_toml
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations import Operator
from groat.server.operations.desired import DesiredPlan, DesiredWish
from groat.server.operations.registered import Registered
from groat.server.store import Store
from groat.server.store.records import ApiKeyRecord, ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.sqlite.draft import Draft
from groat.server.store.sqlite.store import SqliteStore
from tests.server.store.conftest import place as place
from tests.server.store.places import Place

from .registries import NOW, fill

REGISTRIES: Final = int(os.environ.get("GROAT_REGISTRIES", "50"))
# What is of one store and not of the registry: when it was registered there, when it was used last, ids that nobody names.
_OWN: Final = {"created_at", "last_used_at", "rule_id", "found_by"}


def operator_on(store: Store | Draft) -> Operator:
    return Operator(cast(Store, store), Policy("https://as.example"), Audit(EventLog(level="error")), lambda: NOW)


def agree(plan: DesiredPlan) -> None:
    """Whatever it is."""


async def exported(operator: Operator) -> str:
    return written_toml(await operations.export_registry(operator))


async def records(operator: Operator) -> Any:
    """All that is registered, field by field, but for what is a store's own."""
    draft, _ = await Draft.of(operator.store)
    found = await Registered.of(draft)
    return {
        "api keys": {name: sorted(map(repr, map(_plain, keys))) for name, keys in found.api_keys.items()},
        "apis": [_plain(one) for one in found.apis.values()],
        "clients": [_plain(one) for one in found.clients.values()],
        "trusts": [_plain(one.trust) for one in found.trusts.values()],
        "keys": {name: sorted(map(repr, map(_plain, keys))) for name, keys in found.keys.items()},
        "rules": {name: sorted(repr(_plain(one.rule)) for one in rules) for name, rules in found.rules.items()},
    }


def _plain(record: Any) -> dict[str, Any]:
    values = {one.name: getattr(record, one.name) for one in fields(record) if one.name not in _OWN}
    return {name: _unordered(value) for name, value in values.items()}


def _unordered(value: Any) -> Any:
    if isinstance(value, (tuple, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, dict):
        return {name: _unordered(item) for name, item in sorted(value.items())}
    if getattr(value, "at", "").startswith("{"):
        return json.loads(value.at)
    return value


async def there_and_back(source: Operator, target: Operator, file: Path) -> str:
    """Export, apply to an empty store, export again; returns the text."""
    text = await exported(source)
    file.write_text(text)
    wanted = read_wanted(file)
    assert wanted.findings == []
    plan = await operations.apply_desired(target, DesiredWish(wanted, prune=True), agree)
    assert await exported(target) == text
    assert await records(target) == await records(source)
    again = await operations.apply_desired(target, DesiredWish(read_wanted(file), prune=True), agree)
    assert (again.differences, again.changes) == ((), ())
    assert len(plan.losses) == 0
    return text


def test_random_registries_survive(tmp_path: Path) -> None:
    """Fifty of them; GROAT_REGISTRIES=10000 for many (make registries). The seed of a failure is in its message."""

    async def run(seed: int) -> str:
        source = operator_on(Draft())
        await fill(source, Random(seed))
        return await there_and_back(source, operator_on(Draft()), tmp_path / "registry.toml")

    first = int(os.environ.get("GROAT_SEED", "1"))
    for seed in range(first, first + REGISTRIES):
        try:
            asyncio.run(run(seed))
        except BaseException as error:
            error.add_note(f"GROAT_SEED={seed} GROAT_REGISTRIES=1")
            raise


def test_the_comparison_sees_every_field() -> None:
    """Nothing of a record is left out of it but what is a store's own."""
    known = {one.name for record in (ApiRecord, ApiKeyRecord, ClientRecord, ClientKeyRecord) for one in fields(record)}
    assert _OWN & known == {"created_at", "last_used_at"}


def test_from_one_engine_to_the_other(place: Place, tmp_path: Path) -> None:
    """A registry of a real store, exported and applied to a new one of SQLite."""

    async def run() -> None:
        await (await place.create()).close()
        target = SqliteStore.create(tmp_path / "target.db")
        async with place.store() as store:
            source = operator_on(store)
            await fill(source, Random(3))
            await there_and_back(source, operator_on(target), tmp_path / "registry.toml")
        await target.close()

    asyncio.run(run())


def test_an_export_holds_no_secret(tmp_path: Path) -> None:
    """Neither the sealed signing keys nor any private member of a key; what it names by path is not read."""

    async def run() -> str:
        source = operator_on(Draft())
        await fill(source, Random(11))
        return await exported(source)

    text = asyncio.run(run())
    assert "jwk" in text
    for key in _jwks(text):
        assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & key.keys()
    assert "signing" not in text.replace("signing_alg", "")


def _jwks(text: str) -> list[dict[str, Any]]:
    clients = tomllib.loads(text)["clients"].values()
    return [entry["jwk"] for client in clients for entry in client["keys"]]


@pytest.mark.parametrize("value", ["plain", 'a "b"', "it's", "line\nbreak", "\x7f\x00\x1f", "\\", "Ж日", "'\"\t"])
def test_any_text_can_be_written(value: str) -> None:
    """What is written is read as it was, as a name and as a value."""
    text = written_toml({("client", value): {"owner": value, "claims": {value: value}, "keys": []}})
    assert tomllib.loads(text) == {"clients": {value: {"owner": value, "claims": {value: value}, "keys": []}}}
