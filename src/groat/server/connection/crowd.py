"""How many connections a process has, of whom, what they hold, and who has to go when there is no room.

There is always room for one more: the connection that has waited longest without a whole request makes it. So whoever
opens thousands and says nothing competes with itself, and a newcomer that asks at once is served. Only where every
connection is being worked for is a newcomer turned away (docs/decisions/0037-crowds.md).
"""

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from groat.server.connection.states import SECONDS_WHEN_CROWDED, State
from groat.server.http.in_force import Room
from groat.server.http.source import Networks, is_trusted, read_address, request_source
from groat.server.log.tally import Tally

# Bytes of heads, bodies and pipelined requests that are not whole or not begun, of all connections together. In memory
# they are two or three times as much.
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
MAX_LINGERING: Final = 128
PIPELINED_AT_ONCE: Final = 8  # that begin in one turn of the loop
CROWDED_SHARE: Final = 0.75  # of the bound: from here on slow heads have less time
TIDY_SECONDS: Final = 0.5
REPORT_SECONDS: Final = 1.0
GIVE_BACK_SECONDS: Final = 3.0
MANY_CONNECTIONS: Final = 256  # that went, or
MANY_BYTES: Final = 4 * 1024 * 1024  # that were released, since memory was given back
_FULL: Final = (
    "those that waited longest made room: raise server.connections and the limit of open files, or add workers"
)
_SOURCE: Final = (
    "one address has all it may: name it in server.trusted_proxies if it is your proxy; server.source_connections"
)
_HINTS: Final = {"full_refused": _FULL, "full": _FULL, "source_refused": _SOURCE, "source": _SOURCE}
_OTHERWISE: Final = "requests are left unfinished in great numbers: somebody may be at it; nothing needs to be done"
# Of the bound: where more than that have no whole request behind them, room is made among those alone. Else one
# neighbour's silent connections would push out the pools of all others behind the same address.
_SILENT_SHARE: Final = 1 / 4
_BATCH_SHARE: Final = 1 / 16  # of the bound: so many go at once, for looking at all of them costs


class Member(Protocol):
    """One connection, as the crowd sees it."""

    state: State
    since: float  # loop time at which it came into its state, or began to wait
    source: str
    exempt: bool
    held: int

    def may_go(self) -> bool:
        """Whether no work of ours would be lost with it."""

    def cut(self) -> bool:
        """End it now; False where a request came at the last moment."""


class Bounds(Protocol):
    """What a crowd goes by, of all that may be in force."""

    @property
    def room(self) -> Room:
        """How many connections there may be."""

    @property
    def trusted_proxies(self) -> Networks:
        """Who may have as many as there are."""


class Standing(Protocol):
    """Where the bounds are found that count now: `Current` of a server, or something that never changes."""

    @property
    def now(self) -> Bounds:
        """The bounds that count now."""


