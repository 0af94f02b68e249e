"""What endpoints are made of."""

from dataclasses import dataclass

from groat.keys.invitation import Invitations
from groat.protocol.dpop_nonce import Nonces
from groat.server.endpoints.asking import Asking
from groat.server.endpoints.exposition import Metrics
from groat.server.endpoints.feed import Feed
from groat.server.endpoints.places import Places
from groat.server.endpoints.statuses import StatusLists
from groat.server.log.audit import Audit
from groat.server.operations.operator import Operator
from groat.server.registry.health import Health
from groat.server.settings.slices import Revocation
from groat.server.store.trusted_time import TrustedTime
from groat.server.turns import Turns


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a process that some endpoint needs; each takes its own in `of`.

    Spans in seconds, those of the start: the rotation counts on `jwks_max_age` for as long as a process runs. What a
    reload may change comes with each request (`InForce`). `asking`: clients; `apis_asking`: APIs, about tokens.
    """

    asking: Asking
    apis_asking: Asking
    audit: Audit
    operator: Operator
    invitations: Invitations
    nonces: Nonces
    health: Health
    metrics: Metrics
    time: TrustedTime
    turns: Turns
    feed: Feed
    revocation: Revocation
    lists: StatusLists
    places: Places
    jwks_max_age: int
    key_lifetime: int
    key_warning: int
