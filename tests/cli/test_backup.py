"""`groat store backup` and `restore`: a copy of a serving store is whole, and no way back makes a use forgotten."""

import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from groat.keys import files
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.jose import sign_jwt
from groat.server.store.sqlite.store import SCHEMA_VERSION
from tests.ports import free_port

from .running import GROAT, Home, Server, environment

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "backup.md"


@contextmanager
def serving(home: Home) -> Iterator[Server]:
    """The home's server, on loopback."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    home.env |= {"GROAT_SERVER__PORT": str(port), "GROAT_ISSUER": issuer}
    with home.serving(port=port) as server:
        yield server


def assertion(home: Home, client: str = "billing", ahead: int = 0) -> str:
    """One signed assertion, unused, by a clock that is so many seconds ahead."""
    now = int(time.time()) + ahead
    claims = {"iss": client, "sub": client, "aud": home.env["GROAT_ISSUER"], "iat": now, "exp": now + 60}
    key = files.read_private_key(home.directory / f"{client}.key.json")
    return sign_jwt({**claims, "jti": secrets.token_urlsafe(16)}, key, ASSERTION_TYP)


def spend(server: Server, signed: str) -> int:
    """The status that an assertion is answered with."""
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": signed,
        "scope": "orders:read",
    }
    request = urllib.request.Request(f"{server.url}/token", urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def add(home: Home, name: str) -> None:
    home.ok("client", "add", name, "--allow", "orders=orders:read", "--new-key", f"{name}.key.json")


def rows(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [tuple(row) for row in connection.execute(sql)]


@pytest.mark.rule("OP-4")
def test_the_copy_of_a_serving_store_is_whole(home: Home) -> None:
    """What was registered and used a moment ago is in it, it is private, one file, and its original is as before."""
    with serving(home) as server:
        add(home, "newest")
        assert spend(server, assertion(home, "newest")) == 200
        done = home.ok("--json", "store", "backup", "copy.db")
        assert spend(server, assertion(home, "newest")) == 200
    copy = home.directory / "copy.db"
    assert done.json == {
        "file": "copy.db",
        "bytes": copy.stat().st_size,
        "registry_version": done.json["registry_version"],
        "clients": 2,
    }
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.directory.glob("*copy.db*")] == ["copy.db"]
    assert rows(copy, "SELECT client_id FROM clients ORDER BY 1") == [("billing",), ("newest",)]
    assert rows(copy, "SELECT client_id FROM used_once") == [("newest",)]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.rule("OP-4")
def test_copies_under_load_are_consistent(home: Home) -> None:
    """Registrations go on meanwhile: every copy has each client together with its key."""
    stop = threading.Event()

    def register() -> None:
        number = 0
        while not stop.is_set():
            with closing(
                sqlite3.connect(home.directory / "data" / "groat.db", timeout=10, isolation_level=None)
            ) as one:
                one.execute("BEGIN IMMEDIATE")
                one.execute(
                    "INSERT INTO clients (client_id, document, enabled, created_at) VALUES (?, '{}', 1, 0)",
                    (f"c{number}",),
                )
                one.execute(
                    "INSERT INTO client_keys (thumbprint, client_id, kid, algorithm, jwk, created_at) "
                    "VALUES (?1, ?1, ?1, '', '', 0)",
                    (f"c{number}",),
                )
                one.execute("COMMIT")
            number += 1

    thread = threading.Thread(target=register)
    thread.start()
    try:
        for number in range(5):
            home.ok("store", "backup", f"copy-{number}.db")
    finally:
        stop.set()
        thread.join()
    for number in range(5):
        copy = home.directory / f"copy-{number}.db"
        assert rows(copy, "SELECT (SELECT count(*) FROM clients) - (SELECT count(*) FROM client_keys)") == [(0,)]


@pytest.mark.rule("OP-4")
@pytest.mark.parametrize(
    "name", ["there", "data/groat.db", "data/groat.db-wal", "data/groat.db.lock", "link", "dangling"]
)
def test_nothing_is_written_over(home: Home, name: str) -> None:
    """Neither a file that is there, nor the store's own, nor what a link points to."""
    target = home.file("there", "mine")
    (home.directory / "link").symlink_to(target)
    (home.directory / "dangling").symlink_to(home.directory / "nowhere")
    before = home.snapshot()
    done = home("store", "backup", name)
    assert (done.code, done.out, name in done.err) == (3, "", True)
    assert {k: v[0] for k, v in home.snapshot().items()} == {k: v[0] for k, v in before.items()}
    assert not (home.directory / "nowhere").exists()


