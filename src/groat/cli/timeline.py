"""The rotation as a picture: one lane per kid, time from left to right, now as a line through all lanes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from groat.keys.ring.invariants import Fault
from groat.keys.ring.keyring import KeyState, SigningKey

CELLS: Final = {KeyState.PENDING: "░", KeyState.ACTIVE: "█", KeyState.RETIRING: "▒"}
STYLES: Final = {KeyState.PENDING: "yellow", KeyState.ACTIVE: "green", KeyState.RETIRING: "blue"}
KID_SHOWN: Final = 10
TEXT_COLUMNS: Final = 46  # what kid, state and the next event take
LEAST_LANE: Final = 20


@dataclass(frozen=True, slots=True)
class Axis:
    """Which span of time the lanes show, in so many cells."""

    start: int
    end: int
    cells: int

    def cell(self, at: int) -> int:
        return min(self.cells, max(0, (at - self.start) * self.cells // (self.end - self.start)))


def axis_of(keys: Sequence[SigningKey], now: int, cells: int) -> Axis:
    """From the oldest key that is still published to a little after the last planned event."""
    shown = [key for key in keys if key.state(now) is not KeyState.REMOVED]
    planned = [at for key in shown for at in (key.activates_at, key.removes_at) if at is not None and not key.held]
    start, end = min((key.created_at for key in shown), default=now), max([*planned, now])
    margin = max(60, (end - start) // 12)
    return Axis(start, end + margin, cells)


def lane(key: SigningKey, axis: Axis, now: int) -> Text:
    """One key's life; a state that is too short to see gets one cell all the same."""
    cells: list[KeyState | None] = [None] * axis.cells
    for state, start, end in _spells(key, axis.end):
        first = min(axis.cell(start), axis.cells - 1)
        last = max(first + 1, axis.cell(end))
        if end > axis.start:
            cells[first:last] = [state] * (last - first)
    text = Text()
    for number, cell_state in enumerate(cells[: axis.cells]):
        if number == min(axis.cell(now), axis.cells - 1):
            text.append("┃", "bold")
        elif cell_state is None:
            text.append(" ")
        else:
            text.append(CELLS[cell_state], STYLES[cell_state])
    return text


def _spells(key: SigningKey, end: int) -> Iterator[tuple[KeyState, int, int]]:
    """The spells of a key, each with its first and its last second; a revoked key has none after its end."""
    instants = [key.created_at, key.activates_at, key.retires_at or end, key.removes_at or end]
    ends = [min(at, key.removes_at or end, end) for at in instants]
    for state, start, stop in zip(CELLS, ends, ends[1:], strict=False):
        if stop > start:
            yield state, start, stop


def next_event(key: SigningKey, now: int) -> str:
    """What this key does next, and when."""
    state = key.state(now)
    if state is KeyState.REMOVED:
        return "revoked" if key.revoked else "removed"
    if state is KeyState.PENDING:
        return "waits: groat key activate" if key.held else f"signs in {span(key.activates_at - now)}"
    at, what = (key.retires_at, "retires") if state is KeyState.ACTIVE else (key.removes_at, "removed")
    return "no end planned" if at is None else f"{what} in {span(at - now)}"


def span(seconds: int) -> str:
    """A length of time in its two largest units."""
    parts, rest = [], max(0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def draw(console: Console, keys: Sequence[SigningKey], faults: Sequence[Fault], now: int) -> None:
    """Print the lanes of all keys that are published, an axis, a legend, and what the checker says."""
    axis = axis_of(keys, now, max(LEAST_LANE, console.width - TEXT_COLUMNS))
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for key in (key for key in keys if key.state(now) is not KeyState.REMOVED):
        state = key.state(now)
        table.add_row(
            Text(key.kid[:KID_SHOWN]), Text(f"{state}", STYLES[state]), lane(key, axis, now), next_event(key, now)
        )
    table.add_row("", "", _dates(axis), "")
    console.print(table)
    legend = Text("  ").join(Text(f"{CELLS[s]} {s}", STYLES[s]) for s in CELLS)
    console.print(legend, Text("  ┃ now", "bold"), sep="")
    _judge(console, faults)


def _dates(axis: Axis) -> Text:
    """The dates at both ends of the axis, with the hour where the span is short."""
    form = "%Y-%m-%d" if axis.end - axis.start > 3 * 86400 else "%m-%d %H:%M"
    left, right = (datetime.fromtimestamp(at, UTC).strftime(form) for at in (axis.start, axis.end))
    if len(left) + len(right) >= axis.cells:
        return Text(left[: axis.cells], "dim")
    return Text(left + right.rjust(axis.cells - len(left)), "dim")


def _judge(console: Console, faults: Sequence[Fault]) -> None:
    for fault in faults:
        console.print(Text(f"! {fault}", "red"), soft_wrap=True)
    if not faults:
        console.print("safe: no verifier meets an unknown kid, no valid token loses its key", style="green")
