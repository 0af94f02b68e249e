"""A host that is busy with something else: workers that take their time are left to it, those that hang are replaced."""

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.conftest import Groat

# Read by each Python that starts: a worker sleeps for longer than uvicorn waits for its first word, and is counted.
SLOW_START: Final = """
import os, sys, time
if "spawn_main" in " ".join(sys.orig_argv):
    with open(os.environ["STARTED"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(7)
"""


@pytest.mark.rule("F12")
def test_a_worker_that_starts_slowly_is_left_to_it(make_groat: "Callable[[str], Groat]") -> None:
    """It would be killed after five seconds, and so would each of its successors: nothing would ever serve."""
    groat = make_groat("slow-start")
    started = groat.directory / "started"
    (groat.directory / "sitecustomize.py").write_text(SLOW_START)
    server = groat.serve(2, env={"PYTHONPATH": str(groat.directory), "STARTED": str(started)})
    workers = {int(pid) for pid in started.read_text().split()}
    assert set(server.workers()) == workers
    assert len(workers) == 2
    assert server.stop() == 0


@pytest.mark.rule("F12")
def test_a_worker_that_hangs_is_replaced(make_groat: "Callable[[str], Groat]") -> None:
    """Not for a moment's silence, and without anybody being kept waiting by the supervisor meanwhile."""
    groat = make_groat("hanging")
    server = groat.serve(2)
    hanging, other = server.workers()
    os.kill(hanging, signal.SIGSTOP)
    time.sleep(6)
    assert set(server.workers()) == {hanging, other}
    deadline = time.monotonic() + 45
    while hanging in (now := server.workers()) or len(now) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert other in now
    assert server.stop() == 0
