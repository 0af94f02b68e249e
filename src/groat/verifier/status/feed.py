"""The feed of revocations: one thread of a process waits at the issuer for the next one, and swaps it in at once.

Nothing is asked before the first token. What is at hand is one immutable value; a token costs a look at it.
"""

import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakSet, ref

from groat.outbound.real_time import monotonic as real_monotonic
from groat.protocol.errors import ConfigError, InvalidToken, JoseError
from groat.protocol.revocation_feed import MEDIA_TYPE as FEED_MEDIA_TYPE
from groat.protocol.token_status import MAX_FEED_BYTES, Feed, read_feed
from groat.verifier.keys.fetch import DEADLINE, METADATA_MAX_AGE, FetchError, Response, require, stand_ins
from groat.verifier.keys.kept import OVERDUE
from groat.verifier.keys.schedule import Schedule
from groat.verifier.status.publisher import Publisher
from groat.verifier.status.question import Case, Question, Status, Unknown

DEFAULT_PATH: Final = "/revocations"
LONG_WAIT: Final = 30  # seconds that the issuer may hold an answer back
SHORT_WAIT: Final = 2  # of a callable that has a timeout of its own
LEAST_WAIT: Final = 1.0  # between two answers without news: an issuer that does not wait is not asked all the time
LAST_RETRY: Final = 2.0  # the promise holds again as soon after an outage
LOOK_ANEW: Final = 60.0  # between two looks at the metadata while the feed cannot be had


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known, replaced as a whole. `good_until`: by the monotonic clock, until when it serves unasked."""

    feed: Feed | None = None
    etag: str | None = None
    good_until: float = -inf
    schedule: Schedule = field(default_factory=lambda: Schedule(last_retry=LAST_RETRY))
    problem: FetchError = field(default_factory=lambda: FetchError("not fetched yet"))


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one request brought. `feed`: None for no news; `problem`: why there is nothing to go by."""

    feed: Feed | None = None
    etag: str | None = None
    problem: FetchError | None = None


class FeedReader:
    """Where one issuer's feed is, and how it is asked for; used by one thread at a time."""

    def __init__(self, publisher: Publisher, audience: str) -> None:
        self._publisher, self._audience = publisher, audience
        self._uri, self._found_at = "", -inf

    def visit(self, etag: str | None, seconds: int) -> _Visit:
        """Ask once; blocks for `seconds` while there is no news. 0: answer at once."""
        try:
            uri = self._located()
            response = self._get(uri, etag, seconds)
            if etag is not None and response.status == 304:
                return _Visit(None, etag)
            require(response, frozenset({FEED_MEDIA_TYPE}), "the feed of revocations")
            return _Visit(self._read(response.body), _etag(response))
        except FetchError as error:
            # It may have moved; but who is away is not asked for everything each time.
            self._found_at = min(self._found_at, real_monotonic() - METADATA_MAX_AGE + LOOK_ANEW)
            return _Visit(problem=error.with_traceback(None))
        except Exception as error:
            # A callable given as `http` may raise anything; the thread must go on all the same.
            return _Visit(problem=FetchError(f"the fetch broke ({type(error).__name__})"))

    @property
    def wait(self) -> int:
        """Seconds that a request may be held: few where another's timeout would end it."""
        way = self._publisher.fetcher.way
        return LONG_WAIT if way.http is None and way.issuer not in stand_ins else SHORT_WAIT

    def _located(self) -> str:
        fetcher, now = self._publisher.fetcher, real_monotonic()
        if now >= self._found_at + METADATA_MAX_AGE:
            # Where keys have an address of their own, there need not be any metadata.
            named = None if fetcher.jwks_uri else fetcher.metadata(now + DEADLINE).revocations_endpoint
            self._uri, self._found_at = named or fetcher.issuer.rstrip("/") + DEFAULT_PATH, now
        return self._uri

    def _get(self, uri: str, etag: str | None, seconds: int) -> Response:
        headers = {"Accept": FEED_MEDIA_TYPE, "Accept-Encoding": "identity"}
        waits = seconds if etag else 0
        if etag:
            headers["If-None-Match"] = etag
            uri += f"{'&' if urlsplit(uri).query else '?'}wait={waits}"
        return self._publisher.fetcher.way.get(uri, headers, real_monotonic() + waits + DEADLINE, MAX_FEED_BYTES)

    def _read(self, body: bytes) -> Feed:
        of = self._publisher
        try:
            return read_feed(body, of.key, of.issuer, self._audience, of.clocks.now(), of.tolerance)
        except (JoseError, ConfigError) as error:
            raise FetchError(f"the feed of revocations is not taken: {error}") from None


