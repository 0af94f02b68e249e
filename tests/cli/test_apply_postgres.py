"""`groat apply` on PostgreSQL, held up by locks at the moment that each test is about."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.postgres import GivenServer, PostgresServer

from .running import AUDIENCE, ISSUER, Home
from .test_apply import REGISTRY, many

SECONDS = 60.0
# Others on this database that wait for a lock; the second of them has written something before.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
WRITTEN = f"{WAITING} AND backend_xid IS NOT NULL"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def home(postgres: PostgresServer | GivenServer, tmp_path: Path) -> Home:
    """An installation on an empty database."""
    home = Home(tmp_path, {"GROAT_STORAGE__URL": postgres.database()})
    home.ok("init", "--issuer", ISSUER)
    home.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read", "--scope", "orders:write")
    return home


def counted(home: Home, sql: str) -> int:
    with psycopg.connect(home.env["GROAT_STORAGE__URL"], autocommit=True) as connection:
        found = connection.execute(sql.encode()).fetchone()
    assert found is not None
    return int(found[0])


def test_a_kill_in_the_middle_leaves_nothing(home: Home) -> None:
    """SIGKILL when the clients are written and their rows of the audit trail are not: neither is there afterwards."""
    many(home, 1000)
    version = home.ok("--json", "store", "show").json["registry_version"]
    with psycopg.connect(home.env["GROAT_STORAGE__URL"]) as hold:
        hold.execute("LOCK TABLE audit IN EXCLUSIVE MODE")
        process = home.start("apply", "-f", "registry.toml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: counted(home, WRITTEN) == 1)
        process.kill()
        process.wait(30)
    wait_for(lambda: counted(home, OTHERS) == 0)
    assert home.ok("--json", "client", "list").json == []
    assert home.ok("--json", "store", "show").json["registry_version"] == version
    assert counted(home, "SELECT count(*) FROM audit WHERE face = 'apply'") == 0
    assert home.ok("--json", "apply", "-f", "registry.toml").json["added"] == 1001
    assert counted(home, "SELECT count(*) FROM audit WHERE face = 'apply'") == 1001
    home.ok("audit", "verify")


def test_of_two_at_once_the_later_one_says_so(home: Home) -> None:
    """Both have read the same registry; one writes, the other notices, and starts over from what the first left."""
    for name in ("one", "two"):
        home.file(f"{name}.toml", REGISTRY.replace("[clients.billing]", f'[clients.billing]\nowner = "{name}"'))
    with psycopg.connect(home.env["GROAT_STORAGE__URL"]) as hold:
        hold.execute("LOCK TABLE registry IN EXCLUSIVE MODE")
        started = {
            name: home.start("apply", "-f", f"{name}.toml", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for name in ("one", "two")
        }
        wait_for(lambda: counted(home, WAITING) == 2)
    said = {name: process.communicate(timeout=SECONDS) for name, process in started.items()}
    assert [process.returncode for process in started.values()] == [0, 0], said
    late = [name for name, (_, notes) in said.items() if b"somebody else changed the registry meanwhile" in notes]
    assert len(late) == 1, said
    assert b"changed: 0 added, 1 changed, 0 removed" in said[late[0]][0]
    assert home.ok("--json", "client", "show", "billing").json["owner"] == late[0]
    home.ok("audit", "verify")
