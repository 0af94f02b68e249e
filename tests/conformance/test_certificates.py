"""The columns with mutual TLS: pk+mtls, mtls+mtls and mtls+dpop, module by module.

What they share with pk+dpop about proofs is in the other files, which `party` and the sides of the API go through.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import KeySet

from .conftest import COLUMNS, Parties
from .parties import Party
from .test_token_endpoint import ASSERTIONS, CLIENT, GRANT, check_refused

NO_HOLDER: Final = {"invalid_request", "invalid_grant", "invalid_client"}


@pytest.fixture(params=COLUMNS)
def pair(columns: Mapping[str, Parties], request: pytest.FixtureRequest) -> Parties:
    """Both clients of a column."""
    return columns[request.param]


@pytest.fixture(params=["pk+mtls", "mtls+mtls"])
def bound(columns: Mapping[str, Parties], request: pytest.FixtureRequest) -> Parties:
    """Both clients of a column whose tokens are bound to certificates."""
    return columns[request.param]


def thumbprint(party: Party) -> str:
    assert party.certificate is not None
    leaf = x509.load_pem_x509_certificate(party.certificate.read_bytes())
    der = leaf.public_bytes(serialization.Encoding.DER)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")


@pytest.mark.rule("AS-MD-01", "AS-MT-03", "AS-MT-11")
def test_the_metadata(parties: Parties) -> None:
    """discovery-end-point-verification: a boolean, both methods, and no aliases, since one host does both."""
    document = parties[0].plan.server.ask("GET", "/.well-known/oauth-authorization-server").json
    assert document["tls_client_certificate_bound_access_tokens"] is True
    methods = {"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
    assert set(document["token_endpoint_auth_methods_supported"]) == methods
    assert "mtls_endpoint_aliases" not in document


@pytest.mark.rule("AS-MT-01", "AS-MT-02", "AS-MT-03", "AS-MT-10", "AS-DP-09")
def test_bound_tokens(pair: Parties) -> None:
    """happy-flow: both clients get one that is bound to what the column wants, and the API takes it."""
    served: Any = pair[0].plan.server.ask("GET", "/.well-known/jwks.json").json
    for party in pair:
        token = party.token()
        claims = jwt.decode(token, KeySet.import_key_set(served), algorithms=["ES256"]).claims
        assert claims["client_id"] == party.name
        bound_to = {"x5t#S256": thumbprint(party)} if party.binds_to_it else {"jkt": party.proving.pair.thumbprint()}
        assert claims["cnf"] == bound_to
        called = party.call(token, [], "Bearer") if party.binds_to_it else party.call(token)
        assert (called.status, called.json["client"]) == (200, party.name)


@pytest.mark.rule("RS-01", "RS-MT-01")
@pytest.mark.parametrize("scheme", ["bEARER", "BEARER", "bearer"])
def test_the_scheme_in_any_case(bound: Parties, scheme: str) -> None:
    """access-token-type-header-case-sensitivity."""
    assert bound[0].call(bound[0].token(), [], scheme).status == 200


@pytest.mark.rule("AS-CA-15", "AS-MT-01", "AS-MT-02")
def test_another_clients_id(pair: Parties) -> None:
    """ensure-client-id-in-token-endpoint; and none at all, where nothing else says whose request it is."""
    first, second = pair
    check_refused(first.ask({"client_id": second.name}), GRANT)
    if first.by_certificate:
        check_refused(first.ask({"client_id": ""}), NO_HOLDER)
        check_refused(replace(first, certificate=second.certificate).ask(), CLIENT)
    assert first.token()


@pytest.mark.rule("AS-MT-10", "AS-MT-01", "AS-DP-18")
def test_a_client_without_what_it_binds_to(columns: Mapping[str, Parties]) -> None:
    """ensure-holder-of-key-required: no certificate, and for mtls+dpop none, or no proof."""
    for name in ("pk+mtls", "mtls+mtls"):
        check_refused(replace(columns[name][0], certificate=None).ask(), NO_HOLDER)
    proving = columns["mtls+dpop"][0]
    check_refused(replace(proving, certificate=None).ask(), CLIENT)
    check_refused(proving.ask(proofs=[]), {"invalid_dpop_proof"})


@pytest.mark.rule("AS-CA-02", "AS-CA-03", "AS-CA-04", "AS-CA-05", "AS-CA-07")
@pytest.mark.parametrize("spoilt", ASSERTIONS)
def test_assertions_that_are_wrong(columns: Mapping[str, Parties], parties: Parties, spoilt: str) -> None:
    """Those of pk+dpop, with the right certificate beside, which outweighs none of it."""
    codes, fields = ASSERTIONS[spoilt]
    own = columns["pk+mtls"][0]
    check_refused(own.ask(fields(own, parties[1])), codes)
    own.token()


@pytest.mark.rule("RS-MT-01", "RS-MT-03", "RS-DP-15")
def test_calls_that_are_refused(bound: Parties) -> None:
    """By another client's certificate or none, as DPoP, in the query; and the right call after each."""
    own, other = bound
    token = own.token()
    for reply in (
        replace(own, certificate=other.certificate).call(token, [], "Bearer"),
        replace(own, certificate=None).call(token, [], "Bearer"),
        own.call(token, [], "DPoP"),
        own.call(token, scheme="DPoP"),
        own.call(token, [], None, target=f"/protected?access_token={token}"),
        own.call(token, [], None),
    ):
        assert reply.status in (400, 401), reply
        assert reply.header("www-authenticate") is not None
        assert own.call(token, [], "Bearer").status == 200
