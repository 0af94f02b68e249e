"""`groat completion`: what a shell has to load so that it completes words."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_GROAT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes words in this shell: eval "$(groat completion bash)" in ~/.bashrc."""
    kind = get_completion_class(shell)
    assert kind is not None
    # Not `source()`, which starts bash to ask for its version: a script is printed on whatever machine.
    script = kind(context.find_root().command, {}, "groat", VARIABLE)
    click.echo(script.source_template % script.source_vars())
