"""`POST /introspect` and `POST /revoke` on a real socket: what an API hears about a token, and who ends one."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from groat.protocol.access_token import Expectations, parse_access_token
from groat.protocol.errors import InvalidToken
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.protocol.introspection import SIGNED_MEDIA_TYPE, wants_signed
from groat.protocol.jose import parse_jwt, verify_signature
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_set import import_key_set, public_key_set
from groat.server import operations
from groat.server.operations.trusts import TrustChange
from tests.proofs import proof
from tests.protocol.federation.platforms import PLATFORMS
from tests.server.builders import ISS, NOW, ORDERS, Party, compact, decoded
from tests.server.lab import Lab
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_private_json, check_refused, encoded, post

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
INACTIVE: Final = b'{"active":false}'


def ask(lab: Lab, who: Party, target: str = "/introspect", /, accept: str = "", **fields: str) -> Answer:
    """A question or a revocation by an assertion of this party."""
    form = {"client_assertion_type": JWT_BEARER, "client_assertion": who.assertion(), **fields}
    headers = [("Content-Type", FORM), *([("Accept", accept)] if accept else [])]
    return post(lab.address, encoded([(name, value) for name, value in form.items() if value]), headers, target)


def api(lab: Lab, name: str = "orders") -> Party:
    """An API that may ask, by a key of its own."""
    party = Party(name)
    lab.operate(lambda op: operations.add_api_keys(op, name, [party.key.public]))
    return party


@pytest.fixture
def lab(fresh_lab: Callable[..., Lab]) -> Lab:
    """A server of its own: what is taken back here is nobody else's."""
    return fresh_lab()


@pytest.fixture
def orders(lab: Lab) -> Party:
    return api(lab)


def check_inactive(lab: Lab, answer: Answer, reason: str) -> None:
    """One member, whatever the cause (AS-IN-04); the log has the cause."""
    assert answer.status == 200, answer
    assert answer.body == INACTIVE
    check_private_json(answer)
    assert lab.reason(answer) == reason


@pytest.mark.rule("AS-IN-01", "AS-IN-02", "AS-IN-03", "AS-IN-05", "AS-IN-06")
def test_a_token_that_counts(lab: Lab, orders: Party) -> None:
    """All that the token says, and its type; a hint changes nothing."""
    token = lab.token()
    claims = decoded(token)[1]
    for hint in ("", "access_token", "refresh_token", "xyz"):
        answer = ask(lab, orders, token=token, token_type_hint=hint)
        check_private_json(answer)
        assert answer.json == {"active": True, "token_type": "Bearer", **claims}


@pytest.mark.rule("AS-IN-01")
def test_what_is_no_question(lab: Lab, orders: Party) -> None:
    """No token, or another method."""
    check_refused(ask(lab, orders), "invalid_request")
    assert lab.get("/introspect").status == 405
    check_refused(post(lab.address, b"token=x", target="/introspect?token=x"), "invalid_request")


@pytest.mark.rule("AS-IN-02", "AS-IN-09")
def test_who_may_ask(lab: Lab, orders: Party) -> None:
    """APIs by their own key alone: a client of whatever name is nobody here."""
    token = lab.token()
    check_ec(ask(lab, lab.party, token=token))
    check_ec(ask(lab, Party("orders"), token=token))  # a key that is not registered
    check_ec(ask(lab, Party("nobody"), token=token))
    namesake = lab.add_client("stock")
    check_ec(ask(lab, namesake, token=token))
    check_ec(post(lab.address, encoded([("token", token)]), target="/introspect"))
    # And the other way round: the key of an API gets no token.
    check_ec(lab.ask(orders.assertion()))


@pytest.mark.rule("AS-IN-11")
def test_an_assertion_of_an_api_counts_once(lab: Lab, orders: Party) -> None:
    """Also where a client of the same name has used the same jti."""
    namesake, jti = lab.add_client("orders"), "one-of-mine"
    form = {"client_assertion_type": JWT_BEARER, "client_assertion": orders.assertion(jti=jti), "token": "x"}
    answers = [post(lab.address, encoded(list(form.items())), target="/introspect") for _ in range(2)]
    assert answers[0].body == INACTIVE
    check_ec(answers[1])
    assert lab.reason(answers[1]) == "assertion_replayed"
    check_ok(lab.ask(namesake.assertion(jti="another")))


def _of_another_api(lab: Lab) -> str:
    both = lab.add_client("both", allow={"stock": ["stock:read"]}, default_scopes=("stock:read",))
    return lab.token(both.assertion())


