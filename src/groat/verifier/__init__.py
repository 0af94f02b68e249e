"""For an API: who is calling, and may they?

    from groat.verifier import Verifier

    verifier = Verifier(issuer="https://auth.example.com", audience="https://orders.example.com")
    caller = verifier.verify(token, scopes=["orders:read"])

Adapters around it: `asgi`, `fastapi`, `flask`, `django`, `drf`, `aiohttp`, `grpc`, `mcp`; for a framework of your own,
`ProtectedResource` is what they all ask. `groat.verifier.presets` has other servers as issuers to trust.
"""

from groat.outbound.clocks import Clocks
from groat.protocol.access_token import RFC9068, AnyOf, Caller, Dialect, any_of
from groat.protocol.binding import Confirmation
from groat.protocol.errors import (
    ConfigError,
    InsufficientScope,
    InvalidBearerRequest,
    InvalidProof,
    InvalidToken,
    KeysUnavailable,
    MissingToken,
    ProofNonceRequired,
    ProofsUnavailable,
    StatusUnavailable,
    VerificationError,
)
from groat.protocol.resource_metadata import ResourceDescription
from groat.verifier.answers import Answer, refusal
from groat.verifier.bearer import bearer_token
from groat.verifier.certificates import Certificates, Connection
from groat.verifier.keys.fetch import Response
from groat.verifier.observer import Observer
from groat.verifier.possession import Dpop
from groat.verifier.protected_resource import ApiRequest, ProtectedResource
from groat.verifier.replay import ReplayStore
from groat.verifier.status.revocation import Revocation
from groat.verifier.verifier import TrustedIssuer, Verifier

__all__ = [
    "RFC9068",
    "Answer",
    "AnyOf",
    "ApiRequest",
    "Caller",
    "Certificates",
    "Clocks",
    "ConfigError",
    "Confirmation",
    "Connection",
    "Dialect",
    "Dpop",
    "InsufficientScope",
    "InvalidBearerRequest",
    "InvalidProof",
    "InvalidToken",
    "KeysUnavailable",
    "MissingToken",
    "Observer",
    "ProofNonceRequired",
    "ProofsUnavailable",
    "ProtectedResource",
    "ReplayStore",
    "ResourceDescription",
    "Response",
    "Revocation",
    "StatusUnavailable",
    "TrustedIssuer",
    "VerificationError",
    "Verifier",
    "any_of",
    "bearer_token",
    "refusal",
]
