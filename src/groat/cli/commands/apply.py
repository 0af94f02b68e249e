"""`groat apply` and `groat diff`: the registry becomes what files say, or is compared with them."""

import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from groat.cli.consequences import loss_lines
from groat.cli.differences import lines, show
from groat.cli.session import Exit, Session

if TYPE_CHECKING:
    from groat.server.desired.policies import RegistryPolicy
    from groat.server.desired.wanted import Wanted
    from groat.server.operations import Operator
    from groat.server.operations.desired import DesiredPlan, DesiredWish

_FILES: Callable[..., Callable[..., None]] = click.option(
    "-f", "--file", "source", required=True, type=click.Path(path_type=Path), metavar="FILE|DIR",
    help="A TOML or YAML file, or a directory: every such file below it.",
)  # fmt: skip
_PRUNE: Callable[..., Callable[..., None]] = click.option(
    "--prune", is_flag=True, help="Remove what no file has; without it that is left alone, and named."
)


class _Undecided(Exception):
    """A plan that takes something away, of which nobody has said yet that it shall be done."""

    def __init__(self, plan: "DesiredPlan") -> None:
        super().__init__()
        self.plan = plan


@click.command()
@_FILES
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would change. Exit code 7: something would.")
@_PRUNE
@click.option(
    "--policy", "policies", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Rules that the registry must keep; nothing is done where it would not.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="With --dry-run: look at the files alone, without any store.")
@click.pass_obj
def apply(
    session: Session, /, source: Path, dry_run: bool, prune: bool, policies: tuple[Path, ...], offline: bool
) -> None:
    """Make the registry what these files say: all of it, or nothing where anything is wrong."""
    from groat.server import operations
    from groat.server.desired.policies import read_policies
    from groat.server.desired.reading import read_wanted

    if offline and not dry_run:
        raise click.UsageError("--offline goes with --dry-run: without a store there is nothing to change")
    rules = read_policies(policies) if policies else ()
    wanted = read_wanted(source)
    if offline:
        _look_at_files(session, wanted, rules)
    elif dry_run:
        _compare(session, wanted, rules, prune=prune)

    def undecided(plan: "DesiredPlan") -> None:
        if plan.takes_away and not session.yes:
            raise _Undecided(plan)

    wish = operations.DesiredWish(wanted, prune, rules)
    try:
        plan = _with_files(session, wanted, _applying(session, wish, undecided))
    except _Undecided as question:
        plan = _ask(session, wish, question.plan)
    show(session, plan, "changed" if plan.differences else "unchanged")
    for line in loss_lines(plan.losses):
        session.note(line)


def _applying(
    session: Session, wish: "DesiredWish", judge: "Callable[[DesiredPlan], None]"
) -> "Callable[[Operator], Coroutine[Any, Any, DesiredPlan]]":
    """Apply, and say so where somebody else was faster: `judge` is asked again, of what they left."""
    from groat.server import operations

    plans = 0

    def judged(plan: "DesiredPlan") -> None:
        nonlocal plans
        plans += 1
        if plans > 1:
            session.note("somebody else changed the registry meanwhile: starting over from what it is now")
        judge(plan)

    return lambda operator: operations.apply_desired(operator, wish, judged)


def _look_at_files(session: Session, wanted: "Wanted", rules: "Sequence[RegistryPolicy]") -> NoReturn:
    """Without a store; by the settings of this directory, or of the environment, where there are any."""
    import asyncio
    import os

    from groat.protocol.models import Policy
    from groat.server.operations.desired import check_files

    there = session.config_file.exists() or session.config_named or "GROAT_ISSUER" in os.environ
    policy = session.config().policy if there else Policy("https://issuer.invalid")
    count = asyncio.run(check_files(policy, wanted, rules))
    session.show({"outcome": "valid", "objects": count, "policies": len(rules)}, "valid")
    raise click.exceptions.Exit(Exit.DONE)


def _with_files(
    session: Session, wanted: "Wanted", work: "Callable[[Operator], Coroutine[Any, Any, DesiredPlan]]"
) -> "DesiredPlan":
    """Run this; where the store is away, what is wrong with the files is said all the same."""
    from groat.server.desired.reading import raise_all
    from groat.server.unavailable import Unavailable

    try:
        return session.operate(work)
    except Unavailable:
        raise_all(wanted.findings)
        raise


def _ask(session: Session, wish: "DesiredWish", plan: "DesiredPlan") -> "DesiredPlan":
    """Show what would become of the registry, and do just that if somebody says so."""
    from groat.server.operations.losses import refuse_others

    removed = [f"{one.kind}/{one.name}: removed" for one in plan.differences if one.after is None]
    if session.interactive and sys.stdin.isatty():
        for line in lines(plan, color=False):
            session.note(line)
    session.confirm("Apply this? What clients lose does not come back by itself.", [*removed, *loss_lines(plan.losses)])

    def the_same(found: "DesiredPlan") -> None:
        refuse_others(plan.losses, found.losses)

    return session.operate(_applying(session, wish, the_same))


@click.command()
@_FILES
@_PRUNE
@click.pass_obj
def diff(session: Session, source: Path, prune: bool) -> None:
    """Compare the registry with these files; the same as `groat apply --dry-run`. Exit code 7: they differ."""
    from groat.server.desired.reading import read_wanted

    _compare(session, read_wanted(source), (), prune=prune)


def _compare(session: Session, wanted: "Wanted", rules: "Sequence[RegistryPolicy]", *, prune: bool) -> NoReturn:
    from groat.server import operations

    wish = operations.DesiredWish(wanted, prune, rules)
    plan = _with_files(session, wanted, lambda operator: operations.plan_desired(operator, wish))
    show(session, plan, "would change" if plan.differences else "unchanged")
    for line in loss_lines(plan.losses):
        session.note(line)
    raise click.exceptions.Exit(Exit.CHECK_FAILED if plan.differences else Exit.DONE)
