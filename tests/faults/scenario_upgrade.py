"""F05, F13, F15 and F16: a standby takes over, two versions on one database, a move to another store, an old backup."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.load.connection import Target
from benchmarks.load.history import Assertion, Caller
from benchmarks.load.presenter import BackgroundLoad, closed_loop, run
from tests.postgres import NOBODY, PostgresServer, own_directory

from . import later_schema
from .checker import digest_of
from .deployment import GROAT, ISSUER, Deployment, ended, environment, wait_until
from .proxy import Proxy
from .verdicts import judge, present_again, record, require_kept

LATER = {"GROAT_TEST_FAULT": "schema:later"}


@pytest.mark.rule("P07", "I1")
def test_f13_two_versions_serve_at_once(postgres: Deployment) -> None:
    """A schema change under load, both versions side by side, and back again: no failure, no replay across versions."""
    (caller,) = postgres.initialise("billing")
    before = postgres.start(2)
    with BackgroundLoad(caller.sign(6000), postgres.targets, 150, 8) as load:
        time.sleep(1.0)
        migrated = subprocess.run(
            [*postgres.faulty, "init", "--issuer", ISSUER, "--database", postgres.url],
            cwd=postgres.directory, env=environment({**postgres.secrets, **LATER}), capture_output=True, check=False,
        )  # fmt: skip
        assert migrated.returncode == 0, migrated.stderr
        (later,) = postgres.start(1, entry=postgres.faulty, env=LATER)
        assert before[0].terminate() < 15
        before[0].start()  # the version before, started anew on the schema of the next one
        time.sleep(1.0)
    crossed = run(closed_loop(caller.sign(200), [later.target], 8))
    assert {p.status for p in load.history} == {200}
    verdict = judge(postgres, load.history + crossed)
    require_kept("F13", verdict, load.history)
    back = present_again([p.assertion for p in crossed], [before[0].target, before[1].target])
    assert {p.status for p in back} == {401}
    with postgres.connect() as connection:
        assert connection.execute("SELECT version FROM groat_schema").fetchone() == (later_schema.LATER,)
    record("F13", verdict, store="postgres", crossed=len(back))


@pytest.mark.rule("P04", "I1")
def test_f15_moving_to_postgres_under_load(sqlite: Deployment, postgres: Deployment) -> None:
    """`groat store copy` while SQLite servers are under load: whatever was used there is refused on PostgreSQL."""
    (caller,) = sqlite.initialise("billing")
    sqlite.start(2)
    with BackgroundLoad(caller.sign(6000), sqlite.targets, 300, 8) as load:
        time.sleep(1.0)
        done = subprocess.run(
            [GROAT, "--yes", "store", "copy", sqlite.url, postgres.url],
            cwd=sqlite.directory, env=environment(postgres.secrets), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        moved = time.monotonic()
        time.sleep(1.0)
    late = [p.status for p in load.history if p.sent > moved]
    assert late
    assert set(late) == {503}, "a store that was left for good must not serve"
    assert {p.status for p in load.history} == {200, 503}
    shutil.copytree(sqlite.directory / "data", postgres.directory / "data", dirs_exist_ok=True)
    postgres.start(2)
    verdict = judge(postgres, load.history)
    require_kept("F15-copy", verdict, load.history)
    record("F15", verdict, what="moved from SQLite to PostgreSQL under load")


def require_refused(assertions: Sequence[Assertion], targets: Sequence[Target]) -> dict[int, int]:
    """Present all of these again; not one may be accepted, whether the server knows that it was used or cannot know."""
    again = run(closed_loop(assertions, targets, 8))
    statuses = Counter(p.status for p in again)
    assert set(statuses) <= {401, 503}, statuses
    return dict(statuses)


def wait_for_tokens(caller: Caller, targets: Sequence[Target], seconds: float = 30.0) -> float:
    """Until an assertion that is signed now is accepted by every replica; returns how long that took."""
    begun = time.monotonic()

    def accepted() -> bool:
        return all(p.status == 200 for target in targets for p in run(closed_loop(caller.sign(1), [target], 1)))

    wait_until(accepted, seconds, "tokens for fresh assertions", 0.2)
    return time.monotonic() - begun


@pytest.mark.rule("P04", "I1")
@pytest.mark.parametrize("running", [True, False], ids=["replicas-run-on", "replicas-restarted"])
def test_f16_an_older_dump_is_restored(postgres: Deployment, postgres_server: PostgresServer, *, running: bool) -> None:
    """The database goes back to a dump: what was used since is refused, and new assertions are served soon."""
    (caller,) = postgres.initialise("billing")
    replicas = postgres.start(2)
    before = run(closed_loop(caller.sign(100), postgres.targets, 8))
    dump = postgres_server.run("pg_dump", "--format=plain", "--dbname", postgres.url)
    since = run(closed_loop(caller.sign(100), postgres.targets, 8))
    assert {p.status for p in before + since} == {200}
    if not running:
        for replica in replicas:
            replica.terminate()
    restore(postgres_server, postgres.database_name, dump)
    if not running:
        for replica in replicas:
            replica.start()
    assert len(postgres.rows()) == 100
    statuses = require_refused([p.assertion for p in before + since], postgres.targets)
    gap = wait_for_tokens(caller, postgres.targets)
    assert require_refused([p.assertion for p in before + since], postgres.targets)
    record("F16", None, replicas_ran_on=running, forgotten_by_the_dump=100, accepted_again=0, served_again_after=round(gap, 1),
           **{f"status_{status}": count for status, count in statuses.items()})  # fmt: skip


def plain_url(server: PostgresServer) -> str:
    """The server's own database, without the password: its programs find that in their environment."""
    return f"postgresql://postgres@127.0.0.1:{server.port}/postgres"


