"""Assembles the root directory of an image: one Python, the programs named, what they are linked to, nothing else.

    python3 assemble_root.py TREE PATH...

Every file keeps its place: /usr/bin/x of the base comes to TREE/usr/bin/x, together with the links that lead there.
Taken are the interpreter that runs this and its standard library, each PATH (file, link or folder), and the shared
libraries of all of it. All files belong to whoever runs this, with mode 0755 or 0644. Works on the layout of Debian
(Python in /usr) and on that of the official Python images (in /usr/local).

Not found out: what a program opens by name while it runs. Give that as a PATH.
"""

import compileall
import fnmatch
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

USER: Final = 10001
# What LANG=C.UTF-8 names; PostgreSQL refuses to start without it.
LOCALE: Final = Path("/usr/lib/locale/C.utf8")
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
# What no server needs: tests, tools for developers and desktops, and modules that would bring libraries of their own.
UNUSED: Final = (
    *("__pycache__", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "config-*"),
    *("test", "tests", "idlelib", "ensurepip", "venv", "lib2to3", "pydoc_data", "tkinter", "turtle*", "curses"),
    *("_test*", "_ctypes_test*", "_xxtestfuzz*", "xxlimited*"),
    *("_tkinter*", "_curses*", "readline.*", "_dbm.*", "_gdbm.*", "nis.*"),
)
# Loaded by the C library when a thread ends itself; no program is linked to it for that.
BESIDE_LIBC: Final = "libgcc_s.so.1"
TEXTS: Final = {
    "etc/passwd": "root:x:0:0::/nonexistent:/nonexistent\ngroat:x:{0}:{0}::/nonexistent:/nonexistent\n",
    "etc/group": "root:x:0:\ngroat:x:{0}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """The root directory that grows below `root`."""

    root: Path

    def at(self, path: Path) -> Path:
        """Where an absolute path of the base is in here."""
        return self.root / path.relative_to("/")

    def add(self, path: Path, unused: Iterable[str] = ("__pycache__",)) -> None:
        """Take a file, or a folder with all in it but the names in `unused`. Raises FileNotFoundError."""
        place = self._lead_to(path)
        for name in sorted(os.listdir(place)) if place.is_dir() else ():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in unused):
                self.add(place / name, unused)

    def _lead_to(self, path: Path) -> Path:
        """Make the folders and links on the way, and the end; returns where that really is."""
        here = Path("/")
        for part in path.parts:
            here = here.parent if part == ".." else self._enter(here / part)
        return here

    def _enter(self, path: Path) -> Path:
        here = self.at(path)
        if path.is_symlink():
            target = path.readlink()
            if not here.is_symlink():
                here.symlink_to(target)
            return self._lead_to(path.parent / target)
        if path.is_dir():
            self.folder(path)
        elif not here.exists():
            shutil.copyfile(path, here)
            here.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
        return path

    def folder(self, path: Path, mode: int = 0o755) -> None:
        """A folder, empty at first."""
        self.at(path).mkdir(parents=True, exist_ok=True)
        self.at(path).chmod(mode)

    def files(self) -> Iterator[Path]:
        """The place in the base of every file that is in here and no link."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if not (path := Path(folder, name)).is_symlink():
                    yield "/" / path.relative_to(self.root)


def add_python(tree: Tree) -> None:
    """The interpreter under each of its names, and its standard library."""
    found = {Path(sys.base_prefix, "bin", name) for name in ("python", "python3", f"python3.{sys.version_info.minor}")}
    for name in found:
        if name.exists():
            tree.add(name)
    for kind in ("stdlib", "platstdlib"):
        tree.add(Path(sysconfig.get_path(kind, vars={"base": sys.base_prefix, "platbase": sys.base_prefix})), UNUSED)


def add_libraries(tree: Tree) -> None:
    """All that the loader will ask for, and its cache. Raises SystemExit if a library is missing in the base."""
    programs = [path for path in tree.files() if _starts_with(tree.at(path), b"\x7fELF")]
    said = subprocess.run(["ldd", *programs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if missing := sorted(set(re.findall(r"^\s*(\S+) => not found", said.stdout, re.MULTILINE))):
        sys.exit(f"not in the base image: {', '.join(missing)}")
    found = {Path(name) for name in re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", said.stdout, re.MULTILINE)}
    for library in found | {path.with_name(BESIDE_LIBC) for path in found if path.name == "libc.so.6"}:
        tree.add(library)
    for settings in ("/etc/ld.so.conf", "/etc/ld.so.conf.d"):
        tree.add(Path(settings))
    subprocess.run(["ldconfig", "-X", "-r", tree.root], check=True)
    shutil.rmtree(tree.root / "var/cache", ignore_errors=True)


def _starts_with(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(word)) == word


def add_trust(tree: Tree) -> None:
    """The public authorities, where OpenSSL looks for them, and its settings."""
    place = Path(ssl.get_default_verify_paths().openssl_cafile)
    tree.add(CERTIFICATES)
    if place.exists():
        tree.add(place)
    else:
        tree.folder(place.parent)
        tree.at(place).symlink_to(CERTIFICATES)
    if place.with_name("openssl.cnf").exists():
        tree.add(place.with_name("openssl.cnf"))


def add_packages(tree: Tree) -> None:
    """Which Debian packages this was taken from, where scanners of images look for it, and their licences."""
    files = [str(path) for path in tree.files()]
    # Where /lib is a link to /usr/lib, a package may still say /lib.
    names = files + [name.removeprefix("/usr") for name in files if name.startswith("/usr/lib")]
    said = subprocess.run(
        ["dpkg-query", "--search", *names], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    tree.folder(Path("/var/lib/dpkg/status.d"))
    for package in sorted(set(re.findall(r"^([a-z0-9][a-z0-9+.-]+)(?::\w+)?: /", said.stdout, re.MULTILINE))):
        tree.add(Path("/usr/share/doc", package, "copyright"))
        status = subprocess.run(["dpkg-query", "--status", package], stdout=subprocess.PIPE, check=True).stdout
        (tree.root / "var/lib/dpkg/status.d" / package).write_bytes(status)


def compile_modules(tree: Tree) -> None:
    """Byte code that is not compared with the sources: nobody can change those in a running container."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    done = compileall.compile_dir(
        tree.root, maxlevels=99, quiet=1, stripdir=tree.root, prependdir="/", invalidation_mode=mode
    )
    if not done:
        sys.exit("some modules cannot be compiled")


def main() -> None:
    os.umask(0o022)
    root, *paths = (Path(word) for word in sys.argv[1:])
    tree = Tree(root)
    tree.folder(Path("/"))
    add_python(tree)
    for path in (*paths, LOCALE):
        tree.add(path)
    add_libraries(tree)
    add_trust(tree)
    add_packages(tree)
    compile_modules(tree)
    for name, text in TEXTS.items():
        (root / name).write_text(text.format(USER))
    tree.folder(Path("/tmp"), 0o1777)  # noqa: S108 - of the image


if __name__ == "__main__":
    main()
