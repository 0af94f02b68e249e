"""Each operation that changes something writes its rows into the audit trail, and the others write none."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey, SealedInStore
from groat.keys.invitation import Invitations
from groat.protocol.client_settings import SettingsChange
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_limits import LimitsChange
from groat.protocol.models import Policy
from groat.server.desired.reading import read_wanted
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.log.refusals import Refusals
from groat.server.operations import (
    ApiWish,
    AuditFilter,
    ClientFilter,
    Operator,
    Ring,
    TrustChange,
    api_keys,
    apis,
    audit,
    client_keys,
    client_lists,
    clients,
    desired,
    refusals,
    revocations,
    signing_keys,
    store,
    trust_rules,
    trusts,
)
from groat.server.operations.first_start import Wanted, initialise
from groat.server.operations.operation import OPERATIONS, Access
from groat.server.store import Store
from groat.server.store.audit_trail import Actor, AuditRow, Face
from groat.server.store.sqlite.store import SqliteStore

ANN: Final = Actor("user:ann uid:1000", Face.CLI)
KEYS: Final = [generate_private_key("ES256") for _ in range(4)]
TOKEN: Final = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJqb2ItMSJ9.AAAA"
PLATFORM: Final = generate_private_key("ES256").public
JWKS: Final = json.dumps({"keys": [{**PLATFORM.jwk, "kid": PLATFORM.kid, "alg": "ES256"}]})


@dataclass(slots=True)
class Scene:
    """An operator with a store and a ring of keys, in a directory."""

    folder: Path
    operator: Operator
    kek: KeyEncryptionKey = field(default_factory=lambda: KeyEncryptionKey(secrets.token_bytes(32)))
    codes: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)

    @property
    def ring(self) -> Ring:
        return Ring(self.operator, self.kek, "ES256")

    def refusals(self) -> Refusals:
        """The memory of a server that has refused one request."""
        memory = Refusals(size=10_000)
        memory.keep("warning", "token.refused", 0.0, {"request_id": "R-1", "reason": "form", "status": 400})
        return memory

    async def invite(self) -> None:
        self.codes.append(await clients.invite_client(self.operator, Invitations([self.kek]), "billing", 600, {}))

    async def reseal(self) -> None:
        other = KeyEncryptionKey(secrets.token_bytes(32))
        await signing_keys.reseal_signing_keys(Ring(self.operator, SealedInStore(other, [self.kek]), "ES256"))
        self.kek = other

    async def remove_rule(self) -> None:
        (found,) = await trust_rules.list_rules(self.operator, "billing")
        await trust_rules.remove_rule(self.operator, "billing", found.rule.rule_id)

    async def activate(self) -> None:
        held = next(key.kid for key in await signing_keys.list_signing_keys(self.operator) if key.held)
        await signing_keys.activate_signing_key(self.ring, held)

    async def retire(self) -> None:
        """Withdraw a key that was prepared and signs nothing yet."""
        (made,) = await signing_keys.prepare_signing_key(self.ring)
        self.sealed.append(made.sealed.hex())
        await signing_keys.retire_signing_key(self.ring, made.kid)

    async def revoke(self) -> None:
        now = self.operator.now
        active = next(k.kid for k in await signing_keys.list_signing_keys(self.operator) if k.state(now) == "active")
        await signing_keys.revoke_signing_key(self.ring, active)

    async def apply(self) -> None:
        file = self.folder / "registry.toml"
        file.write_text('[apis.stock]\naudience = "https://stock.example"\nscopes = ["read"]\n')
        await desired.apply_desired(self.operator, desired.DesiredWish(read_wanted(file)), lambda plan: None)

    async def copy(self) -> None:
        target = SqliteStore.create(self.folder / "copy.db")
        try:
            await store.copy_store(self.operator, target)
            rows = await every_row(target)
            assert rows[-1].operation == "store.copied"
            check_chain(rows)
        finally:
            await target.close()

    async def start(self) -> None:
        """The store of an installation of its own, whose rows count here."""
        wanted = Wanted("https://as.example")
        config, _ = await initialise(self.folder / "groat.toml", wanted, {}, self.operator.audit, ANN)
        made = SqliteStore.open(config.database)
        try:
            rows = await every_row(made)
        finally:
            await made.close()
        assert [(row.operation, row.object.split("/")[0]) for row in rows] == [
            ("store.created", "store"),
            ("key.rotated", "key"),
            ("api.added", "api"),
        ]
        assert {row.actor for row in rows} == {ANN.name}


async def reset_horizon(scene: Scene) -> None:
    """As after a clock that was ahead had its way."""
    await scene.operator.store.raise_horizon(scene.operator.now + 1000)
    await store.take_back_horizon(scene.operator)


Step = Callable[[Scene], Awaitable[Any]]
TRUST: Final = TrustChange(source=KeySource(SourceKind.COPIED, JWKS), algorithms=("ES256",))
PINNED: Final = [Condition.parse("sub=job-1")]
# Each operation once, in an order in which each finds what it needs: the whole table, as a test below says.
STEPS: Final[dict[str, Step]] = {
    "store.init": Scene.start,
    "key.first": lambda s: signing_keys.first_signing_key(s.ring),
    "key.list": lambda s: signing_keys.list_signing_keys(s.operator),
    "api.add": lambda s: apis.add_api(s.operator, "orders", "https://orders.example", ["read", "write"]),
    "api.list": lambda s: apis.list_apis(s.operator),
    "api.show": lambda s: apis.find_api(s.operator, "orders"),
    "api.describe": lambda s: apis.describe_api(s.operator, "orders"),
    "api_key.add": lambda s: api_keys.add_api_keys(s.operator, "orders", [KEYS[3].public]),
    "api_key.list": lambda s: api_keys.list_api_keys(s.operator, "orders"),
    "api_key.remove": lambda s: api_keys.remove_api_key(s.operator, "orders", KEYS[3].kid),
    "client.add": lambda s: clients.add_client(s.operator, "billing", {"orders": ["read", "write"]}, [KEYS[0].public]),
    "client.show": lambda s: clients.find_client(s.operator, "billing"),
    "client.list": lambda s: client_lists.list_clients(s.operator, ClientFilter()),
    "client.update": lambda s: clients.update_client(s.operator, "billing", change=SettingsChange(strict_typ=True)),
    "client.invite": Scene.invite,
    "client.enable": lambda s: clients.enable_client(s.operator, "billing", enabled=True),
    "client_key.add": lambda s: client_keys.add_client_keys(s.operator, "billing", [KEYS[1].public]),
    "client_key.list": lambda s: client_keys.list_client_keys(s.operator, "billing"),
    "client_key.list_all": lambda s: client_keys.list_all_client_keys(s.operator),
    "client_key.enrol": lambda s: client_keys.enrol_client_key(s.operator, "billing", KEYS[2].public, "code"),
    "client_key.retire": lambda s: client_keys.retire_client_key(
        s.operator, "billing", KEYS[1].kid, s.operator.now + 60
    ),
    "client_key.update": lambda s: client_keys.update_client_key(
        s.operator, "billing", KEYS[1].kid, LimitsChange(expires_at=s.operator.now + 90)
    ),
    "client_key.remove": lambda s: client_keys.remove_client_key(s.operator, "billing", KEYS[1].kid),
    "trust.add": lambda s: trusts.add_trust(s.operator, "ci", "https://ci.example", "", TRUST),
    "trust.list": lambda s: trusts.list_trusts(s.operator),
    "trust.show": lambda s: trusts.find_trust(s.operator, "ci"),
    "trust.update": lambda s: trusts.update_trust(s.operator, "ci", TrustChange(max_lifetime=300)),
    "trust.enable": lambda s: trusts.enable_trust(s.operator, "ci", enabled=True),
    "rule.add": lambda s: trust_rules.add_rule(s.operator, "billing", "ci", PINNED),
    "rule.list": lambda s: trust_rules.list_rules(s.operator, "billing"),
    "trust.test": lambda s: trusts.explain_token(s.operator, "ci", TOKEN, None),
    "revocation.token": lambda s: revocations.revoke_token(s.operator, "jti-1"),
    "revocation.client": lambda s: revocations.revoke_client_tokens(s.operator, "billing"),
    "revocation.api": lambda s: revocations.revoke_api_tokens(s.operator, "orders"),
    "revocation.trust": lambda s: revocations.revoke_trust_tokens(s.operator, "ci"),
    "revocation.all": lambda s: revocations.revoke_all_tokens(s.operator),
    "revocation.list": lambda s: revocations.list_revocations(s.operator),
    "rule.remove": Scene.remove_rule,
    "trust.remove": lambda s: trusts.remove_trust(s.operator, "ci"),
    "api.update": lambda s: apis.update_api(s.operator, "orders", ApiWish(remove_scopes=["write"])),
    "api.remove": lambda s: apis.remove_api(s.operator, "orders"),
    "client.remove": lambda s: clients.remove_client(s.operator, "billing"),
    "registry.apply": Scene.apply,
    "registry.export": lambda s: desired.export_registry(s.operator),
    "key.rotate": lambda s: signing_keys.rotate_signing_key(s.ring),
    "key.prepare": lambda s: signing_keys.prepare_signing_key(s.ring),
    "key.activate": Scene.activate,
    "key.retire": Scene.retire,
    "key.reseal": Scene.reseal,
    "key.revoke": Scene.revoke,
    "refusal.list": lambda s: refusals.list_refusals(s.refusals(), 10),
    "refusal.show": lambda s: refusals.find_refusal(s.refusals(), "R-1"),
    "audit.list": lambda s: audit.list_audit(s.operator),
    "audit.export": lambda s: audit.export_audit(s.operator, AuditFilter(), lambda row: None),
    "audit.verify": lambda s: audit.verify_audit(s.operator),
    "store.look": lambda s: store.look_at_store(s.operator),
    "store.backup": lambda s: store.backup_store(s.operator, s.folder / "backup.db"),
    "store.restore": lambda s: store.restore_store(s.operator, s.folder / "backup.db"),
    "store.fence": lambda s: store.fence_store(s.operator),
    "store.take_back": reset_horizon,
    "store.copy": Scene.copy,
    "store.reopen": lambda s: store.reopen_store(s.operator),
}
# Which write something and no row.
WITHOUT_ROWS: Final = {
    "store.init": "into a store of its own; `Scene.start` looks at the rows there",
    "store.backup": "a file, and nothing in the store",
}


async def every_row(store: Store) -> list[AuditRow]:
    return list(await store.audit_rows_after(0, 100_000))


def check_chain(rows: Sequence[AuditRow]) -> None:
    """As the guide says that it is, by other code than the product's."""
    previous, names = "0" * 64, [column.name for column in fields(AuditRow)]
    for number, row in enumerate(rows, 1):
        content = [getattr(row, name) for name in names if name != "hash"]
        digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
        assert (row.seq, row.previous, row.hash) == (number, previous, digest)
        previous = row.hash


