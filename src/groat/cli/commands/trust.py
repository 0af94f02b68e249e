"""`groat trust`: whose tokens are taken besides assertions of clients, and what would become of one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from groat.cli.consequences import DRY_RUN, agree, show_done, show_dry_run
from groat.cli.instants import span_of_time
from groat.cli.session import Exit, Session
from groat.protocol.errors import ConfigError
from groat.protocol.federation.presets import PRESETS
from groat.protocol.federation.trust import KeySource, Replay, Review, SourceKind, Trust, Use
from groat.protocol.jwk import ALGORITHM_NAMES, PublicKey
from groat.protocol.unset import UNSET, Unset
from groat.server import operations
from groat.server.operations.trusts import TrustChange, keys_in

COLUMNS: Final = ("name", "issuer", "preset", "keys", "replay", "enabled")
# More than any set or token has: a path that was mixed up must not be read to its end.
MAX_FILE_BYTES: Final = 256 * 1024
_FILE = click.Path(path_type=Path)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `add` and `update` share, read into one change."""
    for option in reversed(
        (
            click.option("--jwks", type=_FILE, help="Copy this key set (or SPIFFE bundle) into the store."),
            click.option("--jwks-file", help="Absolute path of a set that each server reads again when it changes."),
            click.option("--jwks-uri", help="Where each server fetches the set."),
            click.option("--ca", help="Absolute path of the authorities (PEM) that alone count for --jwks-uri."),
            click.option("--token-file", help="Absolute path of a bearer token to send to --jwks-uri, read each time."),
            click.option("--discovery", is_flag=True, help="Find the set by the issuer's own metadata."),
            click.option("--audience", multiple=True, help="What a grant may name; default: the issuer and /token."),
            click.option("--alg", multiple=True, type=click.Choice(list(ALGORITHM_NAMES)), help="May sign its tokens."),
            click.option("--max-lifetime", type=span_of_time, metavar="SPAN", help="How long a token may live: 1h."),
            click.option(
                "--replay", type=click.Choice([*map(str, Replay)]), help="How often a token counts, and for whom."
            ),
            click.option(
                "--review", metavar="URL", help="Kubernetes: the API server to ask whether a token still counts."
            ),
            click.option("--review-token-file", help="Absolute path of the bearer token that --review is asked with."),
            click.option("--review-ca", help="Absolute path of the authorities (PEM) that alone count for --review."),
            click.option("--no-review", is_flag=True, help="Ask nobody."),
            click.option("--grant-only", is_flag=True, help="Its tokens are no client authentication."),
            click.option("--authentication-only", is_flag=True, help="Its tokens are no grants."),
        )
    ):
        command = option(command)
    return command


def _change(given: dict[str, Any]) -> TrustChange:
    """Of the options that `_options` adds. Raises ConfigError, UsageError."""
    if given["grant_only"] and given["authentication_only"]:
        raise click.UsageError("--grant-only and --authentication-only leave nothing")
    uses = frozenset({Use.GRANT}) if given["grant_only"] else frozenset({Use.AUTHENTICATION})
    return TrustChange(
        source=_source(given),
        algorithms=tuple(dict.fromkeys(ALGORITHM_NAMES[name].name for name in given["alg"])) or UNSET,
        audiences=given["audience"] or UNSET,
        max_lifetime=UNSET if given["max_lifetime"] is None else given["max_lifetime"],
        replay=UNSET if given["replay"] is None else Replay(given["replay"]),
        uses=uses if given["grant_only"] or given["authentication_only"] else UNSET,
        review=_review(given),
    )


def _review(given: dict[str, Any]) -> Review | Unset | None:
    server, token_file, ca = given["review"], given["review_token_file"], given["review_ca"]
    if given["no_review"]:
        if server or token_file or ca:
            raise click.UsageError("--no-review asks nobody: leave the other --review options out")
        return None
    if not server and not token_file and not ca:
        return UNSET
    # No API server takes this question from somebody anonymous, and a half that was forgotten would be a 503 for all.
    if not server or not token_file:
        raise click.UsageError("--review and --review-token-file go together: nobody may ask without a token")
    return Review(server, token_file, ca)


def _source(given: dict[str, Any]) -> Any:
    # Exactly one: of two sets the wider would count, and nobody could say which key came from where.
    sources = [name for name in ("jwks", "jwks_file", "jwks_uri", "discovery") if given[name]]
    if len(sources) > 1:
        raise click.UsageError("give one of --jwks, --jwks-file, --jwks-uri, --discovery")
    if not sources:
        if given["ca"] or given["token_file"]:
            raise click.UsageError("--ca and --token-file go with --jwks-uri")
        return UNSET
    kind = SourceKind(sources[0])
    if kind is SourceKind.COPIED:
        at = _text(given["jwks"])
    else:
        at = "" if kind is SourceKind.DISCOVERY else given[kind.value]
    return KeySource(kind, at, given["ca"], given["token_file"])


