"""Key files as they are written: private from the first byte, whole or absent, never over another file."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from groat.keys import files
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.protocol.errors import ConfigError
from tests.keys.samples import KEYS

CONTENT: Final = b"0123456789abcdef" * 16_384
# Prints every file operation of one write, with the mode and size that the file had at that instant.
WATCH: Final = """
import json, os, sys
from pathlib import Path
from groat.keys.files import make_private_directory, write_private_file
events = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], int):
        status = os.fstat(arguments[0])
        events.append(["descriptor", status.st_mode & 0o7777, status.st_size])
    elif event == "open" and str(arguments[0]).startswith(sys.argv[1]) and arguments[2] & os.O_CREAT:
        events.append(["create", bool(arguments[2] & os.O_EXCL)])
    elif event == "os.link":
        status = os.stat(arguments[0])
        events.append(["link", status.st_mode & 0o7777, status.st_size])
    elif event in ("os.chmod", "os.rename"):
        events.append([event])
os.umask(0)
folder = Path(sys.argv[1], "keys")
sys.addaudithook(watch)
make_private_directory(folder)
write_private_file(folder / "k", b"x" * 1000)
print(json.dumps(events))
"""
# Dies at the first, second, third... operation of a write, each time in a process of its own.
CRASH: Final = """
import os, signal, sys
from pathlib import Path
from groat.keys.files import write_private_file
for step in range(1, 31):
    child = os.fork()
    if child == 0:
        seen = 0
        def crash(event, arguments):
            global seen
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(crash)
        write_private_file(Path(sys.argv[1], str(step)), b"0123456789abcdef" * 16_384)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
ENDLESS: Final = """
import sys
from pathlib import Path
from groat.keys.files import write_private_file
for number in range(100_000):
    write_private_file(Path(sys.argv[1], str(number)), b"0123456789abcdef" * 16_384)
"""


# Where the system has no files without a name, the writer falls back to a temporary name.
PRELUDES: Final = {"unnamed": "", "named": "import os\ndel os.O_TMPFILE\n"}


@pytest.fixture(params=PRELUDES)
def prelude(request: pytest.FixtureRequest) -> str:
    """How the writer works in the scripts: by a file without a name, or by a temporary one."""
    return PRELUDES[request.param]


def run_script(script: str, folder: Path) -> str:
    """Run a script on a folder in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def mode_of(path: Path) -> int:
    """The permission bits of a path."""
    return path.stat().st_mode & 0o7777


def finished(folder: Path) -> list[Path]:
    """The files under their final names."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@pytest.mark.rule("KEY-07", "K08", "DEMO-23")
def test_a_private_file_is_private_before_its_first_byte(tmp_path: Path, prelude: str) -> None:
    """With umask 000: mode 0600 while still empty, no name or O_EXCL, and no chmod and no rename at any time."""
    events: list[Any] = json.loads(run_script(prelude + WATCH, tmp_path))
    created = [["create", True]] if prelude else []
    assert events == [*created, ["descriptor", 0o600, 0], ["link", 0o600, 1000]]
    assert (mode_of(tmp_path / "keys"), mode_of(tmp_path / "keys" / "k")) == (0o700, 0o600)


@pytest.mark.rule("KEY-07", "K08")
def test_a_crash_at_any_step_leaves_a_whole_file_or_none(tmp_path: Path, prelude: str) -> None:
    """Killed at every operation of a write in turn, the name holds everything or does not exist, and nothing is left."""
    codes = [int(line) for line in run_script(prelude + CRASH, tmp_path).split()]
    assert codes.count(-9) >= 4
    assert prelude or finished(tmp_path) == list(tmp_path.iterdir())
    assert codes[-1] == 0
    for path in finished(tmp_path):
        assert (mode_of(path), path.read_bytes() == CONTENT) == (0o600, True)
    assert all((tmp_path / str(step)).exists() for step, code in enumerate(codes, 1) if code == 0)
    assert all(mode_of(path) == 0o600 for path in tmp_path.iterdir())


@pytest.mark.rule("KEY-07", "K08")
def test_a_name_is_free_again_after_a_crash(tmp_path: Path, prelude: str) -> None:
    """What a crash leaves behind does not stand in the way of the next attempt."""
    codes = [int(line) for line in run_script(prelude + CRASH, tmp_path).split()]
    for step, _ in enumerate(codes, 1):
        path = tmp_path / str(step)
        if not path.exists():
            files.write_private_file(path, CONTENT)
        assert path.read_bytes() == CONTENT


