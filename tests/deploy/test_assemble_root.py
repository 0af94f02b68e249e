"""deploy/assemble_root.py by itself: what it makes of this machine's Python works where nothing else is."""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.missing import Missing, needs

from .engine import DEPLOY

_TOOLS: Final = all(shutil.which(name) for name in ("ldd", "ldconfig", "dpkg-query", "chroot"))
pytestmark = needs(Missing.IMAGE_TOOLS, there=os.geteuid() == 0 and _TOOLS)  # root, to enter the tree
PYTHON: Final = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
STDLIB: Final = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))


def assemble(tree: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    words = [str(PYTHON), str(DEPLOY / "assemble_root.py"), str(tree), *map(str, paths)]
    return subprocess.run(words, capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with a virtual environment that has one module in C, reached through links."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    spec = find_spec("msgspec")
    assert spec is not None
    assert spec.origin is not None
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    shutil.copytree(Path(spec.origin).parent, site / "msgspec")
    (folder / "real").mkdir()
    (folder / "real" / "data").write_text("inside")
    (folder / "real" / "data").chmod(0o4600)
    (folder / "link").symlink_to("real")
    (folder / "entry").symlink_to("link/../link/data")
    root = tmp_path_factory.mktemp("tree") / "image"
    done = assemble(root, folder / "venv", folder / "entry")
    assert done.returncode == 0, done.stderr
    return root


def inside(tree: Path, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the tree as its root directory, as the image's user."""
    for folder in [tree.parent, *tree.parent.parents[:-2]]:
        folder.chmod(folder.stat().st_mode | 0o111)
    words = [str(shutil.which("chroot")), "--userspec=10001:10001", str(tree), str(program), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, env={"PATH": "/nowhere"})


def venv_python(tree: Path) -> Path:
    (found,) = tree.glob("**/venv/bin/python")
    return Path("/", found.relative_to(tree))


WORK: Final = """
import ctypes, hashlib, json, msgspec, os, pwd, sqlite3, ssl, threading, zlib
assert msgspec.json.decode(b"[1]") == [1] and sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
ctypes.CDLL("libgcc_s.so.1")
print(pwd.getpwuid(os.getuid()).pw_name, ssl.create_default_context().cert_store_stats()["x509_ca"] > 50)
"""


def test_it_works_alone(tree: Path) -> None:
    """Interpreter, standard library, a module in C, SQLite, OpenSSL and the authorities, with the tree as the world."""
    done = inside(tree, venv_python(tree), "-c", WORK)
    assert (done.stdout, done.stderr, done.returncode) == ("groat True\n", "", 0)


def test_modes_and_owners(tree: Path) -> None:
    """Nobody but root may write, nothing runs with another's rights, every folder can be entered."""
    for folder, _, names in os.walk(tree):
        here = Path(folder)
        assert stat.S_IMODE(here.stat().st_mode) == (0o1777 if here == tree / "tmp" else 0o755), here
        for status in (os.lstat(here / name) for name in names if not (here / name).is_symlink()):
            assert stat.S_IMODE(status.st_mode) in (0o644, 0o755)
            assert (status.st_uid, status.st_gid, status.st_nlink) == (0, 0, 1)


def test_links_are_kept_with_what_they_lead_to(tree: Path) -> None:
    """The links of a way are links in the tree as well, and the file is where the last one says."""
    (entry,) = tree.glob("**/entry")
    assert entry.is_symlink()
    assert (entry.parent / "link").is_symlink()
    assert entry.read_text() == "inside"
    for name in ("lib", "lib64"):
        assert (tree / name).is_symlink() == Path("/", name).is_symlink()


def test_what_no_server_needs_is_left_out(tree: Path) -> None:
    """No tests, no tools for developers, no shell."""
    library = tree / STDLIB.relative_to("/")
    assert (library / "json" / "decoder.py").exists()
    assert not [name for name in ("test", "idlelib", "ensurepip", "tkinter") if (library / name).exists()]
    assert not (tree / "bin" / "sh").exists()
    assert not list(library.glob("lib-dynload/_tkinter*"))


def test_byte_code_is_taken_as_it_is(tree: Path) -> None:
    """Every module has some, of the kind that is not compared with its source (PEP 552: flags 1)."""
    library = tree / STDLIB.relative_to("/")
    (cached,) = (library / "json" / "__pycache__").glob("decoder.*.pyc")
    assert cached.read_bytes()[4:8] == b"\x01\0\0\0"
    assert str(tree).encode() not in cached.read_bytes()


def test_a_missing_library_is_an_error(tmp_path: Path) -> None:
    """Found while the image is built, not when it starts."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes().replace(b"libc.so.6", b"libx.so.6"))
    program.chmod(0o755)
    done = assemble(tmp_path / "image", program)
    assert (done.returncode, done.stderr) == (1, "not in the base image: libx.so.6\n")
