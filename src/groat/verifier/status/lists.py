"""Status lists (draft-ietf-oauth-status-list 8.3): one copy of each, renewed at its `ttl`, for every token in it."""

from functools import partial
from typing import Final

from groat.outbound.freshness import lifetime
from groat.outbound.real_time import monotonic
from groat.protocol.errors import ConfigError, InvalidToken, JoseError
from groat.protocol.status_list import MEDIA_TYPE as LIST_MEDIA_TYPE
from groat.protocol.token_status import (
    DEFAULT_TTL,
    MAX_LIST_BYTES,
    MAX_TTL,
    SUSPENDED,
    StatusList,
    origin,
    read_list,
    reference,
)
from groat.verifier.keys.fetch import DEADLINE, FetchError, require
from groat.verifier.keys.kept import Flight, Kept
from groat.verifier.keys.schedule import Schedule
from groat.verifier.status.publisher import Publisher
from groat.verifier.status.question import Case, Question, Status, Unknown

MAX_LISTS: Final = 32  # at hand at a time: an issuer has one or two that tokens still point to
LAST_RETRY: Final = 10.0
_HEADERS: Final = {"Accept": LIST_MEDIA_TYPE, "Accept-Encoding": "identity"}


class KeptList(Kept[StatusList]):
    """One list, as it is known now."""

    thread_name = "groat-status"

    def __init__(self, uri: str, publisher: Publisher, unknown: Unknown) -> None:
        super().__init__(Schedule(last_retry=LAST_RETRY), publisher.clocks)
        self._uri, self._publisher, self._unknown = uri, publisher, unknown

    def serving(self, now: float) -> "StatusList | Question | FetchError":
        """The list, what has to be waited for, or why there is none. `now`: epoch seconds."""
        found = self.current()
        if found is not None and now < found.ends_at:
            return found
        flight = self._board(lambda value: True)
        return self._problem if flight is None else Question(flight, lambda: None)

    def settled(self, now: float) -> StatusList | FetchError:
        """The same for who has waited already."""
        with self._lock:
            found, usable = self._value, self._schedule.usable(self._monotonic())
        return found if found is not None and usable and now < found.ends_at else self._problem

    @property
    def retry_after(self) -> int:
        """Whole seconds until another attempt."""
        return self._schedule.retry_after(self._monotonic())

    def forget(self) -> None:
        """Have whoever asks next wait for a new one."""
        with self._lock:
            self._start_over(Schedule(last_retry=LAST_RETRY), None)

    def _fetched(self, previous: StatusList | None, started_at: float, rediscover: bool) -> StatusList:
        publisher = self._publisher
        response = publisher.fetcher.way.get(self._uri, _HEADERS, monotonic() + DEADLINE, MAX_LIST_BYTES)
        require(response, frozenset({LIST_MEDIA_TYPE}), "the status list")
        try:
            found = read_list(response.body, publisher.key, self._uri, publisher.clocks.now(), publisher.tolerance)
        except (JoseError, ConfigError) as error:
            raise FetchError(f"the status list is not taken: {error}") from None
        if found.ttl is not None:
            return found
        headers = {name.lower(): value for name, value in response.headers.items()}
        told = lifetime(headers.get("cache-control", ""), headers.get("age", ""), DEFAULT_TTL)
        return StatusList(found.uri, found.bits, found.table, found.ends_at, told)

    def _renewed(self, started_at: float, value: StatusList) -> Schedule:
        serves = max(0.0, value.ends_at - self._publisher.clocks.now())
        ttl = min(max(1.0, value.ttl or 0.0), MAX_TTL, serves)
        return self._schedule.renewed(started_at, ttl, serves)

    def _report(self, flight: Flight, outcome: StatusList | FetchError) -> None:
        self._unknown.told(outcome if isinstance(outcome, FetchError) else None)


class ListStatus(Status):
    """Looks a token up in the list that it names. `origins`: beside the issuer's own, where lists may be."""

    def __init__(self, publisher: Publisher, unknown: Unknown, *, required: bool, origins: tuple[str, ...]) -> None:
        self._publisher, self._unknown, self._required = publisher, unknown, required
        self._origins = frozenset(map(origin, (publisher.issuer, *origins)))
        self._lists: dict[str, KeptList] = {}

    def look(self, case: Case) -> Question | None:
        claims = case.caller.claims
        if "status" not in claims:
            if self._required:
                raise InvalidToken("status", "the token has no status, and this API demands one")
            return None
        try:
            index, uri = reference(claims["status"])
        except JoseError as error:
            raise InvalidToken(error.reason, error.hint) from None
        kept = self._lists.get(uri) or self._opened(uri)
        found = kept.serving(case.now)
        if isinstance(found, StatusList):
            _judge(found, index)
            return None
        if isinstance(found, Question):
            return Question(found.flight, partial(self._answer, kept, index, case))
        self._unknown.decide(found, kept.retry_after)
        return None

    def age(self) -> float | None:
        ages = [age for kept in list(self._lists.values()) if (age := kept.age()) is not None]
        return max(ages, default=None)

    def forget(self) -> None:
        for kept in list(self._lists.values()):
            kept.forget()

    def close(self) -> None:
        for kept in list(self._lists.values()):
            kept.close()

    def _answer(self, kept: KeptList, index: int, case: Case) -> None:
        found = kept.settled(case.now)
        if isinstance(found, StatusList):
            _judge(found, index)
        else:
            self._unknown.decide(found, kept.retry_after)

    def _opened(self, uri: str) -> KeptList:
        """A list that no token named before. The token is proven, but its issuer may have been fooled: the origin."""
        if origin(uri) not in self._origins:
            raise InvalidToken("status", "the list of the token is of another origin than its issuer")
        lists = self._lists
        while len(lists) >= MAX_LISTS:
            lists.pop(next(iter(lists)), None)
        return lists.setdefault(uri, KeptList(uri, self._publisher, self._unknown))


def _judge(found: StatusList, index: int) -> None:
    status = found.status(index)
    if status is None:
        raise InvalidToken("status", "the list of the token has no such place")
    if status == SUSPENDED:
        raise InvalidToken("suspended", "its status is 2, suspended")
    if status:
        raise InvalidToken("revoked", f"its status is {status}, not 0")
