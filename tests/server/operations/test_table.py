"""The table of operations is whole: what is in their modules is in it, and its rows say the truth."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from groat.server.log.refusals import Refusals
from groat.server.operations.operation import OPERATIONS, Access, reads
from groat.server.operations.operator import Operator
from groat.server.operations.signing_keys import Ring
from groat.server.operations.table import ROOMS

SOURCE: Final = Path(__file__).parents[3] / "src" / "groat"
# What helps operations, and is none.
HELPERS: Final = {
    "check_files": "looks at files, and works nowhere",
    "apply_next_step": "the schedule's own work, which nobody asks for",
    "forget_audit": "retention's own work, which nobody asks for",
    "begin_memory": "a part of store.init",
    "check_custody": "a check of several operations",
    "list_some_audit": "audit.list, a part at a time",
    "list_some_clients": "client.list, a part at a time",
    "trusted_now": "a check of several operations",
}
# Why an operation has no command.
NO_COMMAND: Final = {
    "client_key.enrol": "the client's host asks for it, at /client-keys: groat client join, groat client key rotate",
    "client_key.retire": "the same: groat client key rotate --retire-old-after",
    "key.first": "a part of groat init",
    "refusal.show": "the memory is the running server's, so it is asked: groat explain",
    "refusal.list": "the same: groat log",
}
# Why files do not say what an operation changes.
_MOMENT: Final = "done at one moment, and not what is registered"
_RING: Final = "the server's own keys: they come and go by a schedule, or at one moment by an operator"
_FILE: Final = "about the store itself, which has the registry"
NO_FILE: Final = {
    "registry.apply": "this is it",
    "client.invite": "a code for one client, once",
    "client_key.enrol": NO_COMMAND["client_key.enrol"],
    "client_key.retire": NO_COMMAND["client_key.retire"],
    **{f"revocation.{name}": _MOMENT for name in ("all", "api", "client", "token", "trust")},
    **{f"key.{name}": _RING for name in ("activate", "first", "prepare", "reseal", "retire", "revoke", "rotate")},
    **{f"store.{name}": _FILE for name in ("backup", "copy", "fence", "init", "reopen", "restore", "take_back")},
}


def functions() -> Iterator[tuple[str, Any]]:
    """The public coroutine functions that these modules define."""
    for room in ROOMS:
        for name, found in vars(room).items():
            inner = inspect.unwrap(found) if callable(found) else None
            if inspect.iscoroutinefunction(inner) and inner.__module__ == room.__name__ and not name.startswith("_"):
                yield name, found


def test_every_operation_has_a_row() -> None:
    """A function without one is a plan of a row, or a helper that says why."""
    known = {row.call for row in OPERATIONS.values()} | {row.plan for row in OPERATIONS.values()}
    missing = {name for name, found in functions() if found not in known}
    assert missing == set(HELPERS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_row_says_what_it_takes_and_gives(name: str) -> None:
    """Where it works comes first, every type can be found, and who reads plans nothing."""
    row = OPERATIONS[name]
    first, *_ = row.takes.values()
    assert first in (Operator, Ring, Path, Refusals)
    assert row.gives is not inspect.Signature.empty
    assert row.access is Access.WRITE or row.plan is None
    writes = "change(" in inspect.getsource(inspect.unwrap(row.call))
    assert not (writes and row.access is Access.READ)


def called_by(pattern: str) -> set[str]:
    """Every name of a function that some of these modules use."""
    names = set[str]()
    for path in SOURCE.glob(pattern):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Name):
                names.add(node.id)
    return names


def test_every_operation_is_a_command_or_says_why_not() -> None:
    """The command line is one face of this list; the admin API is another."""
    used = called_by("cli/commands/*.py")
    missing = {name for name, row in OPERATIONS.items() if row.call.__name__ not in used}
    assert missing == set(NO_COMMAND)


def test_whatever_changes_a_registry_is_done_by_files_or_says_why_not() -> None:
    """Files are the third face of this list: what they cannot say would be lost by an export and a new store."""
    used = called_by("server/operations/desired_*.py")
    writes = {name: row.call.__name__ for name, row in OPERATIONS.items() if row.access is Access.WRITE}
    assert {name for name, call in writes.items() if call not in used} == set(NO_FILE)


def test_two_operations_of_one_name_are_refused() -> None:
    """The later one would take the place of the other, silently."""

    async def other(operator: Operator) -> None: ...

    with pytest.raises(ValueError, match="two operations are called api"):
        reads("api.list")(other)


def test_the_table_cannot_be_written() -> None:
    """Who wants a row writes it beside its function."""
    assert isinstance(OPERATIONS, Mapping)
    assert not hasattr(OPERATIONS, "__setitem__")
