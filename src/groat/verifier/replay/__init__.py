"""Where an API remembers which proofs of possession it has seen (RFC 9449 11.1): the table of the plugs.

memory                  of one process, the default
none                    nowhere
sqlite:PATH             a file that the processes of one host share
postgresql://...        a database that all hosts share
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from groat.protocol.errors import ConfigError
from groat.protocol.models import OneTimeValue
from groat.verifier.replay.memory import ReplayMemory

_SQLITE: Final = "sqlite:"
_POSTGRES: Final = ("postgresql://", "postgres://")


@runtime_checkable
class ReplayStore(Protocol):
    """A plug of one's own; called from any thread, several at once.

    It may wait for a disk or a network: asynchronous adapters ask it in a thread. Whatever it raises is a 503.
    """

    def first(self, proof: OneTimeValue, now: float) -> bool:
        """Whether this proof was never here before; from now on it was, for every process that asks.

        Told by `proof.digest` (32 bytes), to be kept until `proof.expires_at` at least. Both and `now`: epoch seconds.
        """
        ...


def check_replay(replay: object) -> None:
    """Raises ConfigError for what names no plug and is none; no text repeats a URL, which may hold a password."""
    if not isinstance(replay, str):
        if isinstance(replay, type) or not isinstance(replay, ReplayStore):
            raise ConfigError("Dpop.replay must be a word, a URL or an object with first(proof, now)")
    elif replay.startswith(_SQLITE):
        path = Path(replay.removeprefix(_SQLITE))
        if not path.name or not path.parent.is_dir():
            raise ConfigError(f"Dpop.replay is {_SQLITE}PATH, a file in a directory that is there already")
    elif replay not in ("memory", "none") and not replay.startswith(_POSTGRES):
        raise ConfigError("Dpop.replay must be memory, none, sqlite:PATH or postgresql://USER@HOST/DATABASE")


def open_replay(replay: "str | ReplayStore", monotonic: Callable[[], float]) -> ReplayStore | None:
    """The plug; nothing is opened or connected before the first proof. Raises ImportError where an extra is missing."""
    if not isinstance(replay, str):
        return replay
    if replay.startswith(_SQLITE):
        from groat.verifier.replay.sqlite import SqliteReplays

        return SqliteReplays(Path(replay.removeprefix(_SQLITE)))
    if replay.startswith(_POSTGRES):
        from groat.verifier.replay.postgres import PostgresReplays

        return PostgresReplays(replay)
    return ReplayMemory(monotonic=monotonic) if replay == "memory" else None


__all__ = ["ReplayMemory", "ReplayStore", "check_replay", "open_replay"]
