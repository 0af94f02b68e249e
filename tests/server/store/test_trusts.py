"""What both engines keep of trusts and rules: written, found, changed, and gone with what they belong to."""

from dataclasses import replace
from typing import Final

import pytest

from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import KeySource, Replay, Review, SourceKind, Trust, Use
from groat.server.store import TABLES, Store, StoreConflict, StoreUnavailable
from groat.server.store.changes import AddApi, AddClient, RemoveClient
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.trust_changes import (
    MAX_UNFOUND,
    AddRule,
    AddTrust,
    RemoveRule,
    RemoveTrust,
    ReplaceTrust,
    SwitchTrust,
)
from groat.server.store.trust_rows import rule_record, trust_record
from tests.server.store.places import DEED, Place
from tests.server.store.test_contract import NOW, ORDERS, client, run

CI: Final = Trust(
    name="ci",
    issuer="https://ci.example.com",
    source=KeySource(SourceKind.URI, "https://ci.example.com/keys", "/etc/ca.pem", "/run/token"),
    preset="kubernetes",
    algorithms=("RS256", "ES256"),
    audiences=("api://groat",),
    max_lifetime=600,
    replay=Replay.BIND,
    uses=frozenset({Use.GRANT}),
    review=Review("https://10.0.0.1:6443", "/run/review-token", "/etc/ca.pem"),
)
SVID: Final = Trust(
    name="mesh",
    issuer="spiffe://prod.example",
    source=KeySource(SourceKind.COPIED, '{"keys": []}'),
    preset="spiffe",
    algorithms=("ES256",),
    replay=Replay.REUSE,
)


def rule(name: str, trust: str = "ci", client_id: str = "billing", found_by: str = "sub=x") -> RuleRecord:
    conditions = (Condition.parse('"kubernetes.io".namespace=billing'), Condition.parse("sub=x"))
    copied = (("kubernetes.io", "pod", "uid"),)
    return RuleRecord(Rule(name, trust, client_id, conditions, copied, frozenset({"default"})), found_by, NOW)


async def furnish(store: Store) -> None:
    await store.change(DEED, None, [AddApi(ORDERS), AddClient(client()), AddClient(client("till"))])
    await store.change(DEED, None, [AddTrust(TrustRecord(CI, NOW)), AddTrust(TrustRecord(SVID, NOW))])
    rules = [rule("r-2"), rule("r-1", found_by=""), rule("r-3", client_id="till"), rule("r-4", "mesh")]
    await store.change(DEED, None, [AddRule(one) for one in rules])


def ids(records: tuple[RuleRecord, ...]) -> list[str]:
    return [record.rule.rule_id for record in records]


def test_what_was_written_is_read(place: Place) -> None:
    """Every field of a trust and of a rule comes back; rules are found by trust, by client, and by what a token says."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            assert await store.list_trusts() == (TrustRecord(CI, NOW), TrustRecord(SVID, NOW))
            assert await store.rules_of(trust="ci") == (
                rule("r-1", found_by=""),
                rule("r-2"),
                rule("r-3", client_id="till"),
            )
            assert ids(await store.rules_of(client_id="billing")) == ["r-1", "r-2", "r-4"]
            assert ids(await store.rules_found_by("ci", ["", "sub=x", "sub=y"])) == ["r-1", "r-2", "r-3"]
            assert ids(await store.rules_found_by("ci", ["sub=x"])) == ["r-2", "r-3"]
            assert ids(await store.rules_found_by("ci", ["", "sub=\"'; --"])) == ["r-1"]
            assert await store.rules_found_by("other", ["", "sub=x"]) == ()

    run(work())


def test_changes(place: Place) -> None:
    """A change leaves `enabled`, a switch leaves the rest; each raises the version once."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            version = await store.registry_version()
            await store.change(DEED, version, [ReplaceTrust(replace(CI, max_lifetime=60, enabled=False))])
            await store.change(DEED, None, [SwitchTrust("mesh", enabled=False)])
            ci, mesh = [record.trust for record in await store.list_trusts()]
            assert (ci.max_lifetime, ci.enabled, mesh) == (60, True, replace(SVID, enabled=False))
            await store.change(DEED, None, [RemoveRule("billing", "r-3"), RemoveRule("billing", "r-2")])
            assert ids(await store.rules_of(trust="ci")) == ["r-1", "r-3"], "a rule goes by its own client alone"
            assert await store.registry_version() == version + 3

    run(work())


def test_what_belongs_to_it_goes_along(place: Place) -> None:
    """With a trust its rules, with a client its own; the others stay."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            await store.change(DEED, None, [RemoveClient("till", NOW)])
            assert ids(await store.rules_of(trust="ci")) == ["r-1", "r-2"]
            await store.change(DEED, None, [RemoveTrust("ci")])
            assert await store.rules_of(trust="ci") == ()
            assert ids(await store.rules_of(client_id="billing")) == ["r-4"]
            assert [record.trust.name for record in await store.list_trusts()] == ["mesh"]
            await store.change(DEED, None, [AddTrust(TrustRecord(CI, NOW))])

    run(work())


@pytest.mark.rule("AS-JB-06")
def test_what_collides(place: Place) -> None:
    """One name, one issuer; and a rule of a client or a trust that is not there is none."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            for other in (replace(CI, issuer="https://other.example"), replace(CI, name="other")):
                with pytest.raises(StoreConflict, match="exists"):
                    await store.change(DEED, None, [AddTrust(TrustRecord(other, NOW))])
            for stranger in (rule("r-9", client_id="nobody"), rule("r-9", trust="nothing")):
                with pytest.raises(StoreConflict, match="was removed"):
                    await store.change(DEED, None, [AddRule(stranger)])
            with pytest.raises(StoreConflict):
                await store.change(DEED, None, [AddRule(rule("r-1"))])

    run(work())


def test_rules_that_nothing_finds_are_few(place: Place) -> None:
    """They are looked at for each token of their trust, so that there is a bound; the others have none."""

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            many = [AddRule(rule(f"p-{number}", found_by="")) for number in range(MAX_UNFOUND - 1)]
            await store.change(DEED, None, many)
            with pytest.raises(StoreConflict, match="pin the subject"):
                await store.change(DEED, None, [AddRule(rule("p-last", found_by=""))])
            await store.change(DEED, None, [AddRule(rule("p-last"))])

    run(work())


def test_all_of_it_moves_to_another_store(place: Place) -> None:
    """`groat store copy` takes the new tables along, in an order in which nothing is missed."""
    assert TABLES.index("clients") < TABLES.index("trust_rules") > TABLES.index("trusts")

    async def work() -> None:
        async with place.store() as store:
            await furnish(store)
            found = {table: [rows async for rows in store.read_all(table)] for table in ("trusts", "trust_rules")}
            assert [len(rows) for portions in found.values() for rows in portions] == [2, 4]
            assert {row["of_issuer"] for portions in found.values() for rows in portions for row in rows} == {""}

    run(work())


@pytest.mark.parametrize("document", ["", "{}", "[]", '{"preset": ""}', '{"source": ["ftp", ""], "preset": ""}'])
def test_a_row_that_cannot_be_read(document: str) -> None:
    """Damage is said, and nothing is guessed."""
    row = {"name": "ci", "issuer": CI.issuer, "enabled": 1, "created_at": 1, "document": document}
    with pytest.raises(StoreUnavailable, match="a trust that cannot be read"):
        trust_record(row)
    row |= {"rule_id": "r", "trust": "ci", "client_id": "c", "found_by": ""}
    with pytest.raises(StoreUnavailable, match="a rule of a trust that cannot be read"):
        rule_record(row)
