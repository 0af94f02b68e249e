"""Files into what they want: every mistake that can be seen without the registry is found, all of them at once."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from groat.protocol.client_settings import CLIENT_SETTINGS, ClientSettings
from groat.protocol.errors import ConfigError, Finding, JoseError
from groat.protocol.federation.claim_paths import parse_path
from groat.protocol.federation.conditions import Condition
from groat.server.desired.documents import read_documents
from groat.server.desired.keys import read_api_keys, read_keys, read_source, with_certificates
from groat.server.desired.members import (
    API_MEMBERS,
    CLIENT_MEMBERS,
    RULE_MEMBERS,
    SOURCE_MEMBERS,
    SOURCES,
    TRUST_MEMBERS,
    Read,
    texts,
)
from groat.server.desired.places import Document, Place
from groat.server.desired.wanted import KINDS, Wanted, WantedApi, WantedClient, WantedRule, WantedTrust

MAX_FINDINGS: Final = 200


def read_wanted(source: Path) -> Wanted:
    """What a file, or all files of a directory, want registered, and every mistake in them.

    Raises ConfigError where there is no such file.
    """
    documents, findings = read_documents(source)
    reader, broken = Reader([*findings]), set()
    found: dict[str, dict[str, Any]] = {table: {} for table in KINDS}
    readers: Mapping[str, Callable[[str, Place, Mapping[str, Any]], Any]] = {
        "apis": reader.api, "clients": reader.client, "trusts": reader.trust,
    }  # fmt: skip
    for table, name, place, members in _objects(documents, reader):
        one = readers[table](name, place, members)
        if one is None:
            broken.add((KINDS[table], name))
        else:
            found[table][name] = one
    return Wanted(**found, findings=reader.findings, broken=frozenset(broken))


def raise_all(findings: Sequence[Finding]) -> None:
    """Raises ConfigError where there are any; of very many, a part of them."""
    if len(findings) > MAX_FINDINGS:
        findings = [*findings[:MAX_FINDINGS], Finding(f"and {len(findings) - MAX_FINDINGS} more findings")]
    if findings:
        raise ConfigError(*findings)


def _objects(documents: Sequence[Document], reader: "Reader") -> Iterator[tuple[str, str, Place, Mapping[str, Any]]]:
    """Table, name, place and members of each object; what is named twice is an error, wherever the second one is."""
    first: dict[tuple[str, str], Place] = {}
    for document in documents:
        top = Place(document, ())
        for table, objects in document.value.items():
            place = top.at(table)
            if table not in KINDS or not isinstance(objects, dict):
                reader.unknown(table, KINDS, place, "" if table not in KINDS else f"{table} must be a table")
                continue
            for name, members in objects.items():
                here = place.at(name)
                before = first.setdefault((table, name), here)
                if before is not here:
                    reader.fault(here, f"{KINDS[table]} {name} is there twice, first at {before}")
                elif not isinstance(members, dict):
                    reader.fault(here, f"{KINDS[table]} {name} must be a table: [{table}.{name}]")
                else:
                    yield table, name, here, members


@dataclass(slots=True)
class Reader:
    """One reader for each kind of object; each returns None for one that is not to be used, and notes why."""

    findings: list[Finding] = field(default_factory=list)

    def fault(self, place: Place, message: str) -> None:
        self.findings.append(place.finding(message))

    def unknown(self, name: str, known: Mapping[str, Any] | Sequence[str], place: Place, message: str = "") -> None:
        """Of a name that is none, the one that was probably meant."""
        close = difflib.get_close_matches(name, known, 1, 0.6)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        self.fault(place, message or f"unknown name {name}; {meant}")

    @contextmanager
    def noting(self, place: Place, what: str = "") -> Iterator[None]:
        """What the block raises is a finding here. `what`: the name in front of what a reader says must be."""
        try:
            yield
        except ValueError as error:
            self.fault(place, f"{what} must be {error}")
        except ConfigError as error:
            for finding in error.findings:
                # What is wrong inside of a key file names that file itself.
                self.fault(place, finding.message if finding.file is None else str(finding))
        except JoseError as error:
            self.fault(place, error.hint)

    def members(
        self, given: Mapping[str, Any], readers: Mapping[str, Read], place: Place, others: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The values of the members that are known. `others`: those that somebody else reads."""
        found = {}
        for name, value in given.items():
            if name in readers:
                with self.noting(place.at(name), name):
                    found[name] = readers[name](value)
            elif name not in others:
                self.unknown(name, [*readers, *others], place.at(name))
        return found

    def api(self, name: str, place: Place, given: Mapping[str, Any]) -> WantedApi | None:
        """Keys that it says nothing of are None, as a client's: whoever registers them by hand need not fear files."""
        before = len(self.findings)
        members = self.members(given, API_MEMBERS, place, ("keys",))
        keys = read_api_keys(self, given["keys"], place.at("keys")) if "keys" in given else None
        if "audience" not in given:
            self.fault(place, f"api {name} needs an audience: what tokens for it carry as aud")
        if len(self.findings) > before:
            return None
        return WantedApi(name, place, **{"scopes": (), **members}, keys=keys)

    def client(self, name: str, place: Place, given: Mapping[str, Any]) -> WantedClient | None:
        before = len(self.findings)
        members = self.members(with_certificates(self, given, place), CLIENT_MEMBERS, place, ("allow", "keys", "rules"))
        allow = self._allow(given.get("allow", {}), place.at("allow"))
        keys = read_keys(self, given["keys"], place.at("keys")) if "keys" in given else None
        rules = self._rules(given.get("rules", []), place.at("rules"))
        # Not the default where it is left out: what somebody stopped by hand is not for such a file to start again.
        enabled = members.pop("enabled", None)
        settings: ClientSettings | None = None
        with self.noting(place):
            settings = ClientSettings(**{name: members[name] for name in CLIENT_SETTINGS if name in members})
        if len(self.findings) > before:
            return None
        return WantedClient(name, place, allow, settings, keys, rules, enabled)

    def _allow(self, given: Any, place: Place) -> dict[str, tuple[str, ...]]:
        allow = {}
        if not isinstance(given, dict):
            self.fault(place, 'allow must be a table of lists: {orders = ["orders:read"]}')
            return {}
        for api, scopes in given.items():
            with self.noting(place.at(api), f"allow.{api}"):
                allow[api] = texts(scopes)
                if not scopes:
                    raise ValueError("a list of scopes that is not empty; leave the API out")
        return allow

    def _rules(self, given: Any, place: Place) -> tuple[WantedRule, ...]:
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            self.fault(place, "rules must be tables: [[clients.NAME.rules]]")
            return ()
        found = []
        for number, one in enumerate(given):
            here = place.at(number)
            members = {"match": (), "copy": (), "allow": (), **self.members(one, RULE_MEMBERS, here)}
            if "trust" not in members:
                self.fault(here, "a rule names its trust")
                continue
            with self.noting(here):
                conditions = tuple(map(Condition.parse, members["match"]))
                copied = tuple(map(parse_path, members["copy"]))
                found.append(WantedRule(members["trust"], conditions, copied, frozenset(members["allow"]), here))
        return tuple(found)

    def trust(self, name: str, place: Place, given: Mapping[str, Any]) -> WantedTrust | None:
        before = len(self.findings)
        members = self.members(given, TRUST_MEMBERS, place, ("jwks", *SOURCE_MEMBERS))
        said = [source for source in SOURCES if given.get(source) not in (None, False)]
        if len(said) != 1:
            self.fault(place, f"trust {name} needs one of {', '.join(SOURCES)}: where the keys of the issuer are")
        else:
            located = self.members({n: v for n, v in given.items() if n in SOURCE_MEMBERS}, SOURCE_MEMBERS, place)
            with self.noting(place.at(said[0]), said[0]):
                members["source"] = read_source(said[0], given, located, place)
        if "issuer" not in given:
            self.fault(place, f"trust {name} needs its issuer, exactly as iss has it")
        if len(self.findings) > before:
            return None
        issuer, preset, enabled = members.pop("issuer"), members.pop("preset", ""), members.pop("enabled", None)
        return WantedTrust(name, place, issuer, preset, members, enabled)
