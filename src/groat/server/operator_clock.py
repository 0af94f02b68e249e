"""May an operator's command date something by the clock of its host?"""

import time
from collections.abc import Callable
from typing import Final

from groat.server.store import FORGET_AFTER, Store
from groat.server.trusted_time import NEAR_SECONDS, TrustedTime, instant
from groat.server.unavailable import Unavailable

ADVICE: Final = "Nothing was done. Set the clock of this host, or run the command on another one"


async def check_clock(store: Store, clock: Callable[[], float] = time.time) -> str | None:
    """What an operator has to settle, None if nothing; both times are named.

    Raises Unavailable where this host's clock is certainly wrong, or the store's is. Not noticed: a clock that is wrong
    by less than an hour where the store has none of its own.
    """
    condition, now = await store.condition(), clock()
    if fault := TrustedTime(store, clock).judge(condition).fault:
        raise Unavailable("clock_skew", f"{fault.replace('this server', 'this host')}. {ADVICE}")
    seen = condition.horizon + FORGET_AFTER
    if condition.clock_offset is not None or now <= seen + NEAR_SECONDS:
        return None
    return f"this host's clock says {instant(now)}, and the store was last served at about {instant(seen)}"
