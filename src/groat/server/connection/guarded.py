"""The entrance as connections see it."""

from dataclasses import dataclass

from groat.server.connection.crowd import Crowd
from groat.server.connection.shedding import Shedding
from groat.server.http.entrance import Entrance


@dataclass(slots=True)
class GuardedEntrance(Entrance):
    """An entrance with those whom a connection asks before a request gets there."""

    shedding: Shedding | None = None  # while too much is under way
    crowd: Crowd | None = None  # what the connections are members of
