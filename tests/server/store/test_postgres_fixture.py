"""The tests' own PostgreSQL: a run that was killed leaves nothing behind for long."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.postgres import PostgresServer, find_binaries, own_directory, reachable, remove_abandoned

ROOT = Path(__file__).parents[3]
KILLED = """
import os, signal
from tests.postgres import PostgresServer
with PostgresServer.running() as server:
    print(server.directory, server.process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_behind_is_removed() -> None:
    """Its server is ended and its directory is gone; those of living runs stay."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    directory, pid = done.stdout.split()
    # Another test that starts a server at this moment may be the one that removes it.
    remove_abandoned()
    deadline = time.monotonic() + 10
    while (Path(directory).exists() or _runs(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(directory).exists()
    assert not _runs(pid)


def test_a_virtual_environment_that_nobody_else_can_enter(tmp_path: Path) -> None:
    """Root's tests run in a clone below a closed directory: the programs still start, with their own libraries."""
    binaries = find_binaries()
    package = binaries.parents[1]
    for tree in package.parent.glob(f"{package.name}*"):
        if "dist-info" not in tree.name:
            shutil.copytree(tree, tmp_path / tree.name, symlinks=True)
    tmp_path.chmod(0o700)
    directory = own_directory()
    server = PostgresServer(reachable(tmp_path / package.name / binaries.relative_to(package), directory), directory)
    try:
        server.initialise()
        server.start()
        assert server.database()
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
