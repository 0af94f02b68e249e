"""The one table of operations: it is whole once every module that enters rows was imported, which happens here.

Apart from `operations/__init__.py`, because commands that need one operation must not wait for all of them.
"""

import sys
from typing import Final

from groat.server.operations import (  # noqa: F401 - for the rows that they enter
    api_keys,
    apis,
    audit,
    client_keys,
    client_lists,
    clients,
    desired,
    first_start,
    refusals,
    revocations,
    signing_keys,
    store,
    trust_rules,
    trusts,
)
from groat.server.operations.operation import OPERATIONS, Access, Operation

ROOMS: Final = tuple(sys.modules[name] for name in sorted({row.call.__module__ for row in OPERATIONS.values()}))

__all__ = ["OPERATIONS", "ROOMS", "Access", "Operation"]
