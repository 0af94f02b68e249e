"""groat for a caller: tokens for a machine, ready for httpx2 and httpx.

client = MachineClient(issuer="https://auth.example.com", client_id="billing", key="billing.key.json")
api = httpx2.Client(auth=client.auth(resource="https://orders.example.com", scopes=["orders:read"]))
"""

from groat.client.api_metadata import ApiMetadata
from groat.client.assertion import Signer, private_key_from_text
from groat.client.challenge import raise_for_scope
from groat.client.errors import (
    ClientClosed,
    ClientError,
    EnvironmentUnusable,
    HttpClientMissing,
    InsufficientScope,
    IssuerNotTrusted,
    KeyUnusable,
    MetadataInvalid,
    OriginNotAllowed,
    ScopeNarrowed,
    ServerUnreachable,
    TokenRequestRefused,
    TokenResponseInvalid,
)
from groat.client.key_file import KeyFile
from groat.client.machine_client import MachineClient
from groat.client.retry import RefreshPolicy, RetryPolicy
from groat.client.token import Token
from groat.client.workload import WorkloadIdentity
from groat.outbound.clocks import Clocks

__all__ = [
    "ApiMetadata",
    "ClientClosed",
    "ClientError",
    "Clocks",
    "EnvironmentUnusable",
    "HttpClientMissing",
    "InsufficientScope",
    "IssuerNotTrusted",
    "KeyFile",
    "KeyUnusable",
    "MachineClient",
    "MetadataInvalid",
    "OriginNotAllowed",
    "RefreshPolicy",
    "RetryPolicy",
    "ScopeNarrowed",
    "ServerUnreachable",
    "Signer",
    "Token",
    "TokenRequestRefused",
    "TokenResponseInvalid",
    "WorkloadIdentity",
    "private_key_from_text",
    "raise_for_scope",
]
