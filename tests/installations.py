"""Installations of groat in virtual environments of their own, made of what is installed here, without a network."""

import re
import shutil
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def closure(words: list[str]) -> dict[str, Distribution]:
    """The distributions that these requirements mean, with all that they need in turn."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(word) for word in words]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(wanted.name)
        waiting += [Requirement(line) for line in found[name].requires or ()]
    return found


def installation(folder: Path, extra: str | None, *more: str) -> Path:
    """A virtual environment with this groat, one of its extras, and `more` that it does not ask for; returns its `groat`.

    As a wheel leaves it: with the entry points, and a list of the files.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    words = PROJECT["dependencies"] + ([] if extra is None else PROJECT["optional-dependencies"][extra]) + list(more)
    for one in closure(words).values():
        for file in one.files or ():
            source, target = Path(str(one.locate_file(file))), packages / file
            if ".." not in file.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    shutil.copytree(ROOT / "src" / "groat", packages / "groat", ignore=shutil.ignore_patterns("__pycache__"))
    _describe(packages)
    module, _, function = PROJECT["scripts"]["groat"].partition(":")
    script = folder / "bin" / "groat"
    script.write_text(f"#!{folder}/bin/python\nfrom {module} import {function}\n{function}()\n")
    script.chmod(0o755)
    return script


def _describe(packages: Path) -> None:
    """What the installer writes about a distribution, so that its plugins are found."""
    info = packages / "groat-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: groat\nVersion: 0\n")
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in rows.items())
        for group, rows in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    files = [path.relative_to(packages).as_posix() for path in (packages / "groat").rglob("*.py")]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
