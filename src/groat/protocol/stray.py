"""Characters that came with a value and are no part of it: what editors, env files and copying leave behind."""

import re
from typing import Final

BOM: Final = "\ufeff"
ODD: Final = {
    BOM: "a byte order mark (BOM)",
    "\r": "a carriage return (CR, as Windows ends lines)",
    "\u00a0": "a no-break space",
    "\u202f": "a no-break space",
    "\u200b": "a zero-width space",
    "\u2028": "a line separator",
    "\u201c": "a typographic quotation mark",
    "\u201d": "a typographic quotation mark",
    "\u2018": "a typographic quotation mark",
    "\u2019": "a typographic quotation mark",
}
_QUOTES: Final = "\"'"
# To the last @: a password may hold a slash, or another @, that nobody has encoded.
_USER: Final = re.compile(r"//.*@", re.DOTALL)


def stray(value: str) -> str:
    """What is in a value and hardly meant, in words without the value; empty where nothing is. Blanks may be meant."""
    if value.startswith(BOM):
        return f"it begins with {ODD[BOM]}"
    if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
        return "it is in quotes, which are a part of it here (docker --env-file and Kubernetes keep them)"
    if value.endswith("\r"):
        return f"it ends in {ODD[chr(13)]}"
    found = odd_character(value)
    return f"it holds {ODD[found]} ({found!a})" if found else ""


def without_user(value: str) -> str:
    """The value for a message: of a URL without user name and password."""
    return _USER.sub("//***@", value)


def blanks(value: str) -> str:
    """Likewise for blanks at the ends."""
    return "it begins or ends with a blank" if value != value.strip() else ""


def odd_character(text: str) -> str:
    """The first character of a text that looks like another one, or like none; empty where there is none."""
    return next((character for character in text if character in ODD), "")


def plain_name(name: str) -> str:
    """The name of a variable without what an env file may have put around it."""
    return name.strip(f"{''.join(ODD)}{_QUOTES} \t\n").removeprefix("export ").strip()
