"""The registry in memory: what is cached, and for how long exactly."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.ring.keyring import Lead, SigningKey
from groat.outbound.published import Fetched
from groat.protocol.client_settings import ClientSettings
from groat.protocol.dpop_nonce import Nonces
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import Policy
from groat.protocol.revocation import Cut
from groat.server import operations
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.places import Places
from groat.server.endpoints.possession import Possession
from groat.server.endpoints.token import TokenEndpoint
from groat.server.endpoints.workloads import Workloads
from groat.server.http.entrance import Entrance
from groat.server.http.in_force import Current, InForce
from groat.server.http.routes import POST, Served
from groat.server.http.waiting_room import WaitingRoom
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.log.tally import Ledger
from groat.server.operations import Operator
from groat.server.registry.key_sets import ClientKeySets
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.registry.trust_keys import TrustKeys
from groat.server.registry.trusts import Trusts
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.sqlite.store import SqliteStore
from groat.server.unavailable import Unavailable
from tests.server.builders import ISS, NOW, Party, base
from tests.server.lab import DEFAULTS, prepare, running

Result = TypeVar("Result")
KEY = generate_private_key("ES256")


class Scene:
    """A store with one API and one client, a registry on it, and an operator of another connection."""

    def __init__(self, directory: Path, kind: type[SqliteStore] = SqliteStore) -> None:
        SqliteStore.create(directory / "groat.db")
        self.kek = KeyEncryptionKey.create(directory / "kek")
        self.store = kind.open(directory / "groat.db")
        self.registry = Registry(self.store, self.kek)
        self.operator_store = SqliteStore.open(directory / "groat.db")
        self.operator = Operator(self.operator_store, Policy(ISS), clock=lambda: NOW)

    async def __aenter__(self) -> "Scene":
        await operations.add_api(self.operator, "orders", "https://orders.example", ["read", "write"])
        await operations.add_client(self.operator, "billing", {"orders": ["read"]}, (KEY.public,))
        await operations.rotate_signing_key(operations.Ring(self.operator, self.kek, "ES256", Lead()))
        await self.registry.refresh()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        await self.operator.store.close()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


@pytest.mark.rule("AS-CA-24", "T12")
def test_answers_change_only_when_the_version_is_seen(tmp_path: Path) -> None:
    """Between versions the registry answers from memory; at a new version everything is read again."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            before = await scene.registry.find_client("billing")
            assert before is not None
            assert before.enabled
            assert await scene.registry.find_client("billing") is before
            await operations.enable_client(scene.operator, "billing", enabled=False)
            assert await scene.registry.find_client("billing") is before
            version = await scene.registry.refresh()
            after = await scene.registry.find_client("billing")
            assert after is not None
            assert not after.enabled
            assert not scene.registry.observe(version)
            assert scene.registry.observe(version + 1)

    run(work())


@pytest.mark.rule("AS-CA-24")
def test_absence_is_not_remembered(tmp_path: Path) -> None:
    """An unknown id is looked up each time: it is known as soon as it is registered."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            assert await scene.registry.find_client("new") is None
            await operations.add_client(scene.operator, "new", {}, (generate_private_key("ES256").public,))
            assert scene.registry.remembered("new") is None
            assert await scene.registry.find_client("new") is not None
            assert scene.registry.remembered("new") is not None

    run(work())


class CountingStore(SqliteStore):
    """A store that notes which tables its statements read."""

    def __init__(self, path: Path, *others: Any) -> None:
        self.asked: list[str] = []
        super().__init__(path, *others)

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        self.asked += re.findall(r"FROM (\w+)", sql)
        return super()._all(sql, *values)


@pytest.mark.rule("A18", "AS-CA-20")
def test_doubting_a_refusal_asks_the_same_whoever_is_refused(tmp_path: Path) -> None:
    """One version and one client record are read for a client in memory, a disabled one and an unknown one alike."""

    async def work() -> None:
        async with Scene(tmp_path, CountingStore) as scene:
            await operations.add_client(scene.operator, "off", {}, (generate_private_key("ES256").public,))
            await operations.enable_client(scene.operator, "off", enabled=False)
            assert isinstance(scene.store, CountingStore)
            await scene.registry.refresh()
            version = scene.registry.version
            assert await scene.registry.catch_up("billing", version, known=False)
            assert await scene.registry.catch_up("off", version, known=False)
            for client_id in ("billing", "off", "nobody", "nobody", "nobody-2"):
                scene.store.asked = []
                known = scene.registry.remembered(client_id) is not None
                assert not await scene.registry.catch_up(client_id, version, known=known)
                assert scene.store.asked == ["registry", "clients"], client_id

    run(work())


@pytest.mark.rule("I10", "A17")
def test_a_refusal_is_in_doubt_when_others_caught_up_meanwhile(tmp_path: Path) -> None:
    """Two requests judged by an empty memory at once: the second, too, learns that the client is there now."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            await scene.registry.refresh()
            version = scene.registry.version
            asking = [scene.registry.catch_up("billing", version, known=False) for _ in range(3)]
            assert await asyncio.gather(*asking) == [True] * 3
            assert await scene.registry.catch_up("billing", version, known=False)
            assert await scene.registry.catch_up("billing", version - 1, known=True)

    run(work())


