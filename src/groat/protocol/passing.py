"""Values that live for one request: read-only to the type checker, and made in half the time of frozen ones.

What is frozen at run time, too, is set by a call for each field: a token request has some thirty. A value that is kept,
shared or given away stays frozen (docs/decisions/0084-made-once.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Made = TypeVar("Made")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def passing(*, kw_only: bool = False, eq: bool = True) -> Callable[[type[Made]], type[Made]]:
    """A dataclass with slots, whose fields nobody but its maker may set; nothing at run time holds that."""
    return dataclass(slots=True, kw_only=kw_only, eq=eq)
