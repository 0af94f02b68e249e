"""A small world for the schedule: replicas with clocks that differ, a store, crashes, late commits, emergencies.

The schedule and the plans are the real ones; the world is a model that checks its promises at every instant at which
anything changes for anybody. Verifiers are not simulated one by one: the world knows which key sets could be had when,
so a promise is kept only if no verifier, whenever it fetched and from whichever replica, could notice. Time is real
time in whole seconds, which nobody in the world can read: each party sees it plus its own error. Most errors are small;
a replica whose clock is wrong by hours or months promises nothing itself, and must do no harm to what others promise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, cast

from groat.keys.ring.keyring import KeyState, SigningKey, active_key, in_office, published_keys
from groat.keys.ring.plans import (
    emergency_key,
    plan_activation,
    plan_preparation,
    plan_promotion,
    plan_revocation,
    plan_rotation,
    plan_taint,
)
from groat.keys.ring.schedule import MAX_PUBLISHED, Timing, next_step
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey
from groat.server.store import FORGET_AFTER, Condition, Store
from groat.server.store.trusted_time import SETTLED_SECONDS, TrustedTime

START: Final = 1_800_000_000
MAX_ERROR: Final = 25  # of one clock, so that two differ by 50 at most
USE_SECONDS: Final = 300  # for which a use is remembered at least
MAX_DELAY: Final = 9  # between reading the clock and the commit: with the above within the skew of 60

Plan = Callable[[Sequence[SigningKey], int], tuple[SigningKey, ...]]


class Broken(AssertionError):
    """A promise was broken."""


def fresh_key(kid: str, now: int) -> SigningKey:
    """A key that was just made; the schedule never looks at its numbers."""
    return SigningKey(PublicKey(kid, frozenset({"ES256"}), kid, {"kid": kid}, None), now, now, sealed=b"private")


@dataclass(slots=True)
class Write:
    """What a replica is about to commit, judged by the version that it had read."""

    seen: int
    keys: tuple[SigningKey, ...]
    latest: int  # real time by which it is committed or given up


@dataclass(slots=True)
class Replica:
    """A server with a clock of its own. `captured`: the clock reading of a request that is in flight.

    `usual`: its error while its clock is right; `since`: when it was last turned, or the server started.
    """

    error: int
    usual: int = 0
    since: int = START - 10**6
    time: TrustedTime = field(init=False)
    write: Write | None = None
    captured: tuple[int, int] | None = None  # reading, real time

    @property
    def right(self) -> bool:
        return abs(self.error) <= MAX_ERROR


@dataclass(slots=True)
class World:
    """Everything there is. Kids: `revoked` by somebody; `hurried` into signing although not everybody knows them.

    `own_clock`: whether the store has one, which is right. `horizon`: as in the registry; `named_until`: of the last use
    that names a kid; `destroyed`: kids that their custodian has destroyed, whether that was noted or not.

    `valid_until`: by which second, on the clock of a verifier, the last token of a kid expires. `missing_at`: the last
    real second at which somebody could fetch a key set without this kid.
    """

    timing: Timing
    replicas: list[Replica]
    own_clock: bool = True
    now: int = START
    version: int = 1
    ring: dict[str, SigningKey] = field(default_factory=dict)
    valid_until: dict[str, int] = field(default_factory=dict)
    missing_at: dict[str, int] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    hurried: set[str] = field(default_factory=set)
    horizon: int = START - FORGET_AFTER
    named_until: dict[str, int] = field(default_factory=dict)
    destroyed: set[str] = field(default_factory=set)
    kids: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        first = fresh_key(self.new_kid(), self.now - 10**6)
        self.ring[first.kid] = first
        for replica in self.replicas:
            replica.usual = replica.error
            self._start(replica)

    def _start(self, replica: Replica) -> None:
        """A process that begins to watch its clocks."""
        replica.time = TrustedTime(cast(Store, None), lambda: self.now + replica.error, lambda: self.now)

    def condition(self, replica: Replica) -> Condition:
        """What the store tells this replica of itself."""
        return Condition(self.version, 0, self.horizon, None, -float(replica.error) if self.own_clock else None)

    def spared(self) -> set[str]:
        """The keys that uses name which are remembered."""
        return {kid for kid, until in self.named_until.items() if until > self.horizon}

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        return tuple(sorted(self.ring.values(), key=lambda key: (key.activates_at, key.kid)))

    def new_kid(self) -> str:
        return f"k{next(self.kids)}"

    # What happens

    def wait(self, seconds: int) -> None:
        """Time passes, with a look around at every edge; a write or request that waits too long is given up."""
        end = self.now + seconds
        for edge in [at for at in self.edges() if at <= end] + [end]:
            self.now = edge
            self._give_up_late()
            self._keep_time()
            self.look_around()

    def _keep_time(self) -> None:
        """Servers raise the horizon all the time. A clock that is behind it no more is put right: nobody could tell."""
        for replica in self.replicas:
            behind = self.now + replica.error <= self.horizon
            if replica.error < -MAX_ERROR and not behind and not self.own_clock:
                self.turn(replica, 0)
            if replica.right:
                self._raise_horizon(replica)

    def _raise_horizon(self, replica: Replica) -> None:
        reading = replica.time.judge(self.condition(replica))
        if reading.trusted:
            self.horizon = max(self.horizon, reading.now - FORGET_AFTER)

    def _give_up_late(self) -> None:
        for replica in self.replicas:
            if replica.write is not None and replica.write.latest < self.now:
                replica.write = None
            if replica.captured is not None and replica.captured[1] + MAX_DELAY < self.now:
                replica.captured = None

    def edges(self) -> list[int]:
        """Real seconds ahead at which a key changes its state by some clock or a token dies, and those before."""
        instants = {i for key in self.keys for i in (key.activates_at, key.retires_at, key.removes_at) if i is not None}
        seen = {at - replica.error for at in instants for replica in self.replicas}
        seen |= {at + MAX_ERROR for at in self.valid_until.values()}
        return sorted(at for edge in seen for at in (edge - 1, edge) if self.now < at < self.now + 10**8)

    def turn(self, replica: Replica, seconds: int, *, restart: bool = False) -> None:
        """Its clock steps, by itself or while the server is away; 0: it is right again."""
        if restart or replica.error != replica.usual + seconds:
            replica.since = self.now
        replica.error = replica.usual + seconds
        if restart:
            self.crash(replica)
            self._start(replica)
        replica.time.sample()

    def look(self, replica: Replica) -> None:
        """The rotator of one replica reads, and judges what is due; what it destroys is gone before it is noted."""
        reading = replica.time.judge(self.condition(replica))
        if not reading.trusted:
            return
        change = next_step(self.keys, self.timing, reading.now, self.spared())
        if change is None:
            return
        if self._should_doubt(replica):
            raise Broken(f"{change.event} by a clock that is wrong by {replica.error} s: {self.table()}")
        if change.fresh_at is not None:
            fresh = fresh_key(self.new_kid(), reading.now)
            change = change.with_fresh(self.keys, fresh, reading.now, self.timing.lead)
        if change.destroy is not None and not replica.right and change.destroy.kid not in self._signers():
            return  # nobody could tell, and nobody signs with it: lost, and documented
        if change.destroy is not None:
            self._check_grace(replica, change.destroy.kid)
            self.destroyed.add(change.destroy.kid)
        replica.write = Write(self.version, change.keys, self.now + MAX_DELAY)

    def _signers(self) -> set[str]:
        """With which keys those sign whose clocks are right."""
        signers = (active_key(self.keys, self.now + replica.error) for replica in self.replicas if replica.right)
        return {key.kid for key in signers if key is not None}

    def _check_grace(self, replica: Replica, kid: str) -> None:
        idle = self.now - self.named_until.get(kid, 0) + USE_SECONDS
        every = self.timing.rotate_every
        if replica.right and idle < (min(86_400, every // 10) if every else 86_400):
            raise Broken(f"{kid} is destroyed {idle} s after it signed: {self.table()}")

    def _should_doubt(self, replica: Replica) -> bool:
        """Whether there is a witness against this clock: another one, the monotonic clock, or the horizon."""
        recent = self.now - replica.since < SETTLED_SECONDS
        return not replica.right and (self.own_clock or recent or self.now + replica.error <= self.horizon)

    def _refused(self, replica: Replica) -> bool:
        """Whether nothing comes of an operator's command on this host; he notices a wrong clock that nobody else can."""
        time = TrustedTime(cast(Store, None), lambda: self.now + replica.error, lambda: self.now)
        refused = time.judge(self.condition(replica)).fault is not None
        behind = self.now + replica.error <= self.horizon
        if not replica.right and (self.own_clock or behind) and not refused:
            raise Broken(f"a command is dated by a clock that is wrong by {replica.error} s")
        return refused or not replica.right

    def operate(self, replica: Replica, plan: Plan) -> None:
        """An operator on this replica's host reads, and plans."""
        if self._refused(replica):
            return
        try:
            changed = plan(self.keys, self.now + replica.error)
        except ConfigError:
            return
        if changed:
            replica.write = Write(self.version, changed, self.now + MAX_DELAY)

    def commit(self, replica: Replica) -> None:
        """What was judged is written, unless the registry moved."""
        write, replica.write = replica.write, None
        if write is None or write.seen != self.version:
            return
        self.version += 1
        self.note(write.keys)
        self.ring |= {key.kid: key for key in write.keys}
        self.look_around()

    def crash(self, replica: Replica) -> None:
        """Whatever it was about to do is not done."""
        replica.write = replica.captured = None

    def accept(self, replica: Replica) -> None:
        """A token request comes in: the clock is read now, the token is signed at some later moment."""
        if not replica.right:
            return
        replica.captured = (self.now + replica.error, self.now)

    def sign(self, replica: Replica) -> None:
        """A token is signed with the ring as it is now, and the clock as it was when the request came in."""
        if replica.captured is None and not replica.right:
            return
        now = self.now + replica.error if replica.captured is None else replica.captured[0]
        replica.captured = None
        self._sign_at(now)

    def _sign_at(self, now: int) -> None:
        key = active_key(self.keys, now)
        if key is None:
            raise Broken(f"nothing signs at {now - START}: {self.table()}")
        if not key.sealed or key.kid in self.destroyed:
            raise Broken(f"{key.kid} signs, but its private half is destroyed: {self.table()}")
        if key.kid in self.revoked:
            raise Broken(f"{key.kid} signs although it is revoked: {self.table()}")
        held_for = self.timing.jwks_max_age + self.timing.verifier_cache
        if key.kid not in self.hurried and self.now - self.missing_at.get(key.kid, -(10**9)) < held_for:
            raise Broken(f"{key.kid} signs while somebody may hold a set without it: {self.table()}")
        expires_at = now + self.timing.token_lifetime
        self.named_until[key.kid] = self.now + USE_SECONDS
        self.valid_until[key.kid] = max(expires_at, self.valid_until.get(key.kid, 0))

    # What must hold

    def look_around(self) -> None:
        """Every replica whose clock is right signs a token and is asked for its key set."""
        for replica in self.replicas:
            replica.time.sample()
            if replica.right:
                self._sign_at(self.now + replica.error)
        for number, replica in enumerate(self.replicas):
            if not replica.right:
                continue
            listed = {key.kid for key in published_keys(self.keys, self.now + replica.error)}
            if len(listed) > MAX_PUBLISHED + 3:
                raise Broken(f"the key set of replica {number} grows without end: {self.table()}")
            for kid in self.ring.keys() - listed:
                self._check_absence(kid, number)

    def _check_absence(self, kid: str, number: int) -> None:
        self.missing_at[kid] = self.now
        live = self.now - MAX_ERROR < self.valid_until.get(kid, 0)  # by the slowest clock of a verifier
        if live and kid not in self.revoked:
            raise Broken(f"{kid} left the key set of replica {number} before its last token died: {self.table()}")

    def note(self, keys: Sequence[SigningKey]) -> None:
        """Who is new, who is revoked, and who was let sign in a hurry."""
        for key in keys:
            before = self.ring.get(key.kid)
            if before is None:
                self.missing_at[key.kid] = self.now
            # Only an emergency lets a key sign from a moment in the past.
            if key.activates_at < self.now and (before is None or before.activates_at != key.activates_at):
                self.hurried.add(key.kid)
            if key.revoked:
                self.revoked.add(key.kid)

    def table(self) -> str:
        rows = (f"{k.kid} {k.created_at - START} {k.activates_at - START} "
                f"{k.retires_at and k.retires_at - START} {k.removes_at and k.removes_at - START}" for k in self.keys)  # fmt: skip
        return f"now {self.now - START}; " + "; ".join(rows)

    # What an operator may plan

    def plans(self, choice: int) -> Plan:
        """Some operation on some key."""
        lead = self.timing.lead

        def rotate(keys: Sequence[SigningKey], now: int) -> tuple[SigningKey, ...]:
            return plan_promotion(keys, now, lead) or plan_rotation(keys, fresh_key(self.new_kid(), now), now, lead)

        def prepare(keys: Sequence[SigningKey], now: int) -> tuple[SigningKey, ...]:
            held = [key for key in in_office(keys, now) if key.held]
            return () if held else plan_preparation(fresh_key(self.new_kid(), now))

        def activate(keys: Sequence[SigningKey], now: int) -> tuple[SigningKey, ...]:
            pending = [key for key in keys if key.state(now) is KeyState.PENDING]
            return plan_activation(keys, pending[-1].kid, now, lead, at_once=choice % 2 == 0) if pending else ()

        def revoke(keys: Sequence[SigningKey], now: int) -> tuple[SigningKey, ...]:
            listed = published_keys(keys, now)
            return with_heir(plan_revocation(keys, listed[choice % len(listed)].kid, now, lead), now)

        def taint(keys: Sequence[SigningKey], now: int) -> tuple[SigningKey, ...]:
            signer = active_key(keys, now)
            return with_heir(plan_taint(keys, signer.kid, now, lead), now) if signer else ()

        def with_heir(planned: tuple[tuple[SigningKey, ...], bool], now: int) -> tuple[SigningKey, ...]:
            changed, needs_key = planned
            return (*changed, emergency_key(fresh_key(self.new_kid(), now), now, lead)) if needs_key else changed

        return (rotate, prepare, activate, revoke, taint)[choice // 4 % 5]


def settled(world: World) -> None:
    """Let every replica do all that is due, at this moment."""
    for _ in range(60):
        for replica in world.replicas:
            world.look(replica)
            if replica.write is not None:
                world.commit(replica)
                break
        else:
            return
    raise Broken(f"the schedule never comes to rest: {world.table()}")
