"""The life of signing keys on a clock that the tests turn."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from groat.keys.ring.keyring import (
    CLOCK_SKEW,
    JWKS_MAX_AGE,
    PUBLISH_LEAD,
    VERIFIER_CACHE_CEILING,
    KeyState,
    Lead,
    SigningKey,
    active_key,
    published_keys,
)
from groat.keys.ring.plans import plan_revocation, plan_rotation
from groat.protocol.client_settings import MAX_TOKEN_LIFETIME
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey

START: Final = 1_800_000_000
LEAD: Final = Lead()
Ring = dict[str, SigningKey]


def fresh_key(kid: str, now: int) -> SigningKey:
    """A key that was just made; the schedule never looks at its numbers."""
    return SigningKey(PublicKey(kid, frozenset({"ES256"}), kid, {"kid": kid}, None), now, now)


def rotated(ring: Ring, kid: str, now: int, lead: Lead = LEAD) -> Ring:
    """The ring after a rotation at `now`."""
    changed = plan_rotation(tuple(ring.values()), fresh_key(kid, now), now, lead)
    return ring | {key.kid: key for key in changed}


def revoked(ring: Ring, kid: str, now: int) -> tuple[Ring, bool]:
    """The ring after a revocation at `now`, and whether it needs a new key."""
    changed, needs_key = plan_revocation(tuple(ring.values()), kid, now)
    return ring | {key.kid: key for key in changed}, needs_key


def signer(ring: Ring, now: float) -> str | None:
    """The kid that signs at `now`."""
    key = active_key(ring.values(), now)
    return key.kid if key else None


def listed(ring: Ring, now: float) -> list[str]:
    """The kids of the JWKS at `now`."""
    return [key.kid for key in published_keys(ring.values(), now)]


@pytest.mark.rule("KEY-19")
def test_the_lead_covers_every_cache_and_the_skew() -> None:
    """A new key waits for max-age, the ceiling of a verifier's cache and the skew of the clocks."""
    assert (JWKS_MAX_AGE, VERIFIER_CACHE_CEILING, CLOCK_SKEW) == (300, 3600, 60)
    assert LEAD.publish == PUBLISH_LEAD == 3960
    assert Lead().token_lifetime == MAX_TOKEN_LIFETIME


@pytest.mark.rule("KEY-19")
def test_the_first_key_signs_at_once() -> None:
    """There is nobody yet who could have cached a JWKS without it."""
    ring = rotated({}, "k1", START)
    assert (signer(ring, START), listed(ring, START)) == ("k1", ["k1"])
    assert ring["k1"].state(START) is KeyState.ACTIVE


@pytest.mark.rule("KEY-19", "AS-MD-15")
@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, "k1"), (1, "k1"), (PUBLISH_LEAD - 1, "k1"), (PUBLISH_LEAD - 0.001, "k1"), (PUBLISH_LEAD, "k2")],
)
def test_the_next_key_is_published_before_it_signs(after: float, expected: str) -> None:
    """Up to the last instant of the lead the old key signs, and the new one is in the JWKS from the first."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    assert signer(ring, START + after) == expected
    assert listed(ring, START + after) == ["k1", "k2"]


@pytest.mark.rule("KEY-20", "AS-MD-15")
@pytest.mark.parametrize(
    ("after", "kids"),
    [(0, ["k1", "k2"]), (3600, ["k1", "k2"]), (3659, ["k1", "k2"]), (3660, ["k2"]), (86_400, ["k2"])],
)
def test_the_old_key_stays_until_its_last_token_is_dead(after: int, kids: list[str]) -> None:
    """It leaves the JWKS one token life and the skew after its last signature, not a second earlier."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    assert listed(ring, START + PUBLISH_LEAD + after) == kids


@pytest.mark.rule("KEY-20")
def test_the_four_states_follow_from_the_clock() -> None:
    """Pending, active, retiring, removed, each up to its own instant."""
    key = replace(fresh_key("k", START), activates_at=START + 10, retires_at=START + 20, removes_at=START + 30)
    states = [key.state(START + at) for at in (0, 9.9, 10, 19.9, 20, 29.9, 30)]
    assert states == ["pending", "pending", "active", "active", "retiring", "retiring", "removed"]


@pytest.mark.rule("KEY-19")
def test_a_second_rotation_waits_for_the_first() -> None:
    """While a successor is on its way there is no other, so that the takeover cannot be pushed back."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    with pytest.raises(ConfigError, match="pending"):
        rotated(ring, "k3", START + PUBLISH_LEAD - 1)
    assert signer(rotated(ring, "k3", START + PUBLISH_LEAD), START + PUBLISH_LEAD) == "k2"


@pytest.mark.rule("KEY-19", "KEY-20")
def test_leads_may_be_shorter_for_shorter_promises() -> None:
    """The two spans come from the caller, and are kept as given."""
    ring = rotated(rotated({}, "k1", START), "k2", START, Lead(publish=100, token_lifetime=600))
    assert (signer(ring, START + 99), signer(ring, START + 100)) == ("k1", "k2")
    assert listed(ring, START + 100 + 659) == ["k1", "k2"]
    assert listed(ring, START + 100 + 660) == ["k2"]


@pytest.mark.rule("KEY-21")
def test_a_stolen_key_goes_at_once_and_a_new_one_is_needed() -> None:
    """Without a successor the caller must make one: nothing else may sign with the stolen key."""
    ring, needs_key = revoked(rotated({}, "k1", START), "k1", START + 5)
    assert (needs_key, signer(ring, START + 5), listed(ring, START + 5)) == (True, None, [])


@pytest.mark.rule("KEY-21")
def test_a_pending_key_takes_over_from_a_stolen_one_at_once() -> None:
    """The successor is promoted early, and nothing else is needed."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    ring, needs_key = revoked(ring, "k1", START + 5)
    assert (needs_key, signer(ring, START + 5), listed(ring, START + 5)) == (False, "k2", ["k2"])


