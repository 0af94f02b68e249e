"""The bootstrapper of the containers: makes what each of them needs, puts it where only that one sees it, and ends.

    python -m groat.demo.bootstrapper           everything
    python -m groat.demo.bootstrapper files     only what a database needs before it can start

Safe to repeat: what is there stays as it is, certificates that run out within 30 days are made anew. It registers
nothing: `groat apply` does, by files. Everything is under GROAT_DEMO_ROOT (/groat), one directory (in Compose: one
volume) for each owner:

    server/   groat.toml and, with SQLite, the database        the authorization server writes here
    secrets/  key-encryption key, TLS key and certificate      the authorization server reads
    client/   the client's private key                         the client reads
    public/   the client's public key                          `groat apply` reads
    api-tls/  the API's TLS key and certificate                the API reads; it has no OAuth key at all
    trust/    the certificate of the local CA                  everybody reads
    ca/       the key of the local CA                          nobody but the bootstrapper
    database/ the password for PostgreSQL, if that is used     the database reads

and what GROAT_DEMO_SERVERS and GROAT_DEMO_CALLERS name: keys and certificates of further servers, and of clients.
"""

import asyncio
import datetime
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from groat.demo.local_ca import LocalCa
from groat.keys.files import (
    make_private_directory,
    read_private_file,
    read_private_key,
    write_key_pair,
    write_private_file,
    write_public_file,
)
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from groat.server.log.audit import Audit
from groat.server.log.event_log import configure_logging
from groat.server.operations.first_start import Step, Wanted, initialise
from groat.server.store import StoreConflict
from groat.server.unavailable import Unavailable

ALGORITHM: Final = "ES256"
# Published ports are on this machine's loopback.
HOST_NAME: Final = "localhost"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make: under which directory, for which issuer, with which names in certificates."""

    root: Path
    issuer: str
    server_names: tuple[str, ...]
    api_names: tuple[str, ...]
    # Further servers that get a certificate each, by directory; the cluster has some.
    others: Mapping[str, tuple[str, ...]]
    # The URL of a PostgreSQL database, as it would be without a password; empty for SQLite.
    database: str = ""
    # The name in a client's certificate, by directory, where clients have some.
    callers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Plan":
        """GROAT_ISSUER as in the other containers. Raises ConfigError."""
        if not env.get("GROAT_ISSUER"):
            raise ConfigError("GROAT_ISSUER is not set")
        others = {
            directory: tuple(names.split(",")) for directory, names in _pairs(env, "SERVERS", "NAME,NAME").items()
        }
        return cls(
            Path(env.get("GROAT_DEMO_ROOT", "/groat")),
            env["GROAT_ISSUER"],
            (env.get("GROAT_DEMO_AUTH_NAME", "auth"), HOST_NAME),
            (env.get("GROAT_DEMO_API_NAME", "api"), HOST_NAME),
            others,
            env.get("GROAT_DEMO_DATABASE", ""),
            _pairs(env, "CALLERS", "NAME"),
        )


def _pairs(env: Mapping[str, str], what: str, value: str) -> dict[str, str]:
    """Names by their directories, of GROAT_DEMO_`what`. Raises ConfigError."""
    pairs = [pair.partition("=") for pair in env.get(f"GROAT_DEMO_{what}", "").split()]
    if not all(directory and names for directory, _, names in pairs):
        raise ConfigError(f"GROAT_DEMO_{what} must be DIRECTORY={value} ...")
    return {directory: names for directory, _, names in pairs}


async def bootstrap(plan: Plan, env: Mapping[str, str], now: datetime.datetime) -> list[Step]:
    """Make what is missing. Raises ConfigError, StoreConflict, Unavailable; a second run goes on from there."""
    steps = make_files(plan, now)
    audit = Audit(configure_logging("error"))
    # The address of the database may hold a password, which belongs in no file: it stays in the environment.
    _, made = await initialise(plan.root / "server/groat.toml", Wanted(plan.issuer, ALGORITHM), env, audit)
    return [*steps, *made, _client_key(plan)]


def make_files(plan: Plan, now: datetime.datetime) -> list[Step]:
    """The part that needs no database: certificates, and the password. Raises ConfigError."""
    return _certificates(plan, now) + (_password(plan) if plan.database else [])


def _password(plan: Plan) -> list[Step]:
    """One password, in a file for the database and in a URL for the server; no command line ever holds it."""
    password_file, url_file = plan.root / "database/password", plan.root / "secrets/database-url"
    make_private_directory(password_file.parent)
    made = not password_file.exists()
    if made:
        url_file.unlink(missing_ok=True)  # it would hold another password
        write_private_file(password_file, secrets.token_urlsafe(32).encode())
    if not url_file.exists():
        parts = urlsplit(plan.database)
        login = f"{parts.username}:{read_private_file(password_file).decode()}"
        address = parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}")
        write_private_file(url_file, address.geturl().encode())
    return [Step("database password", str(password_file), made)]


def _certificates(plan: Plan, now: datetime.datetime) -> list[Step]:
    root = plan.root
    servers = {"secrets": plan.server_names, "api-tls": plan.api_names, **plan.others}
    for name in ("server", "client", "public", "trust", "ca", *servers, *plan.callers):
        make_private_directory(root / name)
    names = sorted({name for listed in servers.values() for name in listed} | set(plan.callers.values()))
    ca, made = LocalCa.ensure(root / "trust/ca.pem", root / "ca/ca.key.pem", names, now)
    steps = [Step("local CA", str(root / "trust/ca.pem"), made)]
    for directory, listed in servers.items():
        made = ca.ensure_server(root / directory, listed, now)
        steps.append(Step(f"TLS for {listed[0]}", str(root / directory / "tls.pem"), made))
    for directory, name in plan.callers.items():
        made = ca.ensure_caller(root / directory, name, now)
        steps.append(Step(f"TLS of {name}", str(root / directory / "tls.pem"), made))
    return steps


def _client_key(plan: Plan) -> Step:
    """The client's key, and its public half where the files of the registry find it."""
    path, public = plan.root / "client/billing.key.json", plan.root / "public/billing.pub.json"
    made = not path.exists()
    if made:
        write_key_pair(generate_private_key(ALGORITHM), path)
    half = json.dumps(dict(read_private_key(path).public.jwk)).encode()
    if not public.exists() or public.read_bytes() != half:
        public.unlink(missing_ok=True)
        write_public_file(public, half)
        made = True
    return Step("client key", str(path), made)


@contextmanager
def _explained(say: Callable[[str], None]) -> Iterator[None]:
    """Turn what an operator can mend into lines and exit code 3 (5 where the database does not answer)."""
    try:
        yield
    except ConfigError as error:
        for finding in error.findings:
            say(f"bootstrapper: {finding}")
        raise SystemExit(3) from None
    except (StoreConflict, Unavailable) as error:
        say(f"bootstrapper: {error}")
        raise SystemExit(5 if isinstance(error, Unavailable) else 3) from None


def main() -> None:
    """Make everything, say what was made, and end."""
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    with _explained(say):
        plan = Plan.from_environment(os.environ)
        now = datetime.datetime.now(datetime.UTC)
        steps = make_files(plan, now) if sys.argv[1:] == ["files"] else asyncio.run(bootstrap(plan, os.environ, now))
    for step in steps:
        print(f"{step.what:<20}{step.outcome:<11}{step.where}")
    made = sum(step.made for step in steps)
    print(f"created {made} of {len(steps)}" if made else "unchanged")


if __name__ == "__main__":
    main()
