"""Ways to a PostgreSQL: over TLS with a CA of one's own, and over several hosts of which one takes writes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from groat.server.store import BeforeFloor, StoreUnavailable
from groat.server.store.postgres.link import Target
from groat.server.store.postgres.schema import migrate
from tests.certificates import self_signed
from tests.missing import Missing, skip, system_postgres
from tests.ports import free_port
from tests.postgres import NOBODY, PostgresServer, own_directory
from tests.server.store.test_postgres import opened, run, use


@pytest.fixture(scope="module")
def over_tls() -> Iterator[tuple[str, Path]]:
    """The URL of a database whose server has a certificate for 127.0.0.1, and that certificate's authority."""
    directory = own_directory()
    authority, both = self_signed(directory)
    settings = {"ssl": "on", "ssl_cert_file": str(both), "ssl_key_file": str(both)}
    server = PostgresServer(system_postgres(), directory, settings)
    try:
        server.initialise()
        both.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(both, NOBODY, NOBODY)
        server.start()
        yield server.database(), authority
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)


def test_every_connection_is_over_tls(over_tls: tuple[str, Path]) -> None:
    """sslmode=verify-full with a local CA: the store works, and no connection of it is in the clear."""
    url, authority = over_tls

    async def work() -> None:
        await migrate(Target(f"{url}?sslmode=verify-full&sslrootcert={authority}"))
        async with opened(f"{url}?sslmode=verify-full&sslrootcert={authority}") as store:
            assert await use(store, "a")
            assert not await use(store, "a")
            with psycopg.connect(url) as connection:
                sql = (
                    "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'groat%'"
                )
                found = [encrypted for (encrypted,) in connection.execute(sql).fetchall()]
        assert found
        assert all(found)

    run(work())


@pytest.mark.parametrize("case", ["another authority", "another name"])
def test_a_server_that_proves_something_else_is_refused(over_tls: tuple[str, Path], tmp_path: Path, case: str) -> None:
    """A certificate of an unknown CA, or for another name: 503, and nothing is sent."""
    url, authority = over_tls
    if case == "another authority":
        authority, _ = self_signed(tmp_path)
    else:
        url = url.replace("@127.0.0.1:", "@localhost:")

    async def work() -> None:
        async with opened(f"{url}?sslmode=verify-full&sslrootcert={authority}") as store:
            with pytest.raises(StoreUnavailable, match="certificate"):
                await store.registry_version()

    run(work())


@pytest.mark.rule("F05", "I1")
def test_the_host_that_takes_writes_is_found_again() -> None:
    """Two hosts in the URL, the standby first: the primary serves; when it dies and the standby is promoted, that one."""
    with PostgresServer.running() as primary:
        standby, url = primary.standby(), primary.database()
        with standby.running_standby(primary):
            name = url.rpartition("/")[2]
            hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            both = f"postgresql://postgres:{primary.password}@{hosts}/{name}?target_session_attrs=read-write"
            run(_fail_over(url, both, primary, standby))


async def _fail_over(url: str, both: str, primary: PostgresServer, standby: PostgresServer) -> None:
    await migrate(Target(url))
    async with opened(both) as store:
        assert await use(store, "before")
        await _caught_up(url)
        await asyncio.to_thread(primary.kill)
        with pytest.raises(StoreUnavailable):
            await use(store, "meanwhile")
        await asyncio.to_thread(standby.run, "pg_ctl", "promote", "-D", str(standby.data))
        deadline = time.monotonic() + 20
        while True:
            try:
                assert not await use(store, "before", time.time() + 11)
                break
            except BeforeFloor:
                await asyncio.sleep(0.1)
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        assert await use(store, "after", time.time() + 11)


async def _caught_up(url: str) -> None:
    with psycopg.connect(url) as connection:
        sql = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()"
        deadline = time.monotonic() + 20
        while connection.execute(sql).fetchone() != (1,):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def pooled(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """The URLs of a database, through a PgBouncer of the mode that is asked for and past it."""
    url = postgres_server.database()
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    with _pooler(postgres_server, url, request.param, tmp_path) as through:
        run(migrate(Target(through)))
        yield through, url


@contextmanager
def _pooler(server: PostgresServer, url: str, mode: str, directory: Path) -> Iterator[str]:
    program = shutil.which("pgbouncer")
    if program is None:
        skip(Missing.PGBOUNCER, "make components installs it")
    parts, port = urlsplit(url), free_port()
    (directory / "users").write_text(f'"{parts.username}" "{server.password}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\n"
        f"listen_port = {port}\nauth_type = scram-sha-256\nauth_file = {directory / 'users'}\npool_mode = {mode}\n"
    )
    for path in (directory, *directory.parents[:2], *directory.iterdir()):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    with subprocess.Popen([program, "-q", *as_nobody, str(directory / "pgbouncer.ini")]) as process:
        try:
            deadline = time.monotonic() + 10
            while not _listens(port):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
        finally:
            process.terminate()


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_behind_a_pooler_that_gives_each_connection_a_session(pooled: tuple[str, str]) -> None:
    """Single use as without PgBouncer."""

    async def work(through: str, past: str) -> None:
        async with opened(through) as store, opened(past) as direct:
            assert await use(store, "a")
            assert not await use(store, "a")
            assert not await use(direct, "a")

    run(work(*pooled))


@pytest.mark.parametrize("pooled", ["transaction"], indirect=True)
def test_a_pooler_that_mixes_sessions_is_found_out(pooled: tuple[str, str]) -> None:
    """With transaction pooling the store is unavailable, and says which setting to change."""

    async def work(through: str) -> None:
        for number in range(20):  # each opens connections anew
            async with opened(through) as store:
                await use(store, f"a{number}")

    with pytest.raises(StoreUnavailable, match="pool_mode = session"):
        run(work(pooled[0]))
