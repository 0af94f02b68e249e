"""The store of a configuration, with somebody to hear when it goes away."""

import contextlib
from typing import Any

from groat.server.log.event_log import EventLog
from groat.server.settings.config import Config
from groat.server.settings.engines import open_engine
from groat.server.store import OPERATOR_PATIENCE, Store
from groat.server.turns import Turns


def open_store(
    config: Config, log: EventLog | None = None, patience: int = OPERATOR_PATIENCE, turns: Turns | None = None
) -> Store:
    """The store that the configuration names, for an operator; `log` hears when it goes away and comes back.

    Raises ConfigError, StoreUnavailable. Not checked: whether PostgreSQL answers; it is asked at the first use.
    """

    def tell(event: str, facts: dict[str, Any]) -> None:
        if log is not None:
            with contextlib.suppress(OSError):
                log.emit("warning" if event == "store.up" else "error", event, facts)

    return open_engine(config, tell, patience, turns)
