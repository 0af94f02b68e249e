"""Go and Java for the guides' programs: their libraries fetched once per machine, their compilers run when needed.

Who has no toolchain, or one and no way to its registry, skips with the reason. A library that the registry has not, or
one with another checksum, is a failure: it is about this repository.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.missing import Missing, skip
from tests.waiting import wait_until

from .processes import ENVIRONMENT, stop

HERE: Final = Path(__file__).parent
FETCH_SECONDS: Final = 90
OLDEST_JAVA: Final = 17
# What both say when nobody answers, or a proxy does in the registry's place.
_OUT_OF_REACH: Final = re.compile(
    r'Get "https?://|reading https?://\S+: (?:403|407|429|5\d\d)|module lookup disabled'
    r"|Unknown host|Could not transfer (?:artifact|metadata)|timed out|requires go >= "
)
_GO: Final = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


class OutOfReach(Exception):
    """The registry does not answer here."""


class GoPrograms:
    """Builds programs with the modules of `go/`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if shutil.which("go") is None:
            skip(Missing.GO, "no go on the PATH")
        for name in ("go.mod", "go.sum"):
            shutil.copy(HERE / "go" / name, directory / name)
        try:
            _fetch(["go", "mod", "download"], directory, _GO)
        except OutOfReach as error:
            skip(Missing.GO, str(error))

    def build(self, name: str, source: str) -> Path:
        """The program of this one file."""
        (self._directory / name).mkdir()
        (self._directory / name / "main.go").write_text(source)
        output = self._directory / name / "program"
        _compile(["go", "build", "-o", str(output), f"./{name}"], self._directory, _GO)
        return output


class JavaPrograms:
    """Compiles classes against the libraries that `java/pom.xml` names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        if absent := [name for name in ("javac", "mvn") if shutil.which(name) is None]:
            skip(Missing.MAVEN, f"no {' and no '.join(absent)} on the PATH")
        version = re.search(r"javac (\d+)", _run(["javac", "-version"], directory, {}).stdout)
        if version is not None and int(version[1]) < OLDEST_JAVA:
            skip(Missing.MAVEN, f"{version[0]} is too old")
        shutil.copy(HERE / "java" / "pom.xml", directory)
        asked = ["mvn", "-B", "-q", "-C", "dependency:build-classpath", "-Dmdep.includeScope=runtime"]
        asked.append(f"-Dmdep.outputFile={directory / 'classpath'}")
        try:
            # Whoever has them all needs no network, and no time for asking.
            if _run([*asked, "-o"], directory, {}).returncode:
                _fetch(asked, directory, {})
        except OutOfReach as error:
            skip(Missing.MAVEN, str(error))
        self._libraries = (directory / "classpath").read_text().strip()

    def compile(self, name: str, sources: Mapping[str, str]) -> list[str]:
        """The start of a command line that runs a class of these; the sources by their paths."""
        root, classes = self._directory / name, self._directory / name / "classes"
        for path, source in sources.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(source)
        _compile(
            ["javac", "-Xlint:deprecation", "-Werror", "-cp", self._libraries, "-d", str(classes), *sources], root, {}
        )
        return ["java", "-cp", f"{classes}{os.pathsep}{self._libraries}", "-XX:TieredStopAtLevel=1"]


def _run(argv: Sequence[str], directory: Path, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **more}
    return subprocess.run(
        argv, cwd=directory, env=environment, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
    )


def _fetch(argv: Sequence[str], directory: Path, more: Mapping[str, str]) -> None:
    """Get the libraries. Raises OutOfReach."""
    try:
        done = _run(argv, directory, more)
    except subprocess.TimeoutExpired:
        raise OutOfReach(f"{argv[0]} got no libraries within {FETCH_SECONDS} s") from None
    said = done.stdout + done.stderr
    if done.returncode and _OUT_OF_REACH.search(said) and "checksum" not in said.lower():
        raise OutOfReach(f"{argv[0]} does not get its libraries: {said.strip()[:300]}")
    assert done.returncode == 0, said


def _compile(argv: Sequence[str], directory: Path, more: Mapping[str, str]) -> None:
    done = _run(argv, directory, more)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def api(argv: Sequence[str | Path], port: int, directory: Path, **more: str) -> Iterator[str]:
    """A program that listens on this port of 127.0.0.1; yields its origin as soon as it answers."""
    log = directory / f"api-{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(argv, cwd=directory, env={**ENVIRONMENT, **more}, stdout=file, stderr=file)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers, 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def lines_of(command: Sequence[str | Path], directory: Path, text: str = "", **more: str) -> list[str]:
    """What a program printed. `text`: what it reads; `more`: its environment besides."""
    done = subprocess.run(
        command,
        cwd=directory,
        env={**ENVIRONMENT, **more},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
