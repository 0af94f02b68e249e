"""A toy grant: a voucher, in place of a scope, says how many seconds the client may write orders."""

from groat.protocol.errors import InvalidScope
from groat.protocol.grants import GrantType
from groat.protocol.models import AuthenticatedClient, Grant, Policy, TokenRequest

NAME = "urn:example:grant:voucher"


def decide(request: TokenRequest, client: AuthenticatedClient, policy: Policy) -> Grant:
    """Nothing is remembered: two vouchers differ."""
    seconds = request.parameters.get("voucher", "")
    if not seconds.isdigit():
        raise InvalidScope("scope", "a voucher is a number of seconds")
    (permission,) = client.client.permissions
    return Grant(client.client.client_id, permission.api, ("orders:write",), int(seconds))


ROW = GrantType(NAME, ("voucher",), decide)
