"""The settings of one server, read from the file, the environment and the command line, and checked together.

Precedence: command-line flag, environment, file, default. Environment names are GROAT_SECTION__KEY; a value that may
hold a password can come from a file named by the same variable with _FILE behind it, which must be as private as a key.
"""

import codecs
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from groat.keys.files import read_private_file
from groat.keys.ring.schedule import Timing, timing_faults
from groat.protocol.errors import ConfigError, Finding
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.models import Policy, Profile
from groat.protocol.stray import ODD, blanks, odd_character, plain_name, stray, without_user
from groat.protocol.uris import LOOPBACK_HOSTS
from groat.server.settings.admin_address import AdminAddress
from groat.server.settings.table import BY_NAME, SETTINGS, Setting, optional, table, text
from groat.server.store.url import POSTGRES_SCHEMES, masked_url, storage_fault

MAX_DAYS: Final = 3650
MAX_SHOWN_CHARS: Final = 120

_SECTIONS: Final = frozenset(name.partition(".")[0] for name in BY_NAME if "." in name)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, read and checked, with where each came from. Paths are relative to `directory`."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    directory: Path
    policy: Policy

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def path(self, name: str) -> Path:
        """A setting that names a file, resolved against the directory of the configuration file."""
        return self.directory / str(self.values[name])

    @property
    def admin(self) -> AdminAddress:
        """Where the admin listener stands."""
        socket = self.values["admin.socket"]
        return AdminAddress.parse(self.values["admin.listen"], self.directory / socket if socket else None)

    @property
    def local_address(self) -> tuple[str, int]:
        """Where this machine itself reaches the server: loopback for one that listens on every address."""
        host = str(self.values["server.host"])
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(self.values["server.port"])  # noqa: S104

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and private key to serve https with; None where TLS ends in front of this server."""
        if not self.values["server.tls_certificate_file"]:
            return None
        certificate = self.path("server.tls_certificate_file")
        return certificate, self.path("server.tls_key_file") if self.values["server.tls_key_file"] else certificate

    @property
    def timing(self) -> Timing:
        """What the rotation of signing keys depends on."""
        return _timing(self.values, self.policy)

    @property
    def database(self) -> Path:
        """The SQLite file of storage.url; not to be asked where it names PostgreSQL."""
        return self.directory / str(self.values["storage.url"]).removeprefix("sqlite:///")

    @property
    def on_postgres(self) -> bool:
        """Whether storage.url names PostgreSQL."""
        return bool(self.values["storage.url"].startswith(POSTGRES_SCHEMES))

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
    given = _from_file(path, findings) | _from_env(env, findings)
    given.update({name: ("flag", value) for name, value in (flags or {}).items() if value is not None})
    lines = _line_finder(path)
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
    return Config(values, origins, path.parent.absolute(), _policy(values, origins, path, lines))


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
    return _checked(values, origins, config.directory)


def _checked(values: Mapping[str, Any], origins: Mapping[str, str], directory: Path) -> Config:
    return Config(values, origins, directory, _policy(values, origins, directory, lambda _: None))


def _policy(
    values: Mapping[str, Any], origins: Mapping[str, str], path: Path, lines: Callable[[str], int | None]
) -> Policy:
    try:
        # Rules know settings by name and no files; where each of them stands is said below.
        policy = Policy(
            issuer=values["issuer"],
            profile=Profile(values["profile"]),
            token_lifetime=values["tokens.lifetime"],
            max_assertion_lifetime=values["assertions.max_lifetime"],
            clock_tolerance=values["assertions.clock_tolerance"],
            allow_http_hosts=frozenset(values["development.allow_http_hosts"]),
            extra_claims=values["tokens.extra_claims"],
        )
        _check_combinations(values, policy)
        AdminAddress.parse(values["admin.listen"], None)
        if faults := timing_faults(_timing(values, policy)):
            raise ConfigError(*faults)
    except ConfigError as error:
        raise ConfigError(*(_relocated(f, origins, path, lines) for f in error.findings)) from None
    return policy


def _check_combinations(values: Mapping[str, Any], policy: Policy) -> None:
    """What each setting may be and not all of them together. Raises ConfigError."""
    algorithm = ALGORITHM_NAMES[values["keys.algorithm"]].name
    if algorithm not in policy.algorithms:
        outside = f"keys.algorithm {algorithm} is outside profile {policy.profile}"
        raise ConfigError(Finding(outside, setting="keys.algorithm"))
    if values["server.tls_key_file"] and not values["server.tls_certificate_file"]:
        alone = "server.tls_key_file needs server.tls_certificate_file; without it there is no TLS"
        raise ConfigError(Finding(alone, setting="server.tls_key_file"))
    for name in ("storage.retention", "clients.key_lifetime", "clients.key_warning", "clients.key_idle"):
        if values[name] > MAX_DAYS * 86400:
            raise ConfigError(Finding(f"{name} must be {MAX_DAYS} days at most", setting=name))


def _timing(values: Mapping[str, Any], policy: Policy) -> Timing:
    settings = {name: values[f"keys.{name}"] for name in ("jwks_max_age", "verifier_cache", "rotate_every")}
    return Timing(token_lifetime=policy.token_lifetime, **settings)


def plain_http_warning(config: Config) -> str | None:
    """What to say loudly when the issuer is plain http, which is for development only."""
    issuer = config.policy.issuer
    if not issuer.startswith("http://"):
        return None
    host = re.split(r"[/:]", issuer.removeprefix("http://"))[0]
    where = "loopback" if host in LOOPBACK_HOSTS or issuer.startswith("http://[::1]") else f"{host} is allow-listed"
    return f"issuer {issuer} is plain http ({where}): for development only, tokens travel unprotected"


def _from_file(path: Path, findings: list[Finding]) -> dict[str, tuple[str, Any]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(Finding(f"cannot read: {error.strerror}", str(path))) from None
    document = _toml(content, path)
    lines = _line_finder(path)
    flat = _flatten(document)
    findings += [Finding(_unknown(name), str(path), lines(name) or 1) for name in flat if name not in BY_NAME]
    return {name: ("file", value) for name, value in flat.items() if name in BY_NAME}


# A value with letters and without quotes, brackets and braces.
_BARE: Final = re.compile(r"\s*[\w.]+\s*=\s*[^\s\"'\[{#][^\"'\[{#]*?[^\d\s_.+-][^\"'\[{#]*(?:#.*)?")


def _toml(content: bytes, path: Path) -> dict[str, Any]:
    """Decode a file. Raises ConfigError; what cannot be seen in an editor is named, the text of a line never shown."""
    try:
        written = content.decode("utf-8")
        return tomllib.loads(written)
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = "UTF-16, with a byte order mark (BOM)" if wide else f"not UTF-8: byte 0x{content[error.start]:02x}"
        raise ConfigError(Finding(f"not TOML: it is {what}; save it as UTF-8", str(path), number)) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        number = int(found[1]) if found else written.count("\n") + 1
        line = written.split("\n")[number - 1].removesuffix("\r")
        raise ConfigError(Finding(f"not TOML: {error}{_seen(line)}", str(path), number)) from None


def _seen(line: str) -> str:
    """What is likely wrong with a line that is no TOML, and cannot or will not be seen."""
    if odd := odd_character(line):
        return f"; the line has {ODD[odd]} ({odd!a}), which is to go"
    return "; a text or a span such as 10m stands in quotation marks" if _BARE.fullmatch(line) else ""


def _flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names, one level deep: a table below that is the value of a setting."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if name in _SECTIONS and isinstance(value, dict):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            flat[name] = value
    return flat


def _unknown(name: str) -> str:
    if name in _SECTIONS:
        return f"{name} must be one table: [{name}]"
    # A key that was written above its section resembles nothing, but is the end of a name.
    close = difflib.get_close_matches(name, [*BY_NAME, *_SECTIONS], 1, 0.6) or [
        known for known in BY_NAME if known.endswith(f".{name}")
    ]
    return f"unknown setting {name}" + (f"; did you mean {close[0]}?" if close else "")


def _from_env(env: Mapping[str, str], findings: list[Finding]) -> dict[str, tuple[str, Any]]:
    given: dict[str, tuple[str, Any]] = {}
    for setting in SETTINGS:
        if setting.env in env:
            given[setting.name] = (setting.env, env[setting.env])
        elif setting.secret and f"{setting.env}_FILE" in env:
            variable = f"{setting.env}_FILE"
            file = Path(env[variable])
            if odd := stray(env[variable]) or blanks(env[variable]):
                findings.append(Finding(f"{variable}: {odd}: {env[variable]!r}"))
                continue
            try:
                given[setting.name] = (variable, read_private_file(file).decode().strip())
            except ConfigError as error:
                findings += [Finding(f"{variable}: {finding.message}") for finding in error.findings]
            except UnicodeDecodeError:
                findings.append(Finding(f"{variable}: {file} is not UTF-8 text"))
    known = {setting.env for setting in SETTINGS} | {f"{s.env}_FILE" for s in SETTINGS if s.secret}
    for name in sorted(env):
        if name not in known and (plain := plain_name(name)) in known:
            findings.append(Finding(f"unknown variable {name!r}: {stray(name) or 'blanks or a word'} around {plain}"))
        # Without the two lines it may be a variable of a client or of a verifier, which live in the same environment.
        elif name.startswith("GROAT_") and "__" in name and name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.6)
            findings.append(Finding(f"unknown variable {name}" + (f"; did you mean {close[0]}?" if close else "")))
    return given


def _line_finder(path: Path) -> Callable[[str], int | None]:
    """Where a dotted name stands in the file: TOML readers do not say, and a person needs to know."""
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []

    def find(name: str) -> int | None:
        section, _, key = name.rpartition(".")
        current = ""
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith("#"):  # the sample file shows every default in a comment
                continue
            if header := re.match(r"\s*\[{1,2}([^\[\]]+)\]", line):
                current = header[1].strip().strip("'\"")
                if current == name:
                    return number
            body = line[header.end() :] if header else line
            if current == section and re.search(rf"(^|\s){re.escape(key)}\s*=", body):
                return number
            if not current and re.match(rf"\s*{re.escape(name)}\s*=", line):
                return number
        return None

    return find


def _located(message: str, name: str, origin: str, path: Path, lines: Callable[[str], int | None]) -> Finding:
    if origin == "file":
        return Finding(message, str(path), lines(name))
    return Finding(message if origin in ("flag", "default") else f"{origin}: {message}")


def _relocated(finding: Finding, origins: Mapping[str, str], path: Path, lines: Callable[[str], int | None]) -> Finding:
    """What a rule found, which knows settings and no files: where that setting stands."""
    name = finding.setting
    return _located(finding.message, name, origins.get(name, "default"), path, lines)
