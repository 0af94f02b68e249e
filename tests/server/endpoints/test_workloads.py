"""Tokens of other issuers at /token, on a real socket: as a grant and as client authentication, by the same rules."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.binding import Binding
from groat.protocol.client_settings import SettingsChange
from groat.protocol.errors import OAuthError
from groat.protocol.federation.claim_paths import parse_path
from groat.protocol.federation.trust import KeySource, Replay, SourceKind, Use
from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode
from groat.protocol.key_set import public_key_set
from groat.server import operations
from groat.server.http.exchange import Exchange
from groat.server.http.throttle import Throttle
from groat.server.operations.apis import ApiWish
from groat.server.operations.trusts import TrustChange
from tests.key_set_server import http, target
from tests.proofs import PROOF_KEY, proof
from tests.protocol.builders import KEYS
from tests.protocol.federation import platforms
from tests.protocol.federation.platforms import PLATFORMS, Platform
from tests.server.builders import ISS, NOW, decoded
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_refused, encoded, post

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SPIFFE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
NEAR: Final = f'{DEFAULTS}client_networks = ["127.0.0.0/8"]\n'
assert platforms.NOW == NOW
assert platforms.ISS == ISS


def key_set(*keys: PrivateKey, use: str = "sig") -> str:
    entries = public_key_set([key.public for key in keys])["keys"]
    return json.dumps({"keys": [{**entry, "use": use} for entry in entries]})


def copied(platform: Platform) -> KeySource:
    use = "jwt-svid" if platform.trust.preset == "spiffe" else "sig"
    return KeySource(SourceKind.COPIED, key_set(platform.key, use=use))


def trust(lab: Lab, platform: Platform, name: str, **change: Any) -> None:
    made = TrustChange(**{"source": copied(platform), **change})
    issuer, preset = platform.trust.issuer, platform.trust.preset
    lab.operate(lambda op: operations.add_trust(op, name, issuer, preset, made))


def admit(lab: Lab, platform: Platform, name: str, client: str, copies: tuple[str, ...] = ()) -> str:
    paths = [parse_path(text) for text in copies]
    record = lab.operate(lambda op: operations.add_rule(op, client, name, platform.rule.conditions, paths))
    return record.rule.rule_id


def keyless(lab: Lab, client: str) -> None:
    allow = {"orders": ["orders:read", "orders:write"]}
    lab.operate(lambda op: operations.add_client(op, client, allow, None))


def grant(lab: Lab, token: str, **more: str) -> Answer:
    return post(
        lab.address, encoded(list({"grant_type": GRANT, "assertion": token, "scope": "orders:read", **more}.items()))
    )


def authenticate(lab: Lab, token: str, kind: str = BEARER, **more: str) -> Answer:
    fields = {"grant_type": "client_credentials", "client_assertion": token, "client_assertion_type": kind}
    return post(lab.address, encoded(list({**fields, "scope": "orders:read", **more}.items())))


def fresh(platform: Platform, jti: str, **claims: Any) -> str:
    """A good token of its own jti, where the platform gives one."""
    return platform.token(**({"jti": jti} if "jti" in platform.claims else {}), **claims)


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server of its own: every platform is trusted, and a workload of each is the client of its name."""
    with running(prepare(tmp_path_factory.mktemp("federated"), NEAR)) as lab:
        for name, platform in PLATFORMS.items():
            keyless(lab, name)
            trust(lab, platform, name)
            admit(lab, platform, name, name)
        yield lab


@pytest.mark.rule("AS-JB-01", "AS-JB-14", "AS-JB-17", "AS-SP-01", "AS-SP-06")
@pytest.mark.parametrize("name", PLATFORMS)
def test_a_token_of_each_platform(federated: Lab, name: str) -> None:
    """As a grant and as authentication; the access token is the client's, and the line in the log says who it was."""
    platform = PLATFORMS[name]
    for answer in (
        grant(federated, fresh(platform, f"{name}-grant")),
        authenticate(federated, fresh(platform, f"{name}-authentication")),
    ):
        claims = decoded(check_ok(answer)["access_token"])[1]
        assert (claims["sub"], claims["client_id"]) == (name, name)
        assert "groat:workload" not in claims
        event = federated.event(answer)
        assert (event["event"], event["client"], event["trust"]) == ("token.issued", name, name)
        assert event["workload"] == platform.claims["sub"]
        assert (event["key"], event["alg"]) == (platform.key.kid, platform.key.algorithm)


