"""Whether a client that has proven who it is counts at all."""

from groat.protocol.errors import InvalidClient
from groat.protocol.models import Client
from groat.protocol.shell import command


def disabled(client: Client) -> InvalidClient:
    """The refusal of a client that is switched off."""
    return InvalidClient("client_disabled", command("client enable", client.client_id))
