"""The units of deploy/systemd: what systemd itself says about it, without a systemd that runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.missing import Missing, needs

from .engine import DEPLOY

pytestmark = needs(Missing.SYSTEMD, there=shutil.which("systemd-analyze") is not None)
UNITS = sorted(path.name for path in (DEPLOY / "systemd").glob("*.service"))
GROAT = str(Path(sys.executable).with_name("groat"))


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit with the path of an installed groat."""
    path = tmp_path / str(request.param)
    path.write_text((DEPLOY / "systemd" / request.param).read_text().replace("/opt/groat/bin/groat", GROAT))
    return path


def test_the_unit_is_valid(unit: Path) -> None:
    """No unknown section, key or value."""
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_unit_would_be_noticed(unit: Path) -> None:
    """The check can fail: a misspelt directive is reported."""
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    assert "NoNewPrivilege" in analyze("verify", "--man=no", str(unit)).stderr


@pytest.mark.rule("OPS-05")
def test_the_sandbox_is_tight(unit: Path) -> None:
    """systemd's own measure of exposure, from 0 to 10, stays under 2."""
    done = analyze("security", "--offline=yes", "--threshold=20", str(unit))
    found = re.search(rf"exposure level for {re.escape(unit.name)}: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 2
