"""What both engines keep of tokens that were taken back, of cuts and of the keys of APIs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from groat.keys.ring.keyring import SigningKey
from groat.protocol.jwk import generate_private_key
from groat.protocol.revocation import Cut, CutKind, Cuts, RevokedToken, next_cut, token_digest
from groat.server.store import StoreClosed, StoreConflict
from groat.server.store.changes import (
    AddApi,
    AddClient,
    AddClientKey,
    RemoveApi,
    RemoveClient,
    ReplaceClient,
    SaveSigningKey,
    SwitchClient,
)
from groat.server.store.records import ApiKeyRecord, ClientKeyRecord
from groat.server.store.revocation_changes import AddApiKey, MakeCut, RemoveApiKey, TakeBack
from groat.server.store.sqlite.backup import read_back, write_backup
from groat.server.store.sqlite.store import SqliteStore
from tests.server.store.places import DEED, Place
from tests.server.store.test_contract import NOW, ORDERS, client, issuance, once, run

TAKEN: Final = RevokedToken(token_digest("jti"), "billing", NOW, NOW + 600)


def api_key(kid: str = "k1") -> ApiKeyRecord:
    public = generate_private_key("ES256").public
    return ApiKeyRecord(kid, "orders", public.thumbprint, "ES256", dict(public.jwk), NOW)


@asynccontextmanager
async def made(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.create(path)
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.rule("AS-RV-04", "AS-RV-05")
def test_a_token_is_known_until_its_end(place: Place) -> None:
    """To every process, at once; it raises no version, and goes once the horizon is past its end."""

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            version, revoked = await two.is_revoked(TAKEN.digest)
            assert not revoked
            await one.revoke_token(TAKEN)
            await one.revoke_token(replace(TAKEN, ends_at=NOW + 60))  # the later end stands
            assert await two.is_revoked(TAKEN.digest) == (version, True)
            assert (await two.is_revoked(token_digest("other")))[1] is False
            for horizon, known in ((NOW + 599, True), (NOW + 600, False)):
                await one.raise_horizon(horizon)
                await one.forget_expired()
                assert (await two.is_revoked(TAKEN.digest))[1] is known

    run(work())


def test_a_closed_store_takes_nothing_back(place: Place) -> None:
    """What it would keep is not where the servers look from then on."""

    async def work() -> None:
        async with place.store() as store:
            await store.shut(DEED, NOW)
            with pytest.raises(StoreClosed):
                await store.revoke_token(TAKEN)
            with pytest.raises(StoreClosed):
                await store.change(DEED, None, [TakeBack(TAKEN)])
            await store.shut(DEED, None)
            assert not (await store.is_revoked(TAKEN.digest))[1]

    run(work())


@pytest.mark.rule("AS-RV-04")
def test_what_a_backup_knows_of_stays_taken_back(tmp_path: Path) -> None:
    """Also in the store of another machine, whose own later cuts stand: its servers believe the same keys."""

    async def work() -> None:
        here, there, copy = tmp_path / "here.db", tmp_path / "there.db", tmp_path / "copy.db"
        async with made(here) as store, made(there) as other:
            await store.revoke_token(TAKEN)
            for kind, subject, now in ((CutKind.CLIENT, "billing", NOW), (CutKind.API, "orders", NOW + 90)):
                await store.change(DEED, None, [MakeCut(kind, subject, now)])
                await other.change(DEED, None, [MakeCut(kind, subject, NOW + 60)])
            await store.change(DEED, None, [MakeCut(CutKind.CLIENT, "till", NOW)])
            write_backup(here, copy, NOW)
            await read_back(there, copy, lambda: NOW + 1, DEED)
            assert (await other.is_revoked(TAKEN.digest))[1]
            found = {cut.subject: cut.not_before for cut in await other.cuts()}
            assert found == {"billing": NOW + 61, "orders": NOW + 91, "till": NOW + 92}

    run(work())


@pytest.mark.rule("AS-SL-10")
def test_the_number_of_the_feed_never_falls(place: Place) -> None:
    """Higher after whatever verifiers have to hear of, at every process; the same after what they need not."""

    async def work() -> None:
        async with place.store() as store, place.store() as other:
            await store.change(DEED, None, [AddApi(ORDERS), AddClient(client())])
            key = SigningKey(generate_private_key("ES256").public, NOW, NOW, None, None, b"sealed")
            seq = await store.revocation_seq()
            for quiet in (AddApiKey(api_key()), ReplaceClient(client()), SaveSigningKey(key)):
                await store.change(DEED, None, [quiet])
            assert await other.revocation_seq() == seq
            for change in (
                MakeCut(CutKind.CLIENT, "billing", NOW),
                TakeBack(TAKEN),
                SwitchClient("billing", enabled=False, now=NOW),
                SaveSigningKey(replace(key, retires_at=NOW, removes_at=NOW)),
                RemoveApi("orders"),
                RemoveClient("billing", NOW + 1),
            ):
                await store.change(DEED, None, [change])
                before, seq = seq, await other.revocation_seq()
                assert seq > before
            assert await other.disabled_since(NOW + 1) == {"billing": True}
            assert await other.disabled_since(NOW + 2) == {}
            await store.revoke_token(TAKEN)  # known already
            assert await other.revocation_seq() == seq
            await store.revoke_token(replace(TAKEN, digest=token_digest("other"), made_at=NOW + 90))
            assert await other.revocation_seq() == (NOW + 90) * 1000  # never less than the time says
            assert [token.digest for token in await other.taken_back(NOW + 599)] != []
            assert await other.taken_back(NOW + 600) == ()
            await store.raise_floor(replace(DEED, at=NOW + 99), NOW)
            assert await other.revocation_seq() == (NOW + 99) * 1000

    run(work())


@pytest.mark.rule("AS-SL-10")
def test_the_number_goes_on_after_a_restore(tmp_path: Path) -> None:
    """Beyond all that verifiers have seen since the backup."""

    async def work() -> None:
        path, copy = tmp_path / "groat.db", tmp_path / "copy.db"
        async with made(path) as store:
            await store.change(DEED, None, [MakeCut(CutKind.ALL, "", NOW)])
            write_backup(path, copy, NOW)
            await store.revoke_token(replace(TAKEN, made_at=NOW + 50))
            seq = await store.revocation_seq()
            await read_back(path, copy, lambda: NOW + 60, DEED)
            assert await store.revocation_seq() > seq

    run(work())


@pytest.mark.rule("AS-RV-06")
def test_a_cut_never_moves_back(place: Place) -> None:
    """Each is later than the one before, whatever the clocks say; others are not touched."""

    async def work() -> None:
        async with place.store() as store:
            version = await store.registry_version()
            for now, ahead, found in ((NOW, 0, NOW + 1), (NOW, 0, NOW + 2), (NOW - 60, 0, NOW + 3), (NOW, 9, NOW + 10)):
                await store.change(DEED, None, [MakeCut(CutKind.CLIENT, "billing", now, ahead)])
                (cut,) = await store.cuts()
                assert cut == Cut(CutKind.CLIENT, "billing", found, now)
            assert await store.registry_version() == version + 4
            await store.change(
                DEED, None, [MakeCut(CutKind.CLIENT, "till", NOW), MakeCut(CutKind.API, "orders", NOW + 50)]
            )
            cuts = Cuts(await store.cuts())
            assert cuts.of(CutKind.CLIENT, "billing") == NOW + 10
            assert cuts.of(CutKind.CLIENT, "till") == NOW + 1  # many clients are cut off at once
            assert cuts.of(CutKind.CLIENT, "orders") == 0
            assert cuts.of(CutKind.API, "orders") == NOW + 51
            # Tokens that were issued under those say to be of their seconds.
            await store.change(DEED, None, [MakeCut(CutKind.CLIENT, "till", NOW)])
            await store.change(DEED, None, [MakeCut(CutKind.ALL, "", NOW)])
            cuts = Cuts(await store.cuts())
            assert cuts.of(CutKind.CLIENT, "till") == NOW + 53
            assert cuts.of(CutKind.API, "nothing") == NOW + 53
            assert Cuts().of(CutKind.API, "orders") == 0

    run(work())


def test_the_second_of_a_cut() -> None:
    """Behind every token that may be there, and behind the cut before."""
    assert [next_cut(100, 0, 0), next_cut(100, 7, 0), next_cut(100, 0, 105), next_cut(90, 0, 101)] == [
        101,
        108,
        106,
        102,
    ]


def test_the_latest_issuance(place: Place) -> None:
    """Of every process, whatever its clock says."""

    async def work() -> None:
        async with place.store() as store:
            assert await store.latest_issuance() == 0
            for n in (3, 9, 5):
                await store.use_once(once(f"v{n}"), issuance(f"t{n}")._replace(issued_at=NOW + n))
            assert await store.latest_issuance() == NOW + 9

    run(work())


@pytest.mark.rule("AS-IN-02", "KEY-01")
def test_the_keys_of_an_api(place: Place) -> None:
    """Added, found with their API, removed; gone with it. One public key has one owner, of whatever kind."""

    async def work() -> None:
        async with place.store() as store:
            await store.change(DEED, None, [AddApi(ORDERS), AddClient(client())])
            assert (await store.look_up_api("nothing"))[1] is None
            one, two = api_key(), api_key("k2")
            await store.change(DEED, None, [AddApiKey(one), AddApiKey(two)])
            version, found = await store.look_up_api("orders")
            assert found == (ORDERS, (one, two))
            assert version == await store.registry_version()
            for same in (one, replace(api_key(), kid="k1"), replace(one, kid="k3")):
                with pytest.raises(StoreConflict, match="has"):
                    await store.change(DEED, None, [AddApiKey(same)])
            with pytest.raises(StoreConflict, match="removed meanwhile"):
                await store.change(DEED, None, [AddApiKey(replace(api_key(), api="stock"))])
            of_client = ClientKeyRecord("k1", "billing", one.thumbprint, "ES256", one.jwk, NOW)
            with pytest.raises(StoreConflict, match="somebody else"):
                await store.change(DEED, None, [AddClientKey(of_client)])
            await store.change(DEED, None, [RemoveApiKey("orders", "k1"), AddClientKey(of_client)])
            with pytest.raises(StoreConflict, match="somebody else"):
                await store.change(DEED, None, [AddApiKey(one)])
            public = generate_private_key("ES256").public
            await store.change(DEED, None, [SaveSigningKey(SigningKey(public, NOW, NOW, None, None, b"sealed"))])
            taken = ApiKeyRecord("s", "orders", public.thumbprint, "ES256", dict(public.jwk), NOW)
            with pytest.raises(StoreConflict, match="somebody else"):
                await store.change(DEED, None, [AddApiKey(taken)])
            await store.change(DEED, None, [RemoveApi("orders")])
            assert (await store.look_up_api("orders"))[1] is None

    run(work())
