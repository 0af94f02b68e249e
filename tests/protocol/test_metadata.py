"""The metadata document, and the policy that it is computed from."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from groat.protocol.access_token import access_token_claims
from groat.protocol.errors import ConfigError, Finding, InvalidClient
from groat.protocol.federation.trust import Trust, Use
from groat.protocol.grants import GRANTS
from groat.protocol.jwk import ALGORITHMS
from groat.protocol.metadata import (
    check_metadata,
    issuer_path,
    metadata_paths,
    metadata_urls,
    server_metadata,
    token_members,
)
from groat.protocol.models import Client, Grant, Policy
from groat.protocol.proof_rules import PROOF_ALGORITHMS
from groat.server.endpoints import ROUTES
from groat.server.http.routes import advertised
from tests.protocol.federation.platforms import PLATFORMS

from .builders import API, CID, CLIENT, FAPI2, ISS, KEYS, POLICY, TE, assertion, authenticate

STRICT = Policy(ISS, compatible=False)


def _document(policy: Policy, scopes: Iterable[str], algorithms: Iterable[str] = ("ES256",)) -> dict[str, Any]:
    """As the endpoint makes it of the table of endpoints."""
    return server_metadata(policy, scopes, advertised(ROUTES, policy), algorithms)


@pytest.mark.rule("AS-MD-03", "AS-MD-05", "AS-MD-06", "AS-MD-07", "AS-MD-10")
def test_the_whole_document() -> None:
    """Every member, and no other."""
    strict = {
        "issuer": ISS,
        "token_endpoint": TE,
        "jwks_uri": f"{ISS}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": [*sorted(ALGORITHMS), "EdDSA"],
        "dpop_signing_alg_values_supported": [*sorted(PROOF_ALGORITHMS), "EdDSA"],
        "scopes_supported": ["read", "write"],
        "groat_revocations_endpoint": f"{ISS}/revocations",
        "status_list_aggregation_endpoint": f"{ISS}/status",
    }
    for name, path in (("introspection", "introspect"), ("revocation", "revoke")):
        strict |= {
            f"{name}_endpoint": f"{ISS}/{path}",
            f"{name}_endpoint_auth_methods_supported": ["private_key_jwt"],
            f"{name}_endpoint_auth_signing_alg_values_supported": [*sorted(ALGORITHMS), "EdDSA"],
        }
    assert _document(STRICT, ["write", "read", "read"]) == strict
    assert _document(POLICY, ["write", "read", "read"]) == strict | {
        "authorization_endpoint": f"{ISS}/authorize",
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }


@pytest.mark.rule("AS-MC-01", "AS-MC-04")
def test_the_added_members_claim_nothing() -> None:
    """No response type, no PKCE, no grant and no method of client authentication comes with them."""
    strict, compatible = _document(STRICT, ["a"]), _document(POLICY, ["a"], ["PS256", "ES256", "ES256"])
    assert compatible.keys() - strict.keys() == {
        "authorization_endpoint", "response_types_supported", "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }  # fmt: skip
    assert {name: compatible[name] for name in strict} == strict
    assert compatible["response_types_supported"] == []
    assert compatible["id_token_signing_alg_values_supported"] == ["ES256", "PS256"]
    assert "id_token_signing_alg_values_supported" not in _document(POLICY, [], [])


@pytest.mark.rule("AS-MD-07", "AS-MD-08", "AT-09", "JOSE-17")
@pytest.mark.parametrize(
    ("policy", "listed"),
    [
        (POLICY, {*ALGORITHMS, "EdDSA"}),
        (FAPI2, {"ES256", "PS256", "Ed25519", "EdDSA"}),
    ],
    ids=["default", "fapi2"],
)
def test_every_listed_algorithm_works_and_no_other(policy: Policy, listed: set[str]) -> None:
    """The list is the one by which assertions are judged; none and the COSE names are not in it."""
    document = _document(policy, [])
    names = document["token_endpoint_auth_signing_alg_values_supported"]
    assert (set(names), len(names)) == (listed, len(listed))
    works = set()
    for written in (*ALGORITHMS, "EdDSA", "ESP256", "ESP384", "ESP512", "Ed448", "HS256", "none", "ES256K"):
        key = KEYS.get("Ed25519" if written == "EdDSA" else written, KEYS["ES256"])
        client = Client(CID, (key.public,))
        try:
            authenticate(assertion(key, {"alg": written}), client, policy)
        except InvalidClient:
            continue
        works.add(written)
    assert works == listed


@pytest.mark.rule("AS-MD-08")
def test_the_lists_are_the_tables() -> None:
    """Grants and methods are read from the tables that decide."""
    members = token_members(POLICY)
    assert members["grant_types_supported"] == list(GRANTS)
    assert members["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]


@pytest.mark.rule("AS-JB-15")
def test_the_grant_of_foreign_tokens_needs_a_trust() -> None:
    """And what else follows from those that are enabled; nothing where the endpoint is not served."""
    grant, methods = "urn:ietf:params:oauth:grant-type:jwt-bearer", ["private_key_jwt"]
    github, svid = PLATFORMS["github"].trust, PLATFORMS["spiffe"].trust

    def offered(*trusts: Trust) -> tuple[bool, list[str]]:
        document = server_metadata(POLICY, [], token_members(POLICY), trusts=trusts)
        return grant in document["grant_types_supported"], document["token_endpoint_auth_methods_supported"]

    assert offered() == (False, methods)
    assert offered(replace(github, enabled=False)) == (False, methods)
    assert offered(replace(github, uses=frozenset({Use.AUTHENTICATION}))) == (False, methods)
    assert offered(github) == (True, [*methods, "none"])
    assert offered(replace(svid, uses=frozenset({Use.AUTHENTICATION}))) == (False, [*methods, "spiffe_jwt"])
    assert offered(github, svid) == (True, [*methods, "spiffe_jwt", "none"])
    assert "grant_types_supported" not in server_metadata(POLICY, [], {}, trusts=[github])


def _values(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(item)


@pytest.mark.rule("AS-MD-09")
@pytest.mark.parametrize("scopes", [[], ["a"]])
@pytest.mark.parametrize("policy", [POLICY, STRICT], ids=["compatible", "strict"])
def test_no_array_is_empty(policy: Policy, scopes: list[str]) -> None:
    """What has no value is left out; response_types_supported is the one exception, and can be had without."""
    document = json.loads(json.dumps(_document(policy, scopes)))
    assert document.pop("response_types_supported", None) == ([] if policy.compatible else None)
    assert [] not in list(_values(document))
    assert ("scopes_supported" in document) is bool(scopes)


@pytest.mark.rule("AS-MD-03", "AT-03")
def test_the_issuer_is_one_string_everywhere() -> None:
    """Metadata, token and assertion audience agree to the byte, slash or no slash."""
    for issuer in (ISS, f"{ISS}/", f"{ISS}/tenant", f"{ISS}/tenant/"):
        policy = Policy(issuer)
        assert _document(policy, [])["issuer"] == issuer
        assert json.loads(access_token_claims(Grant(CID, API, (), 60), policy, 0, "j"))["iss"] == issuer
        assert authenticate(assertion(aud=issuer), CLIENT, policy).client is CLIENT


@pytest.mark.rule("AS-MD-01", "AS-MD-05", "AS-MD-12", "AS-MD-17")
@pytest.mark.parametrize(
    ("issuer", "paths", "token"),
    [
        (
            "https://h",
            ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            "https://h/token",
        ),
        (
            "https://h/",
            ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            "https://h/token",
        ),
        (
            "https://h:8443/t1",
            (
                "/.well-known/oauth-authorization-server/t1",
                "/t1/.well-known/openid-configuration",
                "/.well-known/openid-configuration/t1",
            ),
            "https://h:8443/t1/token",
        ),
        (
            "https://h/a/b/",
            (
                "/.well-known/oauth-authorization-server/a/b",
                "/a/b/.well-known/openid-configuration",
                "/.well-known/openid-configuration/a/b",
            ),
            "https://h/a/b/token",
        ),
    ],
)
def test_where_the_document_is(issuer: str, paths: tuple[str, ...], token: str) -> None:
    """Between host and issuer path; readers look there first and then where OpenID puts it."""
    assert metadata_paths(issuer) == paths
    policy = Policy(issuer)
    assert (policy.token_endpoint, policy.jwks_uri) == (token, token[:-5] + ".well-known/jwks.json")
    host = issuer.split("/")[2]
    assert metadata_urls(issuer) == tuple(f"https://{host}{path}" for path in paths[:2])
    assert not issuer_path(issuer).endswith("/")


@pytest.mark.rule("AT-08", "JOSE-20", "AS-CA-07")
@pytest.mark.parametrize(
    ("field", "low", "high"),
    [("token_lifetime", 60, 3600), ("clock_tolerance", 10, 60), ("max_assertion_lifetime", 10, 3600)],
)
def test_the_caps_of_a_policy_are_hard(field: str, low: int, high: int) -> None:
    """Both bounds are allowed; a second beyond is a configuration error that says so."""
    for value in (low, high):
        assert getattr(Policy(ISS, **{field: value}), field) == value  # type: ignore[arg-type]
    for value in (low - 1, high + 1, 0, -1):
        with pytest.raises(ConfigError, match=f"{low} to {high} seconds"):
            Policy(ISS, **{field: value})  # type: ignore[arg-type]


def test_a_policy_tells_all_its_mistakes_at_once() -> None:
    """One round for the operator, not five."""
    with pytest.raises(ConfigError) as caught:
        Policy("http://x", token_lifetime=1, clock_tolerance=0, max_assertion_lifetime=0, extra_claims={"iss": 1})
    assert len(caught.value.findings) == 5


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding("wrong"), "wrong"),
        (Finding("wrong", "a.toml"), "a.toml: wrong"),
        (Finding("wrong", "a.toml", 3), "a.toml:3: wrong"),
        (Finding("wrong", None, 3), "wrong"),
    ],
)
def test_a_finding_says_where(finding: Finding, text: str) -> None:
    """File and line where they are known."""
    assert str(finding) == text
    assert str(ConfigError(finding, "more")) == f"{text}\nmore"


# --- reading somebody's document

DOCUMENT = json.loads(json.dumps(_document(POLICY, ["read"])))


@pytest.mark.rule("CL-01", "RS-17", "AS-MD-03")
def test_our_own_document_is_accepted() -> None:
    """What we write, we read; optional members may be missing."""
    read = check_metadata(DOCUMENT, ISS)
    assert (read.issuer, read.token_endpoint, read.jwks_uri) == (ISS, TE, f"{ISS}/.well-known/jwks.json")
    assert read.auth_methods == ("private_key_jwt",)
    assert "EdDSA" in read.auth_signing_algs
    bare = check_metadata({"issuer": ISS}, ISS)
    assert (bare.token_endpoint, bare.jwks_uri, bare.auth_methods, bare.auth_signing_algs) == (None, None, (), ())


@pytest.mark.rule("CL-01", "CL-02", "RS-17", "C01")
@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": f"{ISS}/"},
        {"issuer": "https://evil.example"},
        {"issuer": "https://AS.example"},
        {"issuer": None},
        {"issuer": [ISS]},
        {"token_endpoint": "http://as.example/token"},
        {"token_endpoint": "/token"},
        {"token_endpoint": ""},
        {"token_endpoint": 5},
        {"token_endpoint": [TE]},
        {"token_endpoint": f"{TE}#f"},
        {"token_endpoint": "https://user@as.example/token"},
        {"token_endpoint": "https:///token"},
        {"jwks_uri": "http://169.254.169.254/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "ftp://as.example/jwks"},
        {"jwks_uri": "https://[as.example/jwks"},
        {"jwks_uri": "data:application/json,{}"},
        {"token_endpoint_auth_methods_supported": "private_key_jwt"},
        {"token_endpoint_auth_methods_supported": [5]},
        {"token_endpoint_auth_signing_alg_values_supported": {"ES256": 1}},
    ],
    ids=repr,
)
def test_a_document_of_others_is_refused(changes: dict[str, Any]) -> None:
    """Another issuer, an endpoint without TLS, a member of the wrong type: nothing of it is used."""
    with pytest.raises(ConfigError):
        check_metadata({**DOCUMENT, **changes}, ISS)


@pytest.mark.rule("CL-01")
def test_a_document_without_issuer_is_refused() -> None:
    """It speaks for nobody."""
    with pytest.raises(ConfigError):
        check_metadata({name: value for name, value in DOCUMENT.items() if name != "issuer"}, ISS)
