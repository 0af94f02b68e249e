"""Every exit code, provoked for real with the installed script; and the one line that goes with it."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import time

import pytest

from groat.cli.session import EXIT_MEANINGS, Exit
from tests.missing import obeys_modes
from tests.ports import free_port

from .conftest import Live
from .running import AUDIENCE, ISSUER, OBEYING_MODES, Home

GET = ("token", "get", "--local", "--client-id", "billing", "--key", "billing.key.json", "--resource", AUDIENCE)


def test_the_help_lists_all_of_them(home: Home) -> None:
    """Who scripts the command finds them where he looks first."""
    told = " ".join(home("--help").out.split())
    for code in Exit:
        assert f" {code:d} {EXIT_MEANINGS[code]}" in told


def test_init_knows_its_issuer_where_it_is_configured(home: Home) -> None:
    """What other messages tell to run can be run as it stands."""
    done = home("init")
    assert (done.code, "created" in done.out) == (0, False), done


def test_0_done(home: Home) -> None:
    """What was asked for was done."""
    assert home.script("config", "check").code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("nonsense",),
        ("client", "list", "--nonsense"),
        ("client", "show"),
        ("token", "get", "--client-id", "x"),
        ("serve", "--port", "70000"),
        ("key", "export", "--format", "der"),
    ],
    ids=" ".join,
)
def test_2_usage(home: Home, command: tuple[str, ...]) -> None:
    """The mistake, and which help would tell."""
    done = home(*command)
    assert (done.code, done.out) == (2, "")
    assert "groat: try: groat" in done.err


@pytest.mark.parametrize(
    "command",
    [("client", "list"), ("serve",), ("key", "rotate"), ("config", "show"), ("config", "check"), ("init",), GET],
    ids=" ".join,
)
def test_3_no_configuration(empty: Home, command: tuple[str, ...]) -> None:
    """One line that says how to make one."""
    done = empty(*command)
    assert (done.code, done.out) == (3, "")
    assert done.err == (
        "groat: groat.toml does not exist. At the server: groat init --issuer URL; elsewhere say --issuer\n"
    )
    assert empty.snapshot() == {}


@pytest.mark.rule("CL-25")
@pytest.mark.parametrize("command", [("serve",), ("client", "list"), ("config", "check")], ids=" ".join)
def test_3_a_wrong_configuration(home: Home, command: tuple[str, ...]) -> None:
    """File and line, before anything else happens."""
    home.file("groat.toml", 'issuer = "https://as.example"\n[tokens]\nlifetime = 7200\n')
    done = home.script(*command)
    assert (done.code, done.out) == (3, "")
    assert done.err == "groat: groat.toml:3: tokens.lifetime must be 60 to 3600 seconds, not 7200\n"


@pytest.mark.rule("KEY-09", "DEMO-23")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("data/key-encryption.key", ("serve",)),
        ("data/key-encryption.key", ("key", "rotate")),
        ("data/key-encryption.key", ("config", "check")),
        ("billing.key.json", GET),
        ("billing.key.json", ("client", "assertion", "billing", "--key", "billing.key.json")),
    ],
    ids=["serve", "rotate", "check", "get", "assertion"],
)
def test_3_a_private_file_that_others_can_read(home: Home, name: str, command: tuple[str, ...]) -> None:
    """One line with the file and the repair, which then helps."""
    (home.directory / name).chmod(0o644)
    done = home.script(*command)
    assert (done.code, done.out) == (3, "")
    said = [line for line in done.err.splitlines() if "asking the local server" not in line]
    assert len(said) == 1
    assert name in said[0]
    assert "mode 0644" in said[0]
    assert "Fix: chmod 600 " in said[0]
    subprocess.run(said[0].partition("Fix: ")[2], shell=True, cwd=home.directory, check=True, timeout=10)
    assert (home.directory / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["missing", "directory", "empty"])
def test_3_a_key_file_that_is_none(home: Home, kind: str) -> None:
    """One line that names it."""
    path = home.directory / "key"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        home.file("key", "")
    done = home("client", "assertion", "billing", "--key", "key")
    assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
    assert "key" in done.err


def test_3_a_busy_port(home: Home) -> None:
    """One line, who holds it, and what to type instead."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = home.script("serve", "--port", str(port))
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(
        rf"groat: cannot listen on 127.0.0.1 port {port}: Address already in use by process {os.getpid()} \([^)]+\)\. "
        r"Choose another: groat serve --port 0\n",
        done.err,
    ), done.err


