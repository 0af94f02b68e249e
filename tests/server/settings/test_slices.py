"""What each part of the server is given of the settings: all of them, of the types that it expects, and nothing by name."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from groat.server.settings.config import Config
from groat.server.settings.slices import SECTIONS, Slice, cut, cut_policy, cut_timing
from groat.server.settings.table import BY_NAME
from tests.server.settings.loading import HEAD, load

SOURCE = Path(__file__).parents[3] / "src" / "groat"


class Noting(dict[str, Any]):
    """Values that remember which of them were asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)


def test_every_setting_reaches_somebody(tmp_path: Path) -> None:
    """A row of the table that no slice has would be read, checked, shown and without any effect."""
    values = Noting(dict(load(tmp_path).values))
    cut_policy(values, tmp_path)
    cut_timing(values)
    for kind in SECTIONS:
        cut(kind, values, tmp_path)
    assert values.asked == BY_NAME.keys()


# What stands in the file for what is in the slice.
WRITTEN: dict[Any, Any] = {Path: str, Path | None: str, tuple[Path, ...]: tuple[str, ...]}


@pytest.mark.parametrize("kind", SECTIONS, ids=lambda kind: kind.__name__)
def test_a_slice_expects_what_the_table_reads(kind: type[Slice]) -> None:
    """The type of a field is that of the function that reads the setting; the type checker cannot see this step."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        setting = BY_NAME[f"{SECTIONS[kind]}.{one.name}"]
        expected = hints[one.name]
        assert WRITTEN.get(expected, expected) == get_type_hints(setting.read)["return"], setting.name


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    """Relative ones; an absolute one stays, an empty one is none, and a library is the loader's to find."""
    text = HEAD + (
        '[server]\ntls_certificate_file = "tls/chain.pem"\n[admin]\nsocket = "/run/admin.sock"\n'
        '[keys]\nother_encryption_key_files = ["old.key", "/etc/older.key"]\npkcs11_module = "libhsm.so"\n'
    )
    config = load(tmp_path, text)
    chain = tmp_path / "tls" / "chain.pem"
    assert (config.listener.tls_certificate_file, config.listener.tls_key_file) == (chain, None)
    assert config.listener.tls == (chain, chain)
    assert config.admin.socket == Path("/run/admin.sock")
    files = config.key_files
    assert files.other_encryption_key_files == (tmp_path / "old.key", Path("/etc/older.key"))
    assert files.pkcs11_module == "libhsm.so"


def _lookups(tree: ast.AST) -> Iterator[str]:
    """Whatever could be a setting that is looked up by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            if isinstance(node.value, ast.Attribute) and node.value.attr == "values" and not _by_position(node.slice):
                yield ast.unparse(node)
            for part in ast.walk(node.slice):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and _names_one(part.value):
                    yield ast.unparse(node)


def _by_position(index: ast.expr) -> bool:
    """Whether it is an element of a sequence that happens to have this name."""
    return isinstance(index, ast.Slice) or (isinstance(index, ast.Constant) and isinstance(index.value, int))


def _names_one(text: str) -> bool:
    """Whether this is the name of a setting with a section, or the beginning of one."""
    return "." in text and any(name.startswith(text) for name in BY_NAME)


def test_nobody_looks_a_setting_up_by_its_name() -> None:
    """Outside of the room of settings: what comes of that is Any, and a wrong one is found by nobody."""
    assert not hasattr(Config, "__getitem__")
    room = SOURCE / "server" / "settings"
    others = [path for path in SOURCE.rglob("*.py") if not path.is_relative_to(room)]
    assert len(others) > 100
    found = {path.name: lookups for path in others if (lookups := [*_lookups(ast.parse(path.read_text("utf-8")))])}
    assert found == {}


@pytest.mark.parametrize("line", ['c["server.port"]', 'c[f"throttle.{n}"]', "c.values[name]", 'dict(c)["log.level"]'])
def test_a_lookup_is_found(line: str) -> None:
    """The search is no better than its eyes."""
    assert [*_lookups(ast.parse(line))]
