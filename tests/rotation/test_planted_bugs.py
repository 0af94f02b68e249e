"""The simulator under test: bugs that a schedule could have, and that it must find."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import Phase

from groat.keys.ring import plans, schedule
from groat.keys.ring.keyring import Lead, SigningKey
from groat.keys.ring.schedule import Change, Timing
from groat.server.store import Condition, trusted_time
from groat.server.store.trusted_time import Reading, TrustedTime

from .simulator import Broken, Replica, World
from .test_simulation import simulate


def _earlier(key: SigningKey, now: int, lead: Lead) -> int:
    return max(key.created_at + lead.publish - 20, now + lead.clock_skew)


def _no_cache(timing: Timing) -> Lead:
    return Lead(timing.verifier_cache + timing.clock_skew, timing.token_lifetime, timing.clock_skew)


def _no_skew(timing: Timing) -> Lead:
    return Lead(timing.jwks_max_age + timing.verifier_cache, timing.token_lifetime, timing.clock_skew)


def _short_keep(timing: Timing) -> Lead:
    publish = timing.jwks_max_age + timing.verifier_cache + timing.clock_skew
    return Lead(publish, timing.token_lifetime - timing.clock_skew + 30, timing.clock_skew)


def _destroyed_at_once(keys: Sequence[SigningKey], timing: Timing, now: int) -> Change | None:
    for key in keys:
        if key.sealed and key.retires_at is not None and now >= key.retires_at:
            return Change("key.destroyed", (replace(key, sealed=b""),), destroy=key)
    return None


def _blind_commit(world: World, replica: Replica) -> None:
    """A store without versions: the last writer wins."""
    write, replica.write = replica.write, None
    if write is not None:
        world.version += 1
        world.note(write.keys)
        world.ring |= {key.kid: key for key in write.keys}
        world.look_around()


def _hands_over_by_the_clock(key: SigningKey, heir: SigningKey | None, now: int, lead: Lead) -> SigningKey:
    changed = _HANDING_OVER(key, heir, now, lead)
    return changed if heir is None or heir.held else replace(changed, removes_at=heir.activates_at + lead.keep)


def _revoked_now(keys: Any, key: SigningKey, now: int, lead: Lead, removes_at: int) -> Any:
    return _TAKEN_OUT(keys, key, now, Lead(lead.publish, lead.token_lifetime, 0), max(now, removes_at))


def _believes(self: TrustedTime, condition: Condition) -> Reading:
    return Reading(int(self.clock()))


def _no_witness(self: TrustedTime, now: float, ahead: float, horizon: int) -> None:
    return None


_HANDING_OVER: Final = plans._handing_over
_TAKEN_OUT: Final = plans._taken_out
BUGS: Final = (
    pytest.param(plans, "earliest", _earlier, id="activates 20 s early"),
    pytest.param(Timing, "lead", property(_no_cache), id="forgets the shared cache"),
    pytest.param(Timing, "lead", property(_no_skew), id="forgets that clocks differ, before"),
    pytest.param(Timing, "lead", property(_short_keep), id="forgets that clocks differ, after"),
    pytest.param(plans, "_handing_over", _hands_over_by_the_clock, id="forgets who signs until the commit"),
    pytest.param(plans, "_taken_out", _revoked_now, id="revokes by the operator's clock alone"),
    pytest.param(schedule, "_destroyed", _destroyed_at_once, id="destroys what slow clocks still use"),
    pytest.param(World, "commit", _blind_commit, id="writes without the version"),
    pytest.param(Timing, "grace", 0, id="destroys without grace"),
    pytest.param(TrustedTime, "judge", _believes, id="believes one clock"),
    pytest.param(trusted_time, "SETTLED_SECONDS", 0.0, id="believes a clock that has just stepped"),
    pytest.param(TrustedTime, "_fault", _no_witness, id="asks nobody else for the time"),
    pytest.param(World, "spared", lambda world: set(), id="ignores the uses that name a key"),
)


@pytest.mark.timeout(600)
@pytest.mark.rule("KEY-19", "KEY-20", "KEY-21", "K09")
@pytest.mark.parametrize(("owner", "name", "wrong"), BUGS)
def test_the_simulator_finds_a_planted_bug(owner: Any, name: str, wrong: Any) -> None:
    """A simulator that finds nothing must have been able to."""
    with patch.object(owner, name, wrong), pytest.raises(Broken):
        simulate(4000, phases=[Phase.generate], database=None, report_multiple_bugs=False)
