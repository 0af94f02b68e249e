"""`groat guard`: what stands beside a proxy, before an API that knows nothing of tokens."""

import click

from groat.cli.session import Session

PROXIES = ("nginx", "caddy", "traefik", "envoy")


@click.group()
def guard() -> None:
    """Answer a proxy's question whether a caller may pass."""


@guard.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3003, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option("--proxy", type=click.Choice(PROXIES), help="Who asks; its headers name the caller's request.")
@click.option(
    "--certificates",
    multiple=True,
    metavar="NETWORK",
    help="Where --proxy asks from: it writes callers' certificates into its header. May be repeated.",
)
@click.option("--scope", "scopes", multiple=True, help="A scope of the API, for its metadata. May be repeated.")
@click.option("--cache", default=10_000, show_default=True, type=click.IntRange(0, 1_000_000),
              help="Proven tokens to remember; 0 for none.")  # fmt: skip
@click.pass_obj
def serve(session: Session, host: str, port: int, proxy: str | None, certificates: tuple[str, ...],
          scopes: tuple[str, ...], cache: int) -> None:  # fmt: skip
    """Run the guard. GROAT_ISSUER and GROAT_AUDIENCE say whose tokens it accepts, and for which API.

    The proxy asks /forward-auth?scope=SCOPE: 204 with X-Groat-Client, X-Groat-Subject, X-Groat-Scopes and
    X-Groat-Expires lets the caller pass; 401 and 403 come with their challenge, 503 while there are no keys.
    """
    from groat.guard.running import GuardOptions, run_guard

    run_guard(GuardOptions(host, port, proxy or "", scopes, cache, session.verbose, certificates))
