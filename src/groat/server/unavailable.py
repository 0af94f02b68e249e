"""Why the server cannot do its work now: one class, whose reason is what logs, metrics and /readyz name.

Unavailable                 503, whatever the reason; the body never says which
└── StoreUnavailable        store_unavailable: locked, full, gone
    ├── StoreBusy           store_busy
    ├── StoreClosed         store_closed
    ├── BeforeFloor         store_floor
    ├── BeforeHorizon       clock_behind
    └── ClocksDiffer        clock_skew

`protocol/reasons.py` has every reason with what it means and what to do.
"""

from typing import ClassVar


class Unavailable(Exception):
    """Something that a token depends on cannot be had now; the request may be tried again.

    `reason`: one word from a fixed set; `hint`: a sentence for the log, without any secret.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(hint)
        self.reason = reason
        self.hint = hint


class StoreUnavailable(Unavailable):
    """The store cannot answer now: locked, full, gone. Nothing is lost."""

    code: ClassVar[str] = "store_unavailable"

    def __init__(self, hint: str) -> None:
        super().__init__(self.code, hint)


class StoreBusy(StoreUnavailable):
    """More requests wait for the store than it can take."""

    code = "store_busy"


class StoreClosed(StoreUnavailable):
    """The store was closed for good because its contents moved to another one."""

    code = "store_closed"

    def __init__(self, hint: str = "") -> None:
        super().__init__(
            hint
            or "this store is closed: its contents moved to another one. Set storage.url to that one and restart; "
            "or take this one up again, if the copy came to nothing: groat store reopen. "
            "A file of groat store backup is put back by groat store restore"
        )


class BeforeFloor(StoreUnavailable):
    """The value was made before the moment from which this store's memory is complete; nobody can say if it is new."""

    code = "store_floor"


class BeforeHorizon(StoreUnavailable):
    """The value ended before what the store may have forgotten, so the clock by which it is still good is behind."""

    code = "clock_behind"


class ClocksDiffer(StoreUnavailable):
    """The store went back in time, and nobody can say to when: its clock and this process's disagree."""

    code = "clock_skew"
