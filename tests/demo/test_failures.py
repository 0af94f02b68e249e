"""What `groat demo` does when something is wrong: it says so, exits with 1 and leaves nothing behind.

Faults are put into the real processes by a `sitecustomize` module on PYTHONPATH, which Python imports at each start.
"""

import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from .running import LIKE_A_JWT, Demo, steps_of

_IN_API: Final = "import os, sys\nif 'groat.demo.example_api' in sys.orig_argv:\n    "
_IN_SERVER: Final = "import os, sys\nif 'serve' in sys.orig_argv:\n    "
_NO_GUARD: Final = (
    "from groat.verifier import asgi, Caller\n"
    "    who = Caller('billing', 'billing', frozenset({'orders:read'}), 2e9, None, None, {})\n"
    "    async def open_door(self, scope, receive, send):\n"
    "        await self._app(self._with_caller(scope, who) if scope['type'] == 'http' else scope, receive, send)\n"
    "    asgi.GroatMiddleware.__call__ = open_door\n"
)
_NO_AUDIENCE: Final = (
    "from groat.protocol import access_token\n"
    "    access_token.jose.audience = lambda claims: (os.environ['GROAT_AUDIENCE'],)\n"
)
_NO_MEMORY: Final = (
    "from groat.server.store.sqlite.store import SqliteStore\n"
    "    real = SqliteStore.use_once\n"
    "    async def forgetful(self, *values):\n"
    "        return (await real(self, *values))._replace(fresh=True)\n"
    "    SqliteStore.use_once = forgetful\n"
)
_ROGUE: Final = (
    "from groat.protocol import access_token\n    access_token.TYP = 'JWT'\n"
    "    from groat.server.endpoints import token\n    token.TYP = 'JWT'\n"
)
FAULTS: Final = {
    "the API does not start": (_IN_API + "os._exit(3)\n", "call", "the api ended with exit code 3"),
    "the server does not start": (_IN_SERVER + "os._exit(4)\n", "assertion", "the server ended with exit code 4"),
    "the API is for another audience": (
        _IN_API + "os.environ['GROAT_AUDIENCE'] = 'https://invoices.demo'\n",
        "call",
        "the status of GET /protected: 401, not 200",
    ),
    "the API has no guard": (_IN_API + _NO_GUARD, "refusals", "no token 200 (no challenge), not 401"),
    "the API takes any audience": (_IN_API + _NO_AUDIENCE, "refusals", "wrong audience 403 insufficient_scope"),
    "the server forgets assertions": (_IN_SERVER + _NO_MEMORY, "refusals", "replayed assertion 200"),
    "tokens have another type": (_IN_SERVER + _ROGUE, "token", "the token's typ: 'JWT', not 'at+jwt'"),
}


@pytest.mark.parametrize(("fault", "step", "problem"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found_and_named(demo: Demo, tmp_path: Path, fault: str, step: str, problem: str) -> None:
    """The step that went wrong is named on stderr and in the JSON, and the exit code is 1."""
    (tmp_path / "sitecustomize.py").write_text(fault)
    done = demo.run("--json", "--keep", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    first, *_ = done.stderr.splitlines()
    assert first.startswith("groat demo: failed: step ")
    assert f"({step})" in first
    assert problem in first
    *earlier, failed = steps_of(done.stdout).values()
    assert all(one["ok"] for one in earlier)
    assert (failed["name"], failed["ok"]) == (step, False)
    assert problem in failed["problem"]
    assert not LIKE_A_JWT.search(done.stdout + done.stderr)
    demo.assert_nothing_left()


def test_a_failure_shows_the_end_of_the_logs(demo: Demo, tmp_path: Path) -> None:
    """People see what the process that failed had to say."""
    (tmp_path / "sitecustomize.py").write_text(_IN_SERVER + "sys.exit('the disk is on fire')\n")
    done = demo.run(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "the last lines of the server's log" in done.stderr
    assert "the disk is on fire" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("  3  assertion failed")
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    ("number", "lines"),
    [
        *((signal.SIGINT, lines) for lines in (0, 1, 2, 3, 5)),
        (signal.SIGTERM, 2),
        (signal.SIGHUP, 2),
    ],
)
def test_a_signal_ends_it_cleanly(demo: Demo, number: signal.Signals, lines: int) -> None:
    """Ctrl-C and its kin end the demo at any time with code 130 and leave nothing behind."""
    with demo.begin() as process:
        assert process.stdout is not None
        for _ in range(lines + 1):
            process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors.strip()) == (130, "groat: interrupted")
    demo.assert_nothing_left()


def test_a_reader_that_goes_away_changes_nothing(demo: Demo) -> None:
    """`groat demo | head -1` plays to the end, as every command does its work, and leaves nothing behind either."""
    with demo.begin() as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0
    demo.assert_nothing_left()
