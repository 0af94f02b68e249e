"""Docker and Compose as a person types them, with every answer checked. Needs an engine and root; `make compose-test`."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
DEPLOY: Final = ROOT / "deploy"
IMAGE: Final = "groat:local"
BUILD_SECONDS: Final = 1500
STEP_SECONDS: Final = 180
# A program that runs inside of a container: nothing else is needed there, no shell least of all.
PYTHON: Final = "python3"


def run(
    *command: str, timeout: float = STEP_SECONDS, check: bool = True, stdin: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run one command; fails with what it said."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, f"{' '.join(command[:8])}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def compose_commands() -> list[str]:
    """The Compose programs of this machine: `docker compose` (v2) and docker-compose (1.29), or the one in COMPOSE."""
    if chosen := os.environ.get("COMPOSE"):
        return [chosen]
    found = []
    if run("docker", "compose", "version", check=False).returncode == 0:
        found.append("docker compose")
    if shutil.which("docker-compose"):
        found.append("docker-compose")
    return found


def inspect(name: str, kind: str = "container") -> dict[str, Any]:
    """What the engine knows about a container or an image."""
    document: dict[str, Any] = json.loads(run("docker", kind, "inspect", name).stdout)[0]
    return document


@dataclass(frozen=True, slots=True)
class Project:
    """One Compose project with volumes and ports of its own."""

    command: str
    name: str
    file: Path
    env: tuple[tuple[str, str], ...] = ()

    def __call__(
        self, *arguments: str, timeout: float = STEP_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGUMENTS` for this project."""
        words = (*self.command.split(), "-p", self.name, "-f", str(self.file), *arguments)
        return run(*words, timeout=timeout, check=check, **dict(self.env))

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        label = "label=com.docker.compose.service=" + service
        project = "label=com.docker.compose.project=" + self.name
        listed = run("docker", "ps", "--all", "--quiet", "--filter", label, "--filter", project).stdout.split()
        assert len(listed) == 1, f"{service}: {listed}"
        return listed[0]

    def inspect(self, service: str) -> dict[str, Any]:
        return inspect(self.container(service))

    def python(self, service: str, program: str, stdin: str = "") -> str:
        """Run a Python program inside of a running container; returns what it printed."""
        return run("docker", "exec", "-i", self.container(service), PYTHON, "-c", program, stdin=stdin).stdout

    def beside(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a further container of a service, with the same mounts, rights and network."""
        return self("run", "--rm", "--no-deps", "-T", "--entrypoint", command[0], service, *command[1:], check=check)

    def address(self, service: str, port: int) -> tuple[str, int]:
        """Where the host reaches a published port."""
        (binding,) = self.inspect(service)["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return binding["HostIp"], int(binding["HostPort"])

    def wait_healthy(self, services: Iterable[str]) -> None:
        """Wait until their health checks say so."""
        deadline = time.monotonic() + STEP_SECONDS
        for service in services:
            while self.inspect(service)["State"].get("Health", {}).get("Status") != "healthy":
                assert time.monotonic() < deadline, self.logs(service)
                time.sleep(0.25)

    def wait_ended(self, service: str) -> int:
        """Wait until a container has ended; returns its exit code."""
        return int(run("docker", "wait", self.container(service)).stdout)

    def logs(self, service: str) -> str:
        done = run("docker", "logs", self.container(service))
        return done.stdout + done.stderr

    def remove(self) -> None:
        """End it and forget its volumes."""
        self("--profile", "bootstrap", "--profile", "stack", "down", "--volumes", "--timeout", "5", check=False)


def check_hardened(facts: Mapping[str, Any]) -> None:
    """What the engine says of a container: not root, no capability, a root file system that nobody writes to."""
    host = facts["HostConfig"]
    assert facts["Config"]["User"] == "10001:10001"
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
