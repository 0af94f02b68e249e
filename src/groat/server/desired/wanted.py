"""What files want to be registered, each piece read and judged; how they fit together is the operations' to say.

The form of an object is its plain document: what its file may say, without what has its default, in one order. What is
registered has the same form (`forms`), so that two of them are equal where nothing is to be changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol.binding import Binding
from groat.protocol.client_settings import ClientSettings
from groat.protocol.errors import Finding
from groat.protocol.federation.claim_paths import ClaimPath
from groat.protocol.federation.conditions import Condition
from groat.protocol.jwk import PublicKey
from groat.protocol.key_limits import KeyLimits
from groat.protocol.listing import Listing
from groat.server.desired.places import Place

API, CLIENT, TRUST = "api", "client", "trust"
KINDS: Final[Mapping[str, str]] = {"apis": API, "clients": CLIENT, "trusts": TRUST}  # by the table of the files


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A public key of a client or an API; of a client's, from when to when it counts."""

    key: PublicKey
    limits: KeyLimits
    place: Place


@dataclass(frozen=True, slots=True)
class WantedApi:
    """The fields of an `ApiRecord` that an operator chooses. `keys`: None where its file says nothing of them."""

    name: str
    place: Place
    audience: str
    scopes: tuple[str, ...]
    token_lifetime: int | None = None
    binding: Binding = Binding.NONE
    status: Listing = Listing.NONE
    keys: tuple[WantedKey, ...] | None = None


@dataclass(frozen=True, slots=True)
class WantedRule:
    """Which workloads of a trust are the client. It has no name: one that says the same is the same."""

    trust: str
    conditions: tuple[Condition, ...]
    copied: tuple[ClaimPath, ...]
    allows: frozenset[str]
    place: Place


@dataclass(frozen=True, slots=True)
class WantedClient:
    """None is what its file says nothing of: keys then come and go by enrolment, and `enabled` stays as it is."""

    client_id: str
    place: Place
    allow: Mapping[str, tuple[str, ...]]
    settings: ClientSettings
    keys: tuple[WantedKey, ...] | None
    rules: tuple[WantedRule, ...]
    enabled: bool | None = None

    @property
    def runs(self) -> bool:
        """What a new one would be."""
        return self.enabled is not False


@dataclass(frozen=True, slots=True)
class WantedTrust:
    """`given`: the fields of a `TrustChange` that its file says something of; of the rest the preset decides.

    `enabled`: as of a client.
    """

    name: str
    place: Place
    issuer: str
    preset: str
    given: Mapping[str, Any]
    enabled: bool | None = None

    @property
    def runs(self) -> bool:
        """What a new one would be."""
        return self.enabled is not False


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that the files say, by name. `findings`: what is wrong with them; `broken`: the objects that are not here."""

    apis: Mapping[str, WantedApi] = field(default_factory=dict)
    clients: Mapping[str, WantedClient] = field(default_factory=dict)
    trusts: Mapping[str, WantedTrust] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    broken: frozenset[tuple[str, str]] = frozenset()

    def place(self, kind: str, name: str) -> Place | None:
        """Where an object stands; None where the files do not have it."""
        tables: Mapping[str, Mapping[str, WantedApi | WantedClient | WantedTrust]] = {
            API: self.apis, CLIENT: self.clients, TRUST: self.trusts,
        }  # fmt: skip
        found = tables[kind].get(name)
        return found.place if found else None
