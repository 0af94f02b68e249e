"""The one table of operations: it is whole once every module that enters rows was imported, which happens here.

Apart from `operations/__init__.py`, because commands that need one operation must not wait for all of them.
"""

from typing import Final

from groat.server.operations import (
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

ROOMS: Final = (
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

__all__ = ["OPERATIONS", "ROOMS", "Access", "Operation"]
