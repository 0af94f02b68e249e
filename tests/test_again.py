"""What failed in a run is looked at once more, and only if it was little."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ONCE = """
import pathlib
def test_sometimes():
    seen = pathlib.Path("seen")
    before = seen.exists()
    seen.touch()
    assert before
def test_always():
    pass
"""
NEVER = "import pytest\n@pytest.mark.parametrize('n', range({}))\ndef test_never(n):\n    assert False\n"


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)


ENDING = "from tests.conftest import pytest_sessionfinish\n"


def again(directory: Path, tests: str) -> subprocess.CompletedProcess[str]:
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text(ENDING)
    (directory / "test_some.py").write_text(tests)
    first = run(directory, "pytest", "-q")
    assert first.returncode == 1, first.stdout
    return run(directory, "tests.again")


def test_what_failed_once(tmp_path: Path) -> None:
    done = again(tmp_path, ONCE)
    assert done.returncode == 0, done.stdout
    assert "test_some.py::test_sometimes" in done.stdout
    assert "1 passed" in done.stdout


def test_what_fails_again(tmp_path: Path) -> None:
    done = again(tmp_path, NEVER.format(3))
    assert done.returncode == 1
    assert "3 failed" in done.stdout


def test_more_than_a_few(tmp_path: Path) -> None:
    """They are named and not run."""
    done = again(tmp_path, NEVER.format(4))
    assert done.returncode == 1
    assert "test_never[3]" in done.stdout
    assert "Once more" not in done.stdout


@pytest.mark.parametrize("wrong", ["raise SystemError", "import pytest; pytest.exit('enough', 1)"])
def test_a_run_that_broke_off(tmp_path: Path, wrong: str) -> None:
    """A file that could not be read, a run that ended early: others were not run, so nothing is looked at again."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(ENDING)
    (tmp_path / "test_a.py").write_text(
        f"import pathlib\nif not pathlib.Path('seen').exists():\n    pathlib.Path('seen').touch()\n    {wrong}\ndef test(): pass\n"
    )
    (tmp_path / "test_b.py").write_text("def test(): assert False\n")
    assert run(tmp_path, "pytest", "-q").returncode != 0
    assert run(tmp_path, "tests.again").returncode == 1


def test_nothing_failed(tmp_path: Path) -> None:
    """A run that ended for another reason than a test is not mended by this."""
    assert run(tmp_path, "tests.again").returncode == 1
