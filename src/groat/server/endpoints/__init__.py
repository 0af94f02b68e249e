"""What is served: a module for each endpoint or each few of a kind, and a row for each in one of these tables."""

from typing import Final

from groat.protocol.metadata import (
    JWKS_PATH,
    compatible_members,
    introspection_members,
    metadata_paths,
    revocation_members,
    token_members,
)
from groat.protocol.revocation_feed import MEMBER as FEED
from groat.protocol.status_list import AGGREGATION
from groat.server.endpoints.authorize import AuthorizeEndpoint
from groat.server.endpoints.client_keys import COUNTER as CLIENT_KEY_REQUESTS
from groat.server.endpoints.client_keys import EnrolmentEndpoint
from groat.server.endpoints.discovery import JwksEndpoint, MetadataEndpoint
from groat.server.endpoints.health import LiveEndpoint, ReadyEndpoint
from groat.server.endpoints.introspect import COUNTER as INTROSPECTIONS
from groat.server.endpoints.introspect import IntrospectionEndpoint
from groat.server.endpoints.metrics import MetricsEndpoint
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.revocations import RevocationsEndpoint
from groat.server.endpoints.revoke import COUNTER as REVOCATIONS
from groat.server.endpoints.revoke import RevocationEndpoint
from groat.server.endpoints.status_lists import AggregationEndpoint, StatusListEndpoint
from groat.server.endpoints.token import TokenEndpoint
from groat.server.http.routes import ANY, POST, READ, Route, at, below
from groat.server.log.tally import TOKEN_REQUESTS, Ledger

_TOKEN: Final = Ledger("token", "token.refused", TOKEN_REQUESTS, "Requests answered, by OAuth error code", timed=True)
_CLIENT_KEYS: Final = Ledger(
    "client-keys", "client.key_refused", CLIENT_KEY_REQUESTS, "Requests of clients to register a key"
)
_INTROSPECTION: Final = Ledger(
    "introspect", "token.introspection_refused", INTROSPECTIONS, "Questions about tokens, by what was said"
)
_REVOCATION: Final = Ledger("revoke", "token.revocation_refused", REVOCATIONS, "Tokens that clients took back")
ADMIN: Final = Ledger("admin")

ROUTES: Final[tuple[Route[Parts], ...]] = (
    Route(
        below("/token"), POST, TokenEndpoint.of, _TOKEN,
        member="token_endpoint", says=token_members, asks_who=True,
    ),
    Route(
        below("/authorize"), ANY, AuthorizeEndpoint.of, Ledger("authorize"),
        member="authorization_endpoint", says=compatible_members, when=lambda policy: policy.compatible,
    ),
    Route(
        below("/introspect"), POST, IntrospectionEndpoint.of, _INTROSPECTION,
        member="introspection_endpoint", says=introspection_members, asks_who=True,
    ),
    Route(below("/revoke"), POST, RevocationEndpoint.of, _REVOCATION,
        member="revocation_endpoint", says=revocation_members, asks_who=True,
    ),
    Route(below("/revocations"), READ, RevocationsEndpoint.of, Ledger("revocations"), member=FEED),
    Route(below("/status"), READ, AggregationEndpoint.of, Ledger("status"), member=AGGREGATION),
    Route(below("/client-keys"), POST, EnrolmentEndpoint.of, _CLIENT_KEYS),
    Route(below(JWKS_PATH), READ, JwksEndpoint.of, Ledger("jwks"), member="jwks_uri"),
    Route(metadata_paths, READ, lambda parts: MetadataEndpoint.of(parts, ROUTES), Ledger("metadata")),
    Route(at("/health", "/livez"), READ, LiveEndpoint.of, Ledger("health")),
    Route(at("/readyz"), READ, ReadyEndpoint.of, Ledger("health")),
)  # fmt: skip
LISTS: Final[Route[Parts]] = Route(below("/status/"), READ, StatusListEndpoint.of, Ledger("status"))
# At the admin listener; each answers its own host alone.
ADMIN_ROUTES: Final[tuple[Route[Parts], ...]] = (Route(at("/metrics"), READ, MetricsEndpoint.of, ADMIN),)
