"""What was presented already: each proof counts once, in this process (RFC 9449 11.1).

Only what a registered client's key has signed, for a good token, gets in here.
"""

import time
from collections.abc import Callable
from typing import Final

from groat.protocol.errors import ProofsUnavailable
from groat.protocol.models import OneTimeValue

CAPACITY: Final = 200_000  # about 25 MB; 2500 proofs a second that are good for 80 s, 645 of 310 s (nonces)


class ReplayMemory:
    """At most `capacity` proofs, each until it could not be accepted anyway: until it is over by both clocks.

    By the wall clock alone a step forward would forget what is good again after a step back, and by the monotonic one
    alone a step back would make good again what was forgotten meanwhile. Not covered: a wall clock that goes back to
    before the end of a proof that was over by both. `monotonic`: seconds.

    Without a lock, since threads, and forks in the midst of something, are many: whoever puts his own mark into the
    dictionary was the first, and that is one step. A full memory refuses: forgetting would let old proofs in again.
    """

    def __init__(self, capacity: int = CAPACITY, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._monotonic = monotonic
        self._seen: dict[bytes, bytes] = {}
        self._ending: dict[tuple[int, int], list[bytes]] = {}  # by the end on the wall clock, and on the monotonic one
        self._swept = 0

    def first(self, once: OneTimeValue, now: float) -> bool:
        """Whether it was never here before; from now on it was. Raises ProofsUnavailable if there is no room."""
        if int(now) != self._swept:
            self._sweep(int(now))
        if len(self._seen) >= self._capacity:
            raise ProofsUnavailable("too many proofs are remembered; spread the load over more processes")
        digest = once.digest  # an object of this call's own, and so its mark; nothing that garbage collection visits
        if self._seen.setdefault(digest, digest) is not digest:
            return False
        end = once.expires_at, int(self._monotonic() + once.expires_at - now)
        ending = self._ending.get(end)
        if ending is None:
            ending = self._ending.setdefault(end, [])
        ending.append(digest)
        return True

    def _sweep(self, second: int) -> None:
        self._swept, passed = second, self._monotonic()
        # Each end a while later than it says: who has just looked at the clock may still be on his way here.
        over = [end for end in list(self._ending) if end[0] < second - 1 and end[1] < passed - 1]
        for end in over:
            for digest in self._ending.pop(end, ()):
                self._seen.pop(digest, None)

    def __len__(self) -> int:
        return len(self._seen)
