"""What is in the image groat:local and what is not, whatever base it was made from. Run by `make compose-test`."""

import io
import json
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import PurePath
from typing import Final

import pytest

from .engine import BUILD_SECONDS, IMAGE, inspect, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(BUILD_SECONDS)]

USER: Final = 10001
# The engine puts these into every container's root directory; they are in no image.
ENGINES: Final = (".dockerenv", "dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab")
Contents = dict[str, tarfile.TarInfo]


@pytest.fixture(scope="module")
def contents() -> Contents:
    """Every file, folder and link of the image by its path, without a slash in front."""
    run("docker", "build", "-q", "-f", "deploy/Dockerfile", "-t", IMAGE, ".", timeout=BUILD_SECONDS)
    container = run("docker", "create", IMAGE).stdout.strip()
    exported = subprocess.run(["docker", "export", container], capture_output=True, timeout=120, check=True).stdout
    run("docker", "rm", container)
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        found = {member.name.rstrip("/"): member for member in archive}
    return {name: member for name, member in found.items() if not name.startswith(ENGINES)}


@pytest.mark.rule("OPS-05")
def test_no_program_file_belongs_to_the_user(contents: Contents) -> None:
    """All of it is root's, for reading; the user's own are the empty folders for volumes."""
    own = {name: stat.S_IMODE(member.mode) for name, member in contents.items() if (member.uid, member.gid) != (0, 0)}
    assert own
    assert all(PurePath(name).parent == PurePath("groat") for name in own)
    assert {(contents[name].uid, contents[name].gid, mode) for name, mode in own.items()} == {(USER, USER, 0o700)}
    others = {name: member for name, member in contents.items() if name not in own and not member.issym()}
    assert stat.S_IMODE(others.pop("tmp").mode) == 0o1777
    assert {stat.S_IMODE(member.mode) for member in others.values()} == {0o644, 0o755}
    assert {stat.S_IMODE(member.mode) for member in others.values() if member.isdir()} == {0o755}


def test_links_lead_somewhere_and_stay_inside(contents: Contents) -> None:
    """No link was copied without what it names, and there is no hard link or device."""
    known = {*contents, "lib", "lib64"}
    for name, member in contents.items():
        assert member.isfile() or member.isdir() or member.issym(), name
        if member.issym() and not member.linkname.startswith("/"):
            parts: list[str] = []
            for part in (PurePath(name).parent / member.linkname).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            assert "/".join(parts) in known, name
        elif member.issym():
            assert member.linkname[1:] in known, name


def test_programs_are_python_and_groat(contents: Contents) -> None:
    """No shell, no package manager, no tool: one interpreter, and the scripts that it runs."""
    folders = ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin")
    found = {name for name, member in contents.items() if str(PurePath(name).parent) in folders and not member.issym()}
    assert {PurePath(name).name.rstrip("0123456789.") for name in found} == {"python"}
    assert "opt/groat/bin/groat" in contents
    names = {PurePath(name).name for name, member in contents.items() if not member.isdir()}
    assert names.isdisjoint({"sh", "dash", "bash", "busybox", "apt", "apt-get", "dpkg", "pip", "ensurepip", "idlelib"})


def test_debian_packages_are_named_for_scanners(contents: Contents) -> None:
    """Each library's package with its version, and its licence."""
    packages = {PurePath(name).name for name in contents if name.startswith("var/lib/dpkg/status.d/")}
    assert {"libc6", "libsqlite3-0"} < packages
    assert {name for name in packages if f"usr/share/doc/{name}/copyright" in contents} >= {"libc6", "libsqlite3-0"}


MODULES: Final = """
import bz2, ctypes, hashlib, json, lzma, os, socket, sqlite3, ssl, sys, uuid, zlib
import cryptography.hazmat.bindings._rust, httptools, httpx2, msgspec, psycopg, uvloop
print(json.dumps({
    "root": oct(os.stat("/").st_mode), "user": os.getuid(), "name": __import__("pwd").getpwuid(os.getuid()).pw_name,
    "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"], "psycopg": psycopg.pq.__impl__,
    "localhost": socket.gethostbyname("localhost"), "encoding": sys.stdout.encoding,
    "compiled": os.path.exists(json.__cached__) and os.path.exists(uvloop.__cached__),
}))
"""


def test_everything_loads(contents: Contents, tell: Callable[[str, str], None]) -> None:
    """As the user, with the root file system read-only: every library is found, public authorities are trusted."""
    words = ("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--entrypoint", "python", IMAGE)
    found = json.loads(run(*words, "-c", MODULES).stdout)
    assert stat.S_IMODE(int(found["root"], 8)) == 0o755
    assert (found["user"], found["name"], found["psycopg"]) == (USER, "groat", "binary")
    assert (found["localhost"], found["encoding"], found["compiled"]) == ("127.0.0.1", "utf-8", True)
    assert found["authorities"] > 50
    size = inspect(IMAGE, "image")["Size"]
    assert size < 150 * 10**6
    tell("image", f"{size / 1e6:.0f} MB, {len(contents)} files")


def test_no_shell_is_needed() -> None:
    """A shell is not there, and everything that the image is for is."""
    shell = run("docker", "run", "--rm", "--entrypoint", "sh", IMAGE, "-c", "true", check=False)
    assert shell.returncode == 127
    made = run("docker", "run", "--rm", IMAGE, "init", "--issuer", "https://auth.example.com")
    assert made.stdout.count("created") == 4
    played = run("docker", "run", "--rm", IMAGE, "demo")
    assert "all refused" in played.stdout
