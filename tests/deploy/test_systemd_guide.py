"""docs/guides/systemd.md: root does nothing where the service can write (ST-14)."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.missing import Missing, needs

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "systemd.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
STATE = "/var/lib/groat"


@pytest.mark.rule("ST-14")
def test_root_does_not_work_where_the_service_can_write() -> None:
    """Every command that names the state directory runs as the service's user, but the one that makes it."""
    touching = [line for line in COMMANDS if STATE in line and not line.startswith("useradd")]
    assert len(touching) >= 4
    for line in touching:
        parts = [part for part in re.split(r"\s(?:\||&&)\s", line) if STATE in part]
        assert all(part.startswith("runuser -u groat -- ") or part == f"install -d -m 0700 -o groat -g groat {STATE}"
                   for part in parts), line  # fmt: skip


@pytest.mark.rule("ST-14")
def test_a_file_changes_hands_without_its_target() -> None:
    """Wherever a page or recipe says chown, it says -h."""
    root = Path(__file__).parents[2]
    for page in (*(root / "docs").rglob("*.md"), root / "README.md", *(root / "deploy").rglob("*")):
        if page.is_file() and page.name != "rules.md":
            assert re.findall(r"\bchown (?!-h)", page.read_text("utf-8")) == [], page


@pytest.mark.rule("ST-14")
@needs(Missing.ROOT, there=os.geteuid() == 0)
def test_the_key_encryption_key_goes_to_root_and_its_group(tmp_path: Path) -> None:
    """The pipe of the guide, with places of this test and the user nobody: a link in its place gives root nothing."""
    (line,) = [line for line in COMMANDS if "/dev/stdin" in line]
    secret = tmp_path / "secret"
    secret.write_text("roots own")
    secret.chmod(0o600)
    state, etc = tmp_path / "data", tmp_path / "etc"
    for folder in (state, etc):
        folder.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/") and os.stat(parent).st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    here = line.replace(f"{STATE}/data", str(state)).replace("/etc/groat", str(etc))
    here = here.replace("-u groat", "-u nobody").replace("-g groat", "-g nogroup")
    key = state / "key-encryption.key"
    key.symlink_to(secret)
    subprocess.run(["bash", "-c", here], check=False, capture_output=True, timeout=20)
    assert (etc / "key-encryption.key").read_bytes() == b""
    key.unlink()
    key.write_text("sealing")
    os.chown(key, 65534, 65534)
    key.chmod(0o600)
    subprocess.run(["bash", "-o", "pipefail", "-c", here], check=True, capture_output=True, timeout=20)
    status = (etc / "key-encryption.key").stat()
    assert (status.st_mode & 0o777, status.st_uid) == (0o440, 0)
    assert (etc / "key-encryption.key").read_text() == "sealing"