def _text(path: Path) -> str:
    """A small file of text. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None


@click.group()
def trust() -> None:
    """Issuers whose tokens are taken: clusters, pipelines, clouds, trust domains."""


@trust.command("add")
@click.argument("name")
@click.option("--issuer", required=True, help="Exactly as iss has it; of a SPIFFE trust spiffe://DOMAIN.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="The platform, whose further checks apply.")
@_options
@click.pass_obj
def add(session: Session, /, name: str, issuer: str, preset: str | None, **given: Any) -> None:
    """Trust an issuer."""
    change = _change(given)
    if change.source is UNSET:
        raise click.UsageError("give one of --jwks, --jwks-file, --jwks-uri, --discovery")
    record = session.operate(lambda operator: operations.add_trust(operator, name, issuer, preset or "", change))
    session.show(record.document(), name)


@trust.command("list")
@click.pass_obj
def list_(session: Session) -> None:
    """List all trusts."""
    session.show_list([one.document() for one in session.operate(operations.list_trusts)], COLUMNS, "name")


@trust.command()
@click.argument("name")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show one trust."""
    record = session.operate(lambda operator: operations.find_trust(operator, name))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@_options
@click.pass_obj
def update(session: Session, /, name: str, **given: Any) -> None:
    """Change a trust; what is not named stays as it is."""
    change = _change(given)
    record = session.operate(lambda operator: operations.update_trust(operator, name, change))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@click.pass_obj
def enable(session: Session, name: str) -> None:
    """Take tokens of this issuer again, from the next request on."""
    record = session.operate(lambda operator: operations.enable_trust(operator, name, enabled=True))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@click.pass_obj
def disable(session: Session, name: str) -> None:
    """Take none from the next request on. Does not ask: it can be undone."""
    record = session.operate(lambda operator: operations.enable_trust(operator, name, enabled=False))
    session.show(record.document(), name)


@trust.command()
@click.argument("name")
@DRY_RUN
@click.pass_obj
def remove(session: Session, name: str, dry_run: bool) -> None:
    """Remove a trust, with all rules about its tokens."""
    plan = session.operate(lambda operator: operations.plan_trust_removal(operator, name))
    if dry_run:
        show_dry_run(session, {"name": name}, plan.losses, changes=True)
    agree(session, f"Remove trust {name}?", plan.losses)
    agreed = None if session.yes else plan.losses
    gone = session.operate(lambda operator: operations.remove_trust(operator, name, agreed=agreed))
    rule_ids = [one.rule.rule_id for one in gone]
    show_done(session, {"name": name, "outcome": "removed", "rules": rule_ids}, name, plan.losses, others=True)


@trust.command()
@click.argument("name")
@click.option("--token", "token_file", required=True, metavar="FILE", help="The token; - reads standard input.")
@click.option("--client", "client_id", help="The client that the request would name.")
@click.pass_obj
def test(session: Session, name: str, token_file: str, client_id: str | None) -> None:
    """Say what would become of a token now, without using it: the client and the rule, or what it lacks."""
    token = (sys.stdin.read(MAX_FILE_BYTES) if token_file == "-" else _text(Path(token_file))).strip()
    record = session.operate(lambda operator: operations.find_trust(operator, name))
    # What is fetched is the servers' business: this host may have no way to it, and should not have the token for it.
    keys = _keys_at_hand(session, record.trust)
    found = session.operate(
        lambda operator: operations.explain_token(operator, name, token, keys, client_id), dated=True
    )
    session.show(found, str(found.get("client_id", found["outcome"])))
    if found["outcome"] != "accepted":
        raise click.exceptions.Exit(Exit.INVALID)


def _keys_at_hand(session: Session, trust: Trust) -> tuple[PublicKey, ...] | None:
    """Copied keys, or those of a file that can be read here; nothing is fetched."""
    if trust.source.kind is SourceKind.COPIED:
        return keys_in(trust.source.at, trust)
    if trust.source.kind is SourceKind.FILE and os.access(trust.source.at, os.R_OK):
        return keys_in(_text(Path(trust.source.at)), trust)
    session.note(f"the keys of {trust.name} are not here ({trust.source.kind}), so the signature is not checked")
    return None
