"""What is due, and when: the schedule as a function of keys, settings and clock."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import CLOCK_SKEW, HELD, PUBLISH_LEAD, Lead, SigningKey, active_key, published_keys
from groat.keys.ring.plans import (
    emergency_key,
    plan_activation,
    plan_preparation,
    plan_promotion,
    plan_revocation,
    plan_rotation,
    plan_taint,
    plan_withdrawal,
)
from groat.keys.ring.schedule import MAX_PUBLISHED, Change, Timing, next_step, timing_faults
from groat.protocol.errors import ConfigError
from tests.keys.ring.test_keyring import START, fresh_key

DAY: Final = 86_400
T: Final = Timing()
FAST: Final = Timing(token_lifetime=600, jwks_max_age=60, verifier_cache=60, rotate_every=60)
MANUAL: Final = replace(T, rotate_every=0)
Ring = dict[str, SigningKey]


def key(kid: str, at: int = START) -> SigningKey:
    """A key that was just made, with something sealed."""
    return replace(fresh_key(kid, at), sealed=b"private")


def ring_of(*keys: SigningKey) -> Ring:
    return {one.kid: one for one in keys}


def after(ring: Ring, changed: Sequence[SigningKey]) -> Ring:
    return ring | {one.kid: one for one in changed}


def values(ring: Ring) -> tuple[SigningKey, ...]:
    return tuple(ring.values())


def stepped(ring: Ring, timing: Timing, now: int) -> tuple[Ring, list[str]]:
    """The ring once all that is due now is done, and what that was."""
    events: list[str] = []
    for number in range(100):
        change = next_step(values(ring), timing, now)
        if change is None:
            return ring, events
        if change.fresh_at is not None:
            change = change.with_fresh(values(ring), key(f"n{now - START}.{number}", now), now, timing.lead)
        events.append(change.event)
        ring = after(ring, change.keys)
    raise AssertionError("never comes to rest")


@pytest.mark.rule("KEY-19", "T7")
def test_a_new_ring_gets_a_key_that_stands_by() -> None:
    """It is published at once, and takes over when the first has signed for as long as it should."""
    ring, events = stepped(ring_of(key("k1")), T, START)
    assert events == ["key.published"]
    (fresh,) = [one for one in ring.values() if one.kid != "k1"]
    assert (fresh.created_at, fresh.activates_at) == (START, START + 30 * DAY)
    assert (ring["k1"].retires_at, ring["k1"].removes_at) == (START + 30 * DAY, START + 30 * DAY + 660)
    assert stepped(ring, T, START + 30 * DAY - PUBLISH_LEAD)[1] == []


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-22")
def test_three_generations_at_default_settings() -> None:
    """Left alone for a hundred days, looked after twice a minute around every change: always a signer known in time."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    signers: list[str] = []
    for day in range(100):
        for second in range(0, 9000, 30):
            now = START + day * DAY + second
            ring, _ = stepped(ring, T, now)
            signer = active_key(values(ring), now)
            assert signer is not None
            assert signer.kid == "k1" or now >= signer.created_at + PUBLISH_LEAD
            signers += [signer.kid] if not signers or signers[-1] != signer.kid else []
            assert len(published_keys(values(ring), now)) <= 3
        assert ring_faults(values(ring), T, now) == ()
    assert len(signers) == 4
    assert sum(not one.sealed for one in ring.values()) == 3, "private halves that sign no more are destroyed"


@pytest.mark.rule("KEY-19", "KEY-20", "L04")
def test_a_rotation_that_is_shorter_than_the_lead_keeps_several_pending() -> None:
    """A key a minute with a lead of three: the JWKS stays within its bound, and no key signs too early."""
    ring = ring_of(key("k1"))
    signers = set()
    for now in range(START, START + 7200, 5):
        ring, _ = stepped(ring, FAST, now)
        signer = active_key(values(ring), now)
        assert signer is not None
        assert signer.kid == "k1" or now >= signer.created_at + FAST.lead.publish
        assert len(published_keys(values(ring), now)) <= FAST.most_published <= MAX_PUBLISHED
        signers.add(signer.kid)
    assert len(signers) >= 115


