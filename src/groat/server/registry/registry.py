"""The registry in memory: client, API and key records, parsed once and kept until the registry's version moves."""

import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

from groat.keys.custody import DESTROYED, Custody, KeyLost, Signer
from groat.keys.ring.keyring import (
    PUBLISH_LEAD,
    KeyState,
    SigningKey,
    active_key,
    in_office,
    next_change,
    published_keys,
    stand_ins,
)
from groat.outbound.published import fetch_key_set
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import UNLIMITED
from groat.protocol.listing import Listing
from groat.protocol.models import Api, Client, Permission
from groat.protocol.revocation import CutKind, Cuts
from groat.server.registry.key_sets import ClientKeySets
from groat.server.registry.signers import RemoteSigner, ready, unavailable_signer
from groat.server.store import Store, StoreUnavailable
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.rows import public_key
from groat.server.store.trusted_time import instant
from groat.server.unavailable import Unavailable

NOBODY: Final = "\n"  # no client id: those are printable


class Registry:
    """Answers from memory; `observe` drops everything when another version is seen.

    Unknown ids are not remembered: nobody may fill the memory with them, and time must not tell them from known ones.
    """

    def __init__(
        self,
        store: Store,
        custody: Custody,
        key_sets: ClientKeySets | None = None,
        max_clients: int = 10_000,
        publish_lead: int = PUBLISH_LEAD,
        steady: Callable[[float], float] = float,
    ) -> None:
        """`max_clients`: how many are kept, some 5 KB each; those that were read first make room.

        As many of their keys stay parsed, whatever the registry's version. `publish_lead`: seconds after which every
        verifier knows a published signing key. `steady`: the time by which these are chosen, while the clock says its
        argument: a clock that has just stepped chooses none.
        """
        self._steady = steady
        self._publish_lead = publish_lead
        self.lost: KeyLost | None = None  # of the key that should sign, while another one stands in for it
        self._store = store
        self._max_clients = max_clients
        self._key_sets = key_sets or ClientKeySets(fetch_key_set)
        self._custody = custody
        self.version = -1
        self._changes = 0  # the version itself may go back for a moment: an answer from before a change may come late
        self._public_key = lru_cache(max_clients)(public_key)
        # Each with the address where it publishes keys itself, if it does.
        self._clients: OrderedDict[str, tuple[Client, str | None]] = OrderedDict()
        # Clients with the keys that they publish, as these were when they were joined.
        self._joined: dict[str, tuple[Client, tuple[PublicKey, ...], Client]] = {}
        self._apis: tuple[dict[str, Api], Cuts] | None = None
        self._signing_keys: tuple[SigningKey, ...] | None = None
        self._signers: dict[str, Signer] = {}
        self._active: tuple[str, float, float] = ("", 0.0, 0.0)

    def observe(self, version: int) -> bool:
        """Take note of the version in force; returns whether it is another one than before."""
        if version == self.version:
            return False
        self.version = version
        self._changes += 1
        self._clients.clear()
        self._joined.clear()
        self._apis = None
        self._signing_keys = None
        self._active = ("", 0.0, 0.0)
        return True

    @property
    def changes(self) -> int:
        """How often another version was seen: what was read before a change is known by this, as it never goes back."""
        return self._changes

    async def refresh(self) -> int:
        """Read the version in force and return it. Raises StoreUnavailable."""
        self.observe(await self._store.registry_version())
        return self.version

    async def refresh_if_possible(self) -> None:
        """Read the version in force; where the store cannot answer, what was read before stands.

        Good for what is public and changes slowly. Not checked: whether anything was ever read.
        """
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()

    async def warm(self) -> None:
        """Read what every request needs, so that it is in memory before the store may go away."""
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()
            await self.apis()
            await self.signing_keys()

    async def find_client(self, client_id: str) -> Client | None:
        """The client with its keys and permissions, or None if there is none. Raises StoreUnavailable.

        Where the client publishes its keys itself, those that are at hand.
        """
        client, uri = self._clients.get(client_id) or await self._look_up(client_id)
        return client if client is None or uri is None else self._join(client, uri)

    def _join(self, client: Client, uri: str) -> Client:
        """The client with the keys of its set; the same object for as long as both are the same."""
        keys = self._key_sets.at_hand(uri)
        base, before, joined = self._joined.get(client.client_id) or (None, (), client)
        if base is not client or before is not keys:
            joined = replace(client, keys=(*client.keys, *keys))
            self._joined[client.client_id] = client, keys, joined
        return joined

    async def _look_up(self, client_id: str) -> tuple[Client, str | None] | tuple[None, None]:
        """Ask the store for the version in force and for the client, at once."""
        version, found = await self._store.look_up(client_id)
        self.observe(version)
        if found is None:
            return None, None
        changes = self._changes
        known = to_client(*found, *await self._apis_and_cuts(), self._public_key), found[0].settings.jwks_uri
        if changes != self._changes:
            return known  # read before the change that was seen meanwhile: good for now, not to be remembered
        self._clients[client_id] = known
        if len(self._clients) > self._max_clients:
            dropped, _ = self._clients.popitem(last=False)
            self._joined.pop(dropped, None)
        return known

    def remembered(self, client_id: str) -> Client | None:
        """The client if it is in memory; reads nothing, so None does not mean that there is none."""
        client, uri = self._clients.get(client_id, (None, None))
        return client if client is None or uri is None else self._join(client, uri)

    def ask_for_keys(self, client_id: str) -> None:
        """Fetch the key set of this client beside, if it has one: a request in its name may have a newer key."""
        self._key_sets.ask(self._clients.get(client_id, (None, None))[1])

    async def news(self, client_id: str, judged: Client | None, until: float) -> bool:
        """Wait until this client is another one than was judged (True), or until that instant of the event loop.

        Whether there is such a client, and one that publishes keys, makes no difference to the time.
        """
        loop = asyncio.get_running_loop()
        _, uri = self._clients.get(client_id, (None, None))
        if uri is not None and self.remembered(client_id) is judged:
            await self._key_sets.landed(uri, until - loop.time())
        if self.remembered(client_id) is not judged:
            return loop.time() < until
        await asyncio.sleep(until - loop.time())
        return False

    async def catch_up(self, client_id: str, version: int, *, known: bool) -> bool:
        """Make sure that memory knows what the store does; returns whether it did not. Raises StoreUnavailable.

        `version` and `known` say what the refusal that is in doubt was based on: others may have caught up meanwhile.
        Reads the version and one client record whoever asks: for a client in memory, a record that does not exist.
        So the refusal of a known client costs what that of an unknown one does.
        """
        changes, moved = self._changes, version != self.version
        sought = NOBODY if client_id in self._clients else client_id
        found, _ = await self._look_up(sought)
        moved = moved or changes != self._changes or (client_id in self._clients) != known
        return found is not None or moved

    async def apis(self) -> dict[str, Api]:
        """Every API by name."""
        return (await self._apis_and_cuts())[0]

    async def _apis_and_cuts(self) -> tuple[dict[str, Api], Cuts]:
        """Every API by name, and what is cut off: read and remembered together, as clients are made of both."""
        if self._apis is not None:
            return self._apis
        changes = self._changes
        records, cuts = await self._store.list_apis(), Cuts(await self._store.cuts())
        found = {record.name: to_api(record, cuts) for record in records}, cuts
        if changes == self._changes:
            self._apis = found
        return found

    async def signing_keys(self) -> tuple[SigningKey, ...]:
        """All signing keys, whatever their state."""
        if self._signing_keys is not None:
            return self._signing_keys
        changes = self._changes
        keys = await self._store.signing_keys()
        if changes == self._changes:
            self._signing_keys = keys
        return keys

    async def published(self, now: float) -> tuple[PublicKey, ...]:
        """The public keys of the JWKS at this instant."""
        return tuple(key.public for key in published_keys(await self.signing_keys(), self._steady(now)))

    async def signer(self, now: float) -> Signer:
        """The signer that is active at this instant; where its key is lost, one that stands in for it.

        Raises Unavailable when there is none.
        """
        kid, since, until = self._active
        if since <= now < until and kid in self._signers:
            return self._signers[kid]
        version = self.version
        try:
            return await self._choose(now)
        except Unavailable:
            if await self.refresh() == version:
                raise
        return await self._choose(now)  # an operator has helped

    async def _choose(self, now: float) -> Signer:
        now = self._steady(now)
        keys = await self.signing_keys()
        key = active_key(keys, now)
        if key is None:
            raise Unavailable("signing_key_missing", _what_helps(keys, now))
        signer = await self._first_of((key, *stand_ins(keys, now, self._publish_lead)))
        # Private keys that sign no more leave the memory, too.
        kids = {other.kid for other in in_office(keys, now)}
        self._signers = {kid: kept for kid, kept in self._signers.items() if kid in kids}
        if keys is self._signing_keys:
            self._active = (signer.public.kid, now, next_change(keys, now))
        return signer

    async def check_signer(self, now: float) -> None:
        """Whether a token could be signed now, as far as that is known without signing one. Raises Unavailable."""
        signer = await self.signer(now)
        if isinstance(signer, RemoteSigner):
            await signer.check()

    async def check_signing(self, kid: str, now: float) -> None:
        """Make sure that what this key signs is still believed. Raises Unavailable once it left the JWKS."""
        if all(key.kid != kid for key in published_keys(await self.signing_keys(), self._steady(now))):
            hint = "the signing key was taken away in this moment; ask again with a new assertion"
            raise Unavailable("signing_key_withdrawn", hint)

    async def _first_of(self, keys: Sequence[SigningKey]) -> Signer:
        """The first that is not lost; `lost` has the error of the one that should sign.

        What is in memory signs on, whatever became of it in the store.
        """
        self.lost = None if keys[0].sealed else KeyLost(keys[0].kid, DESTROYED)
        for key in keys:
            try:
                return await self._open(key)
            except KeyLost as error:
                self.lost = self.lost or error
            except ConfigError as error:
                raise unavailable_signer(error) from None
        assert self.lost is not None
        raise unavailable_signer(self.lost) from None

    async def _open(self, key: SigningKey) -> Signer:
        if key.kid not in self._signers:
            signer = await self._custody.signer(key.public, key.sealed)
            self._signers[key.kid] = ready(signer, partial(self._forget, key.kid))
        return self._signers[key.kid]

    def _forget(self, kid: str) -> None:
        self._signers.pop(kid, None)
        self._active = ("", 0.0, 0.0)