@pytest.mark.rule("KEY-07", "K08")
def test_the_next_attempt_clears_up_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file that a crash left long ago goes with the next write of that file; one in the making stays."""
    monkeypatch.delattr(os, "O_TMPFILE")
    old, young, other = (tmp_path / name for name in (".k.0123abcd", ".k.4567cdef", ".kk.0123abcd"))
    for path in (old, young, other):
        path.write_bytes(b"secret")
    for path in (old, other):
        os.utime(path, (time.time() - files.STALE_SECONDS - 1,) * 2)
    files.write_private_file(tmp_path / "k", CONTENT)
    assert sorted(tmp_path.iterdir()) == sorted([young, other, tmp_path / "k"])


@pytest.mark.rule("CL-22", "KEY-07")
@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "replaced"])
def test_a_replaced_file_is_private_and_whole(tmp_path: Path, before: bytes | None) -> None:
    """With umask 000 and an older file of a wider mode: the new one has mode 0600, and nothing else is left."""
    path = tmp_path / "cache"
    if before is not None:
        path.write_bytes(before)
        path.chmod(0o644)
    umask = os.umask(0)
    try:
        files.replace_private_file(path, CONTENT)
    finally:
        os.umask(umask)
    assert (mode_of(path), path.read_bytes() == CONTENT) == (0o600, True)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.rule("KEY-07", "K08")
@pytest.mark.parametrize("delay", [0.003, 0.011, 0.023, 0.042])
def test_a_kill_at_any_moment_leaves_whole_files(tmp_path: Path, delay: float) -> None:
    """A writer that is killed without warning has left whole files only."""
    writer = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)])
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "0").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        writer.kill()
        writer.wait(10)
    made = finished(tmp_path)
    assert made
    assert all(path.read_bytes() == CONTENT and mode_of(path) == 0o600 for path in made)


@pytest.mark.rule("KEY-08", "DEMO-19")
@pytest.mark.parametrize("kind", ["file", "empty file", "directory", "link", "dangling link"])
def test_nothing_is_ever_written_over(tmp_path: Path, kind: str) -> None:
    """Whatever has the name keeps it, and no other file is left behind."""
    path, target = tmp_path / "k", tmp_path / "target"
    if kind == "directory":
        path.mkdir()
    elif "link" in kind:
        path.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"old")
    else:
        path.write_bytes(b"old" if kind == "file" else b"")
    before = sorted((p.name, p.lstat().st_ino, p.lstat().st_mtime_ns) for p in tmp_path.iterdir())
    with pytest.raises(ConfigError, match="exists; nothing was written"):
        files.write_private_file(path, b"new")
    assert sorted((p.name, p.lstat().st_ino, p.lstat().st_mtime_ns) for p in tmp_path.iterdir()) == before
    assert kind != "file" or path.read_bytes() == b"old"


@pytest.mark.rule("KEY-08", "K08")
def test_of_many_writers_exactly_one_wins(tmp_path: Path) -> None:
    """A file that appears between the look and the write is not replaced either."""
    barrier = threading.Barrier(8)

    def write(number: int) -> int | None:
        barrier.wait(10)
        try:
            files.write_private_file(tmp_path / "k", b"%d" % number * 100_000)
        except ConfigError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(8)) if number is not None]
    assert len(winners) == 1
    assert (tmp_path / "k").read_bytes() == b"%d" % winners[0] * 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.rule("KEY-07")
@pytest.mark.parametrize("kind", ["missing directory", "file as directory", "name too long"])
def test_an_impossible_place_is_named(tmp_path: Path, kind: str) -> None:
    """One line that names the file, and nothing left behind."""
    (tmp_path / "file").write_bytes(b"")
    path = {
        "missing directory": tmp_path / "none" / "k",
        "file as directory": tmp_path / "file" / "k",
        "name too long": tmp_path / ("k" * 300),
    }[kind]
    with pytest.raises(ConfigError) as caught:
        files.write_private_file(path, b"secret")
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.rule("KEY-07")
def test_new_parents_of_a_private_directory_are_not_writable_by_others(tmp_path: Path) -> None:
    """Whoever may rename a parent may put another directory in its place, so the umask must not decide."""
    before = os.umask(0)
    try:
        files.make_private_directory(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a" / "b" / "c") == 0o700
    assert [mode_of(tmp_path / name) & 0o022 for name in ("a", "a/b")] == [0, 0]


@pytest.mark.rule("KEY-07", "KEY-08")
def test_an_existing_directory_stays_as_it_is(tmp_path: Path) -> None:
    """Repeating a set-up does not touch what an operator has decided."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o750)
    files.make_private_directory(folder)
    assert mode_of(folder) == 0o750


@pytest.mark.rule("KEY-07")
def test_a_public_file_may_be_read_by_others(tmp_path: Path) -> None:
    """Mode 0644, whatever the umask would allow beyond it."""
    before = os.umask(0)
    try:
        files.write_public_file(tmp_path / "public", b"x")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "public") == 0o644


@pytest.mark.rule("KEY-07", "KEY-08")
def test_the_key_encryption_key_is_a_private_file(tmp_path: Path) -> None:
    """It is made once, with mode 0600, and read back as the same key."""
    path = tmp_path / "kek"
    before = os.umask(0)
    try:
        made = KeyEncryptionKey.create(path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    sealed = made.seal(KEYS["ES256"])
    assert KeyEncryptionKey.load(path).unseal(sealed, KEYS["ES256"].kid).kid == KEYS["ES256"].kid
    with pytest.raises(ConfigError, match="exists"):
        KeyEncryptionKey.create(path)
