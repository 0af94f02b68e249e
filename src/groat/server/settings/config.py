"""The settings of one server, read from the file, the environment and the command line, and checked together.

Precedence: command-line flag, environment, file, default. Environment names are GROAT_SECTION__KEY; a value that may
hold a password can come from a file named by the same variable with _FILE behind it, which must be as private as a key.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from groat.keys.ring.schedule import Timing, timing_faults
from groat.protocol.errors import ConfigError, Finding
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.models import Policy
from groat.protocol.stray import blanks, stray, without_user
from groat.protocol.uris import LOOPBACK_HOSTS
from groat.server.http.in_force import Limits
from groat.server.settings.admin_address import AdminAddress
from groat.server.settings.readers import optional, table, text
from groat.server.settings.slices import (
    Admin,
    AuditTrail,
    Capacity,
    ClientKeys,
    Handshakes,
    KeyFiles,
    Listener,
    Logging,
    Publishing,
    Revocation,
    Storage,
    cut,
    cut_policy,
    cut_timing,
)
from groat.server.settings.table import BY_NAME, SETTINGS, Setting
from groat.server.settings.written import from_env, from_file, line_finder
from groat.server.store.url import masked_url, storage_fault, url_without_password

MAX_DAYS: Final = 3650
MAX_SHOWN_CHARS: Final = 120


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, read and checked, with where each came from; and what each part of the server gets of them.

    `values` are for those who show settings or compare them, by name; whoever goes by one is given its slice.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    directory: Path
    policy: Policy
    timing: Timing
    storage: Storage
    key_files: KeyFiles
    publishing: Publishing
    client_keys: ClientKeys
    audit_trail: AuditTrail
    revocation: Revocation
    listener: Listener
    handshakes: Handshakes
    capacity: Capacity
    limits: Limits
    logging: Logging
    admin: Admin

    @property
    def database(self) -> Path:
        """The SQLite file of storage.url; not to be asked where it names PostgreSQL."""
        return self.directory / self.storage.url.removeprefix("sqlite:///")

    def says(self, name: str, value: str) -> bool:
        """Whether this setting has this value; the password in a URL may be left out."""
        return value in (self.values[name], url_without_password(str(self.values[name])))

    def shown(self) -> dict[str, Any]:
        """All values in printable form; a password in a URL is masked."""
        return {name: _show(BY_NAME[name], value) for name, value in self.values.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """For worker processes: the policy follows from the values, and parts of it cannot be sent."""
        return _checked, (dict(self.values), dict(self.origins), self.directory)

    def __repr__(self) -> str:
        return f"Config(issuer={self.policy.issuer!r}, directory={str(self.directory)!r})"


def _show(setting: Setting, value: Any) -> Any:
    if setting.secret:
        return masked_url(value)
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value


def load_config(path: Path, env: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Config:
    """Read the settings from `path` (may be missing if the environment says enough), `env` and `flags`.

    Raises ConfigError with every finding: file, line, what is wrong, what was probably meant.
    """
    findings: list[Finding] = []
    given = from_file(path, findings) | from_env(env, findings)
    given.update({name: ("flag", value) for name, value in (flags or {}).items() if value is not None})
    lines = line_finder(path)
    values, origins = {}, {}
    # All of them, however many are wrong: an operator mends a file once and not line after line.
    for setting in SETTINGS:
        origin, raw = given.get(setting.name, ("default", setting.default))
        if raw is None:
            findings.append(Finding(f"{setting.name} is missing: {setting.about}", str(path)))
            continue
        origins[setting.name] = origin
        try:
            values[setting.name] = _value(setting, origin, raw)
        except ValueError as error:
            findings.append(_located(f"{setting.name}{error}", setting.name, origin, path, lines))
    if fault := storage_fault(values.get("storage.url", "sqlite:///-"), origins.get("storage.url", "")):
        findings.append(_located(fault, "storage.url", origins["storage.url"], path, lines))
    if findings:
        raise ConfigError(*findings)
    with _findings_located(origins, path, lines):
        return _checked(values, origins, path.parent.absolute())


def _value(setting: Setting, origin: str, raw: Any) -> Any:
    """The value of a setting. Raises ValueError with what is wrong, to be put behind its name."""
    if not isinstance(raw, str):
        return _read(setting, raw, "")
    found = "" if setting.secret else f"{without_user(raw)[:MAX_SHOWN_CHARS]!r}"
    # A path or a URL may be any text, so its reader lets pass what an env file or an editor put around it.
    odd = stray(raw) or (blanks(raw) if setting.read in (text, optional) else "")
    if odd and setting.read is not table:
        raise ValueError(f": {odd}{found and f': {found}'}")
    # In the file everybody can look; what a variable holds cannot be seen.
    return _read(setting, raw, f"; found {found}" if found and origin != "file" else "")


def _read(setting: Setting, raw: Any, found: str) -> Any:
    try:
        return setting.read(raw)
    except ValueError as error:
        raise ValueError(f" must be {error}{found}") from None


def with_settings_of(config: Config, other: Config, names: Iterable[str]) -> Config:
    """The configuration with these settings of another one. Raises ConfigError where they do not go together."""
    values, origins = dict(config.values), dict(config.origins)
    for name in names:
        values[name], origins[name] = other.values[name], other.origins[name]
    with _findings_located(origins, config.directory, lambda _: None):
        return _checked(values, origins, config.directory)


def _checked(values: Mapping[str, Any], origins: Mapping[str, str], directory: Path) -> Config:
    """The configuration of these values. Raises ConfigError with what is wrong with them together, not located."""
    policy, timing = cut_policy(values, directory), cut_timing(values)
    if faults := [*_combination_faults(values, policy), *timing_faults(timing)]:
        raise ConfigError(*faults)
    AdminAddress.parse(values["admin.listen"], None)
    return Config(
        values=values,
        origins=origins,
        directory=directory,
        policy=policy,
        timing=timing,
        storage=cut(Storage, values, directory),
        key_files=cut(KeyFiles, values, directory),
        publishing=cut(Publishing, values, directory),
        client_keys=cut(ClientKeys, values, directory),
        audit_trail=cut(AuditTrail, values, directory),
        revocation=cut(Revocation, values, directory),
        listener=cut(Listener, values, directory),
        handshakes=cut(Handshakes, values, directory),
        capacity=cut(Capacity, values, directory),
        limits=cut(Limits, values, directory),
        logging=cut(Logging, values, directory),
        admin=cut(Admin, values, directory),
    )


def _combination_faults(values: Mapping[str, Any], policy: Policy) -> Iterator[Finding]:
    """What each value alone cannot know."""
    algorithm = ALGORITHM_NAMES[values["keys.algorithm"]].name
    if algorithm not in policy.algorithms:
        yield Finding(f"keys.algorithm {algorithm} is outside profile {policy.profile}", setting="keys.algorithm")
    if values["server.tls_key_file"] and not values["server.tls_certificate_file"]:
        message = "server.tls_key_file needs server.tls_certificate_file; without it there is no TLS"
        yield Finding(message, setting="server.tls_key_file")
    yield from _certificate_faults(values)
    yield from _revocation_faults(values)
    for name in ("storage.retention", "clients.key_lifetime", "clients.key_warning", "clients.key_idle", "audit.keep"):
        if values[name] > MAX_DAYS * 86400:
            yield Finding(f"{name} must be {MAX_DAYS} days at most", setting=name)


def _revocation_faults(values: Mapping[str, Any]) -> Iterator[Finding]:
    """What is renewed at half of its life must be fetched by then, and a poll ends before proxies lose patience."""
    lifetime = values["revocation.list_lifetime"]
    bounds = (("list_lifetime", 10, 3600), ("list_ttl", 1, lifetime // 2), ("feed_wait", 0, min(60, lifetime // 4)))
    for key, low, high in bounds:
        name = f"revocation.{key}"
        if not low <= values[name] <= high:
            yield Finding(f"{name} must be {low} to {high} seconds, not {values[name]}", setting=name)


def _certificate_faults(values: Mapping[str, Any]) -> Iterator[Finding]:
    """One place that certificates come from, and all that it needs."""
    if values["tls.client_certificates"] == "none":
        return
    name, file = "tls.client_certificates", "tls.client_ca_file"
    if not values["server.tls_certificate_file"]:
        yield Finding(f"{name} request needs server.tls_certificate_file: TLS must end here", setting=name)
    if not values[file]:
        yield Finding(f"{name} request needs {file}: whose certificates to take in handshakes", setting=name)
    if values["server.proxy"]:
        message = f"server.proxy would count nothing: with {name} request certificates come from handshakes alone"
        yield Finding(message, setting="server.proxy")


def plain_http_warning(config: Config) -> str | None:
    """What to say loudly when the issuer is plain http, which is for development only."""
    issuer = config.policy.issuer
    if not issuer.startswith("http://"):
        return None
    host = re.split(r"[/:]", issuer.removeprefix("http://"))[0]
    where = "loopback" if host in LOOPBACK_HOSTS or issuer.startswith("http://[::1]") else f"{host} is allow-listed"
    return f"issuer {issuer} is plain http ({where}): for development only, tokens travel unprotected"


def _located(message: str, name: str, origin: str, path: Path, lines: Callable[[str], int | None]) -> Finding:
    if origin == "file":
        return Finding(message, str(path), lines(name))
    return Finding(message if origin in ("flag", "default") else f"{origin}: {message}")


@contextmanager
def _findings_located(
    origins: Mapping[str, str], path: Path, lines: Callable[[str], int | None]
) -> Generator[None, None, None]:
    """Say of each finding where the setting stands that it is about."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(
            *(_located(f.message, f.setting, origins.get(f.setting, "default"), path, lines) for f in error.findings)
        ) from None