@pytest.mark.rule("KEY-22")
def test_a_server_that_was_off_catches_up_without_haste() -> None:
    """The key is a year old: its successor is still published for the lead before it signs."""
    ring, _ = stepped(ring_of(key("k1", START - 365 * DAY)), T, START)
    (fresh,) = [one for one in ring.values() if one.kid != "k1"]
    assert fresh.activates_at == START + PUBLISH_LEAD == ring["k1"].retires_at


@pytest.mark.rule("KEY-22")
def test_nothing_happens_by_itself_where_it_is_switched_off() -> None:
    """With rotate_every 0 the operator does it."""
    assert stepped(ring_of(key("k1", START - 365 * DAY)), MANUAL, START)[1] == []


@pytest.mark.rule("KEY-22")
def test_an_empty_ring_heals() -> None:
    """A server whose ring is empty makes a key that signs at once by every clock."""
    ring, events = stepped({}, T, START)
    assert events == ["key.published", "key.published"]
    signer = active_key(values(ring), START - CLOCK_SKEW)
    assert signer is not None


@pytest.mark.rule("KEY-22")
@pytest.mark.parametrize(
    ("days", "expected"), [(7, START + 7 * DAY), (1, START + 3 * DAY + 60), (60, START + 30 * DAY)]
)
def test_other_settings_apply_to_what_is_planned(days: int, expected: int) -> None:
    """A shorter life brings the takeover forward, as far as is safe; a longer one leaves the plan alone."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    ring, _ = stepped(ring, replace(T, rotate_every=days * DAY), START + 3 * DAY)
    assert ring["k1"].retires_at == expected


@pytest.mark.rule("KEY-20")
def test_longer_tokens_keep_keys_longer() -> None:
    """A replica whose tokens live longer pushes the removal back, and no other pulls it forward again."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    longer = replace(T, token_lifetime=3600)
    ring, events = stepped(ring, longer, START + 1)
    assert events == ["key.kept"]
    assert ring["k1"].removes_at == START + 30 * DAY + 3660
    assert stepped(ring, T, START + 2)[1] == []


@pytest.mark.rule("KEY-20", "T7")
def test_a_private_half_is_destroyed_when_no_clock_needs_it() -> None:
    """Two skews and the grace after the retirement, not before; a key that is revoked too."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    retired = START + 30 * DAY
    for now, gone in ((retired + DAY + 119, False), (retired + DAY + 120, True)):
        ring, _ = stepped(ring, T, now)
        assert (not ring["k1"].sealed) is gone
    changed, _ = plan_revocation(values(ring), active_key(values(ring), now).kid, now, T.lead)  # type: ignore[union-attr]
    ring = after(ring, changed)
    ring, _ = stepped(ring, T, now + DAY + 60)
    assert not ring[changed[0].kid].sealed


@pytest.mark.rule("KEY-19")
def test_a_prepared_key_waits_for_a_word_or_for_the_schedule() -> None:
    """Held, it changes nothing about the key that signs; the schedule takes it before it makes another."""
    ring = ring_of(key("k1"), *plan_preparation(key("k2")))
    assert ring["k2"].activates_at == HELD
    assert stepped(ring, MANUAL, START + 10)[1] == []
    ring, events = stepped(ring, T, START + 10)
    assert events == ["key.scheduled"]
    assert ring["k2"].activates_at == START + 30 * DAY == ring["k1"].retires_at


@pytest.mark.rule("KEY-19")
@pytest.mark.parametrize(("wait", "expected"), [(0, PUBLISH_LEAD), (100, PUBLISH_LEAD), (DAY, DAY + CLOCK_SKEW)])
def test_activation_is_as_early_as_is_safe(wait: int, expected: int) -> None:
    """The lead after its publication, and at least a skew from now, so that every replica hears of it in time."""
    ring = ring_of(key("k1"), *plan_preparation(key("k2")))
    ring = after(ring, plan_activation(values(ring), "k2", START + wait, T.lead))
    assert ring["k2"].activates_at == ring["k1"].retires_at == START + expected
    with pytest.raises(ConfigError, match="takes over by itself"):
        plan_activation(values(ring), "k2", START + wait, T.lead)


@pytest.mark.rule("KEY-21")
def test_activation_at_once_is_for_emergencies() -> None:
    """By every clock the new key signs; the old one stays for the tokens that it signs until the commit."""
    ring = ring_of(key("k1"), *plan_preparation(key("k2", START + 5)))
    ring = after(ring, plan_activation(values(ring), "k2", START + 10, T.lead, at_once=True))
    for clock in (START + 10 - CLOCK_SKEW, START + 10 + CLOCK_SKEW):
        assert active_key(values(ring), clock) == ring["k2"]
    assert ring["k1"].removes_at == START + 10 + CLOCK_SKEW + T.lead.keep
    assert [fault.rule for fault in ring_faults(values(ring), T, START + 10)] == ["KEY-19"]


@pytest.mark.rule("KEY-19")
def test_a_rotation_takes_the_key_that_stands_by() -> None:
    """No further key is made, and the takeover is a skew from now when everybody knows it."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    changed = plan_promotion(values(ring), START + DAY, T.lead)
    assert [one.activates_at for one in changed] == [START + DAY + CLOCK_SKEW, START]
    assert plan_promotion((key("k1"),), START, T.lead) == ()


