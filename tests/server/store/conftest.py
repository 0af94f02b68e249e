"""Stores of either engine for the tests in here."""

from pathlib import Path

import pytest

from tests.server.store.places import Place, made


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A fresh, empty store."""
    return made(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def keeping(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A fresh, empty store that keeps its records for an hour."""
    return made(request, tmp_path, 3600)
