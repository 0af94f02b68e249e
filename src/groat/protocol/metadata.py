"""Authorization server metadata (RFC 8414): computed from the tables, so that it cannot lie; and how to read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from groat.protocol import client_auth, grants
from groat.protocol.client_auth import private_key_jwt, tls_certificate
from groat.protocol.differences import mismatch
from groat.protocol.errors import ConfigError
from groat.protocol.federation.spiffe import SPIFFE
from groat.protocol.federation.trust import Trust, Use
from groat.protocol.grants import jwt_bearer
from groat.protocol.models import Policy
from groat.protocol.resource_metadata import resource_metadata_url
from groat.protocol.uris import check_endpoint

WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
OPENID_WELL_KNOWN: Final = "/.well-known/openid-configuration"
JWKS_PATH: Final = "/.well-known/jwks.json"
_BY_CERTIFICATE: Final = frozenset({tls_certificate.NAME, tls_certificate.SELF_SIGNED})
_ASKED_ABOUT_TOKENS: Final = ("introspection_endpoint", "groat_revocations_endpoint")
_GRANTS: Final = "grant_types_supported"
_METHODS: Final = "token_endpoint_auth_methods_supported"


def server_metadata(
    policy: Policy,
    scopes: Iterable[str],
    endpoints: Mapping[str, Any],
    algorithms: Iterable[str] = (),
    audiences: Iterable[str] = (),
    trusts: Iterable[Trust] = (),
) -> dict[str, Any]:
    """The metadata document (RFC 8414 2). `scopes`: every scope of every API; no empty array is written (3.2), but one.

    `endpoints`: what follows from the table of those that are served. `algorithms`: of the published keys.
    `audiences`: of all APIs; those that can have metadata of their own are listed where the policy wants that.
    `trusts`: issuers whose tokens are taken, without which that grant is not there.
    """
    document: dict[str, Any] = {"issuer": policy.issuer, **endpoints, **_federation(endpoints, trusts)}
    if policy.compatible and (signing := sorted(set(algorithms))):
        document["id_token_signing_alg_values_supported"] = signing
    listed = sorted(set(scopes))
    if listed:
        document["scopes_supported"] = listed
    described = sorted(one for one in audiences if resource_metadata_url(one) is not None)
    if policy.protected_resources and described:
        document["protected_resources"] = described
    return document


def _federation(endpoints: Mapping[str, Any], trusts: Iterable[Trust]) -> dict[str, Any]:
    """What trusts change of the token endpoint's members: without one there is no such grant (AS-JB-15)."""
    if _GRANTS not in endpoints:
        return {}
    counting = [trust for trust in trusts if trust.enabled]
    by_grant = any(Use.GRANT in trust.uses for trust in counting)
    by_svid = any(trust.preset == SPIFFE.name and Use.AUTHENTICATION in trust.uses for trust in counting)
    kinds = [name for name in endpoints[_GRANTS] if by_grant or name != jwt_bearer.NAME]
    methods = [*endpoints[_METHODS], *(["spiffe_jwt"] if by_svid else []), *(["none"] if by_grant else [])]
    return {_GRANTS: kinds, _METHODS: methods}


def token_members(policy: Policy) -> dict[str, Any]:
    """What there is to say of the token endpoint besides where it is: what the two tables hold, and the algorithms."""
    algorithms = sorted(policy.algorithms)
    algorithms.append("EdDSA")  # the older name of Ed25519, which every profile has
    proofs = sorted(policy.proofs.algorithms)
    bound = {"tls_client_certificate_bound_access_tokens": True} if policy.certificates else {}  # RFC 8705 3.3
    return {
        **bound,
        _GRANTS: list(grants.GRANTS),
        _METHODS: [name for name in _methods() if policy.certificates or name not in _BY_CERTIFICATE],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": [*proofs, "EdDSA"] if "Ed25519" in proofs else proofs,
    }


def _methods() -> list[str]:
    rows = client_auth.CLIENT_AUTH_METHODS.values()
    return [name for row in rows for name in (row.name, row.also) if name]


