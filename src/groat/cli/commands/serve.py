"""`groat serve`: run the authorization server."""

import click

from groat.cli.session import Session


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes.")
@click.option("--dev", is_flag=True, help="Pretty log lines, in detail.")
@click.pass_obj
def serve(session: Session, host: str | None, port: int | None, workers: int | None, dev: bool) -> None:
    """Run the authorization server."""
    from groat.serving.workers import run_server

    flags = {"server.host": host, "server.port": port, "server.workers": workers}
    if dev:
        flags |= {"log.level": "debug", "log.format": "pretty"}
    config = session.config(flags)
    run_server(config, session.config_file, {name: value for name, value in flags.items() if value is not None})
