"""Replicas whose wall clocks a test turns while they run, each by a file of its own."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .clocks import LOOK_SECONDS
from .deployment import Deployment, Replica

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Turnable:
    """A replica that takes its time from us."""

    replica: Replica

    def turn(self, seconds: float) -> None:
        """Its clock is ahead by so much from now on; behind, where that is negative."""
        file = self.replica.directory / "clock"
        fresh = file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(file)
        time.sleep(2 * LOOK_SECONDS)  # what it read before is used for as long


def turnable(deployment: Deployment, count: int, plant: str = "right") -> list[Turnable]:
    """So many further replicas, ready to serve, whose clocks are right so far."""
    made = []
    for _ in range(count):
        replica = deployment.add_replica(entry=deployment.faulty, env={"GROAT_TEST_FAULT": f"clock:{plant}"})
        replica.env = {**replica.env, "GROAT_TEST_CLOCK": str(replica.directory / "clock")}
        made.append(Turnable(replica))
        replica.start(wait=False)
    for one in made:
        one.replica.wait_ready()
    return made


@contextlib.contextmanager
def wrong(turned: Sequence[Turnable], seconds: float, hold: float = 0.0) -> Iterator[None]:
    """Their clocks are wrong inside the block, and for `hold` seconds at least."""
    begun = time.monotonic()
    for one in turned:
        one.turn(seconds)
    try:
        yield
        time.sleep(max(0.0, begun + hold - time.monotonic()))
    finally:
        for one in turned:
            one.turn(0)
