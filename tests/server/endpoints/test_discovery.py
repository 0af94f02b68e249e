"""AS-MD and KEY-20 to 22: metadata that does not lie, and keys that are published before and after they sign."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from joserfc.jwk import RSAKey

from groat.keys.ring.keyring import CLOCK_SKEW, PUBLISH_LEAD, Lead
from groat.protocol import jose
from groat.protocol.access_token import Expectations, check_access_token, parse_access_token
from groat.protocol.errors import JoseError
from groat.protocol.jwk import PRIVATE_MEMBERS, generate_private_key, private_key
from groat.protocol.key_set import import_key_set
from groat.server import operations
from tests.server.builders import ISS, NOW, ORDERS, Party, base, decoded
from tests.server.lab import DEFAULTS, Lab
from tests.server.wire import FORM, check_ec, check_ok, check_refused, send

METADATA: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"
JWKS: Final = "/.well-known/jwks.json"
RSA_PAIR: Final = RSAKey.generate_key(2048)


@pytest.mark.rule("AS-MD-01", "AS-MD-02", "AS-MD-05", "AS-MD-06", "AS-MD-09", "AS-MD-10", "DEMO-21", "AS-TE-32")
def test_the_whole_document(fresh_lab: Callable[..., Lab]) -> None:
    """The document of a fresh server, member by member: nothing is missing and nothing is there besides."""
    answer = fresh_lab().get(METADATA)
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    document = answer.json
    for name, path in (("introspection", "introspect"), ("revocation", "revoke")):
        assert document.pop(f"{name}_endpoint") == f"{ISS}/{path}"
        assert document.pop(f"{name}_endpoint_auth_methods_supported") == ["private_key_jwt"]
        assert "ES256" in document.pop(f"{name}_endpoint_auth_signing_alg_values_supported")
    algorithms = document.pop("token_endpoint_auth_signing_alg_values_supported")
    assert {"ES256", "PS256", "Ed25519", "EdDSA"} <= set(document.pop("dpop_signing_alg_values_supported"))
    assert document == {
        "issuer": ISS,
        "token_endpoint": f"{ISS}/token",
        "jwks_uri": f"{ISS}{JWKS}",
        "groat_revocations_endpoint": f"{ISS}/revocations",
        "status_list_aggregation_endpoint": f"{ISS}/status",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "scopes_supported": ["orders:read", "orders:write", "stock:read"],
        "authorization_endpoint": f"{ISS}/authorize",
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
    assert {"ES256", "PS256", "RS256", "Ed25519", "EdDSA"} <= set(algorithms)


@pytest.mark.rule("AS-MD-09", "AS-MD-10")
def test_no_empty_arrays(fresh_lab: Callable[..., Lab]) -> None:
    """Without any scope there is no scopes_supported, and it follows the registry at once."""
    lab = fresh_lab()
    lab.operate(lambda op: operations.remove_api(op, "orders"))
    lab.operate(lambda op: operations.remove_api(op, "stock"))
    assert "scopes_supported" not in lab.get(METADATA).json
    lab.operate(lambda op: operations.add_api(op, "new", "https://new.example", ["z", "a"]))
    assert lab.get(METADATA).json["scopes_supported"] == ["a", "z"]


@pytest.mark.rule("AS-MD-01", "AS-MD-12")
@pytest.mark.parametrize(
    ("issuer", "paths", "endpoint"),
    [
        ("https://h.example", [METADATA, OPENID], "/token"),
        ("https://h.example/", [METADATA, OPENID], "/token"),
        ("https://h.example/t1", [f"{METADATA}/t1", f"/t1{OPENID}", f"{OPENID}/t1"], "/t1/token"),
        ("https://h.example/a/b/", [f"{METADATA}/a/b", f"/a/b{OPENID}"], "/a/b/token"),
    ],
)
def test_where_the_document_is(fresh_lab: Callable[..., Lab], issuer: str, paths: list[str], endpoint: str) -> None:
    """Between host and issuer path, and where OpenID readers look: the same bytes; other places have nothing."""
    lab = fresh_lab(issuer=issuer)
    answers = {lab.get(path).body for path in paths}
    assert len(answers) == 1
    document = lab.get(paths[0]).json
    assert document["issuer"] == issuer
    assert document["token_endpoint"].endswith(endpoint)
    assert lab.get(document["jwks_uri"].removeprefix("https://h.example")).status == 200
    posted = send(lab.address, "POST", endpoint, [("Content-Type", FORM)], base(lab.party.assertion(aud=issuer)))
    assert decoded(check_ok(posted)["access_token"])[1]["iss"] == issuer
    if endpoint != "/token":
        assert lab.get(METADATA).status == 404
        assert send(lab.address, "POST", "/token", [("Content-Type", FORM)], b"").status == 404


@pytest.mark.rule("AS-MD-03", "AT-03", "AS-CA-06")
def test_one_issuer_everywhere(lab: Lab) -> None:
    """The configured issuer, the metadata's, the token's iss and the assertion's aud are one string."""
    issuer = lab.get(METADATA).json["issuer"]
    claims = decoded(lab.token(lab.party.assertion(aud=issuer)))[1]
    assert issuer == claims["iss"] == lab.config.policy.issuer == ISS


