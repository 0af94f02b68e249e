"""How each member of an object is read: from what a file says to a value; ValueError says what would be right."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from groat.protocol.client_settings import CLIENT_SETTINGS, Described, Kind, token_lifetime
from groat.protocol.federation.trust import Replay, Review, Use
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.listing import Listing
from groat.server.settings.readers import boolean, date_and_time, duration, optional, text

Read = Callable[[Any], Any]


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def switch(value: Any) -> bool:
    """true or false, and no text that looks like it."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return boolean(value)


def instant(value: Any) -> int:
    """An instant, with its offset."""
    return date_and_time(value.isoformat() if isinstance(value, datetime) else value)


def _lifetime(value: Any) -> int | None:
    return token_lifetime(duration(value))


def _algorithms(value: Any) -> tuple[str, ...]:
    names = texts(value)
    if unknown := [name for name in names if name not in ALGORITHM_NAMES]:
        raise ValueError(f"a list of algorithms; {unknown[0]} is none")
    return tuple(dict.fromkeys(ALGORITHM_NAMES[name].name for name in names))


def _uses(value: Any) -> frozenset[Use]:
    try:
        return frozenset(map(Use, texts(value)))
    except ValueError:
        raise ValueError(f"a list of {', '.join(Use)}") from None


def _replay(value: Any) -> Replay:
    if value not in [*Replay]:
        raise ValueError(f"one of {', '.join(Replay)}")
    return Replay(value)


def _review(value: Any) -> Review:
    names = {"server", "token_file", "ca_file"}
    if not isinstance(value, dict) or not {"server", "token_file"} <= value.keys() <= names:
        raise ValueError("a table of server, token_file and, where it is not public, ca_file")
    return Review(**{name: text(one) for name, one in value.items()})


def setting(told: Described) -> Read:
    """The reader of a setting of clients. It raises ConfigError for a value of the right kind that cannot be."""
    wanted = {
        Kind.WORDS: "a list of texts",
        Kind.CERTIFICATES: "a list of files, or of certificates in base64",
        Kind.CHOICE: f"one of {', '.join(told.choices)}",
        Kind.SWITCH: "true or false",
        Kind.PAIRS: "a table of texts",
    }.get(told.kind, "a text")

    def read(value: Any) -> Any:
        plain = duration(value) if told.kind is Kind.SPAN else value
        if told.kind is Kind.CHOICE and not isinstance(value, str):
            raise ValueError(wanted)
        try:
            return told.read(plain)
        except (TypeError, ValueError):
            raise ValueError(wanted) from None

    return read


def _listing(value: Any) -> Listing:
    try:
        return Listing(value)
    except ValueError:
        raise ValueError(f"one of {', '.join(Listing)}") from None


API_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {
        "audience": text,
        "scopes": texts,
        "token_lifetime": _lifetime,
        "binding": setting(CLIENT_SETTINGS["binding"]),
        "status": _listing,
    }
)
CLIENT_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {"enabled": switch, **{name: setting(told) for name, told in CLIENT_SETTINGS.items()}}
)
TRUST_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {
        "issuer": text,
        "preset": optional,
        "algorithms": _algorithms,
        "audiences": texts,
        "max_lifetime": duration,
        "replay": _replay,
        "uses": _uses,
        "review": _review,
        "enabled": switch,
    }
)
# Of which a trust has one: where the keys of the issuer are.
SOURCES: Final = ("jwks", "jwks_file", "jwks_uri", "discovery")
SOURCE_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {"jwks_file": text, "jwks_uri": text, "discovery": switch, "ca_file": text, "token_file": text}
)
KEY_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {"file": text, "algorithm": text, "not_before": instant, "expires_at": instant}
)
RULE_MEMBERS: Final[Mapping[str, Read]] = MappingProxyType(
    {"trust": text, "match": texts, "copy": texts, "allow": texts}
)
