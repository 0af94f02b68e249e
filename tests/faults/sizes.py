"""How big a run is: small enough for every change (`make faults`), or long (`make soak`)."""

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of one profile; `rounds` of kills and restarts, seconds of phases."""

    volume: int
    volume_batch: int
    storm: int
    storm_small_pool: int
    kill_replica: int
    kill_postgres: int
    kill_sqlite: int
    graceful_stops: int
    first_boots: int
    freeze_seconds: float
    overload_seconds: float


PROFILES: Final = {
    "quick": Sizes(2_000, 1_000, 200, 100, 2, 1, 2, 2, 1, 2.0, 3.0),
    "ci": Sizes(50_000, 50_000, 5_000, 1_000, 20, 3, 10, 5, 3, 4.0, 4.0),
    "soak": Sizes(1_000_000, 50_000, 100_000, 20_000, 200, 50, 200, 50, 100, 30.0, 60.0),
}
PROFILE: Final = os.environ.get("GROAT_FAULTS", "ci")
SIZES: Final = PROFILES[PROFILE]
# The short run tries on PostgreSQL alone what both stores promise, where SQLite has a scenario of its own.
STORES: Final = ["postgres", "sqlite"] if PROFILE == "soak" else ["postgres"]
