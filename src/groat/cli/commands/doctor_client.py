"""`groat doctor client`: would a client on this host get a token, and would its API take it?"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from groat.cli.people import visible
from groat.cli.session import Exit, Session
from groat.protocol.errors import ConfigError
from groat.protocol.metadata import metadata_urls
from groat.protocol.models import MIN_CLOCK_TOLERANCE
from groat.protocol.resource_metadata import resource_metadata_url

if TYPE_CHECKING:
    from groat.client import MachineClient
    from groat.protocol.jwk import PrivateKey

SECONDS: Final = 5.0
OK, FAILED, UNKNOWN = "ok", "failed", "unknown"


@dataclass(frozen=True, slots=True)
class Patient:
    """One client of one issuer, and the API that it wants to call."""

    issuer: str
    key: "PrivateKey"
    machine: "MachineClient"
    resource: str | None
    scopes: tuple[str, ...]

    def held_key(self) -> tuple[str, str]:
        """It was read already: a key that cannot be is an input error, and nothing else is worth a look then."""
        return OK, f"{self.key.algorithm}, kid {self.key.kid}"

    def server(self) -> tuple[str, str]:
        """Whether the issuer answers from this host, and how far the two clocks are apart."""
        from groat.client.retry import http_date
        from groat.client.wire import Outgoing, Transport

        transport = Transport(timeout=SECONDS)
        try:
            asked = Outgoing("GET", metadata_urls(self.issuer)[0], {"Accept": "application/json"})
            answer = transport.exchange(asked, transport.until(SECONDS))
        finally:
            transport.close()
        date = http_date(answer.headers.get("date", ""))
        apart = None if date is None else abs(date - time.time())
        if apart is not None and apart > MIN_CLOCK_TOLERANCE + 1:  # Date has whole seconds
            return FAILED, f"answers, but its clock and this host's differ by {apart:.0f} s"
        return OK, "answers" + ("" if apart is None else f", its clock within {max(1, round(apart))} s of this host's")

    def token(self) -> tuple[str, str]:
        """A real token, asked for as the client would; it is thrown away."""
        granted = self.machine.token(self.resource, self.scopes)
        left = granted.expires_at - time.time()
        return OK, f"granted for {left:.0f} s: {' '.join(granted.scopes) or 'no scopes'}"

    def api(self) -> tuple[str, str]:
        """Whether the API says that it takes tokens of this issuer (RFC 9728). Many say nothing."""
        from groat.client.errors import MetadataInvalid, ServerUnreachable

        if self.resource is None or resource_metadata_url(self.resource) is None:
            return UNKNOWN, "give the API's URL with --resource to ask it whom it trusts"
        try:
            found = self.machine.check_api(self.resource)
        except (MetadataInvalid, ServerUnreachable) as error:
            return UNKNOWN, str(error)
        missing = set(self.scopes) - set(found.scopes) if found.scopes else set()
        if missing:
            return FAILED, f"does not know {' '.join(sorted(missing))}; it has {visible(' '.join(found.scopes))}"
        return OK, "trusts this issuer" if found.issuers else "does not say whom it trusts"


def examine(patient: Patient) -> Iterator[tuple[str, str, str]]:
    """Each check: its name, its outcome, and what it found. Raises ServerUnreachable, once that has been said."""
    from groat.client import ClientError, ServerUnreachable

    checks: dict[str, Callable[[], tuple[str, str]]] = {
        "key": patient.held_key, "server": patient.server, "token": patient.token, "api": patient.api
    }  # fmt: skip
    for name, check in checks.items():
        try:
            yield name, *check()
        except (ClientError, ConfigError) as error:
            yield name, FAILED, str(error)
            if isinstance(error, ServerUnreachable):
                raise


@click.command("client")
@click.option("--client-id", required=True)
@click.option("--key", "key_file", required=True, metavar="FILE", help="The client's private key; - reads stdin.")
@click.option("--issuer", required=True, envvar="GROAT_ISSUER", metavar="URL", help="The authorization server.")
@click.option("--resource", metavar="URI", help="The API to call; if it is a URL, it is asked whom it trusts.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="To ask for. May be repeated.")
@click.pass_obj
def doctor_client(
    session: Session, client_id: str, key_file: str, issuer: str, resource: str | None, scopes: tuple[str, ...]
) -> None:
    """Check from a client's host: its key, the server and its clock, a token, and whom the API trusts.

    Exit code 7: a check failed; 5: the server does not answer. What nobody can tell ("unknown") is no failure.
    """
    from groat.cli.identities import read_key
    from groat.client import MachineClient, RetryPolicy, ServerUnreachable

    key, rows, code = read_key(key_file), [], Exit.DONE
    with MachineClient(issuer, client_id, key, retry=RetryPolicy(retries=0)) as machine:
        try:
            for name, outcome, detail in examine(Patient(issuer, key, machine, resource, scopes)):
                rows.append({"check": name, "outcome": outcome, "detail": detail})
                code = Exit.CHECK_FAILED if outcome == FAILED else code
        except ServerUnreachable:
            code = Exit.UNREACHABLE
    show(session, rows)
    if code != Exit.DONE:
        raise click.exceptions.Exit(code)


def show(session: Session, rows: list[dict[str, str]]) -> None:
    """In lines of our own: the host of a client or an API has not what draws tables."""
    if session.as_json:
        session.show_list(rows, ("check", "outcome", "detail"), "outcome")
        return
    width = max(len(row["check"]) for row in rows)
    for row in rows:
        click.echo(row["outcome"] if session.quiet else f"{row['outcome']:<8} {row['check']:<{width}} {row['detail']}")
