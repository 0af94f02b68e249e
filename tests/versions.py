"""Two versions of groat, each from its wheel and in a virtual environment of its own: this one and the one before.

The one before is the last commit whose schema is the earlier one: what an upgrade has to be tried with. There is no
network: the wheels are built by the backend that is installed here, and the environments borrow what else they need.
"""

import io
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from typing import Final

import pytest

from groat.server.store.sqlite.store import SCHEMA_VERSION

ROOT: Final = Path(__file__).parents[1]
STORE: Final = "src/groat/server/store/sqlite/store.py"
SAYS: Final = "SCHEMA_VERSION: Final = {}\n"


def run(*command: str | Path) -> bytes:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, (command, done.stderr.decode()[-2000:])
    return done.stdout


def commit_before() -> str:
    """The last commit of the schema before; the test fails, and says what to do, where the history ends earlier."""
    if not (ROOT / ".git").exists() or run("git", "rev-parse", "--is-shallow-repository").strip() != b"false":
        pytest.fail(
            "the version before is built from the history, which is not here. In a clone: git fetch --unshallow"
        )
    word = SAYS.format(SCHEMA_VERSION).strip()
    commits = run("git", "log", "--reverse", "--format=%H", f"-S{word}", "--", STORE).decode().split()
    assert commits, f"no commit brought {word}"
    return f"{commits[0]}^"


def installed(source: Path, folder: Path) -> Path:
    """Build the wheel of a tree and install it; returns its `groat`."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheel", source)
    (wheel,) = (folder / "wheel").glob("groat-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-index", "--no-deps", wheel)
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    # Behind its own packages, and without the path files there, which would lead to the tree that is tested.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.with_name("groat")


def this_version(folder: Path) -> Path:
    return installed(ROOT, folder)


def version_before(folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(run("git", "archive", commit_before()))) as archive:
        archive.extractall(folder / "source", filter="data")
    assert SAYS.format(SCHEMA_VERSION - 1) in (folder / "source" / STORE).read_text("utf-8")
    return installed(folder / "source", folder)
