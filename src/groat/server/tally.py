"""What a process has counted, in plain memory; `metrics` hands it to Prometheus."""

from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """What one process has counted since the last hand-over; `durations` of token requests, in milliseconds."""

    issued: Counts[tuple[str, str, str]] = field(default_factory=Counts)
    refused: Counts[tuple[str, str]] = field(default_factory=Counts)
    enrolments: Counts[tuple[str, str]] = field(default_factory=Counts)
    turned_away: Counts[tuple[str, str]] = field(default_factory=Counts)
    durations: list[float] = field(default_factory=list)
    fetched: Counts[str] = field(default_factory=Counts)  # key sets of clients: ok, failed
    cut: Counts[str] = field(default_factory=Counts)

    def issue(self, grant: str, auth_method: str, algorithm: str, milliseconds: float) -> None:
        """Count a token that is about to be sent."""
        self.issued[grant, auth_method, algorithm] += 1
        self.durations.append(milliseconds)

    def refuse(self, endpoint: str, facts: Mapping[str, Any], reason: str) -> None:
        """Count a refusal by its OAuth error code and its reason, or beside the clients' endpoints by where it was."""
        if endpoint == "token":
            self.refused[facts.get("error", "none"), reason] += 1
            self.durations.append(facts["ms"])
        elif endpoint == "client-keys":
            self.enrolments[facts.get("error", "none"), reason] += 1
        else:
            self.turned_away[endpoint, reason] += 1

    def enrol(self, result: str) -> None:
        """Count a key that a client brought."""
        self.enrolments[result, ""] += 1
