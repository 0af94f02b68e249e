"""What was presented already: each proof counts once, in this process (RFC 9449 11.1).

Only what a registered client's key has signed, for a good token, gets in here.
"""

from typing import Final

from groat.protocol.errors import ProofsUnavailable
from groat.protocol.models import OneTimeValue

CAPACITY: Final = 200_000  # about 40 MB; 2500 proofs a second that are good for 80 s, 645 of 310 s (nonces)


class ReplayMemory:
    """At most `capacity` proofs, each until it could not be accepted anyway.

    Without a lock, since threads, and forks in the midst of something, are many: whoever puts his own mark into the
    dictionary was the first, and that is one step. A full memory refuses: forgetting would let old proofs in again.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._seen: dict[bytes, list[int]] = {}
        self._ending: dict[int, list[bytes]] = {}
        self._swept = 0

    def first(self, once: OneTimeValue, now: float) -> bool:
        """Whether it was never here before; from now on it was. Raises ProofsUnavailable if there is no room."""
        if int(now) != self._swept:
            self._sweep(int(now))
        if len(self._seen) >= self._capacity:
            raise ProofsUnavailable("too many proofs are remembered; spread the load over more processes")
        mark = [once.expires_at]
        digest = once.digest
        if self._seen.setdefault(digest, mark) is not mark:
            return False
        self._ending.setdefault(once.expires_at, []).append(digest)
        return True

    def _sweep(self, second: int) -> None:
        self._swept = second
        # Each end a while later than it says: who has just looked at the clock may still be on his way here.
        for end in [end for end in list(self._ending) if end < second - 1]:
            for digest in self._ending.pop(end, ()):
                self._seen.pop(digest, None)

    def __len__(self) -> int:
        return len(self._seen)
