"""discovery-end-point-verification: metadata over https that say what the plan needs."""

import pytest

from .conftest import Parties
from .signing import ALGORITHMS


@pytest.mark.rule("AS-MD-01", "AS-DP-17")
def test_the_metadata(parties: Parties) -> None:
    """An algorithm of the suite for each purpose, and endpoints below the issuer."""
    server = parties[0].plan.server
    reply = server.ask("GET", "/.well-known/oauth-authorization-server")
    assert (reply.status, reply.header("content-type")) == (200, "application/json")
    document = reply.json
    assert document["issuer"] == server.url
    assert document["token_endpoint"] == f"{server.url}/token"
    assert "client_credentials" in document["grant_types_supported"]
    assert "private_key_jwt" in document["token_endpoint_auth_methods_supported"]
    assert set(ALGORITHMS) <= set(document["token_endpoint_auth_signing_alg_values_supported"])
    assert set(ALGORITHMS) <= set(document["dpop_signing_alg_values_supported"])
    listed = [name for values in document.values() if isinstance(values, list) for name in values]
    assert not [name for name in listed if name == "none" or name.startswith(("RS", "HS"))]


@pytest.mark.rule("AS-MD-07")
def test_the_key_set(parties: Parties) -> None:
    """Each key with its id and algorithm, and nothing private."""
    reply = parties[0].plan.server.ask("GET", "/.well-known/jwks.json")
    keys = reply.json["keys"]
    assert keys
    for key in keys:
        assert key["kid"]
        assert key["alg"] in ("ES256", "PS256", "Ed25519")
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}
