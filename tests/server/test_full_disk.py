"""A store that takes no writes, while nobody asks for a token: everything that an operator looks at says so, and recovers."""

import json
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.disks import filled
from tests.server.builders import base
from tests.server.test_broken_store import _install, _small_disk
from tests.server.wire import check_ok, post, send
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.conftest import Groat, Server

SECONDS = 5.0


def check_told(groat: "Groat", server: "Server", why: str) -> None:
    """Within the promised time, and by every command that asks this host's store or this server."""
    wait_until(lambda: send(server.address, "GET", "/readyz").status == 503, SECONDS)
    assert send(server.address, "GET", "/readyz").json["reason"] == "store_unavailable"
    url = f"http://{server.address[0]}:{server.address[1]}"
    health = groat.run("--json", "health", f"{url}/readyz", check=False)
    assert (health.returncode, json.loads(health.stdout)["reason"]) == (7, "store_unavailable")
    (down,) = events(server, "store.down")
    assert why in down["reason"]


def events(server: "Server", name: str) -> list[dict[str, Any]]:
    return [line for line in server.lines() if line["event"] == name]


def check_recovered(server: "Server") -> None:
    wait_until(lambda: send(server.address, "GET", "/readyz").status == 200, SECONDS)
    assert len(events(server, "store.up")) == 1
    assert [line["event"] for line in server.lines() if line["event"] in ("server.unready", "server.ready")] == [
        "server.unready", "server.ready"]  # fmt: skip


@pytest.mark.rule("OP-1", "F10", "I15")
def test_a_full_disk_is_told_though_nobody_asks(make_groat: "Callable[[str], Groat]") -> None:
    """/readyz, health, doctor, store show, config check, a second server, the log; all green when there is room."""
    groat = make_groat("told-full")
    with _small_disk(groat) as data:
        server = groat.serve(1)
        url = f"http://{server.address[0]}:{server.address[1]}"
        with filled(data):
            check_told(groat, server, "full")
            shown = groat.run("--json", "store", "show", check=False)
            assert (shown.returncode, "full" in json.loads(shown.stdout)["write_fault"]) == (7, True)
            for command in (("config", "check"), ("serve", "--port", "0")):
                done = groat.run(*command, check=False)
                assert (done.returncode, "full" in done.stderr) == (5, True), done.stderr
            doctor = groat.run("--json", "doctor", "server", "--url", url, check=False)
            failed = {row["check"]: row["detail"] for row in json.loads(doctor.stdout) if row["outcome"] == "failed"}
            assert (doctor.returncode, "full" in failed["store"]) == (7, True)
            assert "store_unavailable" in failed["readiness"]
        check_recovered(server)
        groat.run("config", "check")
        assert json.loads(groat.run("--json", "store", "show").stdout)["write_fault"] is None
        server.stop()


@pytest.mark.rule("OP-1", "F10", "I15")
def test_a_quota_is_told_though_nobody_asks(make_groat: "Callable[[str], Groat]") -> None:
    """Where the kernel lets no file of this process grow: an I/O error and not a full disk, and the same recovery."""
    groat = make_groat("told-quota")
    party = _install(groat)
    server = groat.serve(1)
    for _ in range(20):  # so that the log of the database is longer than that of the server will be
        check_ok(post(server.address, base(party.assertion())))
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = (groat.directory / "data" / "groat.db-wal").stat().st_size
    assert server.log.stat().st_size + 10_000 < size, "the log may grow"
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    check_told(groat, server, "SQLite")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    check_recovered(server)
    server.stop()