@pytest.mark.rule("OP-4", "ST-14")
def test_an_impossible_place_is_named(home: Home) -> None:
    """A directory that is not there; and for root one in which others may rename what it writes."""
    assert "nowhere" in home("store", "backup", "nowhere/copy.db").err
    if os.geteuid() == 0:
        (home.directory / "open").mkdir(mode=0o700)
        os.chown(home.directory / "open", 65534, 65534)
        done = home("store", "backup", "open/copy.db")
        assert (done.code, "others than root" in done.err) == (3, True)
        assert [*(home.directory / "open").iterdir()] == []


@pytest.mark.rule("OP-4")
def test_a_copy_that_does_not_fit_leaves_nothing(home: Home) -> None:
    """Half a backup would be found on the day it is needed."""
    before = set(home.directory.iterdir())
    line = f"ulimit -f 16; exec {GROAT} store backup copy.db"
    done = subprocess.run(
        ["bash", "-c", line], cwd=home.directory, env=environment(home.env), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done.stderr
    assert set(home.directory.iterdir()) == before


@pytest.mark.rule("OP-4", "F16", "I1")
@pytest.mark.parametrize("running", [True, False], ids=["servers run", "servers stopped"])
def test_no_use_since_the_backup_is_forgotten(home: Home, running: bool) -> None:
    """An assertion that bought a token after the backup buys none after the restore; a new one does."""
    with serving(home) as server:
        home.ok("store", "backup", "copy.db")
        used = assertion(home)
        assert spend(server, used) == 200
        if running:
            home.ok("--yes", "store", "restore", "copy.db")
            judged(home, server, used)
    if not running:
        home.ok("--yes", "store", "restore", "copy.db")
        with home.serving(port=server.port) as server:
            judged(home, server, used)


def judged(home: Home, server: Server, used: str) -> None:
    assert spend(server, used) in (401, 503)
    deadline = time.monotonic() + 15
    while spend(server, assertion(home, ahead=8)) != 200:  # nobody waits for the whole tolerance
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert spend(server, used) in (401, 503)


@pytest.mark.rule("OP-4", "F16", "I1")
def test_a_lost_file_is_made_anew_and_fenced(home: Home) -> None:
    """The memory of the uses is gone with the file; the floor stands in for it."""
    with serving(home) as server:
        home.ok("store", "backup", "copy.db")
        used = assertion(home)
        assert spend(server, used) == 200
    for file in (home.directory / "data").glob("groat.db*"):
        file.unlink()
    home.ok("store", "restore", "copy.db")
    assert (home.directory / "data" / "groat.db").stat().st_mode & 0o777 == 0o600
    with home.serving(port=server.port) as server:
        assert spend(server, used) == 503
        judged(home, server, used)


@pytest.mark.rule("OP-4", "I1")
@pytest.mark.parametrize("kept", [True, False], ids=["store there", "store lost"])
def test_a_clock_behind_the_backup_restores_nothing(home: Home, kept: bool) -> None:
    """The floor would lie before uses that came after the backup, if only by minutes."""
    home.ok("store", "backup", "copy.db")
    with closing(sqlite3.connect(home.directory / "copy.db")) as connection:
        connection.execute("UPDATE registry SET closed_at = closed_at + 120")
        connection.commit()
    for file in (home.directory / "data").glob("groat.db*"):
        if not kept:
            file.unlink()
    done = home("--yes", "store", "restore", "copy.db")
    assert (done.code, "clock is behind" in done.err) == (3, True)
    assert (home("-q", "client", "list").out == "billing\n") is kept


@pytest.mark.rule("OP-4", "I1")
def test_a_bare_copy_of_a_backup_does_not_serve(home: Home) -> None:
    """Who puts the file back by hand is told to open it, which fences it."""
    home.ok("store", "backup", "copy.db")
    for file in (home.directory / "data").glob("groat.db*"):
        file.unlink()
    shutil.copy(home.directory / "copy.db", home.directory / "data" / "groat.db")
    assert home.ok("--json", "store", "show").json["closed_at"] is not None
    reopened = home.ok("--json", "--yes", "store", "reopen").json
    assert (reopened["closed_at"], reopened["floor"] >= time.time() - 1) == (None, True)


@pytest.mark.rule("OP-4", "OP-3")
def test_what_a_restore_takes_and_brings_back_is_said(home: Home) -> None:
    """Off a terminal it needs a yes, and names the clients; nothing is changed before."""
    for name in ("off", "gone"):
        add(home, name)
    home.ok("store", "backup", "copy.db")
    add(home, "late")
    home.ok("client", "disable", "off")
    home.ok("--yes", "client", "remove", "gone")
    listed = home.ok("--json", "client", "list").json
    for refused in (home("store", "restore", "copy.db"), home("--json", "store", "restore", "copy.db")):
        assert (refused.code, refused.out, "--yes" in refused.err) == (2, "", True)
        for words in ("client late is not in", "client off was removed or disabled", "client gone was removed or dis"):
            assert words in refused.err
    assert home.ok("--json", "client", "list").json == listed
    before = home.ok("--json", "store", "show").json
    restored = home.ok("--json", "--yes", "store", "restore", "copy.db").json
    assert restored["registry_version"] > before["registry_version"]
    assert home.ok("-q", "client", "list").out.split() == ["billing", "gone", "off"]
    assert home.ok("--json", "client", "show", "off").json["enabled"] is True
    home.ok("config", "check")


@pytest.mark.rule("OP-4")
def test_what_is_no_backup_changes_nothing(home: Home) -> None:
    """Not there, not a database, another database, a damaged one, a newer one, the store itself."""
    home.ok("store", "backup", "good.db")
    for name in ("damaged.db", "newer.db"):
        shutil.copy(home.directory / "good.db", home.directory / name)
    with (home.directory / "damaged.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    with closing(sqlite3.connect(home.directory / "newer.db")) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with closing(sqlite3.connect(home.directory / "other.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    before = home.ok("--json", "store", "show").json
    for name in ("none.db", "billing.key.json", "other.db", "damaged.db", "newer.db", "data/groat.db", "data"):
        done = home("--yes", "store", "restore", name)
        assert (done.code, done.out, Path(name).name in done.err, len(done.err.splitlines())) == (3, "", True, 1), done
    assert home.ok("--json", "store", "show").json == before


@pytest.mark.rule("OP-4")
def test_a_damaged_store_says_the_way(home: Home) -> None:
    """It cannot be replaced in place; moved away it can."""
    home.ok("store", "backup", "copy.db")
    home.file("data/groat.db", b"no database at all, but long enough to be read as a header" * 100)
    done = home("--yes", "store", "restore", "copy.db")
    assert (done.code, "move it" in done.err) == (5, True)
    (home.directory / "data" / "groat.db").unlink()
    home.ok("store", "restore", "copy.db")
    assert home.ok("-q", "client", "list").out == "billing\n"


@pytest.mark.rule("OP-4", "I1")
def test_a_store_that_moved_is_neither_copied_nor_filled(home: Home) -> None:
    """Its contents live elsewhere: a second living copy would accept each assertion once more."""
    home.ok("store", "backup", "copy.db")
    home.ok("--yes", "store", "copy", "sqlite:///data/groat.db", "sqlite:///moved.db")
    for command in (("backup", "late.db"), ("restore", "copy.db")):
        done = home("--yes", "store", *command)
        assert (done.code, "closed" in done.err) == (3, True)
    assert not (home.directory / "late.db").exists()


@pytest.mark.rule("OP-4", "KEY-14", "ST-13")
def test_on_postgresql_its_own_programs_are_named(home: Home) -> None:
    """With the command to run, quoted, and without the password."""
    url = "postgresql://groat:secret-word@db.example.com/groat"
    for command, program in ((("backup", "a b"), "pg_dump"), (("restore", "a b"), "pg_restore")):
        done = home("store", *command, GROAT_STORAGE__URL=url)
        assert (done.code, program in done.err, "'a b'" in done.err, "secret-word" in done.err) == (
            3,
            True,
            True,
            False,
        )


@pytest.mark.rule("OP-4")
def test_the_guide_can_be_followed(home: Home) -> None:
    """Every block of it, from the top to the end, in a shell, while a server runs."""
    blocks = re.findall(r"^```\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    env = environment({**home.env, "PATH": f"{GROAT.parent}:{os.environ['PATH']}"})
    for block in blocks:
        done = subprocess.run(
            ["sh", "-e", "-c", block], cwd=home.directory, env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (block, done.stderr)
    assert json.loads(home.ok("--json", "store", "show").out)["closed_at"] is None
    assert home.ok("-q", "client", "list").out == "billing\n"
