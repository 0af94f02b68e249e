"""The beginning and the end of a guard."""

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.guard.running import GROAT, environment, guarding
from tests.verifier.issuer import JWKS, Answer, serving

ISSUER = "https://auth.example.com"


def refused(folder: Path, *arguments: str, **env: str) -> tuple[int, str]:
    """Exit code and words of a guard that does not start."""
    variables = {name: value for name, value in environment(ISSUER, **env).items() if value}
    command = [str(GROAT), "guard", "serve", *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.rule("FA-7")
@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"GROAT_ISSUER": ""}, "GROAT_ISSUER is not set"),
        ({"GROAT_AUDIENCE": ""}, "GROAT_AUDIENCE is not set"),
        ({"GROAT_ISSUER": "http://auth.example.com"}, "GROAT_ISSUER: http://auth.example.com: issuer must use https"),
        ({"GROAT_ISSUER": "auth.example.com"}, "GROAT_ISSUER"),
        ({"GROAT_AUDIENCE": '"https://a.example"'}, "GROAT_AUDIENCE"),
        ({"GROAT_JWKS_URI": "http://keys.example.com/"}, "GROAT_JWKS_URI"),
        ({"GROAT_ALGORITHMS": "HS256"}, "GROAT_ALGORITHMS"),
        ({"GROAT_RESOURCE_DOCUMENTATION": "docs"}, "GROAT_RESOURCE_DOCUMENTATION"),
    ],
)
def test_what_is_wrong_is_said_at_once(tmp_path: Path, env: dict[str, str], named: str) -> None:
    """Exit code 3 and the name of the variable; no settings of a server and no store are asked for."""
    code, words = refused(tmp_path, **env)
    assert code == 3
    assert named in words
    assert len(words.splitlines()) == 1


def test_options_that_are_wrong(tmp_path: Path) -> None:
    assert refused(tmp_path, "--proxy", "apache")[0] == 2
    assert refused(tmp_path, "--cache", "-1")[0] == 2
    assert refused(tmp_path, "--scope", "a b") == (3, "groat: not a scope: 'a b'\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, words = refused(tmp_path, "--port", str(taken.getsockname()[1]))
    assert code == 3
    assert "groat guard serve --port 0" in words


@pytest.mark.rule("FA-7")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_end(tmp_path: Path, number: signal.Signals) -> None:
    """What is under way is answered: here a check that waits for keys."""
    with serving() as issuer:
        token, asked = issuer.token(), threading.Event()

        def slow() -> Answer:
            asked.set()
            time.sleep(1.5)
            issuer.mend()
            return issuer.answer(JWKS, {})

        issuer.spoil(JWKS, slow)
        with guarding(tmp_path, environment(issuer.url), event="guard.started") as guard:
            assert asked.wait(20)
            port, found = guard.port, list[bytes]()
            request = f"GET /forward-auth HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", port), 20) as waiting:
                waiting.sendall(request)
                time.sleep(0.3)
                guard.process.send_signal(number)
                found.append(waiting.recv(4096))
            assert found[0].startswith(b"HTTP/1.1 204 ")
            assert guard.process.wait(20) == (130 if number == signal.SIGINT else 0)
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", port), 2).close()


def test_it_outlives_its_terminal(tmp_path: Path) -> None:
    """SIGHUP ends nothing, and there is nothing to read again."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as guard:
        guard.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert guard.ask("/forward-auth", issuer.token()).status == 204


def test_an_address_that_others_reach_is_said(tmp_path: Path) -> None:
    """Tokens come over plain http: the operator hears of it."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url), "--host", "0.0.0.0") as guard:
        assert [line["level"] for line in guard.told("guard.exposed")] == ["warning"]
        assert guard.told("guard.started")[0] == {
            **guard.told("guard.started")[0],
            "issuer": issuer.url,
            "audience": "https://orders.example.com",
            "proxy": "none",
        }


def test_each_refusal_has_a_line_for_who_asks_for_it(tmp_path: Path) -> None:
    """-v; without it one line in ten seconds for each reason, so that strangers cannot fill a disk."""
    for verbose, most in (((), 1), (("-v",), 50)):
        with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as first:
            assert first.ask("/livez").status == 200
            expired = issuer.token(exp=1)
            first.process.terminate()
            first.process.wait(20)
            log = tmp_path / "asked.log"
            with log.open("wb") as file:
                command = [str(GROAT), *verbose, "guard", "serve", "--port", str(first.port)]
                process = subprocess.Popen(command, env=environment(issuer.url), stdout=file, stderr=file)
            try:
                while '"guard.ready"' not in log.read_text():
                    time.sleep(0.05)
                for _ in range(50):
                    assert first.ask("/forward-auth", expired).status == 401
            finally:
                process.terminate()
                process.wait(20)
            assert log.read_text().count("reason=expired") == most
