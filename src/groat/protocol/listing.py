"""Whether the tokens of an API stand in a status list."""

from enum import StrEnum


class Listing(StrEnum):
    """What an operator chooses for an API."""

    NONE = "none"
    LIST = "list"
