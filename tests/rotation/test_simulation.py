"""Thousands of histories of the rotation: any order of looks, commits, crashes, tokens, fetches and emergencies."""

import os
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import active_key, in_office
from groat.keys.ring.schedule import Timing
from groat.server.store.trusted_time import SETTLED_SECONDS

from .simulator import MAX_ERROR, Broken, Replica, World, settled

HISTORIES: Final = int(os.environ.get("GROAT_HISTORIES", "300"))
TIMINGS: Final = (
    Timing(),
    Timing(token_lifetime=3600, rotate_every=3600),
    Timing(token_lifetime=60, jwks_max_age=60, verifier_cache=60, rotate_every=60),
    Timing(token_lifetime=600, jwks_max_age=60, verifier_cache=60, rotate_every=600),
    Timing(rotate_every=0),
)
ERRORS: Final = (-MAX_ERROR, 0, MAX_ERROR)
# Hours and months ahead and behind, and right again; less than an hour from the start would be nobody's to notice.
WRONG: Final = (7200, 86_400, 60 * 86_400, -7200, -86_400, -60 * 86_400, 0)
WHO: Final = st.integers(0, 2)


class Rotation(RuleBasedStateMachine):
    """Three replicas, with the slowest, a right and the fastest clock; hypothesis picks what happens."""

    @initialize(timing=st.sampled_from(TIMINGS), own_clock=st.booleans())
    def begin(self, timing: Timing, own_clock: bool) -> None:
        self.world = World(timing, [Replica(error) for error in ERRORS], own_clock)

    @rule(seconds=st.sampled_from([1, 8, 30, 60, 300, 660, 3600, 10_000]))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(who=WHO)
    def look(self, who: int) -> None:
        self.world.look(self.world.replicas[who])

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        self.world.commit(self.world.replicas[who])

    @rule(who=WHO)
    def look_and_commit(self, who: int) -> None:
        self.world.look(self.world.replicas[who])
        self.world.commit(self.world.replicas[who])

    @rule()
    def all_look_and_commit(self) -> None:
        settled(self.world)

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        self.world.crash(self.world.replicas[who])

    @rule(who=WHO)
    def accept(self, who: int) -> None:
        self.world.accept(self.world.replicas[who])

    @rule(who=WHO)
    def sign(self, who: int) -> None:
        self.world.sign(self.world.replicas[who])

    @rule(who=WHO, choice=st.integers(0, 19), delay=st.sampled_from([0, 0, 8]))
    def operate(self, who: int, choice: int, delay: int) -> None:
        replica = self.world.replicas[who]
        self.world.operate(replica, self.world.plans(choice))
        if delay:
            self.world.accept(self.world.replicas[choice % 3])
            self.world.wait(delay)
        self.world.commit(replica)

    @rule(who=WHO, seconds=st.sampled_from(WRONG), restart=st.booleans())
    def turn(self, who: int, seconds: int, restart: bool) -> None:
        self.world.turn(self.world.replicas[who], seconds, restart=restart)

    @rule(seconds=st.sampled_from(WRONG))
    def turn_all(self, seconds: int) -> None:
        for replica in self.world.replicas:
            self.world.turn(replica, seconds)

    @rule(who=WHO, seconds=st.sampled_from(WRONG), restart=st.booleans(), wait=st.sampled_from([0, 30, 1000]))
    def look_by_a_wrong_clock(self, who: int, seconds: int, restart: bool, wait: int) -> None:
        """For half a minute, or until it is believed; the others go on."""
        replica = self.world.replicas[who]
        self.world.turn(replica, seconds, restart=restart)
        self.world.wait(wait)
        for _ in range(3):
            self.world.look(replica)
            self.world.commit(replica)
        self.world.turn(replica, 0)

    @rule(who=WHO, choice=st.integers(0, 19))
    def race(self, who: int, choice: int) -> None:
        """One replica judges, another one's operator is quicker."""
        late, quick = self.world.replicas[who], self.world.replicas[who - 1]
        self.world.look(late)
        self.world.operate(quick, self.world.plans(choice))
        self.world.commit(quick)
        self.world.commit(late)

    def teardown(self) -> None:
        """Whatever happened: once the servers have their way, the ring is safe by the independent checker, too."""
        if hasattr(self, "world"):
            for replica in self.world.replicas:
                self.world.turn(replica, 0)
            self.world.wait(int(SETTLED_SECONDS) + 1)
            settled(self.world)
            self.world.wait(self.world.timing.lead.publish + 1)
            settled(self.world)
            now = self.world.now
            faults = [
                f for f in ring_faults(self.world.keys, self.world.timing, now) if f.kid not in self.world.hurried
            ]
            if faults:
                raise Broken(f"{faults} in {self.world.table()}")
            if self.world.timing.rotate_every and not _standby(self.world):
                raise Broken(f"nobody stands by: {self.world.table()}")


def _standby(world: World) -> bool:
    signer = active_key(world.keys, world.now)
    return any(key != signer for key in in_office(world.keys, world.now))


def simulate(histories: int = HISTORIES, **options: Any) -> None:
    """Run that many histories; raises Broken with the shortest history that it could find."""
    chosen = {"max_examples": histories, "stateful_step_count": 30, "deadline": None, **options}
    run_state_machine_as_test(Rotation, settings=settings(**chosen))


@pytest.mark.timeout(3600)
@pytest.mark.rule("KEY-19", "KEY-20", "KEY-21", "KEY-22", "AS-MD-15", "I4", "I5", "K09")
def test_no_history_breaks_a_promise() -> None:
    """Clocks apart, caches stale, commits late, crashes, emergencies: no unknown kid, no token without its key."""
    simulate()


@pytest.mark.rule("KEY-21", "KEY-22")
@pytest.mark.parametrize("since", [-MAX_ERROR - 1, 0, MAX_ERROR])
def test_a_revocation_in_the_seconds_of_a_takeover_leaves_nobody_without_a_key(since: int) -> None:
    """Found by the simulator: who saw the takeover revoked the old key, and slower replicas had none to sign with."""
    world = World(Timing(), [Replica(error) for error in ERRORS])
    settled(world)
    world.wait(10_000)
    world.operate(world.replicas[1], world.plans(0))
    world.commit(world.replicas[1])
    world.wait(60 + since)
    for replica in (2, 0):
        world.operate(world.replicas[replica], world.plans(12))
        world.commit(world.replicas[replica])
        world.look_around()
