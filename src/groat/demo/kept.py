"""What `--keep` leaves behind: lines to copy into a shell, and how to end it all."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groat.demo.provision import CLIENT, ORDERS, Clients, Installation
from groat.demo.stage import Service, Stage
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER


@dataclass(frozen=True, slots=True)
class Kept:
    """The processes that go on, and lines for a POSIX shell. Tokens go through stdin: argv can be read by others."""

    directory: Path
    server: Service
    api: Service
    commands: tuple[str, ...]
    stop: str

    def facts(self) -> dict[str, Any]:
        services = {
            service.name: {"url": service.url, "pid": service.process.pid, "log": str(service.log)}
            for service in (self.server, self.api)
        }
        return {"directory": str(self.directory), **services, "commands": list(self.commands), "stop": self.stop}

    def running(self) -> list[str]:
        """For people: what goes on."""
        return [
            f"{service.name:<8}{service.url}  pid {service.process.pid}  log {service.log}"
            for service in (self.server, self.api)
        ]

    def to_copy(self) -> list[str]:
        """For people: the commands, and how to end it all."""
        return ["", *self.commands, "", "# stop:", self.stop]


def describe(stage: Stage, server: Service, api: Service, installation: Installation, clients: Clients) -> Kept:
    """Say what is running and what to do with it; marking the stage as kept is up to the caller."""
    pids = " ".join(str(service.process.pid) for service in stage.services)
    stop = f"kill {pids}; sleep 1; rm -r {shlex.quote(str(stage.directory))}"
    commands = _commands(installation, api, clients)
    return Kept(stage.directory, server, api, commands, stop)


def _commands(installation: Installation, api: Service, clients: Clients) -> tuple[str, ...]:
    # printf is built into the shell; an argument of curl would show the assertion to whoever lists processes.
    config, key = shlex.quote(str(installation.file)), shlex.quote(str(clients.key_file))
    issuer = installation.issuer
    return (
        f"ASSERTION=$({_groat()} --config {config} client assertion {CLIENT} --key {key})",
        "TOKEN=$(printf 'client_assertion=%s' \"$ASSERTION\" | curl -s -d @- -d grant_type=client_credentials"
        f" -d client_assertion_type={JWT_BEARER} -d resource={ORDERS} -d scope=orders:read {issuer}/token"
        ' | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')',
        f"printf 'Authorization: Bearer %s' \"$TOKEN\" | curl -s -H @- {api.url}/protected",
        f"curl -s {issuer}/.well-known/oauth-authorization-server",
    )


def _groat() -> str:
    """The command as this shell finds it, else its full path."""
    own = Path(sys.executable).with_name("groat")
    found = shutil.which("groat")
    if found is not None and (not own.exists() or os.path.samefile(found, own)):
        return "groat"
    return shlex.quote(str(own))
