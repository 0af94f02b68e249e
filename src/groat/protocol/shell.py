"""Commands that people copy from a log or a message into a shell: foreign names in them are words and nothing else."""

import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def shell_word(text: str) -> str:
    """One word for a POSIX shell, in quotes where a character means something there; controls come out escaped."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if _PLAIN.fullmatch(shown) else "'" + shown.replace("'", "'\"'\"'") + "'"


def command(verb: str, *ids: str, options: str = "") -> str:
    """`groat VERB IDS OPTIONS` for copying; `options` is our own text. An id like an option stands behind `--`."""
    words = " ".join(map(shell_word, ids))
    behind = any(one.startswith("-") for one in ids)
    parts = (verb, options, "--", words) if behind else (verb, words, options)
    return " ".join(("groat", *(part for part in parts if part)))
