"""Short ways to load settings from a text, an environment and flags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.errors import ConfigError
from groat.server.settings.config import Config, load_config

ISSUER: Final = "https://as.example"
HEAD: Final = f'issuer = "{ISSUER}"\n'


def load(
    folder: Path, text: str | None = HEAD, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    """Load the settings from `groat.toml` in a folder, which gets this text; None leaves it out."""
    path = folder / "groat.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    return load_config(path, env or {}, flags)


def findings(
    folder: Path, text: str | None = HEAD, env: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> list[str]:
    """What is said about settings that are refused, with the folder cut away."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, env, flags)
    return [str(finding).replace(f"{folder}/", "") for finding in caught.value.findings]
