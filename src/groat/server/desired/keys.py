"""Public keys that files name or hold: those of clients and APIs, and the sets of issuers that are trusted."""

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from groat.keys.files import read_certificates, read_public_keys
from groat.keys.public_key import parse_public_keys
from groat.protocol import strict_json
from groat.protocol.client_settings import CLIENT_SETTINGS, Kind
from groat.protocol.errors import ConfigError
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.protocol.key_limits import UNLIMITED, KeyLimits
from groat.server.desired.members import KEY_MEMBERS, Read
from groat.server.desired.places import Place
from groat.server.desired.wanted import WantedKey

MAX_SET_BYTES: Final = 256 * 1024
# DER in base64, as x5c has it: no name of a file.
_CERTIFICATE: Final = re.compile(r"MI[A-Za-z0-9+/]{100,}={0,2}")


class Notes(Protocol):
    """Where findings go: of the reader of files."""

    def fault(self, place: Place, message: str) -> None: ...

    def noting(self, place: Place, what: str = "") -> AbstractContextManager[None]: ...

    def members(
        self, given: Mapping[str, Any], readers: Mapping[str, Read], place: Place, others: tuple[str, ...] = ()
    ) -> dict[str, Any]: ...


def read_keys(notes: Notes, given: Any, place: Place) -> tuple[WantedKey, ...]:
    """The keys of one owner: names of files beside this one, or tables with `file` or `jwk` and their limits."""
    if not isinstance(given, list):
        notes.fault(place, 'keys must be a list: ["billing.jwk.json"]')
        return ()
    found: list[WantedKey] = []
    for number, entry in enumerate(given):
        here = place.at(number)
        with notes.noting(here, "a key"):
            found += _entry(notes, {"file": entry} if isinstance(entry, str) else entry, here)
    kids: dict[str, WantedKey] = {}
    for one in found:
        if kids.setdefault(one.key.kid, one) is not one:
            notes.fault(one.place, f"key {one.key.kid} is there twice, first at {kids[one.key.kid].place}")
    return tuple(found)


def read_api_keys(notes: Notes, given: Any, place: Place) -> tuple[WantedKey, ...]:
    """The same of an API; its keys count from registration to removal."""
    keys = read_keys(notes, given, place)
    for one in keys:
        if one.limits != UNLIMITED:
            notes.fault(one.place, "a key of an API counts until it is removed: it has no instants")
    return keys


def _entry(notes: Notes, entry: Any, place: Place) -> list[WantedKey]:
    """Raises ConfigError, JoseError, ValueError."""
    if not isinstance(entry, dict) or ("file" in entry) == ("jwk" in entry):
        raise ValueError("the name of a file, or a table with one of file and jwk")
    members = notes.members(entry, KEY_MEMBERS, place, ("jwk",))
    limits = KeyLimits(members.get("not_before"), members.get("expires_at"))
    algorithm = members.get("algorithm")
    if "jwk" in entry:
        if not isinstance(entry["jwk"], dict):
            raise ValueError("a table: jwk = {kty = ...}")
        keys = parse_public_keys(_json(entry["jwk"]), algorithm)
    else:
        keys = read_public_keys(_beside(place, members.get("file", "")), algorithm)
    return [WantedKey(key, limits, place) for key in keys]


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):
        raise ValueError("what JSON can say, too: no dates, no NaN") from None


def _beside(place: Place, name: str) -> Path:
    """A name that is not absolute is one in the directory of the file that says it."""
    return Path(place.file or "").parent / name


def with_certificates(notes: Notes, given: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """The members of a client, with what files of certificates hold in the place of their names."""
    found = dict(given)
    for name, told in CLIENT_SETTINGS.items():
        if told.kind is Kind.CERTIFICATES and name in found:
            value = found.pop(name)
            with notes.noting(place.at(name), name):
                found[name] = _certificates(value, place)
    return found


def _certificates(value: Any, place: Place) -> Any:
    """Certificates as a setting has them, where files that hold them are named beside; anything else stays as it is.

    Raises ConfigError.
    """
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return value
    return [
        one
        for item in value
        for one in ([item] if _CERTIFICATE.fullmatch(item) else read_certificates(_beside(place, item)))
    ]


def read_source(kind: str, given: Mapping[str, Any], members: Mapping[str, Any], place: Place) -> KeySource:
    """Where the keys of a trusted issuer are. Raises ConfigError, JoseError, ValueError."""
    ca_file, token_file = members.get("ca_file"), members.get("token_file")
    if kind == "jwks":
        return KeySource(SourceKind.COPIED, _key_set(given["jwks"], place), ca_file, token_file)
    at = "" if kind == "discovery" else members.get(kind, "")
    return KeySource(SourceKind(kind), at, ca_file, token_file)


def _key_set(value: Any, place: Place) -> str:
    """A set as JSON: a table, its text, or the name of a file."""
    if isinstance(value, dict):
        return _json(value).decode()
    if not isinstance(value, str) or not value:
        raise ValueError("a table, the text of a JSON object, or the name of a file")
    raw = value.encode() if value.lstrip().startswith("{") else _file(_beside(place, value))
    strict_json.loads_object(raw)
    return raw.decode()


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MAX_SET_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_SET_BYTES} bytes")
    return raw