def test_3_a_host_that_is_none(home: Home) -> None:
    """An address of somebody else, or no address."""
    for host in ("192.0.2.1", "not a host"):
        done = home.script("serve", "--host", host, "--port", "0")
        assert (done.code, len(done.err.splitlines())) == (3, 1)
        assert f"cannot listen on {host}" in done.err


@pytest.mark.parametrize("content", [None, b"this is no database" * 100, b""], ids=["missing", "text", "empty"])
def test_a_store_that_cannot_be_opened_is_said(home: Home, content: bytes | None) -> None:
    """One line with the file; a store that was never set up says how to do it."""
    path = home.directory / "data" / "groat.db"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    done = home("client", "list")
    assert (done.code, done.out) == (5, "")
    assert len(done.err.splitlines()) == 1
    assert "groat.db" in done.err


def test_4_refused(live: Live) -> None:
    """The server's error code, for people and for programs."""
    for arguments, code in (
        (("--client-id", "nobody"), "invalid_client"),
        (("--client-id", "billing", "--scope", "orders:write"), "invalid_scope"),
        (("--client-id", "billing", "--resource", "https://none.example"), "invalid_target"),
    ):
        done = live.home("--json", "token", "get", "--local", "--key", "billing.key.json", *arguments)
        assert (done.code, done.out) == (4, "")
        assert json.loads(done.err.splitlines()[-1])["error"] == code
    plain = live.home.script("token", "get", "--local", "--key", "billing.key.json", *arguments)
    assert (plain.code, plain.out, f"groat: refused: {code}" in plain.err) == (4, "", True)


def test_5_unreachable(home: Home) -> None:
    """Nobody listens: neither for a token nor for the keys to verify one."""
    port = str(free_port())
    assertion = home.ok("client", "assertion", "billing", "--key", "billing.key.json").out
    got = home.script(*GET, GROAT_SERVER__PORT=port)
    assert (got.code, got.out, "Traceback" in got.err) == (5, "", False)
    assert port in got.err
    token = assertion.replace(assertion.partition(".")[0], "eyJhbGciOiJFUzI1NiIsImtpZCI6IngiLCJ0eXAiOiJhdCtqd3QifQ")
    verified = home.script(
        "token", "verify", "--local", "--audience", AUDIENCE, stdin=token.encode(), GROAT_SERVER__PORT=port
    )
    assert (verified.code, verified.out, "Traceback" in verified.err) == (5, "", False)


def test_6_invalid(live: Live) -> None:
    """A token that is none."""
    done = live.home.script("token", "verify", "--local", "--audience", AUDIENCE, stdin=b"e30.e30.e30")
    assert (done.code, done.out) == (6, "")


