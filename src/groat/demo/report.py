"""How the demo is told: aligned lines for people, or one JSON object a line for programs."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import click
import httpx2

from groat.client import ClientError
from groat.demo.stage import DemoFailed, Service
from groat.protocol.errors import ConfigError, JoseError
from groat.server.store import StoreConflict
from groat.server.unavailable import Unavailable

EDGE: Final = 106
INDENT: Final = 15
_FAILURES: Final = (
    DemoFailed,
    ClientError,
    ConfigError,
    JoseError,
    StoreConflict,
    Unavailable,
    httpx2.HTTPError,
    OSError,
)
_ASCII: Final = str.maketrans({"·": "|", "✓": "ok", "✗": "FAILED", "…": "..."})


@dataclass(slots=True)
class Step:
    """One step, filled in while it is made.

    `lines` and `took` (at the right edge): for people; `problem`: what did not come out as it must; `facts`: for JSON.
    """

    number: int
    name: str
    lines: Sequence[str] = ()
    took: str = ""
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def tell(self, *lines: str, took: str = "", problem: str = "", **facts: Any) -> None:
        """Say what came out."""
        self.lines, self.took, self.problem, self.facts = lines, took, problem, facts


class Listener(Protocol):
    """Who the steps are told to."""

    def begin(self) -> None: ...
    def step(self, step: Step) -> None: ...
    def plain(self, lines: Sequence[str]) -> None: ...


class People:
    """Aligned text on stdout; colours on a terminal only, and not with NO_COLOR."""

    def __init__(self, color: bool, keep: bool, title: str = "groat demo") -> None:
        self._title = title
        self._kept = "kept until you stop it" if keep else "nothing is kept"
        self._color = color and not os.environ.get("NO_COLOR")
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        self._table = {} if _can_write("·✓✗…", encoding) else _ASCII

    def begin(self) -> None:
        self._echo(f"{self._title}  (throw-away keys, loopback only, {self._kept})", bold=True)

    def step(self, step: Step) -> None:
        *upper, last = step.lines or ("",)
        if step.took:
            took = self._styled(step.took, fg="red" if step.problem else "green")
            last = last.ljust(EDGE - INDENT - len(step.took)) + took
        head = f"  {step.number}  {step.name}".ljust(INDENT)
        for line in (*upper, last):
            self._echo(head + line)
            head = " " * INDENT

    def plain(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._echo(line)

    def _styled(self, text: str, **style: Any) -> str:
        # click takes the colours out again where stdout is no terminal.
        return click.style(text, **style) if self._color and style else text

    def _echo(self, line: str, **style: Any) -> None:
        click.echo(self._styled(line.translate(self._table), **style))


class Programs:
    """One JSON object per step, and nothing else on stdout."""

    def begin(self) -> None:
        """No headline."""

    def step(self, step: Step) -> None:
        head = {"step": step.number, "name": step.name, "ok": not step.problem}
        click.echo(json.dumps({**head, **step.facts, **({"problem": step.problem} if step.problem else {})}))

    def plain(self, lines: Sequence[str]) -> None:
        """All of it is among the facts."""


class Report:
    """Numbers the steps, and knows which one failed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._number = 0
        self.begin, self.plain = listener.begin, listener.plain

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Tell a step when its block is done. Raises DemoFailed if it has a problem or its block fails."""
        self._number += 1
        step = Step(self._number, name)
        try:
            yield step
        except _FAILURES as error:
            step.tell("failed", problem=str(error) or type(error).__name__)
        except Exception as error:
            # A bug somewhere; its text might hold anything.
            step.tell("failed", problem=f"unexpected {type(error).__name__}")
        self._listener.step(step)
        if step.problem:
            raise DemoFailed(f"step {step.number} ({name}): {step.problem}")


def say_failed(message: str, services: Sequence[Service]) -> None:
    """Say on stderr what went wrong, with the ends of the logs. Those are redacted where they are written."""
    click.echo(f"groat demo: failed: {message}", err=True)
    for service in services:
        if lines := service.tail():
            click.echo(f"--- the last lines of the {service.name}'s log", err=True)
            for line in lines:
                click.echo(f"    {line}", err=True)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def shortened(identifier: str) -> str:
    """The first three characters, enough to recognize it by."""
    return f"{identifier[:3]}…"


def subject(text: str) -> str:
    """The column that says what a step is about."""
    return text.ljust(21)


def wrapped(items: Sequence[str], tail: str) -> list[str]:
    """Items with dots between them, in lines that leave room for `tail` behind the last."""
    lines = [items[0]]
    for position, item in enumerate(items[1:], 2):
        longer = f"{lines[-1]} · {item}"
        room = EDGE - INDENT - (len(tail) + 2 if position == len(items) else 2)
        if len(longer) <= room:
            lines[-1] = longer
        else:
            lines[-1] += " ·"
            lines.append(item)
    return lines


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
