"""From when to when a client's key counts: a rule of this server, whatever the key itself says (KEY-23).

Not checked here: whether the key is the client's, and whether it proves anything.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from groat.protocol.errors import ConfigError
from groat.protocol.unset import UNSET, Unset

LATEST: Final = 253_402_300_799  # 9999-12-31T23:59:59Z: what a date can say


class OutOfTime(StrEnum):
    """Why a registered key does not count at this moment; the values are reason codes of the log."""

    NOT_YET_VALID = "key_not_yet_valid"
    EXPIRED = "key_expired"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The life of one client key in epoch seconds; None: no limit on that side.

    Raises ConfigError where no moment would be left, or for instants that are no dates.
    """

    not_before: int | None = None
    expires_at: int | None = None

    def __post_init__(self) -> None:
        for instant in (self.not_before, self.expires_at):
            if instant is not None and not 0 <= instant <= LATEST:
                raise ConfigError("not-before and expiry must lie between the years 1970 and 9999")
        if self.not_before is not None and self.expires_at is not None and self.not_before >= self.expires_at:
            raise ConfigError("a key must expire after its not-before")

    def fault(self, now: float, tolerance: float = 0) -> OutOfTime | None:
        """Judge the instant `now` as `check_times` does: the beginning may lie ahead by `tolerance`, the end not."""
        if self.expires_at is not None and now >= self.expires_at:
            return OutOfTime.EXPIRED
        if self.not_before is not None and self.not_before > now + tolerance:
            return OutOfTime.NOT_YET_VALID
        return None


UNLIMITED: Final = KeyLimits()


@dataclass(frozen=True, slots=True)
class LimitsChange:
    """What becomes of the life of a key: an instant, None for no limit on that side, UNSET for the one it has."""

    not_before: int | Unset | None = UNSET
    expires_at: int | Unset | None = UNSET

    def applied(self, limits: KeyLimits) -> KeyLimits:
        """The limits after this change. Raises ConfigError as KeyLimits does."""
        begin = limits.not_before if self.not_before is UNSET else self.not_before
        return KeyLimits(begin, limits.expires_at if self.expires_at is UNSET else self.expires_at)