@pytest.mark.parametrize("reply", ["interrupt", "n", "end of input"])
def test_130_interrupted(home: Home, reply: str) -> None:
    """At a question: Ctrl-C, no, and the end of input all leave everything as it was."""
    ours, theirs = pty.openpty()
    process = home.start("client", "remove", "billing", stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(theirs)
    assert process.stderr is not None
    asked = b""
    while b"[y/N]" not in asked:
        chunk = process.stderr.read1(1000)  # type: ignore[attr-defined]
        assert chunk, asked
        asked += chunk
    if reply == "interrupt":
        time.sleep(0.1)  # from the question to the read; an early signal ends it just the same
        process.send_signal(signal.SIGINT)
    else:
        os.write(ours, b"n\n" if reply == "n" else b"\x04")
    out, err = process.communicate(timeout=20)
    os.close(ours)
    assert b"can never be used again" in asked
    assert (process.returncode, b"Traceback" in err, b"removed" in out) == (130, False, False)
    assert home.ok("-q", "client", "list").out == "billing\n"


def test_a_yes_at_the_question_does_it(home: Home) -> None:
    """The third possible reply."""
    ours, theirs = pty.openpty()
    process = home.start("client", "remove", "billing", stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(ours, b"y\n")
    os.close(theirs)
    out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert (process.returncode, b"removed" in out) == (0, True)


@pytest.mark.parametrize(
    "command",
    [("client", "remove", "billing"), ("api", "remove", "orders"), ("key", "revoke", "some-kid")],
    ids=" ".join,
)
@pytest.mark.parametrize("flags", [(), ("--no-input",)], ids=["no terminal", "no input"])
def test_nothing_is_destroyed_without_a_yes(home: Home, command: tuple[str, ...], flags: tuple[str, ...]) -> None:
    """Off a terminal nobody is asked: without --yes the answer is no, and says so."""
    before = home.snapshot()
    done = home(*flags, *command)
    assert (done.code, done.out) == (2, "")
    assert "--yes" in done.err
    assert home.snapshot() == before


def test_no_input_holds_on_a_terminal_too(home: Home) -> None:
    """Not a question is asked."""
    ours, theirs = pty.openpty()
    done = home.start("--no-input", "client", "remove", "billing", stdin=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    _, err = done.communicate(timeout=20)
    os.close(ours)
    assert (done.returncode, b"[y/N]" in err) == (2, False)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_server_ends_when_it_is_told_to(home: Home, sent: signal.Signals, code: int) -> None:
    """Ctrl-C and the signal of a service manager both end it in good order."""
    with home.serving("--port", "0", port=0) as server:
        assert server.stop(sent) == code
        assert "Application shutdown complete" in server.log.read_text()


@obeys_modes
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("client", "list"), 5),
        (("store", "show"), 5),
        (("config", "check"), 3),
        (("serve",), 3),
        (("init", "--issuer", ISSUER), 3),
    ],
    ids=["client list", "store show", "config check", "serve", "init"],
)
def test_a_data_directory_that_cannot_be_read(home: Home, command: tuple[str, ...], code: int) -> None:
    """One line with the file, and no traceback; for the store also what to do."""
    home.prefix = OBEYING_MODES
    data = home.directory / "data"
    data.chmod(0)
    try:
        done = home.script(*command)
    finally:
        data.chmod(0o700)
    assert (done.code, done.out) == (code, ""), done.err
    assert len(done.err.splitlines()) == 1
    assert "Permission denied" in done.err
    if code == 5:
        assert f"Fix: let user id {os.geteuid()} read and write {data}" in done.err


@obeys_modes
@pytest.mark.parametrize(("name", "mode"), [("groat.db", 0o400), ("", 0o500)], ids=["file", "directory"])
def test_a_database_that_cannot_be_written(home: Home, name: str, mode: int) -> None:
    """Nothing starts that could issue no token; a look at the store says why."""
    home.prefix = OBEYING_MODES
    unwritable = home.directory / "data" / name
    usual = unwritable.stat().st_mode
    unwritable.chmod(mode)
    try:
        for command in (("serve",), ("config", "check")):
            done = home.script(*command)
            assert (done.code, done.out) == (5, ""), done.err
            assert str(home.directory / "data" / "groat.db") in done.err
            assert "cannot be written by user id" in done.err or "readonly" in done.err
        if name:
            assert str(unwritable) in json.loads(home.script("--json", "store", "show").out)["write_fault"]
    finally:
        unwritable.chmod(usual)
    assert json.loads(home.script("--json", "store", "show").out)["write_fault"] is None
