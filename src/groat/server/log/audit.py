"""What happened, one line each: who got which token, who was refused and why, what an operator changed."""

import contextlib
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from groat.server.log.event_log import EventLog, Gathered
from groat.server.log.refusals import Refusals
from groat.server.log.tally import Ledger, Tally
from groat.server.unavailable import Unavailable


class Line(NamedTuple):
    """The trace of one token, written or not yet; `labels` and `ms` are for the metrics."""

    gathered: Gathered
    tally: Tally
    labels: tuple[str, str, str]
    ms: float

    def write(self) -> None:
        """Make sure that it is written. Raises Unavailable when it cannot be."""
        try:
            self.gathered.write()
        except OSError as error:
            raise Unavailable("log_unavailable", f"the audit log cannot be written: {error.strerror}") from None
        self.tally.issue(*self.labels, self.ms)


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit trail of one process, and its numbers. Event names are documentation anchors and metric reasons."""

    log: EventLog = field(default_factory=EventLog)
    tally: Tally = field(default_factory=Tally)
    refusals: Refusals = field(default_factory=Refusals)

    def issued(self, facts: Mapping[str, Any], labels: tuple[str, str, str]) -> Line:
        """A token is about to be sent: request_id, client, source, ms, key, alg, api, aud, scope, jti, kid.

        `labels`: grant, client authentication method, algorithm of the token. Nothing is written before the line is
        told to: no token leaves without its trace.
        """
        return Line(self.log.gather("token.issued", facts), self.tally, labels, facts["ms"])

    def refused(self, ledger: Ledger, reason: str, facts: Mapping[str, Any], held_back: int | None = 0) -> None:
        """A request was refused: reason, error, status, hint, request_id, client (claimed), source, ms.

        `held_back`: lines of this kind that were not written since the last one; None: this one is not, either, nor
        is it remembered.
        """
        self.tally.refuse(ledger, facts, reason)
        if held_back is None:
            return
        record = {"reason": reason, **facts}
        if not ledger.event:
            record["endpoint"] = ledger.name
        if held_back:
            record["held_back"] = held_back
        event = ledger.event or "request.refused"
        self.refusals.keep("warning", event, time.time(), record)
        with contextlib.suppress(OSError):
            self.log.emit("warning", event, record)

    def overloaded(self, refused: int, hint: str) -> None:
        """So many token requests of the last second were refused unread."""
        with contextlib.suppress(OSError):
            self.log.emit("warning", "server.overloaded", {"refused": refused, "hint": hint})

    def crowded(self, facts: Mapping[str, Any]) -> None:
        """Connections of the last second had to make room, or found none: how many, by reason."""
        with contextlib.suppress(OSError):
            self.log.emit("warning", "server.crowded", facts)

    def broken(self, facts: Mapping[str, Any]) -> None:
        """A request met a bug; the traceback goes along."""
        with contextlib.suppress(OSError):
            self.log.emit("error", "server.error", {**facts, "exception": traceback.format_exc()})

    def operated(self, operation: str, facts: Mapping[str, Any]) -> None:
        """An operator changed something."""
        with contextlib.suppress(OSError):
            self.log.emit("info", operation, facts)

    def fetched(self, host: str, why: str) -> None:
        """A key set that a client publishes at this host was fetched; or not, and why."""
        self.tally.fetched["failed" if why else "ok"] += 1
        if why:
            self.troubled("client.keys_unavailable", {"host": host, "hint": why})

    def looked_for_keys(self, host: str, why: str) -> None:
        """The keys of a trusted issuer were read or fetched; or not, and why. A file has no host."""
        if why:
            self.troubled("trust.keys_unavailable", {"host": host, "hint": why} if host else {"hint": why})

    def troubled(self, what: str, facts: Mapping[str, Any]) -> None:
        """Something that runs by itself did not work, and is tried again."""
        with contextlib.suppress(OSError):
            self.log.emit("warning", what, facts)
