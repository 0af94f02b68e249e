"""Runs the command line: as the installed console script, or its same `main` in this process where time matters."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from unittest.mock import patch

import pytest

from groat.cli import main

GROAT: Final = Path(sys.executable).with_name("groat")
ISSUER: Final = "https://auth.example.com"
AUDIENCE: Final = "https://orders.example.com"
TIMEOUT: Final = 30.0
# Starts a command for which the modes of files count, though root starts it.
OBEYING_MODES: Final = () if os.geteuid() else ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without any setting of ours or of terminals, and with these variables."""
    ours = {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_") and name not in ours}
    return {**kept, **(extra or {})}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command left behind: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)


def run_here(directory: Path, arguments: tuple[str, ...], stdin: bytes, env: Mapping[str, str]) -> Outcome:
    """Run `groat ARGUMENTS` in this process; all of it but the start of Python is the same."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
            contextlib.chdir(directory),
            patch.dict(os.environ, environment(env), clear=True),
            patch.object(sys, "argv", ["groat", *arguments]),
            patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            return Outcome(_exit_code(), _content(out), _content(err))
    finally:
        root.handlers, root.level = handlers, level


def _content(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _exit_code() -> int:
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


@dataclass(slots=True)
class Server:
    """A running `groat serve`; its log is on its standard error, one JSON object a line."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        """Wait for the line that says so; fails with the log when the process ends first."""
        deadline = time.monotonic() + TIMEOUT
        while b"Application startup complete" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sent)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)


@dataclass(slots=True)
class Home:
    """A directory with (or for) one installation, and the ways to run commands in it."""

    directory: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()  # what starts the console script
    groat: Path = GROAT  # the console script: another version's, where that is the point

    def __call__(self, *arguments: str, stdin: str | bytes = b"", **env: str) -> Outcome:
        """Run a command in this process."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        return run_here(self.directory, arguments, data, {**self.env, **env})

    def ok(self, *arguments: str, stdin: str | bytes = b"", **env: str) -> Outcome:
        """Run a command in this process that must succeed."""
        done = self(*arguments, stdin=stdin, **env)
        assert done.code == 0, done.err
        return done

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start the console script; `options` are those of Popen."""
        env = environment({**self.env, **options.pop("env", {})})
        return subprocess.Popen([*self.prefix, str(self.groat), *arguments], cwd=self.directory, env=env, **options)

    def script(self, *arguments: str, stdin: bytes = b"", **env: str) -> Outcome:
        """Run the console script as a process of its own."""
        pipe = subprocess.PIPE
        process = self.start(*arguments, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            out, err = process.communicate(stdin, TIMEOUT)
        finally:
            process.kill()
            process.wait(5)
        return Outcome(process.returncode, out.decode(), err.decode())

    def file(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """Write a file here; returns its path."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def document(self, name: str) -> Any:
        """A JSON file of this directory."""
        return json.loads((self.directory / name).read_bytes())

    def snapshot(self) -> dict[str, tuple[bytes, int, int]]:
        """Every file with its content, mode and time of change."""
        return {
            str(path.relative_to(self.directory)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
            for path in sorted(self.directory.rglob("*"))
            if path.is_file()
        }

    @contextlib.contextmanager
    def serving(self, *arguments: str, port: int) -> Iterator[Server]:
        """Run `groat serve` on a port that was free a moment ago, until the block ends."""
        log = self.directory / f"serve-{port}.log"
        with log.open("wb") as stderr:
            process = self.start(
                "serve", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
            )
        server = Server(process, log, port)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
