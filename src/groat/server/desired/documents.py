"""The files that are meant by one name: the file, or every file of a directory that says something of the registry."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from groat.protocol.errors import ConfigError, Finding
from groat.server.desired.places import Document
from groat.server.desired.toml_lines import toml_lines
from groat.server.desired.yaml_text import read_yaml
from groat.server.settings.written import decode_toml

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
SUFFIXES: Final = (".toml", ".yaml", ".yml")


def read_documents(source: Path) -> tuple[Sequence[Document], Sequence[Finding]]:
    """Each file that `source` means, in the order of their names, and what is wrong with those that cannot be read.

    Raises ConfigError where there is nothing of that name.
    """
    documents: list[Document] = []
    findings: list[Finding] = []
    for path in _files(source):
        try:
            documents.append(read_document(path))
        except ConfigError as error:
            findings += error.findings
    return documents, findings


def _files(source: Path) -> Sequence[Path]:
    if not source.is_dir():
        return [source]
    found = sorted(_below(source))
    if not found:
        # Otherwise a slip in the name would read as the wish that nothing be registered.
        raise ConfigError(Finding(f"there is no file that ends in {', '.join(SUFFIXES)}", str(source)))
    return found


def _below(source: Path) -> Iterator[Path]:
    """Not what begins with a dot: editors, git and the mounts of Kubernetes keep their own there."""
    for folder, inner, names in os.walk(source):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith("."))


def read_document(path: Path) -> Document:
    """One file, TOML or YAML by its name. Raises ConfigError."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(Finding(f"a name ends in one of {', '.join(SUFFIXES)}", str(path)))
    content = _content(path)
    if path.suffix == ".toml":
        try:
            value = decode_toml(content, path)
        except RecursionError:
            raise ConfigError(Finding("not TOML that is read here: too deep", str(path), 1)) from None
        return Document(str(path), value, partial(toml_lines, content.decode("utf-8")))
    try:
        members, lines = read_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(Finding("not YAML: it is not UTF-8", str(path), line)) from None
    return Document(str(path), members, lambda: lines)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(Finding(f"cannot read: {error.strerror}", str(path))) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(Finding(f"it is larger than {MAX_FILE_BYTES} bytes: split it", str(path)))
    return content