@pytest.mark.rule("A17", "AS-TE-14")
def test_permissions_follow_the_apis(tmp_path: Path) -> None:
    """A client may ask what it was allowed and the API still knows; a removed API is no permission."""

    async def scopes(scene: Scene) -> list[frozenset[str]]:
        await scene.registry.refresh()
        client = await scene.registry.find_client("billing")
        assert client is not None
        return [permission.scopes for permission in client.permissions]

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            await operations.update_client(scene.operator, "billing", {"orders": ["read", "write"]})
            assert await scopes(scene) == [{"read", "write"}]
            await operations.update_api(scene.operator, "orders", operations.ApiWish(remove_scopes=["write"]))
            assert await scopes(scene) == [{"read"}]
            await operations.remove_api(scene.operator, "orders")
            assert await scopes(scene) == []

    run(work())


@pytest.mark.rule("I9")
def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """Ever new names keep a bounded number of clients, and unknown ones none."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            for n in range(60):
                await operations.add_client(scene.operator, f"c-{n}", {}, (generate_private_key("ES256").public,))
            registry = Registry(scene.store, scene.kek, max_clients=50)
            for n in range(60):
                assert await registry.find_client(f"c-{n}") is not None
                assert await registry.find_client(f"nobody-{n}") is None
            assert [registry.remembered(f"c-{n}") is not None for n in range(60)] == [False] * 10 + [True] * 50
            assert await registry.find_client("billing") is not None

    run(work())


@pytest.mark.rule("I9")
def test_the_setting_bounds_the_memory(tmp_path: Path) -> None:
    """A server that may remember a thousand clients reads the first anew once a thousand others have come."""
    lab = prepare(tmp_path, DEFAULTS + "[server]\nremembered_clients = 1000\n")
    parties = [Party(f"c-{n}", KEY if n == 0 else generate_private_key("ES256")) for n in range(1001)]

    async def register(operator: Operator) -> None:
        for party in parties:
            keys, settings = (party.key.public,), ClientSettings(default_scopes=("orders:read",))
            await operations.add_client(operator, party.client_id, {"orders": ["orders:read"]}, keys, settings)

    lab.operate(register)
    store = CountingStore.open(lab.database)
    reads = []
    with running(lab, store=store):
        for party in (*parties[:1000], parties[0], *parties[1000:], parties[0]):
            store.asked = []
            lab.token(party.assertion())
            reads.append("client_keys" in store.asked)
    assert reads == [True] * 1000 + [False, True, True]


class SlowStore(SqliteStore):
    """A store across a network: between question and answer others get their turn."""

    async def find_client(self, client_id: str) -> ClientRecord | None:
        record = await super().find_client(client_id)
        await asyncio.sleep(0.02)
        return record

    async def client_keys(self, client_id: str) -> tuple[ClientKeyRecord, ...]:
        keys = await super().client_keys(client_id)
        await asyncio.sleep(0.02)
        return keys

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        apis = await super().list_apis()
        await asyncio.sleep(0.02)
        return apis


@pytest.mark.rule("AS-CA-24", "A17", "I6")
@pytest.mark.parametrize("pause", [0.01, 0.03, 0.05])
def test_an_answer_that_was_on_its_way_is_not_kept(tmp_path: Path, pause: float) -> None:
    """A record read before a change, and seen after it, must not be remembered under the new version."""

    async def work() -> None:
        async with Scene(tmp_path, SlowStore) as scene:
            reading = asyncio.ensure_future(scene.registry.find_client("billing"))
            await asyncio.sleep(pause)
            await operations.enable_client(scene.operator, "billing", enabled=False)
            await operations.update_client(scene.operator, "billing", {"orders": ["write"]})
            await scene.registry.refresh()
            await reading
            await scene.registry.refresh()
            client = await scene.registry.find_client("billing")
            assert client is not None
            assert not client.enabled
            assert [permission.scopes for permission in client.permissions] == [{"write"}]

    run(work())


class GatedStore(SqliteStore):
    """What was read waits, where a test wants it to, before it is handed over."""

    apis_gate: asyncio.Event | None = None
    keys_gate: asyncio.Event | None = None
    cuts_gate: asyncio.Event | None = None

    async def cuts(self) -> tuple[Cut, ...]:
        cuts, gate = await super().cuts(), self.cuts_gate
        if gate is not None:
            await gate.wait()
        return cuts

    async def list_apis(self) -> tuple[ApiRecord, ...]:
        apis = await super().list_apis()
        if self.apis_gate is not None:
            await self.apis_gate.wait()
        return apis

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        keys = await super().signing_keys()
        if self.keys_gate is not None:
            await self.keys_gate.wait()
        return keys


@pytest.mark.rule("AS-CA-24", "A17", "I6")
def test_a_version_that_goes_back_keeps_no_older_record(tmp_path: Path) -> None:
    """An answer from before a change comes after one from after it: what was read first is not good for both."""

    async def work() -> None:
        async with Scene(tmp_path, GatedStore) as scene:
            assert isinstance(scene.store, GatedStore)
            scene.store.apis_gate = asyncio.Event()
            version = scene.registry.version
            before = asyncio.ensure_future(scene.registry.find_client("billing"))
            await asyncio.sleep(0)
            new = generate_private_key("ES256").public
            await operations.add_client_keys(scene.operator, "billing", (new,))
            doubting = asyncio.ensure_future(scene.registry.catch_up("billing", version, known=False))
            await asyncio.sleep(0)
            assert scene.registry.version == version + 1
            scene.registry.observe(version)
            scene.store.apis_gate.set()
            await before
            assert await doubting
            client = await scene.registry.find_client("billing")
            assert client is not None
            assert new.thumbprint in {key.thumbprint for key in client.keys}

    run(work())


@pytest.mark.rule("AS-CA-24", "AS-RV-06", "I6")
def test_a_cut_that_was_read_too_early_takes_no_other_ones_place(tmp_path: Path) -> None:
    """What is cut off is remembered with the APIs: an answer from before the change may come after one from after it."""

    async def work() -> None:
        async with Scene(tmp_path, GatedStore) as scene:
            store, registry = scene.store, scene.registry
            assert isinstance(store, GatedStore)
            gate = store.cuts_gate = asyncio.Event()
            before = asyncio.ensure_future(registry.find_client("billing"))
            await asyncio.sleep(0)
            store.cuts_gate = None
            await operations.revoke_client_tokens(scene.operator, "billing")
            await registry.refresh()
            await registry.apis()
            gate.set()
            await before
            client = await registry.find_client("billing")
            assert client is not None
            assert client.not_before == NOW + 1

    run(work())


@pytest.mark.rule("L05", "KEY-21", "I6")
def test_a_version_that_goes_back_keeps_no_revoked_key(tmp_path: Path) -> None:
    """The same for signing keys: one that was taken away is not believed again."""

    async def work() -> None:
        async with Scene(tmp_path, GatedStore) as scene:
            assert isinstance(scene.store, GatedStore)
            scene.store.keys_gate = asyncio.Event()
            version = scene.registry.version
            before = asyncio.ensure_future(scene.registry.signing_keys())
            await asyncio.sleep(0)
            with closing(sqlite3.connect(scene.operator_store.path)) as connection, connection:
                connection.execute("DELETE FROM signing_keys")
            assert scene.registry.observe(version + 1)
            scene.registry.observe(version)
            scene.store.keys_gate.set()
            (key,) = await before
            with pytest.raises(Unavailable):
                await scene.registry.check_signing(key.kid, NOW)

    run(work())


@pytest.mark.rule("AS-CA-24", "AS-CA-18", "A17", "I6")
def test_a_client_that_is_disabled_while_its_keys_are_fetched(tmp_path: Path) -> None:
    """Others see the change first; the request that was waiting for the key set is judged by it all the same."""
    fetching, fetched = threading.Event(), threading.Event()

    def fetch(uri: str) -> Fetched:
        fetching.set()
        assert fetched.wait(10)
        return Fetched((KEY.public,), 300.0)

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            settings = ClientSettings(jwks_uri="https://keys.example/jwks", default_scopes=("read",))
            await operations.add_client(scene.operator, "own-keys", {"orders": ["read"]}, (), settings)
            sets = ClientKeySets(fetch)
            known = Registry(scene.store, scene.kek, sets)
            with (tmp_path / "log").open("w") as log:
                audit = Audit(EventLog(log, "debug", False))
                asking = Asking(
                    known, scene.store, Publishers(scene.store, known, sets),
                    Workloads(known, Trusts(scene.store, known), TrustKeys()), lambda: NOW,
                    room=WaitingRoom(patience=10),
                )  # fmt: skip
                possession, places = Possession(Nonces([b""]), asking.throttle), Places(scene.store, lambda: NOW)
                token = Served(TokenEndpoint(asking, audit, possession, places), POST, Ledger("token"))
                entrance = Entrance({"/token": token}, Current(InForce(Policy(ISS))), audit)
                asked = asyncio.ensure_future(_ask(entrance, Party("own-keys", KEY).assertion()))
                await asyncio.to_thread(fetching.wait, 10)
                assert not asked.done()
                await operations.enable_client(scene.operator, "own-keys", enabled=False)
                await known.refresh()
                fetched.set()
                assert await asked == 401

    run(work())


async def _ask(app: Entrance, assertion: str, body: bytes = b"") -> int:
    """The status of one token request, without a socket; `body`: in place of the one around the assertion."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or base(assertion), "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {"type": "http", "method": "POST", "path": "/token", "query_string": b"", "client": ("127.0.0.1", 1),
             "headers": [(b"content-type", b"application/x-www-form-urlencoded")]}  # fmt: skip
    await app(scope, receive, send)
    return statuses[0]


