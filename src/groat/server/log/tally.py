"""What a process has counted, in plain memory; `metrics` hands it to Prometheus."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Upper bounds of the buckets that durations of token requests are counted in.
MILLISECONDS: Final = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


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
    refused: Counts[tuple[str, str]] = field(default_factory=Counts)
    enrolments: Counts[tuple[str, str]] = field(default_factory=Counts)
    turned_away: Counts[tuple[str, str]] = field(default_factory=Counts)
    durations: Durations = field(default_factory=Durations)  # of token requests
    fetched: Counts[str] = field(default_factory=Counts)  # key sets of clients: ok, failed
    cut: Counts[str] = field(default_factory=Counts)

    def issue(self, grant: str, auth_method: str, algorithm: str, milliseconds: float) -> None:
        """Count a token that is about to be sent."""
        self.issued[grant, auth_method, algorithm] += 1
        self.durations.add(milliseconds)

    def refuse(self, endpoint: str, facts: Mapping[str, Any], reason: str) -> None:
        """Count a refusal by its OAuth error code and its reason, or beside the clients' endpoints by where it was."""
        if endpoint == "token":
            self.refused[facts.get("error", "none"), reason] += 1
            self.durations.add(facts["ms"])
        elif endpoint == "client-keys":
            self.enrolments[facts.get("error", "none"), reason] += 1
        else:
            self.turned_away[endpoint, reason] += 1

    def enrol(self, result: str) -> None:
        """Count a key that a client brought."""
        self.enrolments[result, ""] += 1
