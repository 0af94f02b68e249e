"""What `groat demo --keep` leaves running, and the lines it prints for it."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from .running import LIKE_A_JWT, Demo, Kept

CALLER: Final = {"message": "protected data", "client": "billing", "scopes": ["orders:read"]}


def _bash(script: str) -> subprocess.CompletedProcess[str]:
    strict = f"set -euo pipefail\n{script}"
    return subprocess.run(
        ["bash", "-c", strict], capture_output=True, encoding="utf-8", timeout=60, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.rule("DEMO-26", "DEMO-29")
def test_the_printed_lines_work(demo: Demo) -> None:
    """The lines that people copy get a token and call the API, twice over, and the last one ends everything."""
    done = demo.run("--keep")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("groat demo  (throw-away keys, loopback only, kept until you stop it)\n")
    _, copied, stop = re.split(r"\n\n", done.stdout)
    for _ in range(2):
        run = _bash(copied)
        assert run.returncode == 0, run.stderr
        called, metadata = (json.loads(text) for text in re.split(r"(?<=})(?={)", run.stdout))
        assert called == CALLER
        assert metadata["token_endpoint"].endswith("/token")
    assert _bash(stop).returncode == 0
    demo.assert_nothing_left()


def test_the_json_says_what_is_running(kept: Kept) -> None:
    """Processes, logs and the same lines are in the JSON; both processes are sessions of their own."""
    facts = kept.steps["kept"]
    for name, marker in (("server", "serve"), ("api", "groat.demo.example_api")):
        pid = facts[name]["pid"]
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(status[3]) == pid
        assert marker in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert Path(facts[name]["log"]).is_file()
        assert kept.http.get(facts[name]["url"] + "/health").json() == {"status": "ok"}
    run = _bash("\n".join(facts["commands"]))
    assert run.stdout.startswith(json.dumps(CALLER, separators=(",", ":")))


@pytest.mark.rule("DEMO-22", "OPS-03", "RS-25")
def test_no_command_line_carries_a_secret(kept: Kept) -> None:
    """The lines hand assertion and token over on stdin: whoever looks at the processes sees neither."""
    # A curl that listens nowhere near tells what it was called with, and what came in.
    spy = 'curl() { printf "ARGV %s\\n" "$*" >&2; command curl "$@"; }\n'
    run = _bash(spy + "\n".join(kept.steps["kept"]["commands"]))
    assert run.stderr.count("ARGV ") == 3
    assert not LIKE_A_JWT.search(run.stderr)


def test_the_refusals_have_the_reasons_they_should(kept: Kept) -> None:
    """Outside all look alike; the logs show that each attempt was refused for its own fault and not by accident."""
    server, api = (Path(kept.steps["kept"][name]["log"]).read_text() for name in ("server", "api"))
    for reason in ("assertion_replayed", "assertion_key"):
        assert f'"reason":"{reason}"' in server
    for reason in ("missing", "type", "audience", "scope", "algorithm"):
        assert f"reason={reason} " in api


@pytest.mark.rule("DEMO-23", "KEY-07")
def test_the_files_are_private(kept: Kept) -> None:
    """The directory is closed to others, and every file with a secret in it is closed by itself."""
    assert kept.directory.stat().st_mode & 0o777 == 0o700
    secret = [kept.directory / "billing.key.json", *(kept.directory / "data").iterdir()]
    assert len(secret) >= 3
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}


@pytest.mark.rule("DEMO-24", "KEY-01")
def test_the_api_has_no_key(kept: Kept) -> None:
    """The API process knows an issuer, an audience and its own address, and no file of the server's or the client's."""
    pid = kept.steps["kept"]["api"]["pid"]
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    ours = {line for line in variables if line.startswith("GROAT_")}
    at = f"GROAT_PUBLIC_URL={kept.steps['kept']['api']['url']}"
    assert ours == {f"GROAT_ISSUER={kept.issuer}", "GROAT_AUDIENCE=https://orders.demo", "GROAT_REVOCATION=feed", at}
    opened = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    assert {path for path in opened if path.startswith(str(kept.directory))} == {kept.steps["kept"]["api"]["log"]}


KILLED_RUN: Final = """
import sys, time
from pathlib import Path
from tests.demo.running import Demo
with Demo(Path(sys.argv[1]), sys.argv[2]).guarded() as demo:
    print(demo.run("--keep", "--json").returncode, flush=True)
    time.sleep(60)
"""


def test_a_killed_test_run_leaves_no_server(tmp_path: Path) -> None:
    """The runner dies without a word while a demo is kept: its guard ends the servers and removes their files."""
    made = Demo(tmp_path / "tmp")
    made.directory.mkdir()
    command = [sys.executable, "-c", KILLED_RUN, str(made.directory), made.mark]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", cwd=Path(__file__).parents[2])
    try:
        assert runner.stdout is not None
        assert runner.stdout.readline() == "0\n"
        assert made.processes()
    finally:
        runner.kill()
        runner.communicate(timeout=10)
    deadline = time.monotonic() + 20
    while (made.processes() or made.directory.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert made.processes() == []
    assert not made.directory.exists()


def test_the_servers_outlive_the_demo(kept: Kept) -> None:
    """Whoever started the demo is gone by now, and the servers still answer."""
    time.sleep(0.1)
    assert kept.http.get(f"{kept.issuer}/readyz").status_code == 200
    assert kept.http.get(f"{kept.api}/health").status_code == 200


@pytest.mark.rule("DEMO-22", "OPS-03", "CL-21", "RS-25", "R19")
def test_no_secret_is_logged(kept: Kept) -> None:
    """Tokens and assertions, good or bad, in headers, bodies or URLs, are in no log and no output."""
    assertion, token = kept.assertion(), kept.token()
    kept.ask(kept.form(client_assertion=assertion))
    kept.ask(kept.form(client_assertion=assertion))
    kept.call(f"Bearer {token}x")
    kept.http.get(f"{kept.api}/protected", params={"access_token": token})
    kept.http.get(f"{kept.issuer}/token", params={"client_assertion": assertion})
    written = kept.logs() + kept.output
    assert "assertion_replayed" in written
    assert not LIKE_A_JWT.search(written)
    for secret in (assertion, token):
        assert all(part not in written for part in secret.split("."))


@pytest.mark.rule("DEMO-34", "CL-12")
def test_the_client_library_keeps_its_token(kept: Kept) -> None:
    """Getting a token and calling the API with it is one token request, not two."""
    lines = map(json.loads, (kept.directory / "server.log").read_text().splitlines())
    issued = [line for line in lines if line["event"] == "token.issued"][:3]
    # The second one is bound, the third one for the refusal that needs a token of another API.
    assert [(line["api"], "jkt" in line) for line in issued] == [
        ("orders", False),
        ("orders", True),
        ("invoices", False),
    ]


@pytest.mark.rule("DEMO-35")
def test_everything_tells_its_health(kept: Kept) -> None:
    """Both processes answer GET /health, so that whatever starts them can wait."""
    for url in (kept.issuer, kept.api):
        assert kept.http.get(f"{url}/health").status_code == 200
