"""Backup, restore, upgrade and roll back by their page, with two versions of the program, on both stores."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.cli.running import AUDIENCE, Home, Server, environment
from tests.cli.test_backup import assertion, spend
from tests.ports import free_port
from tests.postgres import GivenServer, PostgresServer
from tests.versions import this_version, version_before

from .guide_pages import GUIDES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Versions:
    """One installation as either program sees it."""

    before: Home
    now: Home

    @property
    def issuer(self) -> str:
        return self.now.env["GROAT_ISSUER"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The `groat` of the version before, and of this one."""
    return version_before(tmp_path_factory.mktemp("before")), this_version(tmp_path_factory.mktemp("now"))


@pytest.fixture
def versions(programs: tuple[Path, Path], tmp_path: Path) -> Versions:
    port = free_port()
    env = {"GROAT_SERVER__PORT": str(port), "GROAT_ISSUER": f"http://127.0.0.1:{port}"}
    home = Home(tmp_path, env)
    return Versions(*(replace(home, groat=program) for program in programs))


def done(home: Home, *arguments: str) -> str:
    """One command that must succeed; what it printed."""
    found = home.script(*arguments)
    assert found.code == 0, (arguments, found.err)
    return found.out


def furnished(home: Home) -> None:
    done(home, "init", "--issuer", home.env["GROAT_ISSUER"])
    done(home, "api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read")
    done(home, "client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "billing.key.json")


def lines(section: str) -> list[str]:
    """Those of the only block, or the first one, of a section of the page."""
    text = (GUIDES / "backup.md").read_text("utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    block = re.search(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def typed(home: Home, commands: list[str]) -> str:
    """In a shell, by the program of that version; what was printed."""
    env = environment({**home.env, "PATH": f"{home.groat.parent}:{os.environ['PATH']}"})
    shell = ["sh", "-e", "-c", "\n".join(commands)]
    found = subprocess.run(shell, cwd=home.directory, env=env, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, (commands, found.stderr)
    return found.stdout + found.stderr


@contextmanager
def serving(home: Home) -> Iterator[Server]:
    with home.serving(port=int(home.env["GROAT_SERVER__PORT"])) as server:
        yield server


def fresh(home: Home, server: Server) -> None:
    """Until an assertion that is signed now buys a token: a store that was put back refuses those of before."""
    deadline = time.monotonic() + 60
    while spend(server, assertion(home)) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_sqlite_there_and_back(versions: Versions) -> None:
    """What is used is used on either side of an upgrade, of a restore and of the way back, and what was registered is there."""
    before, now = versions.before, versions.now
    furnished(before)
    with serving(before) as server:
        used = assertion(before)
        assert spend(server, used) == 200
        typed(before, lines("Back up"))
        backup, *rest = lines("Upgrade")
        typed(before, [backup])
    assert "upgraded" in typed(now, rest)
    with serving(now) as server:
        assert spend(server, used) == 401, "used before the upgrade"
        fresh(now, server)
        done(now, "client", "add", "since", "--allow", "orders=orders:read", "--new-key", "since.key.json")
        later = assertion(now)
        assert spend(server, later) == 200
        typed(now, lines("Restore"))  # of the version before, into this one, while it serves
        assert {spend(server, used), spend(server, later)} <= {401, 503}
        fresh(now, server)
        assert done(now, "-q", "client", "list").split() == ["billing"]
    typed(before, lines("Roll back"))
    with serving(before) as server:
        assert {spend(server, used), spend(server, later)} <= {401, 503}
        fresh(before, server)
    assert done(before, "-q", "client", "list").split() == ["billing"]


def test_sqlite_says_no_to_the_version_before(versions: Versions) -> None:
    """Without the backup there is no way back: it says so, and serves nothing."""
    furnished(versions.before)
    done(versions.now, "init")
    refused = versions.before.script("serve")
    assert refused.code != 0
    assert "schema" in refused.err


def test_postgres_there_and_back(versions: Versions, postgres: PostgresServer | GivenServer) -> None:
    """Both versions serve one database at once; either refuses what the other took; the way back is to start the old one."""
    before, now = versions.before, versions.now
    before.env["GROAT_STORAGE__URL"] = postgres.database()
    assert before.env is now.env
    furnished(before)
    with serving(before) as old:
        used = assertion(before)
        assert spend(old, used) == 200
        _, *rest = lines("Upgrade")
        assert "upgraded" in typed(now, rest)
        assert spend(old, assertion(before)) == 200, "the version before goes on"
        port = free_port()
        with replace(now, env={**now.env, "GROAT_SERVER__PORT": str(port)}).serving(port=port) as new:
            assert spend(new, used) == 401
            crossed = assertion(now)
            assert (spend(new, crossed), spend(old, crossed)) == (200, 401)
    with serving(before) as old:
        assert spend(old, crossed) == 401
        fresh(before, old)
