"""One program for each framework: `python -m tests.verifier.frameworks.apps.NAME PORT [PREFIX]`.

It serves, until it is ended, with the verifier of `verifier()`:

    /health      to anybody, 200
    /protected   to who has the scope orders:write, for every method: 200 and {"client": "billing"}
    /whoami      to any caller: 200 and {"client": ..., "scopes": [...]}

all of it below PREFIX where one is given, as the framework mounts an application (root_path, SCRIPT_NAME). `SERVER`
names the server that it runs in.
"""

import os
import sys
from typing import Final

from groat.verifier import ResourceDescription, Verifier

SCOPES: Final = {"orders:read": "Read orders", "orders:write": "Change orders"}


def verifier() -> Verifier:
    """Trusts the issuers of ISSUERS, the last of which is out of reach."""
    issuers = os.environ["ISSUERS"].split(",")
    return Verifier(None, os.environ["AUDIENCE"], issuers=issuers, description=ResourceDescription("Orders"))


def port() -> int:
    return int(sys.argv[1])


def prefix() -> str:
    """The prefix, empty or such as /base."""
    return sys.argv[2] if len(sys.argv) > 2 else ""