@pytest.mark.rule("AS-MD-04", "H07", "OPS-02")
@pytest.mark.parametrize("path", [METADATA, OPENID, JWKS])
@pytest.mark.parametrize(
    "header",
    [("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "http"),
     ("X-Forwarded-Prefix", "/evil"), ("Forwarded", "host=evil.example;proto=http"), ("X-Original-URL", "/evil")],
    ids=lambda header: header[0],
)  # fmt: skip
def test_no_header_changes_the_documents(lab: Lab, path: str, header: tuple[str, str]) -> None:
    """Host and forwarded headers change no byte."""
    assert lab.get(path, header).body == lab.get(path).body


@pytest.mark.rule("AS-MD-07", "AS-MD-08")
def test_every_listed_algorithm_works_and_no_other(lab: Lab) -> None:
    """A client with a key of each listed algorithm gets a token under that name; none is listed."""
    listed = lab.get(METADATA).json["token_endpoint_auth_signing_alg_values_supported"]
    assert "none" not in listed
    assert not any(name.startswith(("HS", "ESP")) for name in listed)
    for name in listed:
        pair = RSAKey.generate_key(2048) if name[0] in "PR" else None
        key = private_key(pair, name) if pair else generate_private_key(name)
        party = lab.add_client(f"md08-{name}", key)
        check_ok(lab.ask(party.headed(alg=name)))


@pytest.mark.rule("AS-MD-08")
def test_every_listed_place_answers(lab: Lab) -> None:
    """Every URL of the document answers as its RFC says; every listed grant and scope can be had."""
    document = lab.get(METADATA).json
    posts = ("token_endpoint", "introspection_endpoint", "revocation_endpoint")
    expected = {**dict.fromkeys(posts, 405), "authorization_endpoint": 400}
    for name, value in document.items():
        if name.endswith(("_endpoint", "_uri")):
            path = value.removeprefix(ISS)
            assert lab.get(path).status == expected.get(name, 200)
    for grant in document["grant_types_supported"]:
        check_ok(lab.ask(grant_type=grant))
    every = {"orders": ["orders:read", "orders:write"], "stock": ["stock:read"]}
    party = lab.add_client("md08", allow=every)
    for scope in (s for scopes in every.values() for s in scopes):
        assert scope in document["scopes_supported"]
        check_ok(lab.ask(party.assertion(), scope=scope))
    for path in ("/register", "/par", "/userinfo"):
        assert lab.get(path).status == 404


@pytest.mark.rule("AS-MD-13", "AS-MD-16", "AS-MD-17", "KEY-12", "DEMO-18", "DEMO-20", "DEMO-26")
def test_the_key_set(lab: Lab) -> None:
    """A JWK set of public keys with kid, use and alg, at the documented path."""
    assert lab.get(METADATA).json["jwks_uri"] == ISS + JWKS
    answer = lab.get(JWKS)
    assert (answer.status, answer.header("content-type")) == (200, "application/jwk-set+json")
    document = answer.json
    assert document.keys() == {"keys"}
    for key in document["keys"]:
        assert {"kty", "kid", "use", "alg"} <= key.keys()
        assert key["use"] == "sig"
        assert not PRIVATE_MEMBERS & key.keys()
        assert not {"x5u", "jku", "x5c"} & key.keys()
    assert len({key["kid"] for key in document["keys"]}) == len(document["keys"])
    assert import_key_set(document)


def _verify(lab: Lab, token: str, now: float) -> None:
    """Check a token as a resource server does that has just fetched the JWKS."""
    algorithms = {key["alg"] for key in lab.get(JWKS).json["keys"]}
    expected = Expectations(ISS, ORDERS, algorithms)
    jwt = parse_access_token(token, expected)
    keys = import_key_set(lab.get(JWKS).json)
    check_access_token(jwt, jose.select_key(jwt.header, keys), expected, now)


@pytest.mark.rule("KEY-19", "KEY-20", "KEY-22", "AS-MD-15", "AS-MD-14", "I4", "I5", "DEMO-19")
def test_three_rotations_on_a_fake_clock(fresh_lab: Callable[..., Lab]) -> None:
    """Around every instant of three rotations: signers were published a lead ago, and stay until the last token dies."""
    lab = fresh_lab()
    first_seen: dict[str, float] = {kid: float("-inf") for kid in lab.kids()}
    tokens: list[tuple[str, float]] = []
    keep = 3600 + CLOCK_SKEW
    moments: list[float] = []
    for n in range(3):
        start = NOW + n * 20_000
        moments += [start]
        around = (PUBLISH_LEAD, PUBLISH_LEAD + keep)
        moments += [start + offset + delta for offset in around for delta in (-1, -0.5, 0, 1)]
        moments += [start + offset for offset in (1, 1800, PUBLISH_LEAD + 300, PUBLISH_LEAD + 599)]
    for moment in sorted(moments):
        lab.clock.now = lab.party.now = moment
        if moment in (NOW, NOW + 20_000, NOW + 40_000):
            lab.rotate()
        published = lab.kids()
        for kid in published:
            first_seen.setdefault(kid, moment)
        token = lab.token()
        signer = decoded(token)[0]["kid"]
        assert moment - first_seen[signer] >= PUBLISH_LEAD, "signed before every verifier could know the key"
        tokens = [(t, exp) for t, exp in [*tokens, (token, decoded(token)[1]["exp"])] if exp > moment]
        for alive, _ in tokens:
            _verify(lab, alive, moment)
        assert len(published) <= 3
    assert len(first_seen) == 4
    assert len(lab.kids()) == 1


@pytest.mark.rule("KEY-19", "KEY-20")
def test_the_exact_seconds_of_a_rotation(fresh_lab: Callable[..., Lab]) -> None:
    """One second before the lead ends the old key signs, at its end the new one; the old leaves after the last token."""
    lab = fresh_lab()
    (old,) = lab.kids()
    lab.rotate(Lead(publish=100, token_lifetime=600))
    (new,) = set(lab.kids()) - {old}
    gone = 100 + 600 + CLOCK_SKEW
    table: list[tuple[float, str, set[str]]] = [
        (0, old, {old, new}), (99.9, old, {old, new}), (100, new, {old, new}), (gone - 0.1, new, {old, new}),
        (gone, new, {new}),
    ]  # fmt: skip
    for offset, signer, published in table:
        lab.clock.now = lab.party.now = NOW + offset
        assert decoded(lab.token())[0]["kid"] == signer
        assert set(lab.kids()) == published


@pytest.mark.rule("KEY-21", "L05")
def test_a_revoked_key_is_gone_at_once(fresh_lab: Callable[..., Lab]) -> None:
    """Neither signer nor JWKS knows it on the next request, and a fresh reader refuses what it signed."""
    lab = fresh_lab()
    (old,) = lab.kids()
    token = lab.token()
    lab.operate(lambda op: operations.revoke_signing_key(operations.Ring(op, lab.kek, "ES256"), old))
    assert old not in lab.kids()
    assert decoded(lab.token())[0]["kid"] != old
    with pytest.raises(JoseError):
        _verify(lab, token, NOW)


@pytest.mark.rule("KEY-21")
def test_a_pending_successor_is_promoted(fresh_lab: Callable[..., Lab]) -> None:
    """If a successor is published already, it takes over from a revoked key early, and no third is made."""
    lab = fresh_lab()
    (old,) = lab.kids()
    lab.rotate()
    (new,) = set(lab.kids()) - {old}
    lab.operate(lambda op: operations.revoke_signing_key(operations.Ring(op, lab.kek, "ES256"), old))
    assert lab.kids() == [new]
    assert decoded(lab.token())[0]["kid"] == new


@pytest.mark.rule("AT-01", "AT-02", "AT-04", "AT-05", "AT-07", "AT-10", "DEMO-13", "DEMO-15")
def test_the_access_token(lab: Lab) -> None:
    """Header and claims of RFC 9068, each with its type, and nothing invented."""
    header, claims = decoded(lab.token())
    assert header == {"alg": "ES256", "kid": lab.kids()[0], "typ": "at+jwt"}
    jti = claims.pop("jti")
    assert isinstance(jti, str)
    assert len(jti) >= 22
    assert claims == {
        "iss": ISS, "sub": "billing", "client_id": "billing", "aud": ORDERS, "iat": NOW, "exp": NOW + 600,
        "scope": "orders:read",
    }  # fmt: skip
    assert type(claims["exp"]) is type(claims["iat"]) is int


@pytest.mark.rule("AT-06")
def test_token_ids_do_not_repeat(lab: Lab) -> None:
    """Ids of many tokens, and request ids, are all different."""
    ids = [decoded(lab.token())[1]["jti"] for _ in range(300)]
    assert len(set(ids)) == len(ids)


@pytest.mark.rule("AT-08")
@pytest.mark.parametrize("lifetime", [60, 900, 3600])
def test_the_lifetime_is_the_configured_one(fresh_lab: Callable[..., Lab], lifetime: int) -> None:
    """exp - iat is expires_in is the setting, with whole seconds on a clock between two."""
    lab = fresh_lab(f'[tokens]\nlifetime = "{lifetime}s"\n{DEFAULTS}')
    lab.clock.now = NOW + 0.75
    document = check_ok(lab.ask())
    claims = decoded(document["access_token"])[1]
    assert claims["exp"] - claims["iat"] == document["expires_in"] == lifetime
    assert claims["iat"] == NOW


@pytest.mark.rule("AT-09", "AT-01")
@pytest.mark.parametrize("algorithm", ["ES384", "Ed25519", "PS256", "RS256"])
def test_other_signing_algorithms_work_end_to_end(fresh_lab: Callable[..., Lab], algorithm: str) -> None:
    """A server that signs with another algorithm publishes a key for it, and its tokens verify."""
    lab = fresh_lab(algorithm=algorithm)
    token = lab.token()
    assert decoded(token)[0]["alg"] == algorithm
    assert lab.get(JWKS).json["keys"][0]["alg"] == algorithm
    _verify(lab, token, NOW)


@pytest.mark.rule("AT-10")
def test_extra_claims(fresh_lab: Callable[..., Lab]) -> None:
    """Configured claims are in every token, beside the registered ones."""
    lab = fresh_lab(f'[tokens]\nextra_claims = {{ tenant = "t1", roles = ["a"] }}\n{DEFAULTS}')
    claims = decoded(lab.token())[1]
    assert (claims["tenant"], claims["roles"], claims["sub"]) == ("t1", ["a"], "billing")


@pytest.mark.rule("AT-11", "DEMO-02", "RS-11")
def test_an_assertion_is_no_access_token(lab: Lab) -> None:
    """What a client signs does not verify as a token, whatever it claims to be."""
    for typ in ("client-authentication+jwt", "at+jwt"):
        forged = Party("billing", lab.party.key)
        claims: dict[str, Any] = {"aud": ORDERS, "client_id": "billing", "scope": "orders:read", "iss": ISS}
        token = forged.assertion(**claims).split(".")
        rebuilt = jose.sign_jwt({**forged.claims(**claims)}, forged.key, typ)
        for candidate in (".".join(token), rebuilt):
            with pytest.raises(Exception, match=r"type|key_unknown|no key"):
                _verify(lab, candidate, NOW)
    check_ec(lab.ask(lab.token()))


@pytest.mark.rule("AT-14")
def test_a_token_with_every_scope_fits_into_headers(fresh_lab: Callable[..., Lab]) -> None:
    """Sixty scopes of twenty characters still make a token under 4 KiB."""
    lab = fresh_lab()
    scopes = [f"scope-{n:02}-of-the-api" for n in range(60)]
    lab.operate(lambda op: operations.add_api(op, "big", "https://big.example", scopes))
    party = lab.add_client("big", allow={"big": scopes})
    assert len(lab.token(party.assertion(), scope=" ".join(scopes))) < 4096


@pytest.mark.rule("AT-14")
def test_a_token_that_would_not_fit_is_refused(fresh_lab: Callable[..., Lab]) -> None:
    """Over 4 KiB it is the caller's request that asks for too much; with fewer scopes the same client is served."""
    lab = fresh_lab()
    scopes = [f"a-long-scope-of-the-api-number-{n:03}" for n in range(110)]
    lab.operate(lambda op: operations.add_api(op, "big", "https://big.example", scopes))
    party = lab.add_client("big", allow={"big": scopes})
    answer = lab.ask(party.assertion(), scope=" ".join(scopes))
    check_refused(answer, "invalid_scope")
    assert lab.reason(answer) == "token_size"
    assert lab.token(party.assertion(), scope=" ".join(scopes[:40]))


@pytest.mark.rule("OPS-06", "AS-TE-32")
@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_says_nothing(lab: Lab, path: str) -> None:
    """The health endpoints say ok and no more, to nobody's cache."""
    answer = lab.get(path)
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    assert answer.header("cache-control") == "no-store"


@pytest.mark.rule("AS-TE-21")
def test_wrong_methods_are_json_everywhere(lab: Lab) -> None:
    """405 under the well-known paths has the same form as at the token endpoint."""
    for path in (METADATA, JWKS, "/livez"):
        check_refused(send(lab.address, "DELETE", path), "invalid_request", 405)
