"""What SQLite made beside a read-only database must not keep the store read-only for good (OP-1)."""

import stat
from pathlib import Path

import pytest

from groat.server.store.sqlite.sidecars import give_rights_back
from tests.missing import on_linux


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "groat.db"
    path.touch(0o600)
    return path


@pytest.mark.rule("OP-1")
@on_linux
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_it_gets_the_rights_of_the_database_again(database: Path, suffix: str) -> None:
    """And loses none while the database itself is read-only."""
    side = database.with_name(database.name + suffix)
    side.touch(0o400)
    give_rights_back(database)
    assert stat.S_IMODE(side.stat().st_mode) == 0o600
    database.chmod(0o400)
    give_rights_back(database)
    assert stat.S_IMODE(side.stat().st_mode) == 0o600


@pytest.mark.rule("OP-1", "ST-14")
def test_a_link_gives_nobody_else_rights(database: Path, tmp_path: Path) -> None:
    """Whoever may write there could let it lead anywhere; nothing there is no fault either."""
    target = tmp_path / "target"
    target.touch(0o400)
    database.with_name("groat.db-shm").symlink_to(target)
    give_rights_back(database)
    assert stat.S_IMODE(target.stat().st_mode) == 0o400
    give_rights_back(tmp_path / "nowhere.db")
