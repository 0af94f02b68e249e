"""What each way of hearing of revocations answers to: `look`, the last step of a verdict."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from groat.protocol.access_token import Caller
from groat.protocol.errors import StatusUnavailable
from groat.protocol.jwk import printable
from groat.verifier.keys.fetch import FetchError
from groat.verifier.notices import Notices
from groat.verifier.observer import Observer

logger = logging.getLogger("groat.verifier")


class Case(NamedTuple):
    """A token that passed every other check. `kid`: of the key that proved it; `now`: epoch seconds."""

    caller: Caller
    token: str | bytes
    kid: str
    now: float


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be waited for; then `answer` raises, or does not."""

    flight: "Future[None]"
    answer: Callable[[], None]


class Status(ABC):
    """How one verifier hears of one issuer's revocations. Safe to share between threads, event loops and forks."""

    @abstractmethod
    def look(self, case: Case) -> Question | None:
        """None: the token counts. Raises InvalidToken, StatusUnavailable."""

    @abstractmethod
    def forget(self) -> None:
        """Begin anew with whoever asks next; for tests."""

    @abstractmethod
    def close(self) -> None:
        """Ask nobody any more."""

    def age(self) -> float | None:
        """Seconds since what is at hand was current; None where nothing is kept, or nothing is there yet."""
        return None


@dataclass(frozen=True, slots=True)
class Unknown:
    """What becomes of a token of which nobody can tell. `accept`: it counts, and the log says so now and then."""

    issuer: str
    accept: bool
    notices: Notices
    observer: Observer | None = None

    def decide(self, problem: FetchError, retry_after: int) -> None:
        """Raises StatusUnavailable, unless the operator chose to accept."""
        if not self.accept:
            raise StatusUnavailable(str(problem), retry_after, problem.request_id)
        if self.observer is not None:
            self.observer.status_unknown(self.issuer)
        if (held := self.notices.due("status_unknown")) is not None:
            more = f" (and {held} more since the last warning)" if held else ""
            logger.warning("accepted without status: issuer=%s reason=%s%s", printable(self.issuer), problem, more)

    def told(self, problem: FetchError | None) -> None:
        """A fetch has ended: `problem` says why without anything, None that it brought what it should."""
        if self.observer is not None:
            self.observer.status_refreshed(self.issuer, "ok" if problem is None else "failed")
        if problem is not None and (held := self.notices.due("status_not_loaded")) is not None:
            more = f" (and {held} more since the last warning)" if held else ""
            logger.warning("status not loaded: issuer=%s reason=%s%s", printable(self.issuer), problem, more)
