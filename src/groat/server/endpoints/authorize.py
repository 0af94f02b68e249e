"""`/authorize`: where others have people sign in, and here nothing begins.

The metadata name it only because readers of metadata demand it (docs/decisions/0054-compatible-metadata.md). Whoever
comes here was sent by a library that takes this server for one where people sign in, and is told so in its own words.
"""

from dataclasses import dataclass
from typing import Self

from starlette.types import Receive, Scope, Send

from groat.protocol.errors import UnsupportedResponseType
from groat.server.endpoints.parts import Parts


@dataclass(frozen=True, slots=True)
class AuthorizeEndpoint:
    """Refuses every request, unread: its query and its body are nobody's business, and are in no log line.

    Nobody is redirected: no redirect URI is registered here, so each that a request names is a stranger's
    (RFC 6749 3.1.2.4).
    """

    @classmethod
    def of(cls, parts: Parts) -> Self:
        return cls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise UnsupportedResponseType("response_type", "nobody signs in here: the caller wants another flow or server")
