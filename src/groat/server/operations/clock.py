"""May an operator's command date something by the clock of its host?"""

import math
import time
from collections.abc import Callable
from typing import Final

from groat.server.operations.operator import Operator
from groat.server.store import FORGET_AFTER, Store
from groat.server.store.trusted_time import NEAR_SECONDS, TrustedTime, instant
from groat.server.unavailable import Unavailable

ADVICE: Final = "Nothing was done. Set the clock of this host, or run the command on another one"


async def check_clock(store: Store, clock: Callable[[], float] = time.time) -> str | None:
    """What an operator has to settle, None if nothing; both times are named.

    Raises Unavailable where this host's clock is certainly wrong, or the store's is. Not noticed: a clock that is wrong
    by less than an hour where the store has none of its own; any clock, where the store has never seen a time.
    """
    condition, now = await store.condition(), clock()
    if fault := TrustedTime(store, clock).judge(condition).fault:
        raise Unavailable("clock_skew", f"{fault}. {ADVICE}")
    seen = condition.horizon + FORGET_AFTER
    if condition.clock_offset is not None or not condition.horizon or now <= seen + NEAR_SECONDS:
        return None
    return f"this host's clock says {instant(now)}, and the store was last served at about {instant(seen)}"


async def floor_of_now(operator: Operator) -> int:
    """The floor that refuses whatever any client may have signed by now. Raises Unavailable as `check_clock` does."""
    await check_clock(operator.store, operator.clock)
    offset = (await operator.store.condition()).clock_offset or 0.0
    return math.ceil(operator.clock() + max(offset, 0.0)) + operator.policy.clock_tolerance
