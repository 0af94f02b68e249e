"""Who runs this command, for the audit trail: the account of the operating system, and whom the environment names."""

import os
import pwd
import re
from collections.abc import Mapping
from typing import Final

from groat.protocol.errors import ConfigError
from groat.server.store.audit_trail import Actor, Face

VARIABLE: Final = "GROAT_ACTOR"
_NAME: Final = re.compile(r"[!-~]{1,128}")


def who_runs(face: Face = Face.CLI, env: Mapping[str, str] = os.environ, uid: int | None = None) -> Actor:
    """`user:NAME uid:N`, with `sudo:NAME` where SUDO_USER says so and `claimed:NAME` where GROAT_ACTOR does.

    The uid alone is checked by the operating system: whoever runs a command chooses its environment. Raises ConfigError
    for a GROAT_ACTOR that could pass for other words.
    """
    uid = os.getuid() if uid is None else uid
    words = [f"user:{_word(name)}" for name in _account(uid)] + [f"uid:{uid}"]
    if sudo := env.get("SUDO_USER"):
        words.append(f"sudo:{_word(sudo)}")
    if claimed := env.get(VARIABLE):
        if not _NAME.fullmatch(claimed):
            raise ConfigError(f"{VARIABLE} must be 1 to 128 printable ASCII characters without a space")
        words.append(f"claimed:{claimed}")
    return Actor(" ".join(words), face)


def _account(uid: int) -> list[str]:
    try:
        return [pwd.getpwuid(uid).pw_name]
    except KeyError:  # a container often has no entry for the user that it runs as
        return []


def _word(name: str) -> str:
    """A name as one word: nothing in it may pass for another one."""
    return re.sub(r"[^!-~]", "?", name)[:128]
