"""Times of an assertion or a token that do not fit, in words: not in seconds, a wrong clock, a life too long."""

from collections.abc import Mapping
from typing import Any, Final

from groat.protocol.errors import JoseError

# Seconds since 1970 pass these in the years 5138 and later; counts in the smaller unit have passed them long ago.
_UNITS: Final = (("nanoseconds", 10**17), ("microseconds", 10**14), ("milliseconds", 10**11))
_LEAST_INSTANT: Final = 10**8  # in 1973: what is smaller is a span, or counts minutes
_ZONE_STEP, _ZONE_SLACK = 1800, 360


def time_hint(error: JoseError, claims: Mapping[str, Any], now: float) -> str:
    """Why the times of an assertion were refused; the likeliest cause first. `now`: epoch seconds."""
    if error.reason == "expired":
        return _unit_fault(claims) or _behind(claims, now) + error.hint
    if error.reason in ("not_yet", "lifetime"):
        return _unit_fault(claims) or _ahead(claims, now) + error.hint
    return error.hint


def token_time_hint(error: JoseError, claims: Mapping[str, Any], now: float) -> str:
    """The same for the times of an access token, which is refused as "expired" or "not_yet" by who verifies it."""
    if fault := _unit_fault(claims):
        return fault
    if error.reason == "not_yet":
        return f"{error.hint}: this machine's clock is behind the issuer's"
    return f"{error.hint}: an old token, or this machine's clock is ahead of the issuer's"


def life_of(claims: Mapping[str, Any], now: float) -> float | None:
    """How long an assertion wants to live, in seconds; None where a longer life would not help it.

    That is where a time is in another unit, where iat lies behind exp, and where the clock is what is wrong.
    """
    exp, issued = _number(claims, "exp"), _number(claims, "iat")
    if exp is None or _unit_fault(claims) or (issued is not None and (issued > exp or issued > now)):
        return None
    return exp - (now if issued is None else issued)


def _unit_fault(claims: Mapping[str, Any]) -> str:
    for name in ("exp", "iat", "nbf"):
        value = _number(claims, name)
        unit = next((unit for unit, least in _UNITS if value is not None and value >= least), "")
        if unit:
            return f"{name} looks like {unit}; it must count seconds since 1970 (RFC 7519 2)"
        if value is not None and value < _LEAST_INSTANT:
            return f"{name} is {value:.0f}, which looks like a span; it must count seconds since 1970 (RFC 7519 2)"
    return ""


def _behind(claims: Mapping[str, Any], now: float) -> str:
    exp, issued = _number(claims, "exp") or 0, _number(claims, "iat")
    signed = f" (up to {now - issued:.0f} s, by iat)" if issued is not None and issued < exp else ""
    clock = f"the caller's clock is about {now - exp:.0f} s behind this server's{signed}, or the assertion is old"
    return f"{clock}{_zone(now - (exp if issued is None else issued))}: "


def _ahead(claims: Mapping[str, Any], now: float) -> str:
    """Empty where only nbf or the life is odd: whoever says when it was signed has shown his clock."""
    issued, begin = _number(claims, "iat"), _number(claims, "nbf")
    shown = begin if issued is None else issued
    if shown is None or shown <= now:
        return ""
    return f"the caller's clock is about {shown - now:.0f} s ahead of this server's{_zone(shown - now)}: "


def _zone(seconds: float) -> str:
    """A remark on a difference that is about the offset of a time zone."""
    near = round(seconds / _ZONE_STEP) * _ZONE_STEP
    if not 3600 <= near <= 14 * 3600 or abs(seconds - near) > _ZONE_SLACK:
        return ""
    return f" (about {near / 3600:g} h: a local time that was taken for UTC?)"


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
