"""The key sets that clients publish themselves (jwks_uri of RFC 7591 2), kept at hand.

No request waits in here: what is at hand is handed out, and what is missing is fetched beside. A set is renewed ahead
of its time, serves for an hour when it cannot be, and an address that fails is asked less and less often.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from groat.outbound.published import DEADLINE, MAX_AGE, Fetched, Postponed, Refused
from groat.protocol.jwk import PublicKey
from groat.server.registry.host_turns import HostTurns, in_a_thread

COOLDOWN: Final = 30.0  # between two fetches of one set that requests cause, and after its first failure
LONGEST_COOLDOWN: Final = 480.0
AHEAD: Final = 0.8  # of its age: from here on a set is renewed
SOON: Final = 1.0  # after a fetch that this process itself had no room for
QUIET_SECONDS: Final = 60.0  # between two reports of that
MAX_SETS: Final = 10_000
MAX_STARTS: Final = 40  # renewals that one `tend` begins

Fetch = Callable[[str], Fetched]
# The host, and why its key set was not fetched; no reason: it was.
Report = Callable[[str, str], None]


@dataclass(slots=True)
class _Set:
    """One key set. Instants are monotonic: `dead_at`, from when nothing vouches for the keys any more; `due_at`, when
    to fetch it whoever asks; `ask_at`, from when an unproven request may cause a fetch.
    """

    keys: tuple[PublicKey, ...] = ()
    dead_at: float = 0.0
    due_at: float = 0.0
    ask_at: float = 0.0
    failures: int = 0
    flight: "asyncio.Task[None] | None" = None

    def take(self, fetched: Fetched, started: float) -> None:
        self.keys, self.failures = fetched.keys, 0
        self.due_at, self.dead_at = started + AHEAD * fetched.max_age, started + MAX_AGE

    def fail(self, now: float) -> None:
        pause = min(LONGEST_COOLDOWN, COOLDOWN * 2**self.failures)
        self.failures = min(self.failures + 1, 10)
        self.due_at = self.ask_at = now + pause


def _nowhere() -> _Set:
    """The empty set of those who publish none: never due, so that looking at it leads nowhere."""
    return _Set(due_at=math.inf, ask_at=math.inf)


def silent(host: str, why: str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class ClientKeySets:
    """Key sets by URI, each fetched once for all who need it. `report` hears of every fetch.

    Without `tend` a set is still renewed, by the requests that use it.
    """

    fetch: Fetch
    report: Report = silent
    monotonic: Callable[[], float] = time.monotonic
    turns: HostTurns = field(default_factory=HostTurns)
    _sets: "OrderedDict[str, _Set]" = field(default_factory=OrderedDict)
    _quiet_until: float = 0.0
    _nowhere: _Set = field(default_factory=_nowhere)

    def at_hand(self, uri: str | None) -> tuple[PublicKey, ...]:
        """The keys of this set that count now; a set that is due is fetched beside."""
        found, now = self._find(uri), self.monotonic()
        if uri is not None and now >= found.due_at:
            self._start(uri, found)
        return found.keys if now < found.dead_at else ()

    def ask(self, uri: str | None) -> None:
        """Fetch this set beside, because its client may have a new key: once in half a minute, whoever says so.

        None: for a client that publishes none; takes about as long as the look at a set and this together.
        """
        if uri is None:
            self.at_hand(None)
        found, now = self._find(uri), self.monotonic()
        if uri is not None and now >= found.ask_at and found.flight is None:
            found.ask_at = now + COOLDOWN
            self._start(uri, found)

    async def landed(self, uri: str, seconds: float) -> None:
        """Wait for the fetch of this set, if one is under way, so long at most."""
        if (flight := self._find(uri).flight) is not None:
            await asyncio.wait((flight,), timeout=seconds)

    def keep(self, uris: Iterable[str]) -> bool:
        """Have these sets at hand from now on, and no others; whether all others are gone: one in flight is not."""
        wanted = set(uris)
        for uri in [uri for uri, found in self._sets.items() if uri not in wanted and found.flight is None]:
            del self._sets[uri]
        for uri in wanted:
            self._find(uri)
        return len(self._sets) <= len(wanted)

    def tend(self, most: int = MAX_STARTS) -> None:
        """Begin to renew what is due, a few at a time."""
        now = self.monotonic()
        due = [pair for pair in self._sets.items() if now >= pair[1].due_at and pair[1].flight is None]
        for uri, found in due[:most]:
            self._start(uri, found)

    async def settle(self, seconds: float) -> None:
        """Wait for what is being fetched, so long at most."""
        flights = [found.flight for found in self._sets.values() if found.flight is not None]
        if flights:
            await asyncio.wait(flights, timeout=seconds)

    def _find(self, uri: str | None) -> _Set:
        if uri is None:
            return self._nowhere
        found = self._sets.get(uri)
        if found is None:
            found = self._sets[uri] = _Set()
            if len(self._sets) > MAX_SETS:
                self._sets.popitem(last=False)
        self._sets.move_to_end(uri)
        return found

    def _start(self, uri: str, found: _Set) -> None:
        if found.flight is None:
            found.flight = asyncio.create_task(self._fly(uri, found))

    async def _fly(self, uri: str, found: _Set) -> None:
        host = _host(uri)
        try:
            async with self.turns.turn(host, troubled=found.failures > 0):
                started = self.monotonic()
                async with asyncio.timeout(DEADLINE + 1):  # whatever holds up the thread: its turn ends
                    fetched = await in_a_thread(partial(self.fetch, uri))
            found.take(fetched, started)
            why = ""
        except Postponed as error:
            now, why = self.monotonic(), str(error)
            found.due_at = now + SOON
            if now < self._quiet_until:
                return
            self._quiet_until = now + QUIET_SECONDS
        except Exception as error:
            found.fail(self.monotonic())
            why = _why(error)
        finally:
            found.flight = None
        self.report(host, why)


def _why(error: Exception) -> str:
    """Why a fetch failed, without what the other side sent."""
    if isinstance(error, TimeoutError):
        return "the fetch did not end in time"
    return str(error) if isinstance(error, Refused) else f"a bug: {type(error).__name__}"


def _host(uri: str) -> str:
    """What is silent or not: the host with its port; of what is no address, the path of the file."""
    try:
        parts = urlsplit(uri)
        return parts.netloc.lower() or parts.path
    except ValueError:
        return ""
