"""An installation without a framework: what needs none works, and the rest says what to install."""

import subprocess
import sys
from typing import Final

import pytest

# Runs in a new interpreter in which these packages cannot be imported, as if they were not installed.
BLOCKED: Final = """
import importlib, sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
try:
    importlib.import_module(sys.argv[1])
except ModuleNotFoundError as error:
    assert error.__suppress_context__ or error.__context__ is None
    print(error)
else:
    print("imported")
"""
MODULES: Final = [  # of ours, the package that each needs, and the extra that brings it
    ("groat.verifier.aiohttp", "aiohttp", "aiohttp"),
    ("groat.verifier.grpc", "grpc", "grpc"),
    ("groat.verifier.mcp", "mcp", "mcp"),
    ("groat.verifier.flask", "flask", "flask"),
    ("groat.client.requests", "requests", "requests"),
    ("groat.client.grpc", "grpc", "grpc"),
]


def imported(module: str, *blocked: str) -> str:
    command = [sys.executable, "-W", "error", "-c", BLOCKED, module, ",".join(blocked)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("module", "package", "extra"), MODULES)
def test_what_to_install(module: str, package: str, extra: str) -> None:
    """The message names the extra, and the error is the kind that importers look for."""
    assert imported(module, package) == f'{module} needs {package}: pip install "groat[{extra}]"'


@pytest.mark.parametrize("module", ["groat.verifier", "groat.client"])
def test_nothing_of_it_is_needed(module: str) -> None:
    """Who has none of the frameworks has all the rest."""
    assert imported(module, *(package for _, package, _ in MODULES)) == "imported"