@pytest.mark.rule("AS-SP-01", "AS-SP-02", "AS-SP-06")
def test_an_svid_by_its_own_type(federated: Lab) -> None:
    """As often as its agent presents it, and no other token by that type."""
    svid, cluster = PLATFORMS["spiffe"], PLATFORMS["kubernetes"]
    same = svid.token()
    for _ in range(2):
        check_ok(authenticate(federated, same, SPIFFE))
    check_ec(authenticate(federated, svid.token(aud=[ISS, "x"]), SPIFFE))
    answer = authenticate(federated, cluster.token(), SPIFFE)
    check_ec(answer)
    assert federated.reason(answer) == "workload_issuer"


@pytest.mark.rule("AS-JB-02", "AS-JB-16")
def test_equal_refusals(federated: Lab) -> None:
    """Whatever is wrong, outside it reads the same; the log has the reason and the nearest rule."""
    github = PLATFORMS["github"]
    wrong: Mapping[str, str] = {
        "workload_issuer": github.token(iss="https://evil.example"),
        "workload_type": github.token({"typ": "at+jwt"}),
        "workload_key": github.token({"kid": "unknown"}),
        "workload_signature": github.token({}, KEYS["RS256"])[:-8] + "AAAAAAAA",
        "workload_expired": github.token(exp=NOW - 1),
        "workload_audience": github.token(aud="https://github.com/octo-org"),
        "workload_lifetime": github.token(exp=NOW + 86400),
        "workload_rule": github.token(ref="refs/heads/dev"),
        "workload_malformed": "a.b",
    }
    bodies = set()
    for reason, token in wrong.items():
        answer = grant(federated, token)
        check_refused(answer, "invalid_grant", 400)
        assert federated.reason(answer) == reason
        bodies.add(answer.body)
        by_assertion = authenticate(federated, token)
        check_ec(by_assertion)
        # What is no JWT, or says that it is something else than a platform's, is no token of a platform.
        known = {"workload_malformed": "assertion_malformed", "workload_type": "assertion_type"}.get(reason, reason)
        assert federated.reason(by_assertion) == known
    assert len(bodies) == 1
    assert "trust" not in federated.event(grant(federated, wrong["workload_issuer"]))
    assert federated.event(grant(federated, wrong["workload_rule"]))["trust"] == "github"
    hint = federated.event(grant(federated, wrong["workload_rule"]))["hint"]
    assert "refs/heads/dev" in hint
    assert "of client github" in hint


@pytest.mark.rule("AS-JB-01")
def test_the_form_of_the_grant(federated: Lab) -> None:
    """One assertion, and nothing beside it that says who asks."""
    token = fresh(PLATFORMS["github"], "form")
    for fields in (
        [("grant_type", GRANT)],
        [("grant_type", GRANT), ("assertion", "")],
        [("grant_type", GRANT), ("assertion", token), ("assertion", token)],
        [("grant_type", GRANT), ("assertion", token), ("client_assertion", token), ("client_assertion_type", BEARER)],
        [("grant_type", GRANT), ("assertion", token), ("client_secret", "x")],
    ):
        check_refused(post(federated.address, encoded(fields)), "invalid_request", 400)
    check_ok(grant(federated, token))
    check_refused(grant(federated, fresh(PLATFORMS["github"], "f2"), scope="orders:none"), "invalid_scope", 400)
    check_refused(
        grant(federated, fresh(PLATFORMS["github"], "f3"), resource="https://x.example"), "invalid_target", 400
    )


@pytest.mark.rule("AS-JB-01")
def test_a_key_of_its_own_is_no_way_to_this_grant(federated: Lab) -> None:
    """An assertion that a client has signed itself is nobody's grant."""
    answer = grant(federated, federated.party.assertion())
    check_refused(answer, "invalid_grant", 400)


