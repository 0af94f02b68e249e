"""Standard streams that are closed, full or without a reader, and a terminal that goes away: the work is done."""

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.missing import on_linux
from tests.ports import free_port

from .running import GROAT, Home, environment

FULL = Path("/dev/full")
CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


def shell(home: Home, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in the home; `groat` is the console script."""
    env = environment({**home.env, "PATH": f"{GROAT.parent}:{os.environ['PATH']}"})
    return subprocess.run(
        ["bash", "-c", line], cwd=home.directory, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.rule("OP-9")
@pytest.mark.parametrize("closed", CLOSED)
def test_a_command_does_its_work_with_closed_streams(home: Home, closed: str) -> None:
    """As cron may start it: exit code 0, the work done, nothing on the streams that are left but what belongs there."""
    done = shell(home, f"groat -q client disable billing {CLOSED[closed]}")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "" if closed in ("stdout", "all") else "billing\n")
    assert home.ok("--json", "client", "show", "billing").json["enabled"] is False


@pytest.mark.rule("OP-9")
@pytest.mark.parametrize("closed", CLOSED)
def test_a_failure_keeps_its_exit_code(home: Home, closed: str) -> None:
    """Whether anybody can read about it or not; and without standard input there is nobody to ask."""
    assert shell(home, f"groat client show nobody {CLOSED[closed]}").returncode == 3
    assert shell(home, f"groat client remove billing {CLOSED[closed]}").returncode == 2
    assert home.ok("-q", "client", "list").out == "billing\n"


@pytest.mark.rule("OP-9")
def test_closed_streams_are_not_taken_by_files(home: Home) -> None:
    """The store's file under the number of standard error would get whatever is written there."""
    before = (home.directory / "data" / "groat.db").read_bytes()[:100]
    assert shell(home, "groat -v client disable billing <&- >&- 2>&-").returncode == 0
    assert (home.directory / "data" / "groat.db").read_bytes()[:16] == before[:16] == b"SQLite format 3\0"


@pytest.mark.rule("OP-9")
@on_linux  # /dev/full
@pytest.mark.parametrize("command", ["key export", "client list", "--json client list", "version", "--help"])
def test_a_result_that_cannot_be_written_is_not_a_success(home: Home, command: str) -> None:
    """A file on a full disk would be taken for the whole: exit code 5, and one line that says why."""
    done = shell(home, f"groat {command} >{FULL}")
    assert (done.returncode, len(done.stderr.splitlines())) == (5, 1)
    assert "standard output cannot be written: No space left on device" in done.stderr


@pytest.mark.rule("OP-9")
@on_linux
def test_a_full_disk_beneath_the_remarks_changes_nothing(home: Home) -> None:
    """The result is there; the exit code is that of the command."""
    assert shell(home, f"groat -q client list 2>{FULL}").stdout == "billing\n"
    assert shell(home, f"groat client show nobody 2>{FULL}").returncode == 3
    made = shell(home, f"groat client add new --allow orders=orders:read --new-key new.json >{FULL}")
    assert (made.returncode, home.ok("-q", "client", "list").out) == (5, "billing\nnew\n")


@pytest.mark.rule("OP-9")
@pytest.mark.parametrize("command", ["config schema", "--json config schema", "client list"])
def test_a_reader_who_had_enough_is_no_failure(home: Home, command: str) -> None:
    """`groat ... | head` with pipefail: the command has done what it was asked."""
    done = shell(home, f"set -o pipefail; groat {command} | true")
    assert (done.returncode, done.stderr) == (0, "")


@contextlib.contextmanager
def started(home: Home, line: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that a shell starts with these redirections; ready when it answers."""
    env = environment({**home.env, "PATH": f"{GROAT.parent}:{os.environ['PATH']}", "GROAT_SERVER__PORT": str(port)})
    process = subprocess.Popen(["bash", "-c", f"exec groat {line}"], cwd=home.directory, env=env)
    try:
        wait_until_ready(port, process)
        yield process
    finally:
        process.kill()
        process.wait(5)


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, process.returncode
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError


def token(home: Home, port: int) -> int:
    """The exit code of getting one."""
    words = ("token", "get", "--local", "--client-id", "billing", "--key", "billing.key.json", "--scope", "orders:read")
    return home(*words, GROAT_SERVER__PORT=str(port)).code


@pytest.mark.rule("OP-9")
@pytest.mark.parametrize("line", ["serve 2>&-", "serve <&- >&- 2>&-", "serve --workers 2 >&- 2>&-"])
def test_a_server_logs_to_nowhere(home: Home, line: str) -> None:
    """It starts, issues tokens and ends with 0."""
    port = free_port()
    with started(home, line, port) as process:
        assert token(home, port) == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.rule("OP-9", "I3")
@on_linux
def test_a_server_whose_log_is_full_starts_and_issues_nothing(home: Home) -> None:
    """No token without its trace; it gets going again by itself when there is room, so it need not be started anew."""
    port = free_port()
    with started(home, f"serve 2>{FULL}", port) as process:
        assert token(home, port) == 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.rule("OP-11")
@on_linux
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one worker", "two workers"])
def test_a_server_outlives_its_terminal(home: Home, workers: Sequence[str]) -> None:
    """The terminal is closed: it goes on issuing tokens, says that it holds the port, and SIGTERM ends it with 0."""
    port = free_port()
    ours, theirs = pty.openpty()
    process = home.start(
        "serve", *workers, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={"GROAT_SERVER__PORT": str(port)},
    )  # fmt: skip
    os.close(theirs)
    try:
        printed = b""
        while printed.count(b"Application startup complete") < (2 if workers else 1):
            printed += os.read(ours, 65_536)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        wait_until_ready(port, process)
        assert [token(home, port) for _ in range(3)] == [0, 0, 0]
        second = home("serve", GROAT_SERVER__PORT=str(port))
        assert (second.code, f"in use by process {process.pid} (" in second.err, "groat)" in second.err) == (
            3,
            True,
            True,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(5)


@pytest.mark.rule("OP-11")
@on_linux
def test_the_admin_port_names_its_holder_too(home: Home) -> None:
    """This test itself holds it; no argument of the holder is shown."""

    with socket.create_server(("127.0.0.1", 0)) as held:
        place = f"127.0.0.1:{held.getsockname()[1]}"
        done = home("serve", GROAT_ADMIN__LISTEN=place, GROAT_SERVER__PORT=str(free_port()))
    assert (done.code, f"in use by process {os.getpid()} (" in done.err) == (3, True)
    assert "--" not in done.err.partition("in use by")[2].partition(")")[0]


@pytest.mark.rule("OP-9")
def test_json_errors_are_whole_without_standard_output(home: Home) -> None:
    """The other stream is as ever."""
    done = shell(home, "groat --json client show nobody >&-")
    assert json.loads(done.stderr)["error"] == "invalid_input"
