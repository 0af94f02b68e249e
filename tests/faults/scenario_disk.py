"""F10: the disk is full, for the database, the log, or both; afterwards everything goes on without repair."""

import contextlib
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.load.presenter import BackgroundLoad
from tests.disks import filled, small_disk
from tests.postgres import PostgresServer

from .deployment import Deployment, ended, wait_until
from .verdicts import judge, record, require_kept


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.rule("I2", "I10", "I11")
def test_f10_the_disk_of_sqlite_is_full(tmp_path: Path) -> None:
    """Database and log on a full disk: 503, and tokens again as soon as there is room; the file is intact."""
    with small_disk(_folder(tmp_path / "disk"), 24) as disk, ended(Deployment.on_sqlite(disk)) as deployment:
        (caller,) = deployment.initialise("billing")
        (replica,) = deployment.start(1)
        with BackgroundLoad(caller.sign(6000), deployment.targets, 300, 8) as load:
            time.sleep(1.0)
            with filled(disk):
                full = time.monotonic()
                time.sleep(2.0)
                freed = time.monotonic()
            wait_until(lambda: any(p.status == 200 for p in load.since(freed + 0.2)), 10, "tokens again")
            time.sleep(0.5)
        refused = [p for p in load.history if full + 0.2 < p.sent < freed - 0.2]
        assert {p.status for p in load.history} <= {200, 503}
        assert sum(p.status == 503 for p in refused) > len(refused) / 2
        verdict = judge(deployment, load.history)
        require_kept("F10-sqlite", verdict, load.history)
        assert replica.running
        record("F10", verdict, store="sqlite", seconds_full=2.0)


@pytest.mark.rule("I2", "I10", "I11")
def test_f10_the_disk_of_postgres_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and write-ahead log on a full disk: 503, and tokens again when there is room, whatever PostgreSQL did."""
    settings = {"max_wal_size": "64MB", "min_wal_size": "32MB", "restart_after_crash": "on"}
    with contextlib.ExitStack() as stack:
        # Below /tmp itself: PostgreSQL runs as nobody, who may not walk through pytest's folders.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        disk = stack.enter_context(small_disk(_folder(folder / "disk"), 160))
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        server = stack.enter_context(PostgresServer.running(settings))
        monkeypatch.undo()
        deployment = stack.enter_context(ended(Deployment.on_postgres(tmp_path, server.database())))
        (caller,) = deployment.initialise("billing")
        deployment.start(2)
        with BackgroundLoad(caller.sign(12_000), deployment.targets, 400, 16) as load:
            time.sleep(1.0)
            with filled(disk):
                full = time.monotonic()
                wait_until(lambda: any(p.status == 503 for p in load.since(full)), 20, "a refusal on a full disk")
                time.sleep(2.0)
            restarted = server.process is not None and server.process.poll() is not None
            if restarted:
                server.start()  # as systemd would
            freed = time.monotonic()
            wait_until(lambda: any(p.status == 200 for p in load.since(freed)), 20, "tokens again")
            time.sleep(0.5)
        assert {p.status for p in load.history} <= {200, 503}
        verdict = judge(deployment, load.history)
        require_kept("F10-postgres", verdict, load.history)
        record("F10", verdict, store="postgres", seconds_full=round(freed - full, 1), postgres_ended=restarted)
