"""What an operator may do: the one list. Every face (command line, later the admin API) calls these.

Each operation checks its input, changes the store in one transaction and writes its own audit line; the servers see
the change on their next request. Raises ConfigError for input that cannot be right, StoreConflict for what collides,
NotRegistered for what is not there, StoreUnavailable when the store cannot answer.
"""

from groat.server.operations.apis import (
    ApiWish,
    add_api,
    describe_api,
    find_api,
    list_apis,
    plan_api_removal,
    plan_api_update,
    remove_api,
    update_api,
)
from groat.server.operations.client_keys import (
    add_client_keys,
    enrol_client_key,
    list_all_client_keys,
    list_client_keys,
    plan_client_key_removal,
    remove_client_key,
    retire_client_key,
    update_client_key,
)
from groat.server.operations.client_lists import ClientFilter, list_clients
from groat.server.operations.clients import (
    add_client,
    enable_client,
    find_client,
    invite_client,
    plan_client_end,
    plan_client_update,
    remove_client,
    update_client,
)
from groat.server.operations.operator import NotRegistered, Operator
from groat.server.operations.signing_keys import (
    Ring,
    activate_signing_key,
    first_signing_key,
    list_signing_keys,
    plan_signing_key_end,
    prepare_signing_key,
    reseal_signing_keys,
    retire_signing_key,
    revoke_signing_key,
    rotate_signing_key,
)

__all__ = [
    "ApiWish",
    "ClientFilter",
    "NotRegistered",
    "Operator",
    "Ring",
    "activate_signing_key",
    "add_api",
    "add_client",
    "add_client_keys",
    "describe_api",
    "enable_client",
    "enrol_client_key",
    "find_api",
    "find_client",
    "first_signing_key",
    "invite_client",
    "list_all_client_keys",
    "list_apis",
    "list_client_keys",
    "list_clients",
    "list_signing_keys",
    "plan_api_removal",
    "plan_api_update",
    "plan_client_end",
    "plan_client_key_removal",
    "plan_client_update",
    "plan_signing_key_end",
    "prepare_signing_key",
    "remove_api",
    "remove_client",
    "remove_client_key",
    "reseal_signing_keys",
    "retire_client_key",
    "retire_signing_key",
    "revoke_signing_key",
    "rotate_signing_key",
    "update_api",
    "update_client",
    "update_client_key",
]
