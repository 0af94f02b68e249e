"""What a forked child must not share with its parent: locks held by threads that are gone, sockets, flights."""

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something that makes itself usable again in a forked child."""

    def renew_after_fork(self) -> None: ...


_living: WeakSet[Renewable] = WeakSet()


def renew_in_child(thing: Renewable) -> None:
    """Call `thing.renew_after_fork()` in every child forked from now on, for as long as the thing lives."""
    _living.add(thing)


def _renew() -> None:
    for thing in list(_living):
        thing.renew_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_renew)