class FeedStatus(Status):
    """Judges by the last feed. Its thread ends with it; in a forked child one begins with the first token."""

    def __init__(self, publisher: Publisher, unknown: Unknown, audience: str) -> None:
        self._publisher, self._unknown = publisher, unknown
        self._reader = FeedReader(publisher, audience)
        self._monotonic = publisher.clocks.monotonic
        self._heard = Heard()
        self._lock = threading.Lock()
        self._next: Future[None] = Future()
        self._runs: object | None = None  # stands for the thread that may write here
        self._pause = threading.Event()
        self._closed = False
        _all.add(self)

    def look(self, case: Case) -> Question | None:
        heard = self._heard
        if self._monotonic() < heard.good_until and (feed := heard.feed) is not None and case.now < feed.ends_at:
            if not feed.quiet:
                _judge(feed, case)
            return None
        return self._wait(case)

    @property
    def etag(self) -> str | None:
        """Of what is at hand."""
        return self._heard.etag

    def age(self) -> float | None:
        loaded_at = self._heard.schedule.loaded_at
        return None if loaded_at is None else self._monotonic() - loaded_at

    def forget(self) -> None:
        with self._lock:
            self._heard = Heard()
            self._stop()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop()

    def _wait(self, case: Case) -> Question | None:
        """Nothing current is at hand: wait for the next answer, unless it is known that none comes."""
        # A failure is known until an answer has come: whoever begins waits for it, others are not held up.
        with self._lock:
            begun = None if self._runs is not None or self._closed else self._begin()
            heard, coming = self._heard, self._next
        if begun is not None:
            self._launch(begun)
        if self._closed or (heard.schedule.failures and begun is None):
            self._answer(case)
            return None
        return Question(coming, partial(self._answer, case))

    def _answer(self, case: Case) -> None:
        """For who has waited, or need not: by the copy at hand until its end, then as the operator chose."""
        heard, now = self._heard, self._monotonic()
        if heard.feed is not None and heard.schedule.usable(now) and case.now < heard.feed.ends_at:
            _judge(heard.feed, case)
        else:
            self._unknown.decide(heard.problem, heard.schedule.retry_after(now))

    def _begin(self) -> object:
        self._runs, self._pause = object(), threading.Event()
        return self._runs

    def _launch(self, run: object) -> None:
        # The thread holds no verifier: one that nobody uses any more goes, and its thread with it.
        target = partial(_poll, ref(self), self._reader, run, self._pause)
        try:
            threading.Thread(target=target, name="groat-revocations", daemon=True).start()
        except RuntimeError:
            self.heard(_Visit(problem=FetchError("no thread could be started")), run)
            with self._lock:
                self._stop()

    def _stop(self) -> None:
        self._runs = None
        self._pause.set()

    def heard(self, visit: _Visit, run: object) -> float | None:
        """Take what a visit brought; seconds until the next one, None for none. Only the current thread is heard."""
        with self._lock:
            if run is not self._runs:
                return None
            before, now = self._heard, self._monotonic()
            self._heard = after = self._after(before, visit, now)
            done, self._next = self._next, Future()
        # Outside of the lock: whoever waits is let go at once, and may come back for it.
        done.set_result(None)
        failed = after.schedule.failures > 0
        self._unknown.told(after.problem if failed else None)
        if failed:
            return max(0.0, after.schedule.retry_at - now)
        news = visit.feed is not None and (before.feed is None or visit.feed.seq > before.feed.seq)
        return 0.0 if news else LEAST_WAIT

    def _after(self, before: Heard, visit: _Visit, now: float) -> Heard:
        feed, problem = visit.feed or before.feed, visit.problem
        wall = self._publisher.clocks.now()
        if problem is None and feed is not None and before.feed is not None and feed.seq < before.feed.seq:
            # A copy of before. Once the newer one is over, this one would be, too, unless the issuer began anew.
            if wall < before.feed.ends_at:
                feed, problem = before.feed, FetchError(f"the feed has seq {feed.seq}, after {before.feed.seq}")
        if problem is None and (feed is None or wall >= feed.ends_at):
            problem = FetchError("the feed of revocations is over, and there is no newer one")
        if problem is not None:
            schedule = before.schedule.failed(now, self._publisher.clocks.random())
            # The copy at hand serves to its end: nobody waits, the thread tries on.
            until = now + max(0.0, before.feed.ends_at - wall) if before.feed is not None else -inf
            return replace(before, etag=None, schedule=schedule, problem=problem, good_until=until)
        assert feed is not None
        # Where answers stop coming and nothing has failed (a process that was frozen), the next token waits for one.
        serves = feed.ends_at - wall
        schedule = before.schedule.renewed(now, 0.0, serves)
        return Heard(feed, visit.etag, now + min(serves, self._reader.wait + OVERDUE), schedule)

    def _after_fork(self) -> None:
        self._lock, self._next = threading.Lock(), Future()
        # Without the ETag the first answer comes at once, and does not wait for news.
        self._heard = replace(self._heard, etag=None, good_until=-inf, schedule=self._heard.schedule.eager())
        self._runs = None


def _poll(owner: "ref[FeedStatus]", reader: FeedReader, run: object, pause: threading.Event) -> None:
    """The thread: ask, hand over, pause; until the verifier is gone, closed or begins anew."""
    while not pause.is_set():
        status = owner()
        if status is None:
            return
        etag, begun = status.etag, real_monotonic()
        del status
        visit = reader.visit(etag, reader.wait)
        status = owner()
        rest = None if status is None else status.heard(visit, run)
        del status
        if rest is None:
            return
        spent = real_monotonic() - begun if visit.problem is None else 0.0
        pause.wait(max(0.0, rest - spent))


def _etag(response: Response) -> str | None:
    return next((value for name, value in response.headers.items() if name.lower() == "etag"), None)


def _judge(feed: Feed, case: Case) -> None:
    if feed.suspends(case.caller):
        raise InvalidToken("suspended", "its client is disabled")
    if why := feed.ended(case.caller, case.kid):
        raise InvalidToken("revoked", why)


_all: "Final[WeakSet[FeedStatus]]" = WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
