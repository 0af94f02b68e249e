"""The next version of the program, as far as the schema goes: one more migration, made up for the rolling upgrade."""

from collections.abc import Callable
from typing import Any, Final

from groat.server.store.postgres import schema as postgres_schema
from groat.server.store.sqlite import store as sqlite

LATER: Final = postgres_schema.SCHEMA_VERSION + 1  # read before `install` changes it
MIGRATION: Final = "ALTER TABLE used_once ADD COLUMN note text;\nCREATE TABLE made_up (a integer);\n"


class _File:
    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self) -> str:
        return self._text


class _Resources:
    """The migrations of this version, and one more."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def files(self, package: str) -> "_Resources":
        return _Resources(self._original.files(package))

    def joinpath(self, name: str) -> Any:
        return _File(MIGRATION) if name.endswith(f"-{LATER:04}.sql") else self._original.joinpath(name)


def install(_: str) -> None:
    """Make this process the next version."""
    for module in (postgres_schema, sqlite):
        assert module.SCHEMA_VERSION == LATER - 1, "both stores have the same version"
        _set(module, "SCHEMA_VERSION", lambda _: LATER)
        _set(module, "resources", _Resources)


def _set(module: Any, name: str, change: Callable[[Any], Any]) -> None:
    setattr(module, name, change(getattr(module, name)))
