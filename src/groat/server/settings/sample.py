"""What the settings are, for people: the sample file that `groat init` writes, and the schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from groat.server.settings.table import RELOADED, SETTINGS, Setting
from groat.server.store.url import url_without_password


def sample_config(issuer: str, algorithm: str, storage_url: str) -> str:
    """The text of a new configuration file: what is set, and every default with what it is for."""
    chosen: dict[str, Any] = {
        "issuer": issuer,
        "keys.algorithm": algorithm,
        "storage.url": url_without_password(storage_url),
    }
    lines = ["# groat configuration. Environment: GROAT_SECTION__KEY. Reload: SIGHUP.", ""]
    section = ""
    for setting in SETTINGS:
        head, _, key = setting.name.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{head}]"]
        value = _toml(chosen.get(setting.name, setting.default))
        mark = "" if setting.name in chosen and chosen[setting.name] != setting.default else "# "
        lines.append(f"{mark}{key} = {value}".ljust(44) + f"  # {setting.about} ({setting.env}); {_applied(setting)}")
    return "\n".join(lines) + "\n"


def _applied(setting: Setting) -> str:
    return "reload" if setting.name in RELOADED else "restart"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # JSON escapes are TOML escapes; DEL is the one character that only TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return "{}" if isinstance(value, Mapping) else str(value)


def settings_schema() -> list[dict[str, Any]]:
    """Every setting with its name, variable, default and purpose."""
    return [
        {
            "name": s.name,
            "env": s.env,
            "default": s.default,
            "required": s.default is None,
            "reload": s.name in RELOADED,
            "about": s.about,
        }
        for s in SETTINGS
    ]
