"""`groat diff`: the registry beside files, nothing changed."""

from groat.cli.commands.apply import diff as diff