async def play(folder: Path, log: Path) -> tuple[Scene, dict[str, list[AuditRow]], list[AuditRow]]:
    """Every step on a new store; the rows that each wrote, and all of them."""
    with log.open("w") as stream:
        operator = Operator(
            SqliteStore.create(folder / "groat.db"),
            Policy("https://as.example"),
            Audit(EventLog(stream=stream)),
            actor=ANN,
        )
        scene, wrote, seen = Scene(folder, operator), dict[str, list[AuditRow]](), 0
        try:
            for name, step in STEPS.items():
                await step(scene)
                wrote[name] = list(await operator.store.audit_rows_after(seen, 1000))
                seen += len(wrote[name])
            return scene, wrote, await every_row(operator.store)
        finally:
            await operator.store.close()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it."""

    scene: Scene
    wrote: dict[str, list[AuditRow]]
    rows: list[AuditRow]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("audit")
    scene, wrote, rows = asyncio.run(play(folder, folder / "log"))
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return Played(scene, wrote, rows, lines)


def test_the_list_is_the_table() -> None:
    """A new operation has to say here how it is called, and so whether it writes rows."""
    assert set(STEPS) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_who_changes_something_writes_rows(played: Played, name: str) -> None:
    """And nobody else."""
    writes = OPERATIONS[name].access is Access.WRITE and name not in WITHOUT_ROWS
    assert bool(played.wrote[name]) is writes
    assert {row.actor for row in played.wrote[name]} <= {ANN.name}
    assert {row.face for row in played.wrote[name]} <= {"apply" if name == "registry.apply" else "cli"}


def test_the_rows_are_one_chain(played: Played) -> None:
    """Restore, fence and copy included."""
    assert len(played.rows) > 30
    check_chain(played.rows)


def test_the_log_names_the_rows(played: Played) -> None:
    """Every line of a change has the numbers of its rows, which have the line's event as their operation."""
    by_number = {row.seq: row for row in played.rows}
    changes = [line for line in played.lines if "audit" in line]
    assert {line["event"] for line in played.lines} - {line["event"] for line in changes} == {"store.backed_up"}
    for line in changes:
        if line["event"] in ("store.created", "store.copied") or line["audit"] < 4:
            continue  # of a store of its own
        for number in range(line["audit"], line.get("audit_last", line["audit"]) + 1):
            assert by_number[number].operation == line["event"]


def test_a_row_for_each_object(played: Played) -> None:
    """Who loses a scope with an API stands there with what was before and after; the version says what came together."""
    api, client = played.wrote["api.update"]
    assert (api.object, client.object) == ("api/orders", "client/billing")
    assert api.registry_version == client.registry_version
    for row in (api, client):
        assert "write" in (row.before or "")
        assert "write" not in json.dumps(json.loads(row.after or "")["scopes" if row is api else "allow"])
    (removed,) = played.wrote["client.remove"]
    kids = {key["kid"] for key in json.loads(removed.before or "")["keys"]}
    assert (removed.after, kids) == (None, {KEYS[0].kid, KEYS[2].kid})
    trust = played.wrote["trust.add"][0]
    assert (trust.before, "key_set_sha256" in (trust.after or "")) == (None, True)


def test_no_secret_is_in_a_row(played: Played) -> None:
    """No private half, sealed or not, and no code that a client could join with."""
    text = "\n".join(str(value) for row in played.rows for value in (row.actor, row.before, row.after))
    assert played.scene.codes
    for secret in (*played.scene.codes, *played.scene.sealed, '"d"', '"sealed"', "PRIVATE"):
        assert secret not in text
