"""Whom a command asks for a token or for keys: an issuer, or the server on this machine."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import click

from groat.cli.identities import read_key
from groat.cli.session import Session
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey
from groat.protocol.metadata import issuer_path


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom to ask: the issuer itself, or (`address`) whoever listens at the address of [server] on this machine.

    The latter only on demand. Any program can listen on a port and say that it is the issuer: it would be given an
    assertion that buys a token, or its keys would be believed. `elsewhere`: where --local would ask, for a hint.
    """

    issuer: str
    address: str | None = None
    elsewhere: str | None = None

    @property
    def hint(self) -> str:
        """What helps where the issuer does not answer; empty where nothing does."""
        return f"on the server's own machine --local asks {self.elsewhere} instead" if self.elsewhere else ""

    @contextlib.contextmanager
    def hinted(self) -> Iterator[None]:
        """Say it where that is what fails in here."""
        from groat.client import MetadataInvalid, ServerUnreachable

        try:
            yield
        except (ServerUnreachable, MetadataInvalid) as error:
            error.hint = error.hint or self.hint
            raise


def asked_for(session: Session, issuer: str | None, *, local: bool) -> Asked:
    """Whom these options, the environment or the configuration name. Raises ConfigError."""
    named = issuer or os.environ.get("GROAT_ISSUER")
    if named is not None and not local:
        return Asked(named)
    config = session.config()
    name = named or config.policy.issuer
    if config.listener.tls is not None:
        if local:
            raise ConfigError(f"--local: this server speaks TLS, and its certificate is for the name in {name}")
        return Asked(name)
    host, port = config.listener.local_address
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}{issuer_path(name)}"
    if not local:
        return Asked(name, elsewhere=None if name.rstrip("/") == address else address)
    session.note(f"asking the local server at {address} for {name}")
    return Asked(name, address)


LOCAL: Final = click.option(
    "--local", is_flag=True, help="Ask the address of [server] on this machine; whoever listens there is believed."
)
ISSUER: Final = click.option(
    "--issuer", metavar="URL", help="Default: GROAT_ISSUER, or the issuer of the configuration."
)


def key_to_bind(name: str | None, asked: Asked) -> PrivateKey | bool:
    """The key that --dpop names, True for a new one where it names none, False without it. Raises ConfigError."""
    if name is not None and asked.address is not None:
        raise ConfigError("--dpop: a proof names the public URL of the server, which --local does not ask")
    return read_key(name) if name else name is not None


def certificate_to_show(certificate: str | None, key: str | None, asked: Asked) -> tuple[str, str] | None:
    """The files that --certificate and --certificate-key name; None without. Raises ConfigError."""
    if certificate is None:
        if key is not None:
            raise ConfigError("--certificate-key needs --certificate")
        return None
    if asked.address is not None:
        raise ConfigError("--certificate: it is shown over TLS, which --local does not speak")
    return certificate, key or certificate


def note_narrowed(session: Session, wanted: Iterable[str], granted: Iterable[str]) -> None:
    """Say what a token lacks that was asked for."""
    if missing := sorted(set(wanted) - set(granted)):
        session.note(f"narrowed by the server: granted without {' '.join(missing)}")
