"""For how long an HTTP answer stays good (RFC 9111 4.2)."""

from groat.protocol.grammar import MAX_AGE


def lifetime(cache_control: str, age: str, default: float) -> float:
    """Seconds of its max-age, or of the default, less those that it spent in caches; may be negative."""
    found = MAX_AGE.search(cache_control)
    age = age.strip()
    spent = float(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0.0
    return (float(found[1]) if found else default) - spent
