"""Before an operator changes what depends on the time: does the store contradict the clock of his machine?"""

import math

from groat.protocol.errors import ConfigError
from groat.server.operator import Operator
from groat.server.trusted_time import TrustedTime


async def check_clock(operator: Operator) -> str | None:
    """What speaks against this machine's clock, which may be right all the same: the store was last in use long ago.

    Raises ConfigError, with both times, where it is wrong for certain: it differs from the store's, or is behind what
    the store has seen. Not noticed: minutes, where the store has no clock of its own.
    """
    condition = await operator.store.condition()
    reading = TrustedTime(operator.store, operator.clock).judge(condition)
    if reading.fault is not None:
        raise ConfigError(f"{reading.fault}. Nothing was done: set the clock, or work on a machine where it is right")
    return reading.doubt if condition.horizon else None


async def floor_of_now(operator: Operator) -> int:
    """The floor that refuses whatever any client may have signed by now. Raises ConfigError as `check_clock` does."""
    await check_clock(operator)
    offset = (await operator.store.condition()).clock_offset or 0.0
    return math.ceil(operator.clock() + max(offset, 0.0)) + operator.policy.clock_tolerance
