"""`groat explain` and `groat log`: from log files and pipes, and from the memory of a running server."""

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from groat.cli.log_lines import Wanted, for_people, parsed, read_lines
from groat.keys.files import read_private_key
from tests.server.builders import Party, base
from tests.server.wire import post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Groat, Server


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    made = make_groat("x")
    made.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    made.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    return made


@pytest.fixture(scope="module")
def server(groat: "Groat") -> "Iterator[Server]":
    """With its admin socket; what workers remember together, tests/server/log/test_refusals.py has."""
    made = groat.serve(env={"GROAT_ADMIN__SOCKET": "admin.sock"})
    deadline = time.monotonic() + 20
    while not (groat.directory / "admin.sock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield made
    made.stop()


def refused(groat: "Groat", server: "Server", **claims: Any) -> str:
    """The request id of a refusal."""
    party = Party("billing", read_private_key(groat.directory / "k.json"), time.time())
    answer = post(server.address, base(party.assertion(**claims)))
    assert answer.status == 401
    return answer.request_id


def test_a_refusal_is_explained(groat: "Groat", server: "Server") -> None:
    """From the log as from the memory: the reason, its meaning, what helps, what came."""
    ids = [refused(groat, server, aud="https://other.example") for _ in range(3)]
    for request_id in ids[:2]:
        remembered = groat.run("explain", request_id, GROAT_ADMIN__SOCKET="admin.sock").stdout
        logged = groat.run("explain", request_id, "--log", str(server.log)).stdout
        assert remembered == logged
        for words in ("assertion_audience", "client billing from 127.0.0.1", "https://other.example", "remedy", "401"):
            assert words in remembered
    found = json.loads(groat.run("--json", "explain", ids[-1], GROAT_ADMIN__SOCKET="admin.sock").stdout)
    assert (found["reason"], found["request_id"], found["client"]) == ("assertion_audience", ids[-1], "billing")
    shown = groat.run("log", "--client", "billing", "--since", "15m", GROAT_ADMIN__SOCKET="admin.sock").stdout
    assert all(request_id in shown for request_id in ids)


def test_what_cannot_be_found_is_said(groat: "Groat", server: "Server", tmp_path: Path) -> None:
    """Not remembered, not in the log, not refused, nobody there: each has its code and a way on."""
    unknown = groat.run("explain", "nothing", check=False, GROAT_ADMIN__SOCKET="admin.sock")
    assert (unknown.returncode, "--log FILE" in unknown.stderr) == (3, True)
    log = tmp_path / "log"
    log.write_text('{"event":"token.issued","request_id":"good"}\n')
    issued = groat.run("explain", "good", "--log", str(log), check=False)
    assert (issued.returncode, "was not refused" in issued.stderr) == (3, True)
    nowhere = groat.run("explain", "x", check=False)
    assert (nowhere.returncode, "admin.socket" in nowhere.stderr) == (3, True)
    gone = groat.run("explain", "x", "--admin-url", "http://127.0.0.1:9", check=False)
    assert gone.returncode == 5
    missing = groat.run("explain", "x", "--log", "none", check=False)
    assert (missing.returncode, "none cannot be read" in missing.stderr) == (3, True)


LINES = [
    {"ts": "2026-01-01T00:00:00.000Z", "event": "token.issued", "client": "billing", "api": "orders", "ms": 1},
    {"ts": "2026-01-01T00:00:01.000Z", "event": "token.refused", "client": "billing", "reason": "scope", "hint": "h"},
    {"ts": "2026-01-01T00:00:02.000Z", "event": "token.refused", "client": "other\x1b[2J", "reason": "scope"},
]


def test_the_log_is_shown_to_people(tmp_path: Path, groat: "Groat") -> None:
    """Filtered; lines of other writers are passed over; what a stranger called himself moves no cursor."""
    file = tmp_path / "log"
    file.write_text("starting\n" + "".join(json.dumps(line) + "\n" for line in LINES) + '[1]\n{"half": ')
    everything = groat.run("log", str(file)).stdout.splitlines()
    assert len(everything) == 3
    assert everything[0] == "2026-01-01 00:00:00Z  token.issued      billing  api=orders"
    assert "\x1b" not in everything[2]
    assert groat.run("log", str(file), "--refused", "--client", "billing").stdout.splitlines() == everything[1:2]
    assert groat.run("log", str(file), "--since", "15m").stdout == ""
    piped = subprocess.run(
        ["groat", "--json", "log", "-", "--refused"], input=file.read_bytes(), capture_output=True, check=True,
        env=groat._env({}),
    )  # fmt: skip
    assert [json.loads(line) for line in piped.stdout.splitlines()] == LINES[1:]


def test_a_log_is_followed_over_its_rotation(tmp_path: Path) -> None:
    """What is appended, what comes in a file of the same name, and a line only when it is whole."""
    file, seen = tmp_path / "log", list[bytes]()
    file.write_bytes(b'{"n":1}\n{"n"')
    done = threading.Event()

    def wait(seconds: float) -> None:
        if done.is_set():
            raise SystemExit
        time.sleep(0.005)

    def follow() -> None:
        try:
            seen.extend(())
            for line in read_lines(str(file), follow=True, wait=wait):
                seen.append(line)
        except SystemExit:
            pass

    thread = threading.Thread(target=follow)
    thread.start()

    def until(many: int) -> None:
        deadline = time.monotonic() + 10
        while len(seen) < many:
            assert time.monotonic() < deadline, seen
            time.sleep(0.005)

    until(1)
    with file.open("ab") as more:
        more.write(b":2}\n")
    until(2)
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b'{"n":3}\n')
    fresh.rename(file)
    until(3)
    done.set()
    thread.join(10)
    assert [one["n"] for one in parsed(seen)] == [1, 2, 3]


def test_a_line_without_a_time_is_not_lost() -> None:
    """It is as new as it can be, and shown as what it is."""
    assert Wanted(since=time.time()).admits({"event": "x"})
    assert for_people({"event": "x", "n": 1}) == "-  x                 -  n=1"