@pytest.mark.rule("KEY-21", "L05", "I4")
def test_a_stolen_key_is_replaced_by_one_that_everybody_knows() -> None:
    """Revoked by every clock at once; the key that stands by signs, and no verifier meets an unknown kid."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    now = START + DAY
    changed, needs_key = plan_revocation(values(ring), "k1", now, T.lead)
    ring = after(ring, changed)
    assert not needs_key
    for clock in (now - CLOCK_SKEW, now, now + CLOCK_SKEW):
        signer = active_key(values(ring), clock)
        assert signer is not None
        assert signer.kid != "k1"
        assert [one.kid for one in published_keys(values(ring), clock)] == [signer.kid]
    assert ring_faults(values(ring), T, now) == ()


@pytest.mark.rule("KEY-21")
def test_a_tainted_key_signs_nothing_and_stays_for_its_tokens() -> None:
    """The difference to a revocation: what it signed is good until it expires."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    now = START + DAY
    changed, needs_key = plan_taint(values(ring), "k1", now, T.lead)
    ring = after(ring, changed)
    assert not needs_key
    assert active_key(values(ring), now - CLOCK_SKEW) != ring["k1"]
    assert ring["k1"].removes_at == now + CLOCK_SKEW + T.lead.keep
    assert ring_faults(values(ring), T, now) == ()
    with pytest.raises(ConfigError, match="retiring, not active"):
        plan_taint(values(ring), "k1", now, T.lead)


@pytest.mark.rule("KEY-21")
def test_without_a_key_that_stands_by_an_emergency_needs_a_new_one() -> None:
    """It signs by every clock; the checker says for how long verifiers may not know it."""
    changed, needs_key = plan_taint((key("k1"),), "k1", START + DAY, T.lead)
    assert needs_key
    ring = after(ring_of(*changed), [emergency_key(key("k2", START + DAY), START + DAY, T.lead)])
    assert active_key(values(ring), START + DAY - CLOCK_SKEW) == ring["k2"]
    (fault,) = ring_faults(values(ring), T, START + DAY)
    assert (fault.rule, fault.kid, fault.until) == ("KEY-19", "k2", START + DAY + PUBLISH_LEAD)


@pytest.mark.rule("KEY-20")
def test_a_pending_key_can_be_withdrawn_until_it_may_have_signed() -> None:
    """The one before it stays in office; a skew before the takeover it is too late."""
    ring, _ = stepped(ring_of(key("k1")), T, START)
    (heir,) = [one.kid for one in ring.values() if one.kid != "k1"]
    early = after(ring, plan_withdrawal(values(ring), heir, START + DAY, T.lead))
    assert (early["k1"].retires_at, early[heir].state(START + DAY)) == (None, "removed")
    with pytest.raises(ConfigError, match="about to"):
        plan_withdrawal(values(ring), heir, START + 30 * DAY - CLOCK_SKEW, T.lead)


