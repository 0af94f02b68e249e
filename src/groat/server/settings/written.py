"""What was written, in the file and in the environment, by the names of the settings: nothing of it is judged yet.

Each value comes with where it was found: "file", or the name of a variable.
"""

import codecs
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from groat.keys.files import read_private_file
from groat.protocol.errors import ConfigError, Finding
from groat.protocol.stray import ODD, blanks, odd_character, plain_name, stray
from groat.server.settings.table import BY_NAME, SETTINGS

_SECTIONS: Final = frozenset(name.partition(".")[0] for name in BY_NAME if "." in name)


def from_file(path: Path, findings: list[Finding]) -> dict[str, tuple[str, Any]]:
    """What the file has, nothing where there is none; adds what no setting is called. Raises ConfigError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(Finding(f"cannot read: {error.strerror}", str(path))) from None
    document = decode_toml(content, path)
    lines = line_finder(path)
    flat = _flatten(document)
    findings += [Finding(_unknown(name), str(path), lines(name) or 1) for name in flat if name not in BY_NAME]
    return {name: ("file", value) for name, value in flat.items() if name in BY_NAME}


# A value with letters and without quotes, brackets and braces.
_BARE: Final = re.compile(r"\s*[\w.]+\s*=\s*[^\s\"'\[{#][^\"'\[{#]*?[^\d\s_.+-][^\"'\[{#]*(?:#.*)?")


def decode_toml(content: bytes, path: Path) -> dict[str, Any]:
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


def from_env(env: Mapping[str, str], findings: list[Finding]) -> dict[str, tuple[str, Any]]:
    """What the environment has, also in files that it names; adds what looks like a setting and is none."""
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


def line_finder(path: Path) -> Callable[[str], int | None]:
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