def restore(server: PostgresServer, database: str, dump: str) -> None:
    """Replace a database by the contents of a dump, as an operator would."""
    file = server.directory / "dump.sql"
    file.write_text(dump)
    server.run("psql", "--quiet", "--dbname", plain_url(server), "-c", f"DROP DATABASE {database} WITH (FORCE)")
    server.run("psql", "--quiet", "--dbname", plain_url(server), "-c", f"CREATE DATABASE {database}")
    plain = plain_url(server).rpartition("/")[0] + f"/{database}"
    server.run("psql", "--quiet", "-v", "ON_ERROR_STOP=1", "--dbname", plain, "-f", str(file))


@pytest.mark.rule("P04", "I1")
@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_f05_a_standby_takes_over(tmp_path: Path, *, synchronous: bool) -> None:
    """The primary is lost and its standby promoted: a synchronous one knows all, a lagging one is not believed."""
    settings = {"synchronous_standby_names": "*"} if synchronous else {}
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(PostgresServer.running())
        standby = stack.enter_context(standby_of(primary))
        url = primary.database()
        for name, value in settings.items():
            primary.run("psql", "--dbname", plain_url(primary), "-c", f"ALTER SYSTEM SET {name} = '{value}'",
                        "-c", "SELECT pg_reload_conf()")  # fmt: skip
        link = stack.enter_context(Proxy(("127.0.0.1", primary.port)))
        postgres = stack.enter_context(ended(Deployment.on_postgres(tmp_path, url)))
        (caller,) = postgres.initialise("billing")
        postgres.start(2, url=postgres.through(link.port))
        history = run(closed_loop(caller.sign(100), postgres.targets, 8))
        if not synchronous:
            hold_replication(postgres)
        history += run(closed_loop(caller.sign(100), postgres.targets, 8))
        assert {p.status for p in history} == {200}
        primary.kill()
        standby.run("psql", "--dbname", plain_url(standby), "-c", "SELECT pg_promote()")
        link.upstream = ("127.0.0.1", standby.port)
        postgres.url = postgres.url.replace(f":{primary.port}/", f":{standby.port}/")
        promoted = time.monotonic()
        statuses = Counter(require_refused([p.assertion for p in history], postgres.targets))
        wait_for_tokens(caller, postgres.targets)
        gap = time.monotonic() - promoted
        rows = postgres.rows()
        lost = sum(digest_of(p.assertion.name) not in rows for p in history)
        assert lost == 0 if synchronous else lost > 0
        require_refused([p.assertion for p in history], postgres.targets)
        record("F05", None, synchronous=synchronous, lost_rows=lost, accepted_again=0, served_again_after=round(gap, 1),
               **{f"status_{status}": count for status, count in statuses.items()})  # fmt: skip


def hold_replication(postgres: Deployment) -> None:
    """Stop the sender of the primary's log: what is committed from now on stays on the primary."""
    with postgres.connect() as connection:
        (pid,) = connection.execute("SELECT pid FROM pg_stat_replication").fetchall()[0]
    os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming standby, caught up."""
    directory = own_directory()
    standby = PostgresServer(primary.binaries, directory, {}, primary.password)
    try:
        directory.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)
        standby.run("pg_basebackup", "--dbname", plain_url(primary), "-D", str(standby.data), "-R", "--checkpoint=fast")
        standby.start()
        yield standby
    finally:
        standby.stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)
