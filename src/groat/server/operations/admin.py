"""The API of operators themselves: tokens of this server for its own admin API."""

from typing import Final

from groat.protocol.models import Policy
from groat.server.operations.apis import add_api
from groat.server.operations.operator import Operator

ADMIN_API: Final = "groat-admin"
READ_SCOPE, WRITE_SCOPE = "groat:read", "groat:write"


def admin_audience(policy: Policy) -> str:
    """What tokens for the admin API carry as `aud`."""
    return f"{policy.issuer.rstrip('/')}/admin"


async def admin_api_is_there(operator: Operator) -> bool:
    """Register the API unless one of its name or audience is there; returns whether it was made now.

    One that an operator has changed stays as it is. Raises StoreConflict where somebody else is registering it.
    """
    audience = admin_audience(operator.policy)
    if any(api.name == ADMIN_API or api.audience == audience for api in await operator.store.list_apis()):
        return False
    await add_api(operator, ADMIN_API, audience, (READ_SCOPE, WRITE_SCOPE))
    return True