@pytest.mark.rule("KEY-19", "KEY-20")
@pytest.mark.parametrize(
    ("timing", "fault"),
    [
        (T, ""),
        (MANUAL, ""),
        (FAST, ""),
        (replace(T, jwks_max_age=59), "keys.jwks_max_age must be 60 to 3600"),
        (replace(T, jwks_max_age=3601), "keys.jwks_max_age"),
        (replace(T, verifier_cache=59), "keys.verifier_cache must be"),
        (replace(T, rotate_every=59), "keys.rotate_every must be 60"),
        (replace(T, rotate_every=60), "would put 80 keys into the JWKS"),
        (replace(T, rotate_every=300), ""),
        (replace(T, rotate_every=200, token_lifetime=3600), "at most 20"),
    ],
    ids=lambda value: value or "fine" if isinstance(value, str) else "",
)
def test_settings_that_no_schedule_can_keep(timing: Timing, fault: str) -> None:
    """Each is named with its bounds before a server starts."""
    found = timing_faults(timing)
    assert bool(found) is bool(fault)
    for one in found[:1]:
        assert fault in one.message
        assert one.setting == one.message.split(" ")[0]


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-22", "KEY-12")
@pytest.mark.parametrize(
    ("changes", "rule", "since", "until"),
    [
        ({}, "", 0, 0),
        ({"activates_at": START + PUBLISH_LEAD - 1}, "KEY-19", PUBLISH_LEAD - 1, PUBLISH_LEAD),
        ({"activates_at": START - 60}, "KEY-19", 10, PUBLISH_LEAD),
        ({"sealed": b""}, "KEY-22", PUBLISH_LEAD, None),
        ({"retires_at": START + 9000, "removes_at": START + 9659}, "KEY-20", 9659, 9660),
        ({"retires_at": START + 9000, "removes_at": START + 9660}, "KEY-22", 9000, None),
    ],
    ids=["safe", "a second early", "at once", "no private half", "removed a second early", "nobody after it"],
)
def test_the_checker_names_what_a_ring_will_break(
    changes: dict[str, int], rule: str, since: int, until: int | None
) -> None:
    """Which rule, which key, from when to when."""
    lead = T.lead
    old = plan_rotation((key("k1", START - DAY),), key("k2"), START, lead)[1]
    heir = replace(key("k2"), **{"activates_at": START + PUBLISH_LEAD, **changes})  # type: ignore[arg-type]
    old = replace(old, retires_at=heir.activates_at, removes_at=heir.activates_at + lead.keep)
    found = ring_faults((old, heir), MANUAL, START + 10)
    assert bool(found) is bool(rule)
    for fault in [one for one in found if one.rule == rule]:
        assert (fault.since - START, fault.until and fault.until - START) == (since, until)
        assert rule in str(fault)


@pytest.mark.rule("KEY-20")
def test_a_first_key_removed_early_is_named() -> None:
    """Its last token outlives it by one second."""
    old = replace(key("k1", START - DAY), retires_at=START + 10, removes_at=START + 669)
    heir = replace(key("k2", START - DAY), activates_at=START + 10)
    (fault,) = ring_faults((old, heir), MANUAL, START)
    assert (fault.rule, fault.kid, fault.since, fault.until) == ("KEY-20", "k1", START + 669, START + 670)


@pytest.mark.rule("KEY-22")
def test_a_ring_that_nobody_rotates_is_named() -> None:
    """A month and a second after its activation a key without a successor is overdue."""
    assert ring_faults((key("k1"),), T, START + 30 * DAY) == ()
    assert [fault.rule for fault in ring_faults((key("k1"),), T, START + 30 * DAY + 1)] == ["KEY-22"]
    assert [fault.rule for fault in ring_faults((), T, START)] == ["KEY-22"]


@pytest.mark.rule("KEY-12")
def test_a_crowded_key_set_is_named() -> None:
    """Twenty-one published keys are one too many for some verifiers, and the schedule adds none to twenty."""
    crowd = [key("k1"), *(replace(key(f"k{n}"), activates_at=HELD) for n in range(2, MAX_PUBLISHED + 2))]
    assert "21 keys" in ring_faults(crowd, MANUAL, START)[0].message
    assert next_step(crowd[:-1], replace(T, rotate_every=60), START) is not None
    crowded = [replace(one, activates_at=START + n) for n, one in enumerate(crowd)]
    assert next_step(crowded, T, START) is None


def test_a_step_that_needs_no_key_cannot_get_one() -> None:
    """Only a change that asks for a fresh key takes one."""
    with pytest.raises(AssertionError):
        Change("key.kept").with_fresh((), key("k1"), START, Lead())
