"""Reload by SIGHUP: the settings that can change while requests are served, the certificate, and what has to wait."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groat.protocol.errors import ConfigError
from groat.server.log.event_log import EventLog, set_library_level
from groat.server.settings.config import Config, load_config, with_settings_of
from groat.server.settings.table import RELOADED, SETTINGS
from groat.server.settings.tls_files import TlsFiles


@dataclass(frozen=True, slots=True)
class Source:
    """The settings in force in one process, and where to read them again; goes to the workers when they start."""

    config: Config
    file: Path
    flags: Mapping[str, Any]
    tls: TlsFiles | None = None

    def reread(self) -> tuple["Source", list[str]]:
        """The source with the settings that a reload applies, and the names of changed ones that need a restart.

        Raises ConfigError when the file, the certificate, or what would come of it, is not valid; nothing has changed
        then.
        """
        if self.tls is not None:
            self.tls.check()
        fresh = load_config(self.file, os.environ, self.flags)
        fresh.policy.revocations.check()
        changed = [s.name for s in SETTINGS if fresh.values[s.name] != self.config.values[s.name]]
        config = with_settings_of(self.config, fresh, RELOADED)
        return replace(self, config=config), [name for name in changed if name not in RELOADED]


@dataclass(slots=True)
class Reloader:
    """Reloads on demand and says what came of it. `apply` puts a configuration in force and must not fail."""

    source: Source
    apply: Callable[[Config], None]
    log: EventLog

    def reload(self) -> None:
        """Read the settings again; a bad file keeps those in force, and the log says why."""
        before = self.source.config
        try:
            source, later = self.source.reread()
            until = {} if source.tls is None else {"certificate_until": source.tls.renew()}
        except ConfigError as error:
            report_refused(self.log, error)
            return
        self.source = source
        after = self.source.config
        applied = sorted(name for name in RELOADED if before.values[name] != after.values[name])
        self.apply(after)
        self.log.adjust(after.logging.level, after.logging.pretty)
        set_library_level(after.logging.level)
        facts = {"pid": os.getpid(), "applied": applied, "needs_restart": later, **until}
        with contextlib.suppress(OSError):  # the settings are in force, whether that can be logged or not
            self.log.emit("warning" if later else "info", "config.reloaded", facts)


def report_refused(log: EventLog, error: ConfigError) -> None:
    """Say why the settings stay as they are: file, line, what, what was probably meant."""
    findings = [str(finding) for finding in error.findings]
    with contextlib.suppress(OSError):
        log.emit("error", "config.refused", {"pid": os.getpid(), "findings": findings, "hint": "the old settings stay"})
