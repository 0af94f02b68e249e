"""The nouns of a caller: which token is wanted, and the token that came. The token's inside is nobody's business."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from groat.outbound.clocks import Clocks
from groat.protocol.arguments import strings
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import SCOPE_TOKEN

MASK: Final = "***"


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, opaque to us (RFC 9068 6).

    `value` is the secret and appears in neither str() nor repr(). `expires_at`: epoch seconds. `scopes`: sorted names
    of what was granted; what was asked for when the server did not say (RFC 6749 5.1). `type`: how it is presented,
    `Bearer`, or `DPoP` beside a proof (RFC 6749 7.1).
    """

    value: str = field(repr=False)
    expires_at: float
    scopes: tuple[str, ...] = ()
    type: str = "Bearer"

    def __str__(self) -> str:
        return f"Token({MASK}, expires_at={self.expires_at:.0f}, scopes={' '.join(self.scopes)!r})"


@dataclass(frozen=True, slots=True)
class Wish:
    """Which token is wanted: the whole key of the cache, so that tokens never cross.

    `client_id`: empty where the server finds the client by a workload's token. `thumbprint`: of the key that it is to
    be bound to; None for a bearer token. `certificate`: the thumbprint of the one that is shown, if any is.
    """

    issuer: str
    client_id: str
    resource: str | None
    scopes: tuple[str, ...]
    thumbprint: str | None = None
    certificate: str | None = None

    @property
    def scope(self) -> str:
        return " ".join(self.scopes)

    def __str__(self) -> str:
        return f"client={self.client_id or '-'} resource={self.resource or '-'} scope={self.scope or '-'}"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token fresh from the server. `sent_at`: monotonic seconds before its request went out; `lifetime`: seconds."""

    token: Token
    sent_at: float
    lifetime: float

    def age(self, clocks: Clocks) -> float:
        """Seconds since then, by whichever clock says more.

        The monotonic one stands still while the machine sleeps, and the wall clock can be set back.
        """
        return max(clocks.monotonic() - self.sent_at, clocks.now() - (self.token.expires_at - self.lifetime))


def scope_set(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Scopes as a sorted tuple without repeats; a string is read as the wire form. Raises ConfigError."""
    names = scopes.split() if isinstance(scopes, str) else strings("scopes", scopes)
    for name in names:
        if SCOPE_TOKEN.fullmatch(name) is None:
            raise ConfigError(f"{name!r} is not a scope: use printable ASCII without spaces, quotes and backslashes")
    return tuple(sorted(set(names)))
