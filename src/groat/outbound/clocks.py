"""The clocks of a caller and of an API, and chance: all that is not a value."""

import random as random_module
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# The system's, because children of one parent must not draw the same jitter.
_chance: Final = random_module.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Clocks:
    """Epoch seconds, monotonic seconds, sleeping, and a float from 0 to 1; those of the machine unless given."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = _chance
