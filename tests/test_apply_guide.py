"""The guide for a registry as files does what it says: its files are written, and its commands are typed."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest

from groat.server.desired.policies import CHECKS
from tests.cli.running import ISSUER, Home

from .guide_pages import GUIDES, blocks

PAGE: Final = "apply.md"


def commands(section: str, program: str) -> list[list[str]]:
    """The commands of a program in the blocks of a section."""
    text = (GUIDES / PAGE).read_text("utf-8").split(f"{section}\n")[1].split("\n## ")[0]
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for language, fence in fences if not language for line in fence.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """What the reader has after the first section."""
    made = Home(tmp_path)
    (tmp_path / "registry" / "keys").mkdir(parents=True)
    for block in blocks(PAGE, "toml"):
        name, _, text = block.partition("\n")
        made.file(name.removeprefix("# "), text)
    for command in commands("# A registry as files", "openssl"):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return made


def test_the_two_jobs(home: Home) -> None:
    """The check needs nothing but the files; what it let through is applied, and again without a change."""
    (check,) = commands("## Check what is proposed", "groat")
    home.ok(*check[1:])
    home.ok("init", "--issuer", ISSUER)
    (make,) = commands("## Make it so", "groat")
    assert "changed: 2 added" in home.ok(*make[1:]).out
    assert "unchanged" in home.ok(*make[1:]).out


def test_what_breaks_the_rules_of_the_guide(home: Home) -> None:
    home.file("registry/more.toml", '[clients.thief]\nallow = {orders = ["orders:read", "orders:write"]}\n')
    (check,) = commands("## Check what is proposed", "groat")
    done = home(*check[1:])
    assert (done.code, "registry/more.toml:1: client thief: " in done.err) == (3, True)
    assert [name for name in ("owners", "short", "four-eyes") if f"{name}: " not in done.err] == []


def test_begin_with_what_is_there(home: Home, tmp_path: Path) -> None:
    """Exported, an installation differs in nothing from its files."""
    other = Home(tmp_path / "other")
    other.directory.mkdir()
    other.ok("init", "--issuer", ISSUER)
    other.ok("apply", "-f", str(home.directory / "registry"))
    for command in commands("## Begin with what is there", "groat"):
        other.ok(*command[1:])


def test_the_guide_has_every_check() -> None:
    """A row for each, and no other."""
    text = (GUIDES / PAGE).read_text("utf-8").split("| check |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == list(CHECKS)
