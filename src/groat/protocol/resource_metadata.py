"""Protected resource metadata (RFC 9728): what an API says of itself, and where that is read."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.arguments import one_string
from groat.protocol.errors import ConfigError
from groat.protocol.proof_rules import PROOF_ALGORITHMS
from groat.protocol.uris import LOOPBACK_HOSTS, split

RESOURCE_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class ResourceDescription:
    """What people read of an API: its name, and the URL of a page for developers. Raises ConfigError."""

    name: str = ""
    documentation: str = ""

    def __post_init__(self) -> None:
        one_string("the name of a resource", self.name)
        parts = split(one_string("the documentation of a resource", self.documentation))
        if self.documentation and (parts is None or parts.scheme not in ("https", "http") or not parts.hostname):
            raise ConfigError("the documentation of a resource must be an https URL")


@dataclass(frozen=True, slots=True)
class ProofsTaken:
    """What an API does with tokens that are bound: algorithms of proofs, and whether all tokens must come with one.

    `certificates`: whether it has the certificates of its callers (RFC 8705 3). The default is what a verifier does of
    which nothing else is said: it knows of certificates once its server, or a proxy, tells it.
    """

    algorithms: Collection[str] = PROOF_ALGORITHMS
    required: bool = False
    certificates: bool = False


def resource_metadata_url(resource: str) -> str | None:
    """Where the metadata of this resource is read (RFC 9728 3.1); None for what is no https URL, and so has none.

    The well-known path stands between host and path; a final slash of the identifier is dropped before that. Plain
    http is for loopback alone.
    """
    parts = split(resource)
    if parts is None or not parts.hostname or "#" in resource or parts.username is not None:
        return None
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        return None
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{RESOURCE_WELL_KNOWN}{parts.path.rstrip('/')}{query}"


def resource_metadata_path(resource: str) -> str | None:
    """The path of that URL, as a request names it."""
    url = resource_metadata_url(resource)
    parts = None if url is None else split(url)
    return None if parts is None else parts.path


def resource_metadata(
    resource: str,
    issuers: Sequence[str],
    scopes: Iterable[str] = (),
    description: ResourceDescription | None = None,
    proofs: ProofsTaken = ProofsTaken(),
) -> dict[str, Any]:
    """The document (RFC 9728 2). `scopes`: those that the API knows; no empty array is written (3.2).

    Not in it: what groat's verifiers do not do (signed requests), and signed metadata.
    """
    document: dict[str, Any] = {"resource": resource, "authorization_servers": list(issuers)}
    if listed := sorted(set(scopes)):
        document["scopes_supported"] = listed
    document["bearer_methods_supported"] = ["header"]
    if proofs.algorithms:
        document["dpop_signing_alg_values_supported"] = sorted(proofs.algorithms)
    if proofs.certificates:
        document["tls_client_certificate_bound_access_tokens"] = True
    if proofs.required:
        document["dpop_bound_access_tokens_required"] = True
    if description is not None and description.name:
        document["resource_name"] = description.name
    if description is not None and description.documentation:
        document["resource_documentation"] = description.documentation
    return document
