"""Throttling of failed authentication, per source and per claimed client (RFC 6749 2.3.1, 10.10).

Only failures count, and nobody's failures keep a good signature from its token while there is time to look at it
(docs/decisions/0003-throttle.md). A source is in doubt once it, its block of addresses or all of them together fail too
often; then every failure is answered 429, whoever was named, and signatures are looked at for as long as that takes no
more than its share of this process's time. Each worker process keeps its own counts.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from groat.protocol.errors import OAuthError, TooManyRequests
from groat.server.gcra import MAX_TRACKED, Gcra
from groat.server.http.exchange import Exchange
from groat.server.http.in_force import Limits
from groat.server.http.source import wider

THROTTLED: Final = "throttled"
BLOCK_FACTOR: Final = 10  # what a /48 or /24 may fail, in sources
SERVED_SECONDS: Final = 3600.0
DOUBT_SHARE = 0.2  # of a process's time, for requests of sources in doubt that fail
FAILING_SHARE: Final = 50  # percent; beyond that, sources that were not served within the hour are in doubt, too
UNTHROTTLED: Final = 60_000  # failures a minute of one source that nobody means as a limit
DOUBTED_RATE: Final = 50  # failures a second of one source in doubt that pass while others are waiting
NO_SHARE: Final = 1e9  # of one second, that never runs out
FAILURE_SECONDS: Final = 0.0002  # parsing, looking up, logging: what a failure costs besides its signature


@dataclass(slots=True)
class Share:
    """Seconds of work, at most `share` of the time that passes, and as much of one second at once."""

    share: float
    _spent: float = 0.0
    _at: float = 0.0

    def used(self, now: float) -> float:
        """How much of it is used up: 0 to 1 and beyond."""
        if self.share <= 0:
            return 1.0
        return max(0.0, self._spent / self.share - (now - self._at))

    def spend(self, seconds: float, now: float) -> None:
        """Count work that was done."""
        self._spent = max(0.0, self._spent - (now - self._at) * self.share) + seconds
        self._at = now


@dataclass(slots=True)
class Throttle:
    """The counts of one worker. Where a request came from, when, and whom it named, its exchange says."""

    per_client: Gcra = field(default_factory=lambda: Gcra(30, 60.0))
    per_source: Gcra = field(default_factory=lambda: Gcra(300, 60.0))
    per_block: Gcra = field(default_factory=lambda: Gcra(300 * BLOCK_FACTOR, 60.0))
    _untracked: Gcra = field(default_factory=lambda: Gcra(300 * BLOCK_FACTOR, 60.0))
    _doubted: Gcra = field(default_factory=lambda: Gcra(DOUBTED_RATE, 1.0))
    _doubt: Share = field(default_factory=lambda: Share(DOUBT_SHARE))
    _failing: Share = field(default_factory=lambda: Share(FAILING_SHARE / 100))
    _limits: Limits = field(default_factory=Limits)
    _served: "OrderedDict[str, float]" = field(default_factory=OrderedDict, repr=False)

    def _go_by(self, limits: Limits) -> None:
        """The counts go on, by the limits of the request at hand.

        Where a single source may fail UNTHROTTLED times, there is no bound for all of them, either.
        """
        self._limits, per_source = limits, limits.source_failures
        self.per_client.limit, self.per_source.limit = limits.client_failures, per_source
        self.per_block.limit = self._untracked.limit = per_source * BLOCK_FACTOR
        self._failing.share = limits.failure_share / 100 if per_source < UNTHROTTLED else NO_SHARE

    def check(self, exchange: Exchange) -> None:
        """Raise TooManyRequests for a source in doubt whose next failure would take more than its share of time.

        Half of the share is for whoever comes, the other half for sources that fail less than DOUBTED_RATE.
        """
        if exchange.in_force.limits is not self._limits:
            self._go_by(exchange.in_force.limits)
        source, now = exchange.source, exchange.started
        wait = self._wait(source, now)
        if not wait and (self._served.get(source, 0.0) > now or self._failing.used(now) < 1):
            return
        used = self._doubt.used(now)
        if used >= 1 or (used >= 0.5 and self._doubted.wait(source, now)):
            raise _too_many("source", wait)

    def succeeded(self, exchange: Exchange) -> None:
        """Remember that somebody proved himself from there."""
        source, now = exchange.source, exchange.started
        if self._served.get(source, 0.0) < now + SERVED_SECONDS / 2:
            self._served.pop(source, None)
            self._served[source] = now + SERVED_SECONDS
            if len(self._served) > MAX_TRACKED:
                self._served.popitem(last=False)

    def failed(self, exchange: Exchange, error: OAuthError) -> OAuthError:
        """Count a failure; returns the refusal to send: the given one, or TooManyRequests past a limit."""
        if exchange.in_force.limits is not self._limits:
            self._go_by(exchange.in_force.limits)
        source, now, seconds = exchange.source, exchange.started, exchange.proving + FAILURE_SECONDS
        wait, what = self._wait(source, now), "source"
        overdone = self._failing.used(now) >= 1
        self._failing.spend(seconds, now)
        if wait or overdone:
            self._doubt.spend(seconds, now)
            self._doubted.add(source, now)
        self._count(source, now)
        if exchange.client is not None:
            pair = f"{source} {exchange.client}"
            if pair_wait := self.per_client.wait(pair, now):
                wait, what = max(wait, pair_wait), "client"
            else:
                self.per_client.add(pair, now)
        return _too_many(f"{what} after {error.reason}", wait) if wait or overdone else error

    def _wait(self, source: str, now: float) -> float:
        block = wider(source)
        if self.per_block.counts(block) or self.per_source.counts(source):
            return max(self.per_source.wait(source, now), self.per_block.wait(block, now))
        return self._untracked.wait("", now)  # nearly always there is nothing to wait for

    def _count(self, source: str, now: float) -> None:
        """From the block to the source: where the wide count is over, or has no room, no narrow one begins."""
        block = wider(source)
        over = self.per_block.wait(block, now) > 0
        if not self.per_block.add(block, now):
            self._untracked.add("", now)
        elif not over or self.per_source.counts(source):
            self.per_source.add(source, now)


def _too_many(what: str, wait: float) -> TooManyRequests:
    return TooManyRequests(THROTTLED, f"too many failures of one {what}", retry_after=int(wait) + 1)
