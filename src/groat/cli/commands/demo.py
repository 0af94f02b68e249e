"""`groat demo`: all four roles on loopback."""

import click

from groat.cli.session import Session


@click.command()
@click.option("--keep", is_flag=True, help="Leave the servers running and print lines for curl.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per step.")
@click.option("--workload", is_flag=True, help="Show workloads without a key: a pod and a CI job, by stand-ins.")
@click.pass_obj
def demo(session: Session, keep: bool, as_json: bool, workload: bool) -> None:
    """Run all four roles for real, on loopback, with throw-away keys."""
    if keep and workload:
        raise click.UsageError("--keep is for the demo without --workload, which ends by itself")
    from groat.demo import run_demo

    as_json = as_json or session.as_json
    raise click.exceptions.Exit(run_demo(keep=keep, as_json=as_json, color=session.color, workload=workload))
