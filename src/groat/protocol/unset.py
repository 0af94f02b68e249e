"""The word for "leave it as it is", where None is a value of its own."""

from enum import Enum
from typing import Final


class Unset(Enum):
    """Has one member, so that a type checker knows what is left when it is ruled out."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