@pytest.mark.rule("AS-JB-05", "AS-JB-11")
def test_once_and_again(federated: Lab) -> None:
    """A job's token counts once, in whichever way it comes; a pod's until it ends."""
    job, pod = fresh(PLATFORMS["github"], "once"), PLATFORMS["kubernetes"].token()
    check_ok(grant(federated, job))
    answer = grant(federated, job)
    check_refused(answer, "invalid_grant", 400)
    assert federated.reason(answer) == "workload_replayed"
    by_assertion = authenticate(federated, job)
    check_ec(by_assertion)
    assert federated.reason(by_assertion) == "workload_replayed"
    for _ in range(3):
        check_ok(grant(federated, pod))


@pytest.mark.rule("AS-JB-13")
def test_which_client(federated: Lab) -> None:
    """One workload that is two clients says which; it is no third one."""
    gitlab = PLATFORMS["gitlab"]
    keyless(federated, "second")
    rule = admit(federated, gitlab, "gitlab", "second", ("project_path", "runner_id"))
    check_refused(grant(federated, fresh(gitlab, "c1")), "invalid_request", 400)
    check_ec(authenticate(federated, fresh(gitlab, "c2")))
    answer = grant(federated, fresh(gitlab, "c3"), client_id="second")
    claims = decoded(check_ok(answer)["access_token"])[1]
    assert claims["client_id"] == "second"
    assert claims["groat:workload"] == {"project_path": "my-group/my-project", "runner_id": 1}
    assert federated.event(answer)["rule"] == rule
    check_refused(grant(federated, fresh(gitlab, "c4"), client_id="billing"), "invalid_grant", 400)
    federated.operate(lambda op: operations.remove_rule(op, "second", rule))
    check_ok(grant(federated, fresh(gitlab, "c5")))


@pytest.mark.rule("AS-JB-18", "AS-JB-15")
def test_what_is_changed_counts_at_once(federated: Lab) -> None:
    """A trust that is disabled, a client that is, a use that is taken away; the metadata follow."""
    aws = PLATFORMS["aws"]

    def change(work: Any) -> None:
        federated.operate(work)

    def refused(reason: str) -> None:
        answer = grant(federated, aws.token())
        check_refused(answer, "invalid_grant", 400)
        assert federated.reason(answer) == reason

    check_ok(grant(federated, aws.token()))
    change(lambda op: operations.enable_trust(op, "aws", enabled=False))
    refused("workload_issuer")
    change(lambda op: operations.enable_trust(op, "aws", enabled=True))
    check_ok(grant(federated, aws.token()))
    change(lambda op: operations.enable_client(op, "aws", enabled=False))
    refused("workload_disabled")
    change(lambda op: operations.enable_client(op, "aws", enabled=True))
    change(lambda op: operations.update_trust(op, "aws", TrustChange(uses=frozenset({Use.AUTHENTICATION}))))
    refused("workload_use")
    check_ok(authenticate(federated, aws.token()))
    change(lambda op: operations.update_trust(op, "aws", TrustChange(uses=frozenset(Use))))
    document = federated.get("/.well-known/oauth-authorization-server").json
    assert GRANT in document["grant_types_supported"]
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "spiffe_jwt", "none"]


def test_a_client_with_a_key_may_also_be_a_workload(federated: Lab) -> None:
    """Its own assertions go on as before."""
    entra = PLATFORMS["entra"]
    federated.operate(lambda op: operations.remove_client(op, "entra"))
    admit(federated, entra, "entra", "billing")
    assert decoded(check_ok(grant(federated, entra.token()))["access_token"])[1]["client_id"] == "billing"
    check_ok(federated.ask())


@pytest.mark.rule("AS-JB-15")
def test_without_a_trust_nothing_is_offered(fresh_lab: Callable[..., Lab]) -> None:
    """Neither in the metadata nor at the endpoint, where it reads as any refusal."""
    lab_alone = fresh_lab()
    document = lab_alone.get("/.well-known/oauth-authorization-server").json
    assert document["grant_types_supported"] == ["client_credentials"]
    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    answer = grant(lab_alone, PLATFORMS["github"].token())
    check_refused(answer, "invalid_grant", 400)
    assert "GitHub Actions" in lab_alone.event(answer)["hint"]
    check_ec(authenticate(lab_alone, PLATFORMS["github"].token()))


