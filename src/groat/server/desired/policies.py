"""Rules that an organisation sets for its registry, as data: each with a name, a message, and one check.

Judged is what would be registered, by files alone or with what a store knows besides. Nothing that a file says is run.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from groat.protocol.binding import Binding
from groat.protocol.client_settings import CLIENT_SETTINGS
from groat.protocol.errors import ConfigError, Finding
from groat.server.desired.documents import read_document
from groat.server.desired.members import setting, texts
from groat.server.desired.places import Place
from groat.server.desired.wanted import API, CLIENT
from groat.server.settings.readers import duration, optional
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord

Fault = tuple[str, str, str]  # kind, name, what is wrong


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged, by name. `token_lifetime`: seconds, of whoever sets none. `registered`: whether a store says when
    a key was registered; with files alone its `not_before` does."""

    apis: Mapping[str, ApiRecord]
    clients: Mapping[str, ClientRecord]
    keys: Mapping[str, Sequence[ClientKeyRecord]]
    token_lifetime: int
    now: int
    registered: bool


Check = Callable[[Any, Judged], Iterator[Fault]]


def _key_age(limit: int, judged: Judged) -> Iterator[Fault]:
    for name, keys in judged.keys.items():
        for key in keys:
            since = key.not_before if key.not_before is not None else key.created_at if judged.registered else None
            if since is None:
                yield CLIENT, name, f"key {key.kid} does not say since when it counts: not_before"
            elif judged.now - since > limit:
                yield CLIENT, name, f"key {key.kid} is {(judged.now - since) // 86400} d old"


def _never_both(scopes: Sequence[str], judged: Judged) -> Iterator[Fault]:
    for name, client in judged.clients.items():
        held = {scope for granted in client.allow.values() for scope in granted}
        if held.issuperset(scopes):
            yield CLIENT, name, f"it may ask for {' and '.join(scopes)}"


def _required(names: Sequence[str], judged: Judged) -> Iterator[Fault]:
    for client_id, client in judged.clients.items():
        for name in names:
            if not getattr(client.settings, name):
                yield CLIENT, client_id, f"it has no {name}"


def _algorithms(allowed: Sequence[str], judged: Judged) -> Iterator[Fault]:
    for name, keys in judged.keys.items():
        yield from ((CLIENT, name, f"key {key.kid} is for {key.algorithm}") for key in keys
                    if key.algorithm not in allowed)  # fmt: skip


def _lifetime(limit: int, judged: Judged) -> Iterator[Fault]:
    """By the shortest span that counts: of the client, the API and the setting."""
    for name, client in judged.clients.items():
        for api in (judged.apis[one] for one in client.allow if one in judged.apis):
            spans = (client.settings.token_lifetime, api.token_lifetime, judged.token_lifetime)
            if (longest := min(span for span in spans if span is not None)) > limit:
                yield CLIENT, name, f"its tokens for {api.name} live {longest} s"


def _binding(allowed: Sequence[Binding], judged: Judged) -> Iterator[Fault]:
    for name, api in judged.apis.items():
        if api.binding not in allowed:
            yield API, name, f"its binding is {api.binding}"


def _settings(value: Any) -> tuple[str, ...]:
    names = texts(value)
    if unknown := [name for name in names if name not in CLIENT_SETTINGS]:
        raise ValueError(f"a list of settings of clients; {unknown[0]} is none")
    return names


def _two_scopes(value: Any) -> tuple[str, ...]:
    if len(set(scopes := texts(value))) < 2:
        raise ValueError("a list of two scopes or more")
    return scopes


def _bindings(value: Any) -> tuple[Binding, ...]:
    return tuple(map(setting(CLIENT_SETTINGS["binding"]), texts(value)))


# How the value of each check is read, and what it finds.
CHECKS: Final[Mapping[str, tuple[Callable[[Any], Any], Check]]] = MappingProxyType(
    {
        "max_key_age": (duration, _key_age),
        "never_both": (_two_scopes, _never_both),
        "required": (_settings, _required),
        "key_algorithms": (texts, _algorithms),
        "max_token_lifetime": (duration, _lifetime),
        "api_binding": (_bindings, _binding),
    }
)
_MEMBERS: Final = ("message", "except", *CHECKS)


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """One rule. `exempt`: the objects that it is not about, as `client/legacy`."""

    name: str
    message: str
    check: str
    value: Any
    exempt: frozenset[str]

    def findings(self, judged: Judged, place: Callable[[str, str], Place | None]) -> Iterator[Finding]:
        """What breaks it, with the place of the object where files have it."""
        for kind, name, what in CHECKS[self.check][1](self.value, judged):
            if f"{kind}/{name}" not in self.exempt:
                message = (
                    f"{kind} {name}: {what}. {self.name}: {self.message}"
                    if self.message
                    else f"{kind} {name}: {what}. {self.name}"
                )
                found = place(kind, name)
                yield found.finding(message) if found else Finding(message)


def read_policies(files: Sequence[Path]) -> tuple[RegistryPolicy, ...]:
    """The rules of these files, `[policies.NAME]` each. Raises ConfigError with every finding."""
    found: list[RegistryPolicy] = []
    findings: list[Finding] = []
    for file in files:
        try:
            document = read_document(file)
        except ConfigError as error:
            findings += error.findings
            continue
        top = Place(document, ())
        for table in document.value:
            if table != "policies":
                findings.append(top.at(table).finding(f"unknown name {table}; a file of policies has policies"))
        tables = document.value.get("policies", {})
        for name, members in tables.items() if isinstance(tables, dict) else ():
            try:
                found.append(_read(name, members, top.at("policies", name)))
            except ConfigError as error:
                findings += error.findings
    if not found and not findings:
        # An empty file would let everything pass, whatever somebody meant by it.
        findings.append(Finding("no policies in it", str(files[0]) if files else None))
    if findings:
        raise ConfigError(*findings)
    return tuple(found)


def _read(name: str, members: Any, place: Place) -> RegistryPolicy:
    if not isinstance(members, dict):
        raise ConfigError(place.finding(f"policy {name} must be a table"))
    for member in members:
        if member not in _MEMBERS:
            close = difflib.get_close_matches(member, _MEMBERS, 1, 0.6)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(_MEMBERS)}"
            raise ConfigError(place.at(member).finding(f"unknown name {member}; {meant}"))
    checks = [member for member in members if member in CHECKS]
    if len(checks) != 1:
        raise ConfigError(place.finding(f"policy {name} needs one of {', '.join(CHECKS)}"))
    reading: dict[str, Any] = {}
    readers: Mapping[str, Callable[[Any], Any]] = {
        "message": optional,
        "except": texts,
        checks[0]: CHECKS[checks[0]][0],
    }
    for member, value in {"message": "", "except": [], **members}.items():
        try:
            reading[member] = readers[member](value)
        except ValueError as error:
            raise ConfigError(place.at(member).finding(f"policy {name}: {member} must be {error}")) from None
    return RegistryPolicy(name, reading["message"], checks[0], reading[checks[0]], frozenset(reading["except"]))
