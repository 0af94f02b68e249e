"""Who asks for a token on a command line: the key of a client, or a workload by its platform's token."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from groat.keys.files import parse_private_key, read_private_key
from groat.keys.key_text import is_key_text
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, PrivateKey

if TYPE_CHECKING:
    from groat.client import WorkloadIdentity

Command = Callable[..., None]
_WHO: Final[tuple[Callable[[Command], Command], ...]] = (
    click.option("--client-id", help="Needed with --key; the workload's token says it else."),
    click.option("--key", "key_file", metavar="FILE", help="The client's private key; - reads stdin."),
    click.option(
        "--workload", metavar="PLATFORM", help="The platform's own token instead of a key: kubernetes, github, ..."
    ),
    click.option(
        "--alg", type=click.Choice(list(ALGORITHM_NAMES)), help="Algorithm of the key, where it does not say."
    ),
)


def who_asks(command: Command) -> Command:
    """The options by which a command is told who asks, in front of its own."""
    for option in reversed(_WHO):
        command = option(command)
    return command


def read_key(name: str, algorithm: str | None = None) -> PrivateKey:
    """A private key from a file, or from stdin for `-`; `algorithm`: where it does not say. Raises ConfigError."""
    if is_key_text(name):
        raise ConfigError("--key takes the name of a file, or - for standard input; not the key itself")
    if name == "-":
        return parse_private_key(sys.stdin.buffer.read(), "standard input", algorithm)
    return read_private_key(Path(name), algorithm)


def identity(
    client_id: str | None, key_file: str | None, workload: str | None, alg: str | None, *, certified: bool = False
) -> "PrivateKey | WorkloadIdentity | None":
    """Who asks: a key, or else the workload that is named here or in GROAT_WORKLOAD. Raises ConfigError.

    `certified`: a certificate says it where nothing else does (None).
    """
    from groat.client.workload import identity_of

    if key_file is not None and workload is not None:
        raise click.UsageError("--key and --workload are two answers to who asks: give one")
    platform = workload or (os.environ.get("GROAT_WORKLOAD") if key_file is None else None)
    if platform:
        file, audience = (os.environ.get(f"GROAT_{name}") for name in ("ASSERTION_FILE", "WORKLOAD_AUDIENCE"))
        return identity_of(platform, file or None, audience or None)
    if certified and key_file is None:
        if client_id is None:
            raise click.UsageError("Missing option '--client-id': a certificate does not say it by itself.")
        return None
    for option, value in (("--client-id", client_id), ("--key", key_file)):
        if value is None:
            raise click.UsageError(f"Missing option '{option}', or --workload in place of both.")
    assert key_file is not None
    return read_key(key_file, alg)