def introspection_members(policy: Policy) -> dict[str, Any]:
    """What there is to say of introspection (RFC 8414 2): who asks proves it by a key, and answers come signed, too."""
    return {f"introspection_endpoint_auth_{what}": value for what, value in _by_key(policy).items()}


def revocation_members(policy: Policy) -> dict[str, Any]:
    """The same of revocation, where clients authenticate as they do for a token."""
    methods = {"methods_supported": token_members(policy)[_METHODS]}
    return {f"revocation_endpoint_auth_{what}": value for what, value in (_by_key(policy) | methods).items()}


def _by_key(policy: Policy) -> dict[str, Any]:
    algorithms = [*sorted(policy.algorithms), "EdDSA"]
    return {"methods_supported": [private_key_jwt.NAME], "signing_alg_values_supported": algorithms}


def compatible_members(policy: Policy) -> dict[str, Any]:
    """What readers demand that are made for people who sign in, besides where that would begin.

    The list of response types is required (RFC 8414 2) and has to be empty: there is none. Leaving it out (3.2) has
    whole families of clients refuse the document (docs/decisions/0054-compatible-metadata.md).
    """
    return {"response_types_supported": [], "subject_types_supported": ["public"]}


def issuer_path(issuer: str) -> str:
    """The path of an issuer without its final slash; empty for a bare host (RFC 8414 3.1)."""
    return urlsplit(issuer).path.rstrip("/")


def metadata_paths(issuer: str) -> tuple[str, ...]:
    """Where the document is served: between host and issuer path (RFC 8414 3.1), and where OpenID readers look."""
    path = issuer_path(issuer)
    return tuple(dict.fromkeys((WELL_KNOWN + path, path + OPENID_WELL_KNOWN, OPENID_WELL_KNOWN + path)))


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """The URLs at which a reader may find an issuer's metadata, best first."""
    parts = urlsplit(issuer)
    origin = f"{parts.scheme}://{parts.netloc}"
    path = issuer_path(issuer)
    return (origin + WELL_KNOWN + path, origin + path + OPENID_WELL_KNOWN)


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """The part of a foreign metadata document that we act on; URLs are https or loopback http."""

    issuer: str
    token_endpoint: str | None
    jwks_uri: str | None
    auth_methods: tuple[str, ...]
    auth_signing_algs: tuple[str, ...]
    mtls_token_endpoint: str | None = None  # RFC 8705 5: where it asks for certificates
    # As they stand there: whoever goes to one checks it, and it keeps nobody else from the rest of the document.
    introspection_endpoint: str | None = None
    revocations_endpoint: str | None = None


def check_metadata(document: Mapping[str, Any], issuer: str, allow_http_hosts: Iterable[str] = ()) -> ServerMetadata:
    """Accept a metadata document only if it speaks for exactly this issuer (RFC 8414 3.3). Null is absent.

    Raises ConfigError: another issuer, an endpoint that is no https URL, members of the wrong type.
    """
    if document.get("issuer") != issuer:
        why = mismatch("issuer", document.get("issuer"), issuer)
        raise ConfigError(f"the metadata document names another issuer, nothing of it is used: {why}")
    hosts = frozenset(allow_http_hosts)
    return ServerMetadata(
        issuer,
        _endpoint(document, "token_endpoint", hosts),
        _endpoint(document, "jwks_uri", hosts),
        _strings(document, "token_endpoint_auth_methods_supported"),
        _strings(document, "token_endpoint_auth_signing_alg_values_supported"),
        _endpoint(_aliases(document), "token_endpoint", hosts),
        *(value if isinstance(value := document.get(name), str) else None for name in _ASKED_ABOUT_TOKENS),
    )


def _aliases(document: Mapping[str, Any]) -> Mapping[str, Any]:
    aliases = document.get("mtls_endpoint_aliases")
    if not isinstance(aliases, dict | None):
        raise ConfigError("metadata member mtls_endpoint_aliases is not an object")
    return aliases or {}


def _endpoint(document: Mapping[str, Any], name: str, hosts: frozenset[str]) -> str | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"metadata member {name} is not a string")
    return check_endpoint(value, hosts)


def _strings(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = [] if document.get(name) is None else document[name]
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        raise ConfigError(f"metadata member {name} is not an array of strings")
    return tuple(value)
