"""`groat config`: look at the settings."""

from typing import Any

import click

from groat.cli.session import Exit, Session
from groat.server.settings.readers import length


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command("check")
@click.pass_obj
def config_check(session: Session) -> None:
    """Read everything that a start would read, look at the key ring, and say what is wrong."""
    import asyncio

    import groat.app  # noqa: F401 - what would serve: a package that is missing is found now
    from groat.server.settings.config import plain_http_warning
    from groat.serving.preflight import check_ready, ring_findings

    loaded = session.config()
    if warning := plain_http_warning(loaded):
        session.note(f"warning: {warning}")
    asyncio.run(check_ready(loaded))
    findings = asyncio.run(ring_findings(loaded))
    for finding in findings:
        session.note(f"key ring: {finding}")
    outcome = "unsafe key ring" if findings else "ok"
    session.show({"config": str(session.config_file), "outcome": outcome}, outcome)
    if findings:
        raise click.exceptions.Exit(Exit.CHECK_FAILED)


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.pass_obj
def config_show(session: Session, origin: bool) -> None:
    """Print the settings in force; passwords are masked."""
    loaded = session.config()
    values = loaded.shown() if session.as_json else {n: _for_people(n, v) for n, v in loaded.shown().items()}
    if not origin:
        session.show(values, loaded.policy.issuer)
        return
    rows = [{"name": n, "value": v, "origin": loaded.origins[n]} for n, v in values.items()]
    session.show_list(rows, ("name", "value", "origin"), "name")


def _for_people(name: str, value: Any) -> Any:
    """Spans as they stand in the file."""
    from groat.server.settings.readers import duration
    from groat.server.settings.table import BY_NAME

    return length(value) if BY_NAME[name].read is duration else value


@config.command("schema")
@click.pass_obj
def config_schema(session: Session) -> None:
    """Print every setting with its environment variable, default and purpose."""
    from groat.server.settings.sample import settings_schema

    session.show_list(settings_schema(), ("name", "env", "default", "reload", "about"), "name")