def _what_helps(keys: Sequence[SigningKey], now: float) -> str:
    """Where none is active: a key that is pending by a clock that was ahead stands in the way of every rotation."""
    pending = [key for key in keys if key.state(now) is KeyState.PENDING]
    if not pending:
        return "no active signing key. Run: groat key rotate"
    first = min(pending, key=lambda key: (key.activates_at, key.kid))
    starts = "waits for an operator" if first.held else f"signs from {instant(first.activates_at)}"
    return (
        f"no active signing key; {first.kid} {starts}, and it is {instant(now)} by this host's clock. Set it if it is"
        f" wrong, or run: groat key activate {first.kid} --now"
    )


def to_api(record: ApiRecord, cuts: Cuts) -> Api:
    """The protocol's view of an API record."""
    scopes, not_before = frozenset(record.scopes), cuts.of(CutKind.API, record.name)
    listed = record.status is Listing.LIST
    return Api(record.name, record.audience, scopes, record.token_lifetime, record.binding, not_before, listed)


def to_client(
    record: ClientRecord,
    keys: tuple[ClientKeyRecord, ...],
    apis: dict[str, Api],
    cuts: Cuts,
    parse: Callable[[str], PublicKey],
) -> Client:
    """The protocol's view of a client: a permission is what the client may ask and the API still knows."""
    permissions = tuple(
        Permission(apis[name], apis[name].scopes.intersection(scopes))
        for name, scopes in sorted(record.allow.items())
        if name in apis
    )
    return Client(
        client_id=record.client_id,
        keys=tuple(parse(json.dumps(key.jwk)) for key in keys),
        limits={key.kid: key.limits for key in keys if key.limits != UNLIMITED},
        permissions=permissions,
        enabled=record.enabled,
        settings=record.settings,
        not_before=cuts.of(CutKind.CLIENT, record.client_id),
    )
