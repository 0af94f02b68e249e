"""How many connections there may be: as descriptors and memory allow."""

import resource
from typing import Final

from groat.server.http.in_force import Room

RESERVE: Final = 128  # for the store, the log, the listeners, key sets that are fetched, files that are read
LEAST: Final = 16
TLS_WEIGHT: Final = 8  # a connection with TLS takes 60 to 100 KB where a plain one takes some 6


def raise_limit() -> None:
    """Let this process, and those that it starts, open as many files as it may at most.

    Service managers start with 1,024 for the sake of programs that use select(); nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room(connections: int, source_connections: int, *, secure: bool) -> Room:
    """What there is for so many connections in all and of one address; where they speak TLS, less."""
    return Room(_limit(_share(connections, secure)), _share(source_connections, secure))


def _share(wished: int, secure: bool) -> int:
    return max(LEAST, wished // TLS_WEIGHT) if secure else wished


def _limit(wished: int) -> int:
    """How many connections this process takes at once: as many as wished, or as its descriptors allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wished
    return max(LEAST, min(wished, soft - min(RESERVE, soft // 2)))
