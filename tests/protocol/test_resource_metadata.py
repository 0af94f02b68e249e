"""What an API says of itself, and where (RFC 9728)."""

import pytest

from groat.protocol.errors import ConfigError
from groat.protocol.proof_rules import PROOF_ALGORITHMS
from groat.protocol.resource_metadata import (
    ProofsTaken,
    ResourceDescription,
    resource_metadata,
    resource_metadata_path,
    resource_metadata_url,
)

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.rule("RS-MD-01", "RS-MD-07")
@pytest.mark.parametrize(
    ("resource", "host", "path"),
    [
        ("https://api.example", "https://api.example", WELL_KNOWN),
        ("https://api.example/", "https://api.example", WELL_KNOWN),
        ("https://api.example/v1", "https://api.example", f"{WELL_KNOWN}/v1"),
        ("https://api.example/v1/", "https://api.example", f"{WELL_KNOWN}/v1"),
        ("https://api.example:8443/mcp", "https://api.example:8443", f"{WELL_KNOWN}/mcp"),
        ("https://api.example/a/b//", "https://api.example", f"{WELL_KNOWN}/a/b"),
        ("http://127.0.0.1:3002", "http://127.0.0.1:3002", WELL_KNOWN),
        ("http://[::1]:3002/mcp", "http://[::1]:3002", f"{WELL_KNOWN}/mcp"),
    ],
)
def test_where_the_metadata_are(resource: str, host: str, path: str) -> None:
    assert resource_metadata_url(resource) == host + path
    assert resource_metadata_path(resource) == path


@pytest.mark.rule("RS-MD-01", "RS-MD-02")
@pytest.mark.parametrize(
    "resource",
    [
        "urn:example:orders",
        "api://orders",
        "http://api.example",
        "orders",
        "https://",
        "https://u@api.example",
        "https://a/#x",
    ],
)
def test_what_has_no_metadata(resource: str) -> None:
    """An identifier that is no https URL has no place to serve them at."""
    assert resource_metadata_url(resource) is None
    assert resource_metadata_path(resource) is None


@pytest.mark.rule("RS-MD-01")
def test_a_query_stays_where_it_was() -> None:
    assert resource_metadata_url("https://a.example/x/?y=1") == f"https://a.example{WELL_KNOWN}/x?y=1"
    assert resource_metadata_path("https://a.example/x/?y=1") == f"{WELL_KNOWN}/x"


@pytest.mark.rule("RS-MD-02", "RS-MD-06")
def test_the_document() -> None:
    """Nothing that is empty, nothing that is not done."""
    bare = {
        "resource": "https://a.example",
        "authorization_servers": ["https://as.example"],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": sorted(PROOF_ALGORITHMS),
    }
    assert resource_metadata("https://a.example", ["https://as.example"]) == bare
    described = ResourceDescription("Orders", "https://docs.example/orders")
    assert resource_metadata("https://a.example", ["https://as.example"], ["b", "a", "b"], described) == {
        **bare,
        "scopes_supported": ["a", "b"],
        "resource_name": "Orders",
        "resource_documentation": "https://docs.example/orders",
    }
    strict = resource_metadata(
        "https://a.example", ["https://as.example"], proofs=ProofsTaken(["ES256"], required=True)
    )
    assert strict["dpop_signing_alg_values_supported"] == ["ES256"]
    assert strict["dpop_bound_access_tokens_required"] is True


@pytest.mark.parametrize("documentation", ["docs", "ftp://x.example/", "https://", "https://a b/"])
def test_a_page_that_nobody_can_read(documentation: str) -> None:
    with pytest.raises(ConfigError, match="documentation"):
        ResourceDescription("Orders", documentation)
