"""What the store remembers about APIs and clients: plain values, as they were registered."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from groat.protocol.binding import Binding
from groat.protocol.client_settings import DEFAULTS, ClientSettings
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import Trust
from groat.protocol.key_limits import KeyLimits
from groat.protocol.listing import Listing


@dataclass(frozen=True, slots=True)
class ApiRecord:
    """A registered API; `created_at` in epoch seconds, `token_lifetime` in seconds (None: no bound of its own).

    `binding`: what every token for it must be bound to; `status`: whether they stand in a status list.
    """

    name: str
    audience: str
    scopes: tuple[str, ...]
    created_at: int
    token_lifetime: int | None = None
    binding: Binding = Binding.NONE
    status: Listing = Listing.NONE


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """A public key that an API proves with who it is; `jwk` is public, `created_at` in epoch seconds."""

    kid: str
    api: str
    thumbprint: str
    algorithm: str
    jwk: dict[str, Any]
    created_at: int


@dataclass(frozen=True, slots=True)
class ListRecord:
    """A status list of one API. `not_before`: the cut that it was opened under; the instants in epoch seconds."""

    list_id: str
    api: str
    not_before: int
    opened_at: int
    closes_at: int
    ends_at: int


class LeaseWish(NamedTuple):
    """So many places for an API under a cut of it, in the list that is open or in a new one with this id.

    `now`: epoch seconds; `open_for`, `there_for`: of a new list, in seconds.
    """

    api: str
    not_before: int
    size: int
    now: int
    list_id: str
    open_for: int
    there_for: int


class Lease(NamedTuple):
    """Places that nobody else will ever have: from `start` on, until `closes_at` (epoch seconds)."""

    list_id: str
    start: int
    size: int
    closes_at: int


@dataclass(frozen=True, slots=True)
class ClientKeyRecord:
    """One registered public key of a client; `jwk` is public. Instants in epoch seconds.

    `last_used_at`: the last token that was asked for with it, known up to a minute; None: none that anybody noted.
    """

    kid: str
    client_id: str
    thumbprint: str
    algorithm: str
    jwk: dict[str, Any]
    created_at: int
    not_before: int | None = None
    expires_at: int | None = None
    last_used_at: int | None = None

    @property
    def limits(self) -> KeyLimits:
        """From when to when it counts."""
        return KeyLimits(self.not_before, self.expires_at)


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """A registered client without its keys. `allow`: API name to scopes; `created_at` in epoch seconds."""

    client_id: str
    allow: dict[str, tuple[str, ...]]
    created_at: int
    enabled: bool = True
    settings: ClientSettings = DEFAULTS

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it."""
        own = {name: getattr(self, name) for name in ("client_id", "allow", "created_at", "enabled")}
        return own | self.settings.document()


@dataclass(frozen=True, slots=True)
class TrustRecord:
    """A registered trust; `created_at` in epoch seconds."""

    trust: Trust
    created_at: int

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it."""
        return self.trust.document() | {"created_at": self.created_at}


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A rule that makes workloads of a trust a client. `found_by`: what a token that fits it says, or nothing."""

    rule: Rule
    found_by: str
    created_at: int

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it."""
        return self.rule.document() | {"created_at": self.created_at}