@pytest.mark.rule("KEY-19", "KEY-21")
def test_the_signer_follows_the_clock_and_the_version(tmp_path: Path) -> None:
    """One signer until the instant of change, the next from there on, the old one again on a clock that steps back."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            first = (await scene.registry.signer(NOW)).public.kid
            await operations.rotate_signing_key(operations.Ring(scene.operator, scene.kek, "ES256", Lead(publish=100)))
            await scene.registry.refresh()
            kids = [(await scene.registry.signer(NOW + t)).public.kid for t in (0, 99, 99.9, 100, 101, 5000)]
            assert kids[:3] == [first] * 3
            assert len(set(kids[3:])) == 1
            assert kids[3] != first
            published = [{key.kid for key in await scene.registry.published(NOW + t)} for t in (0, 100, 100 + 3660)]
            assert published == [{first, kids[3]}, {first, kids[3]}, {kids[3]}]
            assert (await scene.registry.signer(NOW + 50)).public.kid == first

    run(work())


@pytest.mark.rule("AS-TE-30", "OPS-06", "KEY-14")
def test_a_signing_key_that_cannot_be_unsealed(tmp_path: Path) -> None:
    """With the wrong key-encryption key there is no signer, and the error names the kid alone."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            wrong = Registry(scene.store, KeyEncryptionKey.create(tmp_path / "other-kek"))
            with pytest.raises(Unavailable, match="cannot be unsealed"):
                await wrong.signer(NOW)
            with pytest.raises(Unavailable, match="no active signing key"):
                await scene.registry.signer(NOW - 10**6)

    run(work())


