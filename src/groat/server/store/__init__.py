"""The store: it remembers and never judges. One protocol, one contract suite, any number of engines."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from groat.keys.ring.keyring import SigningKey
from groat.protocol.models import OneTimeValue
from groat.protocol.revocation import Cut, RevokedToken
from groat.server.store.audit_trail import AuditRow, Deed, Effect
from groat.server.store.changes import Change
from groat.server.store.conflicts import RegistryMoved as RegistryMoved
from groat.server.store.conflicts import StoreConflict as StoreConflict
from groat.server.store.records import (
    ApiKeyRecord,
    ApiRecord,
    ClientKeyRecord,
    ClientRecord,
    Lease,
    LeaseWish,
    ListRecord,
    RuleRecord,
    TrustRecord,
)
from groat.server.unavailable import BeforeFloor as BeforeFloor
from groat.server.unavailable import BeforeHorizon as BeforeHorizon
from groat.server.unavailable import StoreBusy as StoreBusy
from groat.server.unavailable import StoreClosed as StoreClosed
from groat.server.unavailable import StoreUnavailable as StoreUnavailable

PURGE_CHUNK: Final = 1000
# What was used is remembered well past its own expiry, for servers whose clocks are behind.
FORGET_AFTER: Final = 600
# How far apart a process's clock and the store's may be before nobody can say which of them is right.
MAX_SKEW_SECONDS: Final = 30.0
# An operator waits for a slow disk rather than being told that nobody knows what became of his change.
OPERATOR_PATIENCE: Final = 10


class Issuance(NamedTuple):
    """What a use is for: the access token that will be sent if the value is fresh. `issued_at` in epoch seconds.

    The row of the value records it; `kid` is the issuer's key that is to sign. Where no token is sent, the store names
    the use itself. `keep`: seconds from `issued_at` that the record stays at least.
    """

    token_id: str
    client_id: str
    kid: str
    issued_at: int
    keep: int = 0


class Owned(NamedTuple):
    """A value that counts for whoever used it first, and for him as often as he likes; `by`: who uses it now."""

    value: OneTimeValue
    by: str


class Receipt(NamedTuple):
    """The answer to `use_once`: was this the first use, and which version of the registry is in force.

    `fresh`: not either where something else of the request is owned by another. `proof_fresh`: whether the proof is
    new, where there was one; says nothing where the value was known.
    """

    fresh: bool
    registry_version: int
    proof_fresh: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """How a store is. `clock_offset`: seconds that its clock is ahead of this process's; None: it has none of its own.

    `floor`: epoch seconds from which its memory is complete; `horizon`: values that ended by then may be forgotten;
    `closed_at`: since when it takes nothing any more. `write_fault`: why nothing can be written, as far as that is
    known without writing.
    """

    registry_version: int
    floor: int
    horizon: int
    closed_at: int | None
    clock_offset: float | None = None
    write_fault: str | None = None


# Told when the store goes away and comes back: event name and facts.
Notify = Callable[[str, dict[str, Any]], None]


def silent(event: str, facts: dict[str, Any]) -> None:
    """Tell nobody."""


# The tables that make up a store, each after those that it refers to.
TABLES: Final = (
    "apis", "clients", "client_keys", "signing_keys", "trusts", "trust_rules",
    "api_keys", "cuts", "revoked_tokens", "status_lists", "audit", "used_once",
)  # fmt: skip
Rows = list[dict[str, Any]]
ClientWithKeys = tuple[ClientRecord, tuple[ClientKeyRecord, ...]]
ApiWithKeys = tuple[ApiRecord, tuple[ApiKeyRecord, ...]]
# Client id, thumbprint of the key, epoch seconds.
KeyUse = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds: how long the record of an issuance stays at least, and how far the iat of an assertion may lie ahead."""

    retention: int = 0
    clock_tolerance: int = 10


