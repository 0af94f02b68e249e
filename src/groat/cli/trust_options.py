"""The options that say what a trust is, for a new one and for a change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from groat.cli.instants import span_of_time
from groat.protocol.errors import ConfigError
from groat.protocol.federation.trust import KeySource, Replay, Review, SourceKind, Use
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.unset import UNSET, Unset
from groat.server.operations.trusts import TrustChange

# More than any set or token has: a path that was mixed up must not be read to its end.
MAX_FILE_BYTES: Final = 256 * 1024
_FILE = click.Path(path_type=Path)


def trust_options(command: Callable[..., None]) -> Callable[..., None]:
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


def trust_change(given: dict[str, Any]) -> TrustChange:
    """Of the options that `trust_options` adds. Raises ConfigError, UsageError."""
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
    """None: nobody is asked from now on. Raises ConfigError, UsageError."""
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
    """A KeySource, or UNSET where nothing was said of the keys. Raises ConfigError, UsageError."""
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
        at = text_of(given["jwks"])
    else:
        at = "" if kind is SourceKind.DISCOVERY else given[kind.value]
    return KeySource(kind, at, given["ca"], given["token_file"])


def text_of(path: Path) -> str:
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
