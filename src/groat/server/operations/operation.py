"""The row of an operation: it stands beside its function, and every face finds it in the one table."""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_type_hints

Work = Callable[..., Coroutine[Any, Any, Any]]
Function = TypeVar("Function", bound=Work)


class Access(StrEnum):
    """What an operation needs to be allowed to do."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that an operator may do. `plan`: what says whom it would hit, where somebody may lose something."""

    name: str
    call: Work
    access: Access
    plan: Work | None = None

    @property
    def takes(self) -> Mapping[str, Any]:
        """The types of what it is told, by name; the first is where it works: an `Operator`, or a `Ring` of one."""
        return {name: kind for name, kind in self._hints.items() if name != "return"}

    @property
    def gives(self) -> Any:
        """The type of its result."""
        return self._hints["return"]

    @property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(inspect.unwrap(self.call))


_rows: dict[str, Operation] = {}
# Every operation by its name, once all of their modules are there (`operations/__init__.py` sees to that).
OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(_rows)


def reads(name: str) -> Callable[[Function], Function]:
    """Enter the function below as an operation that changes nothing."""
    return lambda function: _entered(Operation(name, function, Access.READ), function)


def writes(name: str, plan: Work | None = None) -> Callable[[Function], Function]:
    """Enter the function below as an operation that changes something; `plan`: see `Operation`."""
    return lambda function: _entered(Operation(name, function, Access.WRITE, plan), function)


def _entered(row: Operation, function: Function) -> Function:
    if row.name in _rows:
        raise ValueError(f"two operations are called {row.name}")
    _rows[row.name] = row
    return function