def far(lab: Lab, name: str, platform: Platform, source: KeySource) -> None:
    """Trust it, by keys that are somewhere else, with a client of the same name."""
    keyless(lab, name)
    trust(lab, platform, name, source=source)
    admit(lab, platform, name, name)


@pytest.mark.rule("AS-JB-07", "AS-WI-04")
def test_keys_of_a_file(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """Read at the first token, and again when a token names a key that is not there; gone, the last good ones serve."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    file = tmp_path / "jwks.json"
    file.write_text(key_set(cluster.key))
    far(lab, "kubernetes", cluster, KeySource(SourceKind.FILE, str(file)))
    check_ok(grant(lab, cluster.token()))
    file.unlink()
    check_ok(grant(lab, cluster.token()))
    new = KEYS["ES256"]
    rotated = cluster.token({"alg": "ES256", "kid": new.kid}, new)
    answer = grant(lab, rotated)
    check_refused(answer, "invalid_grant", 400)
    assert lab.reason(answer) == "workload_key"


@pytest.mark.rule("AS-WI-04")
def test_a_file_is_read_again(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """The new key of a cluster is taken without a restart."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    file, new = tmp_path / "jwks.json", KEYS["ES256"]
    file.write_text(key_set(cluster.key))
    far(lab, "kubernetes", cluster, KeySource(SourceKind.FILE, str(file)))
    check_ok(grant(lab, cluster.token()))
    file.write_text(key_set(cluster.key, new))
    rotated = cluster.token({"alg": "ES256", "kid": new.kid}, new)
    deadline = time.monotonic() + 10
    while grant(lab, rotated).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.rule("AS-JB-19", "I14")
def test_a_good_token_that_no_rule_knows_goes_on_an_account(federated: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody gets good tokens of a public platform: what their signatures take is counted among what failures cost."""
    accounts, failed = [], Throttle.failed

    def watched(throttle: Throttle, exchange: Exchange, error: OAuthError) -> OAuthError:
        accounts.append(exchange.proving)
        return failed(throttle, exchange, error)

    grant(federated, PLATFORMS["github"].token(ref="refs/heads/dev"))  # from here on the key is at hand
    monkeypatch.setattr(Throttle, "failed", watched)
    check_refused(grant(federated, PLATFORMS["github"].token(ref="refs/heads/dev")), "invalid_grant", 400)
    assert len(accounts) == 1
    assert accounts[0] > 0


@pytest.mark.rule("AS-JB-07")
def test_keys_at_a_url(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """By a private authority and a token of a file; without the authority there is no key, and the log says why."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    secret = tmp_path / "token"
    secret.write_text("of-the-pod\n")
    with target(tmp_path, http(key_set(cluster.key).encode())) as (server, _):
        private = KeySource(SourceKind.URI, server.uri, str(tmp_path / "ca.pem"), str(secret))
        far(lab, "kubernetes", cluster, KeySource(SourceKind.URI, server.uri))
        answer = grant(lab, cluster.token())
        check_refused(answer, "invalid_grant", 400)
        assert lab.reason(answer) == "workload_key"
        told = "trust.keys_unavailable"  # by a fetch that goes on beside the request
        until(lambda: any(json.loads(line)["event"] == told for line in lab.lines()), "the log does not say why")
        lab.operate(lambda op: operations.update_trust(op, "kubernetes", TrustChange(source=private)))
        check_ok(grant(lab, cluster.token()))
        hits = server.hits
    check_ok(grant(lab, cluster.token()))  # it is down now, and its keys are known
    assert hits >= 2


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.rule("AS-JB-07")
def test_keys_of_a_new_trust_are_there_before_its_first_token(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """So a source that is away at that moment is in nobody's way."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    with target(tmp_path, http(key_set(cluster.key).encode())) as (server, _):
        far(lab, "kubernetes", cluster, KeySource(SourceKind.URI, server.uri, str(tmp_path / "ca.pem")))
        until(lambda: server.hits == 1, "nobody fetched them")
        time.sleep(0.3)  # the answer is read
    check_ok(grant(lab, cluster.token()))


@pytest.mark.rule("AS-JB-06", "AS-JB-19")
def test_strangers_make_nobody_fetch(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """Nothing is fetched for an issuer that nobody trusts, nor before the header has passed; and then once."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    with target(tmp_path, http(key_set(cluster.key).encode())) as (server, _):
        source = KeySource(SourceKind.URI, server.uri, str(tmp_path / "ca.pem"))
        far(lab, "kubernetes", cluster, source)
        until(lambda: server.hits == 1, "the keys of a new trust are fetched beside")
        for token in (cluster.token(iss=server.uri), cluster.token({"jku": server.uri}, iss="https://evil.example")):
            check_refused(grant(lab, token), "invalid_grant", 400)
        assert server.hits == 1
        for token in (cluster.token({"typ": "at+jwt"}), cluster.token({"alg": "PS256"}, KEYS["PS256"])):
            check_refused(grant(lab, token), "invalid_grant", 400)
        time.sleep(0.3)  # what is fetched beside has come by then
        assert server.hits == 1
        for _ in range(20):
            check_refused(grant(lab, cluster.token({"kid": "made-up"})), "invalid_grant", 400)
        assert server.hits <= 2, "once in half a minute, and once because it was not there"
        check_ok(grant(lab, cluster.token()))


@pytest.mark.rule("AS-JB-07", "P02")
def test_a_silent_issuer_holds_up_nobody_else(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """Tokens of an issuer that does not answer wait, those of clients do not."""
    lab, cluster = fresh_lab(NEAR), PLATFORMS["kubernetes"]
    with target(tmp_path, silent=True) as (server, _):
        far(lab, "kubernetes", cluster, KeySource(SourceKind.URI, server.uri, str(tmp_path / "ca.pem")))
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(grant, lab, cluster.token()) for _ in range(8)]
            check_ok(lab.ask())
            assert not all(one.done() for one in waiting)
            answers = [one.result(20) for one in waiting]
    for answer in answers:
        check_refused(answer, "invalid_grant", 400)


@pytest.mark.rule("AS-JB-05", "P02")
def test_one_token_in_many_requests_at_once(federated: Lab) -> None:
    """Of thirty presentations of a job's token one is good."""
    token, answers = fresh(PLATFORMS["github"], "burst"), list[Answer]()
    threads = [threading.Thread(target=lambda: answers.append(grant(federated, token))) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(answer.status for answer in answers) == [200] + [400] * 29


def held(
    lab: Lab, token: str, key: PrivateKey | None, send: Callable[..., Answer] | None = None, **more: str
) -> Answer:
    """The token as a grant, with a new proof by this key, if any."""
    fields = list({"grant_type": GRANT, "assertion": token, "scope": "orders:read", **more}.items())
    if send is authenticate:
        fields[:2] = [
            ("grant_type", "client_credentials"),
            ("client_assertion", token),
            ("client_assertion_type", BEARER),
        ]
    shown = () if key is None else (("DPoP", proof(f"{ISS.rstrip('/')}/token", NOW, key)),)
    return post(lab.address, encoded(fields), (("Content-Type", FORM), *shown))


@pytest.fixture
def binding(federated: Lab) -> Iterator[Lab]:
    """The pods' trust binds."""
    federated.operate(lambda op: operations.update_trust(op, "kubernetes", TrustChange(replay=Replay.BIND)))
    yield federated
    federated.operate(lambda op: operations.update_trust(op, "kubernetes", TrustChange(replay=Replay.AUTO)))


@pytest.mark.rule("AS-JB-11")
def test_the_first_key_owns_a_token(binding: Lab) -> None:
    """Another key, or none, is refused as for any fault of the token, in both uses; the log says which."""
    one, two = KEYS["ES256"], PROOF_KEY
    pod = PLATFORMS["kubernetes"].token(jti="owned")
    refused = held(binding, pod, None)
    check_refused(refused, "invalid_grant", 400)
    assert binding.reason(refused) == "workload_unproven"
    claims = decoded(check_ok(held(binding, pod, one))["access_token"])[1]
    assert claims["cnf"] == {"jkt": one.public.thumbprint}
    check_ok(held(binding, pod, one))
    check_ok(held(binding, pod, one, authenticate))
    for key, reason in ((two, "workload_anothers"), (None, "workload_unproven")):
        answer = held(binding, pod, key)
        check_refused(answer, "invalid_grant", 400)
        assert answer.body == refused.body
        assert binding.reason(answer) == reason
        by_assertion = held(binding, pod, key, authenticate)
        check_ec(by_assertion)
        assert binding.reason(by_assertion) == reason
    check_ok(held(binding, PLATFORMS["kubernetes"].token(jti="next"), two))
    check_ok(held(binding, pod, one))


@pytest.mark.rule("AS-JB-11")
def test_a_second_text_of_a_token_has_the_same_owner(binding: Lab) -> None:
    """An ECDSA signature has a twin that everybody can compute; it makes no second token of one that was stolen."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    key = KEYS["ES256"]
    change = TrustChange(source=KeySource(SourceKind.COPIED, key_set(key)))
    before = TrustChange(source=copied(PLATFORMS["kubernetes"]))
    binding.operate(lambda op: operations.update_trust(op, "kubernetes", change))
    pod = PLATFORMS["kubernetes"].token({"alg": "ES256", "kid": key.kid}, key, jti="twin")
    data, _, signature = pod.rpartition(".")
    raw = base64url_decode(signature)
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    check_ok(held(binding, pod, key))
    answer = held(binding, f"{data}.{base64url_encode(twin).decode()}", PROOF_KEY)
    assert binding.reason(answer) == "workload_anothers"
    check_ok(held(binding, f"{data}.{base64url_encode(twin).decode()}", key))
    binding.operate(lambda op: operations.update_trust(op, "kubernetes", before))


@pytest.mark.rule("AS-JB-11")
def test_auto_binds_for_clients_that_want_it(federated: Lab) -> None:
    """By default a pod's token may be used by anybody who has it, unless the client's tokens must be bound."""
    pod = PLATFORMS["kubernetes"].token(jti="auto")
    check_ok(held(federated, pod, KEYS["ES256"]))
    check_ok(held(federated, pod, PROOF_KEY))
    check_ok(held(federated, pod, None))
    bound = SettingsChange(binding=Binding.DPOP)
    federated.operate(lambda op: operations.update_client(op, "kubernetes", change=bound))
    check_ok(held(federated, pod, KEYS["ES256"]))
    answer = held(federated, pod, PROOF_KEY)
    check_refused(answer, "invalid_grant", 400)
    assert federated.reason(answer) == "workload_anothers"
    missing = held(federated, pod, None)
    check_refused(missing, "invalid_dpop_proof", 400)  # who must send a proof is told so
    free = SettingsChange(binding=Binding.NONE)
    federated.operate(lambda op: operations.update_client(op, "kubernetes", change=free))
    check_ok(held(federated, pod, None))
    federated.operate(lambda op: operations.update_api(op, "orders", ApiWish(binding=Binding.DPOP)))
    assert federated.reason(held(federated, pod, PROOF_KEY)) == "workload_anothers"
    check_ok(held(federated, pod, KEYS["ES256"]))
    federated.operate(lambda op: operations.update_api(op, "orders", ApiWish(binding=Binding.NONE)))
    check_ok(held(federated, pod, PROOF_KEY))


@pytest.mark.rule("AS-JB-11", "AS-JB-19")
def test_what_is_wrong_with_a_proof_is_said_first(binding: Lab) -> None:
    """A bad proof claims nothing; the rules come before the proof, and the owner before resource and scope."""
    pod = PLATFORMS["kubernetes"].token(jti="order")
    stale = (("Content-Type", FORM), ("DPoP", proof(f"{ISS.rstrip('/')}/token", NOW - 3600)))
    fields = [("grant_type", GRANT), ("assertion", pod), ("scope", "orders:read")]
    check_refused(post(binding.address, encoded(fields), stale), "invalid_dpop_proof", 400)
    stranger = PLATFORMS["kubernetes"].token(**PLATFORMS["kubernetes"].stranger)
    check_refused(held(binding, stranger, None), "invalid_grant", 400)
    check_ok(held(binding, pod, KEYS["ES256"]))
    check_refused(held(binding, pod, PROOF_KEY, scope="orders:none"), "invalid_grant", 400)
    check_refused(held(binding, pod, KEYS["ES256"], scope="orders:none"), "invalid_scope", 400)