@pytest.mark.rule("AS-IN-04", "AS-IN-10", "AS-IN-15")
def test_what_does_not_count(lab: Lab, orders: Party) -> None:
    """Garbage, forged, over, of another API: the same bytes, the cause in the log."""
    token = lab.token()
    header, claims = decoded(token)
    stranger = generate_private_key("ES256")
    cases = {
        "garbage": "malformed",
        compact(header, {**claims, "jti": "\ud800"}, stranger): "malformed",
        lab.party.assertion(): "type",
        compact(header, claims, stranger): "signature",
        compact({**header, "kid": "other"}, claims, stranger): "key_unknown",
        _of_another_api(lab): "audience",
    }
    for case, reason in cases.items():
        check_inactive(lab, ask(lab, orders, token=case), reason)
    with lab.clock.at(NOW + 601):
        late = Party("orders", orders.key, NOW + 601)
        check_inactive(lab, ask(lab, late, token=token), "expired")


@pytest.mark.rule("AS-IN-12", "AS-RV-06")
@pytest.mark.parametrize("cause", ["client", "api", "all", "disabled", "removed", "token", "key"])
def test_each_cause_at_the_next_question(lab: Lab, orders: Party, cause: str) -> None:
    """What was issued before is over at once; what is issued after it counts, within the same second, too."""
    token = lab.token()
    before = ask(lab, orders, token=token)
    assert before.json["active"] is True
    jti, kid = decoded(token)[1]["jti"], lab.kids()[0]
    lab.operate(_cause(cause, jti))
    if cause == "key":
        lab.operate(lambda op: operations.revoke_signing_key(_ring(lab, op), kid))
    answer = ask(lab, orders, token=token)
    check_inactive(lab, answer, "key_unknown" if cause == "key" else "revoked")
    if cause in ("client", "api", "all"):
        after = lab.token()
        assert decoded(after)[1]["iat"] == NOW + 1
        assert ask(lab, orders, token=after).json["active"] is True
        lab.operate(_cause(cause, jti))
        check_inactive(lab, ask(lab, orders, token=after), "revoked")
        assert ask(lab, orders, token=lab.token()).json["active"] is True
    if cause == "token":
        assert ask(lab, orders, token=lab.token()).json["active"] is True


def _ring(lab: Lab, op: operations.Operator) -> operations.Ring:
    return operations.Ring(op, lab.kek, "ES256")


def _cause(cause: str, jti: str) -> Callable[[operations.Operator], Any]:
    async def nothing(op: operations.Operator) -> None:
        """The key is revoked by its own operation."""

    causes: Mapping[str, Callable[[operations.Operator], Any]] = {
        "client": lambda op: operations.revoke_client_tokens(op, "billing"),
        "api": lambda op: operations.revoke_api_tokens(op, "orders"),
        "all": operations.revoke_all_tokens,
        "disabled": lambda op: operations.enable_client(op, "billing", enabled=False),
        "removed": lambda op: operations.remove_client(op, "billing"),
        "token": lambda op: operations.revoke_token(op, jti),
        "key": nothing,
    }
    return causes[cause]


@pytest.mark.rule("AS-RV-06")
def test_a_cut_of_another_touches_nobody(lab: Lab, orders: Party) -> None:
    """One client's, and one API's."""
    lab.add_client("other")
    token = lab.token()
    lab.operate(lambda op: operations.revoke_client_tokens(op, "other"))
    lab.operate(lambda op: operations.revoke_api_tokens(op, "stock"))
    assert ask(lab, orders, token=token).json["active"] is True
    assert decoded(lab.token())[1]["iat"] == NOW


def test_no_token_says_to_be_of_a_time_that_nobody_believes(lab: Lab) -> None:
    """Where the second of a cut lies far ahead, by a clock that was wrong: 503 until then, and nothing is issued."""
    with lab.clock.at(NOW + 600):
        lab.operate(lambda op: operations.revoke_client_tokens(op, "billing"))
    answer = lab.ask()
    check_refused(answer, "temporarily_unavailable", 503)
    assert answer.header("retry-after") == "593"
    assert lab.reason(answer) == "revoked_ahead"
    with lab.clock.at(NOW + 593):
        late = Party("billing", lab.party.key, NOW + 593)
        assert decoded(lab.token(late.assertion()))[1]["iat"] == NOW + 601


@pytest.mark.rule("AS-RV-06")
def test_a_replica_whose_clock_is_ahead(lab: Lab, orders: Party) -> None:
    """What it has issued for the next seconds is over, too."""
    with lab.clock.at(NOW + 5):
        ahead = Party("billing", lab.party.key, NOW + 5)
        token = lab.token(ahead.assertion())
    lab.operate(lambda op: operations.revoke_client_tokens(op, "billing"))
    check_inactive(lab, ask(lab, orders, token=token), "revoked")
    assert decoded(lab.token())[1]["iat"] == NOW + 6


