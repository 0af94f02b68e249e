"""What becomes of a registry, object by object, for people on a terminal and for programs."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from groat.cli.people import visible
from groat.cli.session import Session, plain
from groat.server.operations.desired import DesiredPlan, Difference

MAX_SHOWN: Final = 100  # objects, for people
_SIGNS: Final = {"add": "+", "change": "~", "remove": "-"}
_COLORS: Final = {"+": "green", "~": "yellow", "-": "red"}


def document(plan: DesiredPlan, outcome: str) -> dict[str, Any]:
    """Everything, as programs are shown it."""
    return {
        "outcome": outcome,
        **plan.counts(),
        "differences": [one.document() for one in plan.differences],
        "losses": [plain(loss) for loss in plan.losses],
        "left": list(plan.left),
        "stopped": list(plan.stopped),
    }


def show(session: Session, plan: DesiredPlan, outcome: str) -> None:
    """The result of a command: as JSON, the ids of what differs, or what differs in each object."""
    if session.as_json:
        click.echo(json.dumps(document(plan, outcome)))
    elif session.quiet:
        for one in plan.differences:
            click.echo(visible(f"{one.kind}/{one.name}"))
    else:
        for line in lines(plan, color=session.color and sys.stdout.isatty()):
            click.echo(line)
        counts = ", ".join(f"{count} {name}" for name, count in plan.counts().items())
        click.echo(f"{outcome}: {counts}")
    if session.as_json:
        return
    if plan.left:
        session.note(f"in no file, and left alone: {_few(plan.left)}. --prune removes what no file has")
    if plan.stopped:
        session.note(f"disabled, and left so: {_few(plan.stopped)}. No file says enabled = true")


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return visible(", ".join(names[:5])) + more


def lines(plan: DesiredPlan, *, color: bool) -> Iterator[str]:
    """Each object with its place, and below it each member that differs."""
    for one in plan.differences[:MAX_SHOWN]:
        sign = _SIGNS[one.operation]
        place = f"  {one.place}" if one.place else ""
        yield _colored(sign, visible(f"{sign} {one.kind}/{one.name}"), color=color) + visible(place)
        if one.after is not None:  # of what goes, the name says it all
            yield from (_colored(sign, visible(f"    {row}"), color=color) for sign, row in _rows(one))
    if len(plan.differences) > MAX_SHOWN:
        yield f"and {len(plan.differences) - MAX_SHOWN} more: --json names all"


def _colored(sign: str, text: str, *, color: bool) -> str:
    return click.style(text, fg=_COLORS[sign]) if color else text


def _rows(difference: Difference) -> Iterator[tuple[str, str]]:
    for name, before, after in difference.members():
        if isinstance(before or after, Mapping):
            for key in dict.fromkeys((*(before or {}), *(after or {}))):
                yield from _member(f"{name}.{key}", (before or {}).get(key), (after or {}).get(key))
        else:
            yield from _member(name, before, after)


def _member(name: str, before: Any, after: Any) -> Iterator[tuple[str, str]]:
    if before == after:
        return
    if isinstance(before or after, list):
        gone = [_text(item) for item in before or () if item not in (after or ())]
        new = [_text(item) for item in after or () if item not in (before or ())]
        yield from (("-", f"{name}  - {item}") for item in gone)
        yield from (("+", f"{name}  + {item}") for item in new)
    elif before is None or after is None:
        sign = "+" if before is None else "-"
        yield sign, f"{name}  {sign} {_text(after if before is None else before)}"
    else:
        yield "~", f"{name}  {_text(before)} -> {_text(after)}"


def _text(value: Any) -> str:
    """A key by its kid, a rule by what it demands; a key set is too long to be read."""
    if isinstance(value, Mapping) and "jwk" in value:
        jwk = value["jwk"]
        limits = [f"{name} {value[name]}" for name in ("not_before", "expires_at") if name in value]
        return " ".join([str(jwk.get("kid")), str(jwk.get("alg", "")), *limits])
    if isinstance(value, Mapping) and "trust" in value:
        return f"{value['trust']}: {' and '.join(value['match'])}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"
