"""What a process has counted, in plain memory; `metrics` hands it to Prometheus."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Upper bounds of the buckets that durations of token requests are counted in.
MILLISECONDS: Final = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


TOKEN_REQUESTS: Final = "groat_token_requests"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where the refusals of an endpoint are written down.

    `event`: its own in the log, where each then has a line; without one, some have a line `request.refused` that has
    the `name`. `counter`: its own of the metrics, by result and reason, with what it is `about`; without one they are
    counted by name. `timed`: how long they take is counted, too.
    """

    name: str
    event: str = ""
    counter: str = ""
    about: str = ""
    timed: bool = False


@dataclass(slots=True)
class Durations:
    """How many lasted how long: a count for each of MILLISECONDS, one for what is beyond; `total` in milliseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(MILLISECONDS) + 1))
    total: float = 0.0

    def add(self, milliseconds: float) -> None:
        """A bound belongs to its bucket, as Prometheus has it."""
        self.counts[bisect_left(MILLISECONDS, milliseconds)] += 1
        self.total += milliseconds


@dataclass(slots=True)
class Tally:
    """What one process has counted since the last hand-over."""

    issued: Counts[tuple[str, str, str]] = field(default_factory=Counts)
    answered: Counts[tuple[str, str, str]] = field(default_factory=Counts)  # counter, result, reason
    turned_away: Counts[tuple[str, str]] = field(default_factory=Counts)
    durations: Durations = field(default_factory=Durations)  # of token requests
    fetched: Counts[str] = field(default_factory=Counts)  # key sets of clients: ok, failed
    cut: Counts[str] = field(default_factory=Counts)
    of_trusts: Counts[tuple[str, str]] = field(default_factory=Counts)  # what came of their tokens: issued, or a reason
    bound: Counts[str] = field(default_factory=Counts)  # of the tokens issued, by what to
    waiting_polls: int = 0  # for news of what was taken back, now

    def issue(self, grant: str, auth_method: str, algorithm: str, milliseconds: float) -> None:
        """Count a token that is about to be sent."""
        self.issued[grant, auth_method, algorithm] += 1
        self.durations.add(milliseconds)

    def answer(self, counter: str, result: str, reason: str = "") -> None:
        """Count what came of a request, in the counter of its endpoint."""
        self.answered[counter, result, reason] += 1

    def refuse(self, ledger: Ledger, facts: Mapping[str, Any], reason: str) -> None:
        """Count a refusal by its OAuth error code and its reason; where there is no counter for that, by the name."""
        if "trust" in facts:
            self.of_trusts[facts["trust"], reason] += 1
        if ledger.counter:
            self.answer(ledger.counter, facts.get("error", "none"), reason)
        else:
            self.turned_away[ledger.name, reason] += 1
        if ledger.timed:
            self.durations.add(facts["ms"])