class Store(Protocol):
    """Methods named for intent. All raise StoreUnavailable; `change` and `fill` raise StoreConflict. Epoch seconds."""

    async def use_once(
        self,
        once: OneTimeValue,
        issuance: Issuance | None,
        proof: OneTimeValue | None = None,
        owned: Owned | None = None,
    ) -> Receipt:
        """Remember the value and what it was used for, durably, unless it is known; atomic across all processes.

        `issuance`: None where no token comes of it. `proof`: another value of the same request, remembered by the same
        write, unless it is known; it is not touched where the first one was known. `owned`: one more, whose first user
        is remembered by the same write; nothing else is where that is somebody else.

        The receipt's version counts every change of the registry that was committed before this was called.
        Raises BeforeFloor, BeforeHorizon: this store cannot tell whether the value is new; nothing was written.
        Raises StoreUnavailable: nothing was written, or it is unknown whether it was (the connection broke).
        """
        ...

    async def raise_horizon(self, horizon: int) -> None:
        """From now on refuse values that end at or before `horizon`, known or not; they may be forgotten then.

        It never goes down, and stays where it is in a closed store. Not checked: whether that time has come.
        """
        ...

    async def lower_horizon(self, deed: Deed, horizon: int, floor: int) -> range:
        """An operator's word that a clock which was ahead had raised it: back to `horizon`, the floor up to `floor`.

        Not covered: what clients whose clocks were ahead by as much had signed for later times. Servers that have seen
        the horizon refuse by it until they are started anew.
        """
        ...

    async def forget_expired(self) -> int:
        """Drop some values that end, and records that are to be kept until, before the horizon; returns how many.

        At most PURGE_CHUNK. Reads no clock.
        """
        ...

    async def registry_version(self) -> int: ...

    async def find_client(self, client_id: str) -> ClientRecord | None: ...

    async def client_keys(self, client_id: str) -> tuple[ClientKeyRecord, ...]: ...

    async def keys_of_expiring(self, after: int, before: int, clients: int) -> tuple[ClientKeyRecord, ...]:
        """All keys of enabled clients that have one with `after` <= expires_at < `before`, at most so many clients.

        Those whose key expires first come in; the keys are ordered by client.
        """
        ...

    async def look_up(self, client_id: str) -> tuple[int, ClientWithKeys | None]:
        """The registry's version, and the client as of this version or later: all that a token request asks."""
        ...

    async def list_clients(self) -> tuple[ClientRecord, ...]: ...

    async def clients_behind(self, client_id: str, limit: int) -> tuple[ClientRecord, ...]:
        """So many clients at most, by their ids, behind this one."""
        ...

    async def count_clients(self) -> tuple[int, int]:
        """How many there are, and how many of them are disabled."""
        ...

    async def unused_since(self, behind: str = "", until: str | None = None) -> dict[str, int]:
        """By client id, since when no use of a client is known; of all, or of those behind one up to another.

        That is its last one, to the hour, or its registration; but not before the floor, nor before the store was
        brought to the schema that has this.
        """
        ...

    async def published_at(self, limit: int) -> tuple[str, ...]:
        """Where enabled clients publish their keys, of so many clients at most; unreadable ones left out."""
        ...

    async def list_apis(self) -> tuple[ApiRecord, ...]: ...

    async def list_trusts(self) -> tuple[TrustRecord, ...]: ...

    async def rules_of(self, *, trust: str = "", client_id: str = "") -> tuple[RuleRecord, ...]:
        """All rules of this trust, or of this client."""
        ...

    async def rules_found_by(self, trust: str, keys: Sequence[str]) -> tuple[RuleRecord, ...]:
        """Those rules of a trust that stand under one of these keys (`presets.key_of`)."""
        ...

    async def signing_keys(self) -> tuple[SigningKey, ...]: ...

    async def look_up_api(self, name: str) -> tuple[int, ApiWithKeys | None]:
        """The registry's version, and the API with its own keys as of this version or later."""
        ...

    async def cuts(self) -> tuple[Cut, ...]:
        """Whose tokens from before which second are over."""
        ...

    async def revoke_token(self, token: RevokedToken) -> None:
        """Remember, durably, that this token was taken back; raises no registry version. Raises StoreClosed."""
        ...

    async def is_revoked(self, digest: bytes) -> tuple[int, bool]:
        """The registry's version, and whether the token with this digest was taken back before this was called."""
        ...

    async def revocation_seq(self) -> int:
        """Higher after whatever took tokens back, gave some back, or replaced the store; it never falls."""
        ...

    async def taken_back(self, after: int) -> tuple[RevokedToken, ...]:
        """The tokens that were taken back one by one and that end after this."""
        ...

    async def disabled_since(self, since: int) -> dict[str, bool]:
        """The ids of clients that were disabled or removed at this second or later, and still are; whether removed."""
        ...

    async def lease(self, wish: LeaseWish) -> Lease:
        """Places in a status list, by one write. Raises StoreClosed."""
        ...

    async def status_lists(self, after: int) -> tuple[ListRecord, ...]:
        """Those that end after this."""
        ...

    async def issued_to(self, clients: Sequence[str]) -> Sequence[tuple[str, str, int]]:
        """Client, token and second of each remembered issuance of a listed token to one of these. Reads all records."""
        ...

    async def latest_issuance(self) -> int:
        """The latest second that a remembered issuance says to be of; 0: there is none. Reads all of them."""
        ...

    async def change(self, deed: Deed, seen: int | None, many: Sequence[Change]) -> range:
        """Make all of these changes, in this order, or none; the version goes up once, however many they are.

        Every object that they touch gets a row of the audit trail, by the `deed`; returns the numbers of these rows.

        `seen`: the version under which that was decided which they are; None: they hold whatever else has changed.
        Raises RegistryMoved if another one is in force. Not checked: whether what they replace or remove is there.
        """
        ...

    async def record(self, deed: Deed, effect: Effect) -> range:
        """Add a row to the audit trail for what changes nothing else, such as a right that was given away."""
        ...

    async def audit_rows(self, *, limit: int, before: int | None = None) -> tuple[AuditRow, ...]:
        """Rows of the audit trail from the newest on, or from the newest `before` this number, damaged ones as well."""
        ...

    async def audit_rows_after(self, seq: int, limit: int) -> tuple[AuditRow, ...]:
        """The same from the oldest on, of those after this number."""
        ...

    async def forget_audit(self, deed: Deed, cutoff: int) -> tuple[int, range]:
        """Drop the rows at the beginning of the audit trail that are older than `cutoff`, not all of them at once.

        A row about this deed says up to which they went, and that one's hash. Returns how many, and that row's number.
        """
        ...

    async def note_key_uses(self, uses: Sequence[KeyUse]) -> None:
        """Raise the last uses of these keys, each named once, and of their clients; raises no registry version.

        An earlier instant than the one that stands changes nothing, nor does a key that is not there. A closed store
        takes no note.
        """
        ...

    async def names_key(self, kid: str) -> bool:
        """Whether a use that is remembered names this signing key; reads them all where none does."""
        ...

    async def condition(self) -> Condition:
        """Ask the store itself, now."""
        ...

    async def raise_floor(self, deed: Deed, floor: int) -> range:
        """From now on refuse values that were made before `floor`, on every server; a floor never goes down.

        The registry version becomes at least `floor`: counting on from where a restored store stands would come by
        numbers that servers remember another registry under.
        """
        ...

    async def shut(self, deed: Deed, at: int | None) -> range:
        """Refuse all use and every change from now on (None: take them again), on every server.

        When this returns, no use that could still succeed is under way.
        """
        ...

    def read_all(self, table: str) -> AsyncIterator[Rows]:
        """Every row of one of TABLES as it was at one moment, in portions."""
        ...

    async def fill(
        self, deed: Deed, contents: AsyncIterator[tuple[str, Rows]], version: int, floor: int, horizon: int = 0
    ) -> range:
        """Take over the contents of another store, all or nothing. Raises StoreConflict unless this one is empty.

        The audit trail comes along, and goes on with a row about this.
        """
        ...

    async def close(self) -> None: ...