@pytest.mark.rule("KEY-21")
def test_a_retiring_key_can_be_revoked_too() -> None:
    """It leaves the JWKS; the key that signs goes on."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    at = START + PUBLISH_LEAD + 1
    ring, needs_key = revoked(ring, "k1", at)
    assert (needs_key, signer(ring, at), listed(ring, at)) == (False, "k2", ["k2"])


@pytest.mark.rule("KEY-21", "AS-MD-15")
def test_revoking_the_successor_keeps_the_signing_key_in_office() -> None:
    """The key that was to retire has nobody to retire for: it signs on, and stays published."""
    ring = rotated(rotated({}, "k1", START - 86_400), "k2", START)
    ring, needs_key = revoked(ring, "k2", START + 5)
    assert not needs_key
    for at in (START + 5, START + PUBLISH_LEAD, START + 10 * PUBLISH_LEAD):
        assert (signer(ring, at), listed(ring, at)) == ("k1", ["k1"])


@pytest.mark.rule("KEY-21")
@pytest.mark.parametrize("kid", ["nobody", "k1"])
def test_only_a_published_key_can_be_revoked(kid: str) -> None:
    """An unknown kid, and one that is gone already, are mistakes that must show."""
    ring, _ = revoked(rotated({}, "k1", START), "k1", START)
    with pytest.raises(ConfigError, match=kid):
        revoked(ring, kid, START + 1)


class KeyRing(RuleBasedStateMachine):
    """Any order of rotations, revocations and waiting; what verifiers and tokens may rely on must hold throughout."""

    @initialize()
    def first(self) -> None:
        self.now = START
        self.count = 1
        self.ring: Ring = rotated({}, "k1", START)
        self.excused = {"k1"}  # the first key and emergency keys sign without the lead
        self.revoked: set[str] = set()
        self.last_signed: dict[str, int] = {}

    def new_kid(self) -> str:
        self.count += 1
        return f"k{self.count}"

    @rule(seconds=st.sampled_from([1, 60, 300, 3599, 3600, PUBLISH_LEAD - 1, PUBLISH_LEAD, 7619, 7620, 90_000]))
    def wait(self, seconds: int) -> None:
        end = self.now + seconds
        for at in self.instants(self.now, end):
            self.look(at)
        self.now = end

    @rule()
    def rotate(self) -> None:
        pending = any(key.state(self.now) is KeyState.PENDING for key in self.ring.values())
        try:
            self.ring = rotated(self.ring, self.new_kid(), self.now)
        except ConfigError:
            assert pending
        else:
            assert not pending

    @rule(choice=st.integers(0, 5))
    def revoke(self, choice: int) -> None:
        kids = listed(self.ring, self.now)
        kid = kids[choice % len(kids)]
        before = self.ring
        self.ring, needs_key = revoked(self.ring, kid, self.now)
        self.revoked.add(kid)
        self.excused |= {k for k in before if self.ring[k].activates_at != before[k].activates_at}
        if needs_key:
            fresh = self.new_kid()
            self.ring = self.ring | {fresh: fresh_key(fresh, self.now)}
            self.excused.add(fresh)

    def instants(self, start: int, end: int) -> list[int]:
        """The seconds in [start, end) at which something may differ from the second before."""
        edges = {
            at
            for key in self.ring.values()
            for at in (key.activates_at, key.retires_at, key.removes_at)
            if at is not None
        }
        return sorted(at for at in {start, end - 1} | edges | {at - 1 for at in edges} if start <= at < end)

    def look(self, at: int) -> None:
        kid = signer(self.ring, at)
        assert kid is not None, "nothing signs"
        assert kid in listed(self.ring, at), "an unpublished key signs"
        assert kid not in self.revoked, "a revoked key signs"
        assert sum(key.state(at) is KeyState.ACTIVE for key in self.ring.values()) == 1
        if kid not in self.excused:
            assert at >= self.ring[kid].created_at + PUBLISH_LEAD, "signs before every verifier can know it"
        self.last_signed[kid] = at
        for old in self.last_signed.keys() - self.revoked - set(listed(self.ring, at)):
            assert at >= self.last_signed[old] + MAX_TOKEN_LIFETIME + CLOCK_SKEW, "a live token lost its key"

    @invariant()
    def holds_now_and_for_ever(self) -> None:
        if hasattr(self, "ring"):
            last = self.last_signed.copy()
            for at in self.instants(self.now, self.now + 1_000_000):
                self.look(at)
            self.last_signed = last


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-21", "AS-MD-15")
def test_any_order_of_operations_keeps_the_promises() -> None:
    """There is always one signer, no verifier meets an unknown kid, and no live token loses its key."""
    run_state_machine_as_test(KeyRing, settings=settings(max_examples=150, stateful_step_count=25, deadline=None))
