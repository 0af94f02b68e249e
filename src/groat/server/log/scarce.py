"""Log lines that strangers cause: some of them are written, the rest is counted."""

from dataclasses import dataclass, field

from groat.server.gcra import Gcra


@dataclass(slots=True)
class ScarceLines:
    """At most `limit` lines in `window` seconds of each kind; the next one says how many were held back."""

    limit: int = 30
    window: float = 60.0
    _bucket: Gcra = field(init=False)
    _held_back: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._bucket = Gcra(self.limit, self.window)

    def admit(self, kind: str, now: float) -> int | None:
        """How many lines of this kind were held back since the last one; None if this one is to be, too.

        `kind`: from a fixed set, never from a request.
        """
        if self._bucket.wait(kind, now):
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        self._bucket.add(kind, now)
        return self._held_back.pop(kind, 0)