def _nobody(_: dict[str, Any]) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Crowd:
    """The connections of one listener in one process.

    How many there may be, of all and of one address (IPv6: /64), is what is in force at the moment; trusted proxies,
    which speak for many, may have as many as there are. `tell` hears once a second what had to be done.
    """

    current: Standing
    tell: Callable[[dict[str, Any]], None] = _nobody
    tally: Tally = field(default_factory=Tally)
    beside: set[Any] = field(default_factory=set, init=False)  # tasks of requests that want no token
    count: int = field(default=0, init=False)
    held: int = field(default=0, init=False)
    _by_source: dict[str, dict[Member, None]] = field(default_factory=dict, init=False)
    _later: deque[Callable[[], None]] = field(default_factory=deque, init=False)
    _lingering: dict[Member, None] = field(default_factory=dict, init=False)
    _unreported: Counter[str] = field(default_factory=Counter, init=False)
    _worst: str = field(default="", init=False)
    _tidying: bool = field(default=False, init=False)
    _most: int = field(default=0, init=False)  # connections since memory was given back
    _released: int = field(default=0, init=False)  # bytes since then
    _giving_back: bool = field(default=False, init=False)

    def admit(self, member: Member, peer: str | None) -> bool:
        """Take in a connection of this address (None: a socket file) if there is room or can be made."""
        member.source = request_source(peer, (), ()).name if peer else "local"
        member.exempt = self._is_exempt(peer)
        if not self._has_room(member):
            return False
        self._by_source.setdefault(member.source, {})[member] = None
        self.count += 1
        self._most = max(self._most, self.count)
        if self.is_crowded and not self._tidying:
            self._tidying = True
            asyncio.get_running_loop().call_later(TIDY_SECONDS, self._tidy)
        return True

    def leave(self, member: Member) -> None:
        """A connection is gone, or as good as gone; once more does no harm."""
        own = self._by_source.get(member.source, {})
        if member not in own:
            return
        self.release(member)
        del own[member]
        if not own:
            del self._by_source[member.source]
        self._lingering.pop(member, None)
        self.count -= 1
        if self._most - self.count >= MANY_CONNECTIONS:
            self._give_back_soon()

    @property
    def _room(self) -> Room:
        return self.current.now.room

    @property
    def is_crowded(self) -> bool:
        return self.count >= self._room.connections * CROWDED_SHARE

    def hold(self, member: Member, size: int) -> None:
        """So many bytes more are kept for it; where that is too much for all, the one that waits longest goes."""
        member.held += size
        self.held += size
        if self.held > MAX_HELD_BYTES:
            holders = (one for one in self if one.held and one.may_go())
            for one in sorted(holders, key=_since):
                if self.held <= MAX_HELD_BYTES / 2:
                    return
                self._end(one, "memory")

    def later(self, go_on: Callable[[], None]) -> None:
        """Who asked several things at once goes on when those who asked one have had their turn."""
        self._later.append(go_on)
        if len(self._later) == 1:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        for _ in range(min(PIPELINED_AT_ONCE, len(self._later))):
            self._later.popleft()()
        if self._later:
            asyncio.get_running_loop().call_soon(self._go_on)

    def release(self, member: Member) -> None:
        """What was kept for it is used or thrown away."""
        self.held -= member.held
        self._released += member.held
        member.held = 0
        if self._released >= MANY_BYTES:
            self._give_back_soon()

    def linger(self, member: Member) -> None:
        """It has its last answer and reads it; of too many such the oldest goes."""
        self._lingering[member] = None
        if len(self._lingering) > MAX_LINGERING:
            self._end(next(iter(self._lingering)), "lingering")

    def __iter__(self) -> Iterator[Member]:
        return itertools.chain.from_iterable(self._by_source.values())

    def _is_exempt(self, peer: str | None) -> bool:
        exempt = self.current.now.trusted_proxies
        if not exempt or not peer:
            return peer is None
        address = read_address(peer)
        return address is not None and is_trusted(address, exempt)

    def _has_room(self, newcomer: Member) -> bool:
        room, own = self._room, self._by_source.get(newcomer.source, {})
        if not newcomer.exempt and len(own) >= room.source_connections:
            self._worst = newcomer.source
            if not self._make_room(own, room.source_connections, "source"):
                return self._turn_away("source_refused")
        if self.count >= room.connections:
            others = (member for member in self if not member.exempt)
            # An idle connection of a proxy may have a request on its way, so these are asked last.
            if not self._make_room(others, room.connections, "full") and not self._make_room(
                self, room.connections, "full"
            ):
                return self._turn_away("full_refused")
        return True

    def _make_room(self, members: Iterable[Member], limit: float, reason: str) -> bool:
        wanted = max(1, int(limit * _BATCH_SHARE))
        candidates = [member for member in members if member.may_go()]
        silent = [member for member in candidates if member.state is not State.IDLE]
        if len(silent) > limit * _SILENT_SHARE:
            candidates = silent
        return sum([self._end(member, reason) for member in heapq.nsmallest(wanted, candidates, key=_since)]) > 0

    def _end(self, member: Member, reason: str) -> bool:
        if not member.cut():
            return False
        self.leave(member)
        self._note(reason)
        return True

    def _turn_away(self, reason: str) -> bool:
        self._note(reason)
        return False

    def _tidy(self) -> None:
        """While there is hardly any room, whoever has shown nothing for a moment goes."""
        self._tidying = self.is_crowded
        if not self._tidying:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(TIDY_SECONDS, self._tidy)
        now = loop.time()
        for member in list(self):
            if now - member.since > SECONDS_WHEN_CROWDED.get(member.state, math.inf) and not member.exempt:
                self._end(member, "slow")

    def _give_back_soon(self) -> None:
        if not self._giving_back:
            self._giving_back = True
            asyncio.get_running_loop().call_later(GIVE_BACK_SECONDS, self._give_back)

    def _give_back(self) -> None:
        """What a crowd took is the system's again: left alone, the allocator would keep it for the next one."""
        self._giving_back, self._most, self._released = False, self.count, 0
        with contextlib.suppress(AttributeError):  # the C library of another system
            asyncio.get_running_loop().run_in_executor(None, ctypes.CDLL(None).malloc_trim, 0)

    def _note(self, reason: str) -> None:
        self.tally.cut[reason] += 1
        if not self._unreported:
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        self._unreported[reason] += 1

    def _report(self) -> None:
        """One line a second while it goes on."""
        facts: dict[str, Any] = {"connections": self.count, "limit": self._room.connections, **self._unreported}
        facts["hint"] = next((hint for reason, hint in _HINTS.items() if self._unreported[reason]), _OTHERWISE)
        if self._worst:
            facts |= {"source": self._worst, "source_limit": self._room.source_connections}
        self._unreported.clear()
        self._worst = ""
        self.tell(facts)


def _since(member: Member) -> float:
    return member.since