@pytest.mark.rule("AS-DP-20")
def test_a_bound_token(lab: Lab, orders: Party) -> None:
    """Its key, and DPoP for its type."""
    key = generate_private_key("ES256")
    made = proof(f"{ISS}/token", NOW, key)
    form = encoded(
        [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", lab.party.assertion()),
        ]
    )
    token = check_ok(lab.post(form, FORM, ("DPoP", made)))["access_token"]
    said = ask(lab, orders, token=token).json
    assert (said["token_type"], said["cnf"]) == ("DPoP", {"jkt": key.public.thumbprint})


@pytest.mark.rule("AS-IN-07", "AS-IN-08", "AS-IN-14")
def test_the_signed_form(lab: Lab, orders: Party) -> None:
    """A JWT of its own type for the API that asked; of an inactive token it says that one member."""
    token = lab.token()
    answer = ask(lab, orders, accept=SIGNED_MEDIA_TYPE, token=token)
    assert answer.status == 200
    assert answer.header("content-type") == SIGNED_MEDIA_TYPE
    assert answer.header("cache-control") == "no-store"
    signed = answer.body.decode()
    header, claims = decoded(signed)
    assert (header["typ"], header["kid"]) == ("token-introspection+jwt", lab.kids()[0])
    said = {"active": True, "token_type": "Bearer", **decoded(token)[1]}
    assert claims == {"iss": ISS, "aud": ORDERS, "iat": NOW, "token_introspection": said}
    inactive = ask(lab, orders, accept=SIGNED_MEDIA_TYPE, token="garbage").body.decode()
    assert decoded(inactive)[1]["token_introspection"] == {"active": False}
    # Nothing else: neither an access token nor an assertion, nor one that can be taken back.
    with pytest.raises(InvalidToken, match="type"):
        parse_access_token(signed, Expectations(ISS, ORDERS))
    check_ec(lab.ask(signed))
    check_refused(ask(lab, lab.party, "/revoke", token=signed), "unsupported_token_type")
    (key,) = import_key_set(lab.get("/.well-known/jwks.json").json)
    verify_signature(parse_jwt(signed), key)


@pytest.mark.rule("AS-IN-09")
def test_the_signed_form_for_somebody_unknown(lab: Lab) -> None:
    """400 without credentials, so that he does not fall back; wrong ones are refused alike in both forms."""
    headers = [("Content-Type", FORM), ("Accept", SIGNED_MEDIA_TYPE)]
    check_refused(post(lab.address, b"token=x", headers, "/introspect"), "invalid_request")
    check_ec(ask(lab, Party("orders"), accept=SIGNED_MEDIA_TYPE, token="x"))


@pytest.mark.rule("AS-IN-13")
@pytest.mark.parametrize(
    ("accept", "signed"),
    [
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        (SIGNED_MEDIA_TYPE, True),
        (SIGNED_MEDIA_TYPE.upper(), True),
        (f"{SIGNED_MEDIA_TYPE};q=0", False),
        (f"{SIGNED_MEDIA_TYPE};q=0.5, application/json;q=0.4", True),
        (f"{SIGNED_MEDIA_TYPE};q=0.5, application/json", False),
        (f"application/json, {SIGNED_MEDIA_TYPE}", True),
        (f"{SIGNED_MEDIA_TYPE};q=x", False),
        ("text/html", False),
    ],
)
def test_which_form(accept: str, signed: bool) -> None:
    """The signed one only where it is named, and liked no less than JSON."""
    assert wants_signed([accept]) is signed


@pytest.fixture
def asking_client(lab: Lab) -> Party:
    """A client of the API's name that may ask by a token."""
    lab.operate(lambda op: operations.add_api(op, "groat", ISS, ["groat:introspect", "groat:other"]))
    return lab.add_client("orders", allow={"groat": ["groat:introspect", "groat:other"]})


def bearer(lab: Lab, by: str, token: str, accept: str = "") -> Answer:
    headers = [("Content-Type", FORM), ("Authorization", f"Bearer {by}"), *([("Accept", accept)] if accept else [])]
    return post(lab.address, encoded([("token", token)]), headers, "/introspect")


