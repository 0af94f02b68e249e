"""What the memories that processes share have in common: when they forget, and what a fork does to them."""

import os
import threading
import weakref
from typing import Final

from groat.protocol.errors import ReplayStoreUnavailable

# A proof is kept for longer than it is good, for processes whose clocks are behind. What ended before a common horizon
# is refused, known or not, so that no clock that is wrong lets in again what was forgotten by another.
KEEP_SECONDS: Final = 300
SWEEP_SECONDS: Final = 5
SWEPT_AT_ONCE: Final = 20_000
WAIT_SECONDS: Final = 2.0

_all: "weakref.WeakSet[SharedMemory]" = weakref.WeakSet()


class SharedMemory:
    """Connections belong to the process that opened them; a forked child opens its own."""

    waits: Final = True  # for a disk or a network, so that an event loop must not ask it itself

    def __init__(self) -> None:
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Forget the connections without closing them: they are the parent's."""
        self._lock = threading.Lock()
        self._swept = 0.0

    def close(self) -> None:
        """Close the connections; the next proof opens one again."""


def forgotten() -> ReplayStoreUnavailable:
    """Of a proof that the horizon has passed: nobody can say whether it came before."""
    return ReplayStoreUnavailable(
        "proofs of that time are forgotten already: the clock of this process is behind, or another's was ahead"
    )


def _renew_all() -> None:
    for one in list(_all):
        one.renew()


os.register_at_fork(after_in_child=_renew_all)
