"""What a platform hands out as a workload's token: one JWT by its shape, or a word on what it is instead."""

from typing import Final

from groat.client.errors import KeyUnusable
from groat.protocol.grammar import BASE64URL_ALPHABET
from groat.protocol.stray import stray

MAX_WORKLOAD_TOKEN_BYTES: Final = 16 * 1024


def checked_token(raw: bytes, what: str, place: str) -> str | KeyUnusable:
    """The token, or what is wrong with it, of which nothing is shown. `what` and `place` name it in an error.

    Not checked: anything that it says.
    """
    raw = raw.strip()
    if len(raw) > MAX_WORKLOAD_TOKEN_BYTES or raw.translate(None, BASE64URL_ALPHABET) != b"..":
        return KeyUnusable(f"{what}: not a JWT{_odd_token(raw, place)}")
    return raw.decode("ascii")


def _odd_token(raw: bytes, place: str) -> str:
    """What stands there instead of a JWT, without any of it; empty where nobody can tell."""
    text = raw.decode("utf-8", "replace")
    if not text:
        return f": {place} is empty"
    if "\0" in text:
        return ": it is UTF-16; save it as UTF-8"
    if odd := stray(text):
        return f": {odd}"
    if text.startswith("{"):
        return ": it is a JSON document; write the value of its token alone"
    return ": it begins with Bearer; write the token alone" if text.lower().startswith("bearer ") else ""
