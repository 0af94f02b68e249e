"""What `groat demo` shows when all is well."""

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from groat.demo.report import wrapped
from groat.demo.stage import free_ports
from groat.demo.steps import API_PORT, SERVER_PORT

from .running import GROAT, LIKE_A_JWT, Demo, steps_of

KID: Final = r"kid [\w-]{3}…"
SHAPE: Final = rf"""groat demo  \(throw-away keys, loopback only, nothing is kept\)
  1  keys      issuer signing key   ES256  {KID} +\d\.\d\d s
  2  client    billing              ES256  {KID}   the private key stays with the client
  3  assertion signed by the client: aud=http://127\.0\.0\.1:\d+  exp 60 s  jti [\w-]{{3}}…
  4  token     POST /token          200  at\+jwt  aud=https://orders\.demo  scope=orders:read  600 s +\d+ ms
  5  call      GET /protected       200  \{{"message": "[^"]+", "client": "billing"\}}
               bound \(DPoP\)         200  the same, by a token of which only key [\w-]{{3}}… makes use +\d+ ms
  6  refusals  no token 401 · assertion used as token 401 · wrong audience 401 · missing scope 403 ·
               replayed assertion 401 · alg none 401 · other client's key 401 · stolen bound token 401 ·
               with a proof by another key 401 · token taken back 401 +all refused ✓
"""
REFUSALS: Final = [
    ("no token", "GET /protected", 401, None, "orders:read"),
    ("assertion used as token", "GET /protected", 401, "invalid_token", "orders:read"),
    ("wrong audience", "GET /protected", 401, "invalid_token", "orders:read"),
    ("missing scope", "POST /orders", 403, "insufficient_scope", "orders:write"),
    ("replayed assertion", "POST /token", 401, "invalid_client", None),
    ("alg none", "GET /protected", 401, "invalid_token", "orders:read"),
    ("other client's key", "POST /token", 401, "invalid_client", None),
    ("stolen bound token", "GET /protected", 401, "invalid_token", "orders:read"),
    ("with a proof by another key", "GET /protected", 401, "invalid_token", "orders:read"),
    ("token taken back", "GET /protected", 401, "invalid_token", "orders:read"),
]


def test_people_read_aligned_lines(demo: Demo) -> None:
    """The output has exactly the promised shape, its right edge is straight, and nothing is left behind."""
    done = demo.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(SHAPE, done.stdout)
    timed = [line for line in done.stdout.splitlines() if re.search(r"( ms|\d s|✓)$", line)]
    assert {len(line) for line in timed} == {106}
    assert len(timed) == 4
    demo.assert_nothing_left()


@pytest.mark.rule("DEMO-02", "DEMO-10", "DEMO-14", "DEMO-16", "A01", "A06", "A16", "P01", "R10", "R19")
def test_programs_read_json(demo: Demo) -> None:
    """One JSON object a step and nothing else; settings and proxies of the environment change nothing."""
    done = demo.run("--json", GROAT_ISSUER="https://auth.example.com", GROAT_KEY="x", HTTP_PROXY="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    steps = steps_of(done.stdout)
    assert list(steps) == ["keys", "client", "assertion", "token", "call", "refusals"]
    assert [step["step"] for step in steps.values()] == [1, 2, 3, 4, 5, 6]
    assert all(step["ok"] for step in steps.values())
    seen = [(r["name"], r["at"], *r["actual"].values()) for r in steps["refusals"]["refusals"]]
    assert seen == REFUSALS
    assert all(r["expected"] == r["actual"] and r["ok"] for r in steps["refusals"]["refusals"])
    demo.assert_nothing_left()


def test_ports_that_are_taken_are_left_alone(demo: Demo) -> None:
    """With 3001 and 3002 occupied it uses others, and `--json` may stand before the command too."""
    done = subprocess.run(
        [str(GROAT), "--json", "demo"], env=demo.env({}), capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    issuer = steps_of(done.stdout)["keys"]["issuer"]
    assert issuer.startswith("http://127.0.0.1:")
    assert int(issuer.rpartition(":")[2]) not in (SERVER_PORT, API_PORT)


def test_a_port_that_is_free_is_used() -> None:
    """The preferred port is taken if nobody has it, and never the same one twice."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert free_ports(port) != [port]
    assert free_ports(port) == [port]
    first, second = free_ports(port, port)
    assert (first, first != second) == (port, True)


@pytest.mark.parametrize(("no_color", "escapes"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["color", "NO_COLOR"])
def test_colours_are_for_terminals(demo: Demo, no_color: dict[str, str], escapes: bool) -> None:
    """On a terminal there are colours, unless NO_COLOR is set; the words are the same."""
    leader, follower = os.openpty()
    with subprocess.Popen([str(GROAT), "demo"], env=demo.env(no_color), stdout=follower, stdin=follower) as process:
        os.close(follower)
        output = _read_terminal(leader)
    assert process.returncode == 0
    assert ("\x1b[" in output) is escapes
    assert re.fullmatch(SHAPE, re.sub(r"\x1b\[\d+m", "", output).replace("\r\n", "\n"))


def _read_terminal(leader: int) -> str:
    chunks = []
    try:
        while chunk := os.read(leader, 4096):
            chunks.append(chunk)
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(leader)
    return b"".join(chunks).decode("utf-8")


def test_a_terminal_without_unicode_gets_ascii(demo: Demo) -> None:
    """Where stdout cannot write the signs, words stand for them."""
    done = demo.run(PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert done.stdout.endswith(" all refused ok\n")


@pytest.mark.rule("DEMO-18", "DEMO-19", "KEY-10")
def test_no_two_demos_share_a_key(demo: Demo) -> None:
    """Each run has new keys, each with a kid of its own."""
    runs = [steps_of(demo.run("--json").stdout) for _ in range(2)]
    kids = [run[step]["kid"] for run in runs for step in ("keys", "client")]
    assert len(set(kids)) == 4
    assert all(run["token"]["kid"] == run["keys"]["kid"] for run in runs)
    assert all(run["assertion"]["kid"] == run["client"]["kid"] for run in runs)


@pytest.mark.parametrize(
    ("items", "lines"),
    [
        (["one"], ["one"]),
        (["one", "two"], ["one · two"]),
        (["a" * 60, "b" * 60], ["a" * 60 + " ·", "b" * 60]),
        (["a" * 40, "b" * 40], ["a" * 40 + " ·", "b" * 40]),
    ],
    ids=["single", "fits", "too long", "no room for the verdict"],
)
def test_wrapping_leaves_room_for_the_verdict(items: list[str], lines: list[str]) -> None:
    """Items stay whole, and the verdict fits behind the last."""
    assert wrapped(items, "all refused ✓") == lines


def test_secrets_stay_out_of_sight(demo: Demo) -> None:
    """Neither a token nor an assertion nor a private key is printed, whatever the format."""
    for arguments in ([], ["--json"]):
        done = demo.run(*arguments)
        assert not LIKE_A_JWT.search(done.stdout + done.stderr)
        assert '"d"' not in done.stdout + done.stderr


def test_the_example_is_small_enough_to_copy() -> None:
    """A reader sees all of the example API at once: one file under 80 lines that imports nothing of the demo."""
    source = (Path(__file__).parents[2] / "src/groat/demo/example_api.py").read_text()
    assert len(source.splitlines()) <= 80
    assert "from groat.demo" not in source
