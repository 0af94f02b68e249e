"""A toy method of client authentication: no JWT, no registered key, nothing to use up. Whoever can reverse may pass."""

import hmac

from groat.protocol.client_auth import Method
from groat.protocol.errors import InvalidClient
from groat.protocol.models import AuthenticatedClient, Client, ClientRequest, Credential, Policy
from groat.protocol.passing import passing

NAME = "ticket"


@passing()
class Ticket(Credential):
    """The client_id backwards."""

    text: str


def read(request: ClientRequest) -> Ticket:
    return Ticket(NAME, request.client_id or "", request.credentials["ticket"])


def prove(credential: Ticket, client: Client | None, policy: Policy, now: float) -> AuthenticatedClient:
    """Does not look whether the client is enabled: nobody has to think of it."""
    good = hmac.compare_digest(credential.text, credential.client_id[::-1])
    if client is None or not good:
        raise InvalidClient("client_unknown", "no such ticket")
    return AuthenticatedClient(client, NAME, advice="a ticket is no secret")


ROW = Method(NAME, ("ticket",), read, prove)