@pytest.mark.rule("AS-IN-11")
def test_by_an_access_token(lab: Lab, asking_client: Party) -> None:
    """As often as it likes, without a row; a token of another kind is none."""
    token, by = lab.token(), lab.token(asking_client.assertion(), scope="groat:introspect")
    for _ in range(20):
        assert bearer(lab, by, token).json["active"] is True
    assert decoded(bearer(lab, by, token, SIGNED_MEDIA_TYPE).body.decode())[1]["aud"] == ORDERS
    without = lab.token(asking_client.assertion(), scope="groat:other")
    for wrong in (token, without, "garbage", asking_client.assertion()):
        answer = bearer(lab, wrong, token)
        assert (answer.status, answer.json["error"]) == (401, "invalid_token")
        assert answer.header("www-authenticate") == 'Bearer realm="groat", error="invalid_token"'
    lab.operate(lambda op: operations.revoke_client_tokens(op, "orders"))
    assert bearer(lab, by, token).status == 401


# Revocation by clients


@pytest.mark.rule("AS-RV-01", "AS-RV-02", "AS-RV-04", "AS-RV-05", "AS-RV-07")
def test_a_client_takes_its_token_back(lab: Lab, orders: Party) -> None:
    """Durable, at once, and again; whatever the hint says."""
    token, kept = lab.token(), lab.token()
    for _ in range(2):
        answer = ask(lab, lab.party, "/revoke", token=token, token_type_hint="refresh_token")
        assert (answer.status, answer.body) == (200, b"")
        check_inactive(lab, ask(lab, orders, token=token), "revoked")
    assert ask(lab, orders, token=kept).json["active"] is True
    assert rows(lab) == 1


def rows(lab: Lab) -> int:
    async def count(op: operations.Operator) -> int:
        return sum([len(rows) async for rows in op.store.read_all("revoked_tokens")])

    return lab.operate(count)


@pytest.mark.rule("AS-RV-02", "AS-RV-05")
def test_what_is_no_token_any_more(lab: Lab) -> None:
    """200, and nothing is written for it."""
    token = lab.token()
    header, claims = decoded(token)
    forged = compact(header, claims, generate_private_key("ES256"))
    for garbage in ("garbage", "a.b.c", forged, lab.party.assertion()):
        assert ask(lab, lab.party, "/revoke", token=garbage).status == 200
    with lab.clock.at(NOW + 700):
        late = Party("billing", lab.party.key, NOW + 700)
        assert ask(lab, late, "/revoke", token=token).status == 200
    assert rows(lab) == 0


@pytest.mark.rule("AS-RV-01", "AS-RV-03")
def test_who_may_take_back_what(lab: Lab, orders: Party) -> None:
    """Nobody another's; nobody without saying who he is, and nothing without a token."""
    token, other = lab.token(), lab.add_client("other")
    check_refused(ask(lab, other, "/revoke", token=token), "unauthorized_client")
    check_ec(ask(lab, Party("billing"), "/revoke", token=token))
    check_ec(ask(lab, orders, "/revoke", token=token))
    check_refused(ask(lab, lab.party, "/revoke"), "invalid_request")
    assert ask(lab, orders, token=token).json["active"] is True
    assert lab.get("/revoke").status == 405


def test_the_metadata_name_both(lab: Lab) -> None:
    """Where they are, and how to authenticate there (RFC 8414 2)."""
    document = lab.get("/.well-known/oauth-authorization-server").json
    for name, path in (("introspection", "/introspect"), ("revocation", "/revoke")):
        assert document[f"{name}_endpoint"] == ISS + path
        assert document[f"{name}_endpoint_auth_methods_supported"] == ["private_key_jwt"]
        assert "ES256" in document[f"{name}_endpoint_auth_signing_alg_values_supported"]


@pytest.mark.rule("AS-RV-06")
def test_the_clients_of_a_trust(lab: Lab, orders: Party) -> None:
    """All that its rules make somebody; others are not touched."""
    token, robot = lab.token(), lab.add_client("robot")
    platform = PLATFORMS["github"]
    source = KeySource(SourceKind.COPIED, json.dumps(public_key_set([platform.key.public])))
    change = TrustChange(source=source)
    lab.operate(lambda op: operations.add_trust(op, "ci", platform.trust.issuer, "github", change))
    assert lab.operate(lambda op: operations.revoke_trust_tokens(op, "ci")) == ()
    lab.operate(lambda op: operations.add_rule(op, "robot", "ci", platform.rule.conditions, []))
    of_robot = lab.token(robot.assertion())
    assert lab.operate(lambda op: operations.revoke_trust_tokens(op, "ci")) == ("robot",)
    check_inactive(lab, ask(lab, orders, token=of_robot), "revoked")
    assert ask(lab, orders, token=token).json["active"] is True
    (cut,) = lab.operate(operations.list_revocations)
    assert (cut.kind, cut.subject, cut.not_before) == ("client", "robot", NOW + 1)
