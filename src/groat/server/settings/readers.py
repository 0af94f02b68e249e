"""How settings are read: from what a file has or from the text of a variable; ValueError says what would be right."""

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.certificate_headers import DIALECTS
from groat.protocol.errors import JoseError
from groat.server.http.certificates import CertificateProxies, CertificateProxy, overlap
from groat.server.http.source import Networks

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# RFC 3339 5.6, the seconds optional. Without an offset nobody knows which instant is meant.
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)")


def duration(value: Any) -> int:
    """Seconds from 90, "90s", "10m", "2h" or "30d"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration such as "90s", "10m", "2h" or "30d"')
    return int(match[1]) * _UNITS[match[2] or "s"]


def length(seconds: int) -> str:
    """A span in the largest unit that says it exactly, as `duration` reads it: 30d, 90m, 45s."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def date_and_time(value: Any) -> int:
    """Epoch seconds of a date with its time and offset, as "2027-01-31T00:00:00Z"."""
    with contextlib.suppress(ValueError):  # the 31st of February
        if isinstance(value, str) and _DATE.fullmatch(value):
            return int(datetime.fromisoformat(value.upper()).timestamp())
    raise ValueError('a date such as "2027-01-31T00:00:00Z"')


def days(value: Any) -> int:
    """Seconds: 0, or a day at least."""
    if 0 < (found := duration(value)) < 86400:
        raise ValueError('"0s", or a duration of at least "1d"')
    return found


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a non-empty string")
    return value


def optional(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def integer(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def strings(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or any(not isinstance(item, str) for item in items):
        raise ValueError("a list of strings (in the environment: separated by commas)")
    return tuple(item.strip() for item in items if item.strip())


def networks(value: Any) -> Networks:
    try:
        return tuple(ipaddress.ip_network(item) for item in strings(value))
    except ValueError:
        raise ValueError('a list of addresses or networks such as "10.0.0.0/8"') from None


def certificate_proxies(value: Any) -> CertificateProxies:
    """Raises ValueError also where one proxy would speak two dialects."""
    try:
        items = json.loads(value) if isinstance(value, str) else value
        found = tuple(_certificate_proxy(**item) for item in items)
    except (TypeError, ValueError):
        dialects = ", ".join(DIALECTS)
        raise ValueError(
            'a list of tables such as {network = "10.0.0.0/8", certificate = "rfc9440"} (in the environment: JSON); '
            f"certificate is one of {dialects}"
        ) from None
    if fault := overlap(found):
        raise ValueError(f"networks apart: {fault}")
    return found


def _certificate_proxy(*, network: Any, certificate: Any) -> CertificateProxy:
    if not isinstance(network, str) or certificate not in DIALECTS:
        raise ValueError
    return CertificateProxy(ipaddress.ip_network(network), certificate)


def table(value: Any) -> dict[str, Any]:
    try:
        members = strict_json.loads_object(value.encode()) if isinstance(value, str) else value
        if not isinstance(members, dict):
            raise TypeError
        return dict(json.loads(json.dumps(members, allow_nan=False)))
    except (TypeError, ValueError, JoseError):
        raise ValueError(
            "a table of claims: strings, numbers, booleans, arrays and tables of these (in the environment: JSON)"
        ) from None


def users(value: Any) -> tuple[int, ...]:
    items = value.split(",") if isinstance(value, str) else value
    try:
        found = tuple(integer(item.strip() if isinstance(item, str) else item) for item in items if item != "")
    except (TypeError, ValueError):
        found = (-1,)
    if any(number < 0 for number in found):
        raise ValueError("a list of numbers of users (id -u)")
    return found


def boolean(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def one_of(*choices: str) -> Callable[[Any], str]:
    def choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return choice


def port(value: Any) -> int:
    number = integer(value)
    if not 0 <= number <= 65535:
        raise ValueError("a port from 0 to 65535")
    return number


def at_least(least: int) -> Callable[[Any], int]:
    def number(value: Any) -> int:
        if (found := integer(value)) < least:
            raise ValueError(f"a whole number of at least {least}")
        return found

    return number


positive: Final = at_least(1)


def percent(value: Any) -> int:
    number = integer(value)
    if not 1 <= number <= 100:
        raise ValueError("a whole number from 1 to 100")
    return number
