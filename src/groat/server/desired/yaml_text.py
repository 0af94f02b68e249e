"""YAML as far as it says what TOML can say: one document of tables, lists, texts, numbers and switches.

Nothing is made of tags, and nothing repeated: an alias would let a small file mean a large one, so there is none.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from groat.protocol.errors import ConfigError, Finding
from groat.server.desired.places import Way

MAX_DEPTH: Final = 20
_NUMBER: Final = re.compile(r"[-+]?\d{1,18}")
_SWITCHES: Final = {"true": True, "false": False}
# What a value resolves to by itself; any other tag was written.
_OWN_TAGS: Final = frozenset({"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value"})


def read_yaml(text: str, file: str) -> tuple[Mapping[str, Any], Mapping[Way, int]]:
    """What a document says, and the line of each value. Raises ConfigError, ModuleNotFoundError without the extra."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error.context).split())
        raise ConfigError(Finding(f"not YAML: {what}", file, mark.line + 1 if mark else None)) from None
    except (YAMLError, ValueError) as error:  # a character that YAML cannot have
        raise ConfigError(Finding(f"not YAML: {' '.join(str(error).split())}", file, 1)) from None
    except RecursionError:
        raise ConfigError(Finding("not YAML that is read here: too deep", file, 1)) from None
    reader = _Reader(file)
    if node is None:
        return {}, {}
    value = reader.value(node, ())
    if not isinstance(value, dict):
        raise ConfigError(Finding("it must be one table: apis, clients, trusts", file, 1))
    return value, reader.lines


class _Reader:
    """Of nodes, whose tags are looked at in no other way than whether they are written out."""

    def __init__(self, file: str) -> None:
        self.lines: dict[Way, int] = {}
        self._file = file
        self._seen: set[int] = set()

    def value(self, node: Any, way: Way) -> Any:
        line = int(node.start_mark.line) + 1
        self.lines.setdefault(way, line)
        # The same node twice is an alias.
        if id(node) in self._seen or node.anchor:
            raise self._fault(line, "anchors and aliases are not read: write it out")
        self._seen.add(id(node))
        if str(node.tag).removeprefix("tag:yaml.org,2002:") not in _OWN_TAGS:
            raise self._fault(line, f"tags are not read: {node.tag}")
        if len(way) > MAX_DEPTH:
            raise self._fault(line, "too deep")
        if node.id == "mapping":
            return self._mapping(node, way)
        if node.id == "sequence":
            return [self.value(item, (*way, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: Any, way: Way) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key, item in node.value:
            line = int(key.start_mark.line) + 1
            if key.id != "scalar":
                raise self._fault(line, "a name is a text")
            if key.value in members:
                first = self.lines[(*way, key.value)]
                raise self._fault(line, f"{key.value} is there twice, first on line {first}")
            self.lines[(*way, key.value)] = line
            members[key.value] = self.value(item, (*way, key.value))
        return members

    def _scalar(self, node: Any, line: int) -> Any:
        if node.style in ("'", '"', "|", ">"):
            return node.value
        if node.value in ("", "~", "null"):
            raise self._fault(line, "a name without a value")
        if node.value in _SWITCHES:
            return _SWITCHES[node.value]
        return int(node.value) if _NUMBER.fullmatch(node.value) else node.value

    def _fault(self, line: int, what: str) -> ConfigError:
        return ConfigError(Finding(what, self._file, line))