@pytest.mark.rule("CL-3", "OP-15", "I15", "KEY-21")
def test_no_signer_after_a_first_start_by_a_clock_that_was_ahead(tmp_path: Path) -> None:
    """The key would sign in 60 days, and no other can be made: the error names both times, and what helps does."""

    async def work() -> None:
        async with Scene(tmp_path) as scene:
            with pytest.raises(Unavailable, match=r"signs from 2027-.* it is 2026-.*groat key activate") as caught:
                await scene.registry.signer(NOW - 60 * 86400)
            (key,) = await scene.store.signing_keys()
            assert f"groat key activate {key.kid} --now" in caught.value.hint
            early = replace(scene.operator, clock=lambda: NOW - 60 * 86400)
            with pytest.raises(ConfigError, match="groat key activate KID --now"):
                await operations.rotate_signing_key(operations.Ring(early, scene.kek, "ES256", Lead(publish=100)))
            await operations.activate_signing_key(
                operations.Ring(early, scene.kek, "ES256", Lead()), key.kid, at_once=True
            )
            assert (await scene.registry.signer(NOW - 60 * 86400)).public.kid == key.kid

    run(work())


@pytest.mark.rule("OPS-06", "KEY-21")
def test_no_signer_without_any_key(tmp_path: Path) -> None:
    """An empty ring is a store that is not ready, not a bug."""

    async def work() -> None:
        SqliteStore.create(tmp_path / "empty.db")
        store = SqliteStore.open(tmp_path / "empty.db")
        with pytest.raises(Unavailable):
            await Registry(store, KeyEncryptionKey.create(tmp_path / "kek")).signer(NOW)
        await store.close()

    run(work())
