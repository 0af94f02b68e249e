"""A table of ways to be wrong for each platform: each is refused, for its reason, and the good token is not."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from groat.protocol.errors import JoseError
from groat.protocol.federation.foreign_token import ORDER, check_issuer, read, refusal
from groat.protocol.federation.trust import Use
from groat.protocol.jwk import base64url_encode, generate_private_key
from tests.protocol.builders import ABSENT, ISS, KEYS, NOW, OTHER_KEY, TE, access_token, refused, segment

from .platforms import (
    GITHUB,
    KUBERNETES,
    PLATFORMS,
    POD,
    SVID,
    TENANT,
    USUAL,
    Platform,
    Presenting,
    in_cluster,
    judge,
    rule,
)

YEAR: Final = 365 * 86400


@dataclass(frozen=True)
class Wrong:
    """One way to be wrong: why it is refused, and what makes it so."""

    reason: str
    token: Callable[[Platform], str]
    how: Presenting = USUAL


def claim(reason: str, **claims: Any) -> Wrong:
    return Wrong(reason, lambda platform: platform.token(**claims))


def head(reason: str, **header: Any) -> Wrong:
    return Wrong(reason, lambda platform: platform.token(header))


def _by_a_stranger(platform: Platform) -> str:
    """With the kid of the right key: another cluster's, or somebody's who knows the key set."""
    key = generate_private_key(platform.key.algorithm, 2048)
    return platform.token({}, key)


def _changed_afterwards(platform: Platform) -> str:
    header, _, signature = platform.token().split(".")
    claims = {**platform.claims, "exp": NOW + 300}
    return f"{header}.{segment(claims)}.{signature}"


def _hmac_with_the_public_key(platform: Platform) -> str:
    data = f"{segment({**platform.header, 'alg': 'HS256'})}.{segment(dict(platform.claims))}"
    mac = hmac.digest(repr(dict(platform.key.public.jwk)).encode(), data.encode(), hashlib.sha256)
    return f"{data}.{base64url_encode(mac).decode()}"


TYPES: Final = (
    "at+jwt", "client-authentication+jwt", "dpop+jwt", "token-introspection+jwt", "statuslist+jwt", "secevent+jwt",
    "logout+jwt", "oauth-id-jag+jwt", "wit+jwt",
)  # fmt: skip
COMMON: Final[Mapping[str, Wrong]] = {
    "the key of another cluster under the same kid": Wrong("signature", _by_a_stranger),
    "changed afterwards": Wrong("signature", _changed_afterwards),
    "an unknown kid": head("key", kid="unknown"),
    "no key at hand": Wrong("key", lambda platform: platform.token(), Presenting(keys=())),
    "an algorithm that the trust has not": Wrong(
        "algorithm", lambda platform: platform.token({"alg": "Ed25519"}, KEYS["Ed25519"])
    ),
    "alg none": head("algorithm", alg="none"),
    "an HMAC with the public key": Wrong("algorithm", _hmac_with_the_public_key),
    "a critical header": head("malformed", crit=["exp"]),
    "no JWT": Wrong("malformed", lambda _: "a.b"),
    **{f"typ {name}": head("type", typ=name) for name in TYPES},
    "the access token of this server": Wrong("issuer", lambda _: access_token()),
    "no exp": claim("claims", exp=ABSENT),
    "exp as text": claim("claims", exp=str(NOW + 60)),
    "expired": claim("expired", exp=NOW - 1, iat=NOW - 60),
    "expired this second": claim("expired", exp=NOW),
    "not yet": claim("not_yet", nbf=NOW + 60),
    "issued in the future": claim("not_yet", iat=NOW + 60),
    "a year of life": claim("lifetime", exp=NOW + YEAR),
    "no aud": claim("audience", aud=ABSENT),
    "an empty array as aud": claim("audience", aud=[]),
    "another aud beside ours": claim("audience", aud=[ISS, "https://other.example"]),
    "our issuer with a slash": claim("audience", aud=f"{ISS}/"),
    "an array within aud": claim("audience", aud=[[ISS]]),
    "the platform's usual audience": Wrong("audience", lambda platform: platform.token(aud=platform.others_audience)),
    "no sub": claim("claims", sub=ABSENT),
    "a number as sub": claim("claims", sub=7),
    "somebody else": Wrong("rule", lambda platform: platform.token(**platform.stranger)),
}  # fmt: skip
WITH_ISSUER: Final[Mapping[str, Wrong]] = {
    "another issuer": claim("issuer", iss="https://evil.example"),
    "the issuer with a slash": Wrong("issuer", lambda platform: platform.token(iss=f"{platform.trust.issuer}/")),
    "no iss": claim("issuer", iss=ABSENT),
    "an array as iss": Wrong("issuer", lambda platform: platform.token(iss=[platform.trust.issuer])),
    "no iat": claim("claims", iat=ABSENT),
}
OWN: Final[Mapping[str, Mapping[str, Wrong]]] = {
    "kubernetes": {
        "sub of another namespace than the object": claim("platform", sub="system:serviceaccount:prod:worker"),
        "the object of another namespace than sub": claim(
            "platform", **{"kubernetes.io": in_cluster(namespace="prod")}
        ),
        "another name than sub": claim(
            "platform", **{"kubernetes.io": in_cluster(serviceaccount={"name": "other", "uid": "u"})}
        ),
        "no object": claim("platform", **{"kubernetes.io": ABSENT}),
        "an array as object": claim("platform", **{"kubernetes.io": []}),
        "bound to no pod": claim("platform", **{"kubernetes.io": in_cluster(pod=ABSENT)}),
        "a pod without uid": claim("platform", **{"kubernetes.io": in_cluster(pod={"name": "billing-7d9c"})}),
        "warnafter": claim("platform", **{"kubernetes.io": in_cluster(warnafter=NOW + 3600)}),
        "the legacy token of a secret": claim(
            "claims",
            exp=ABSENT,
            iat=ABSENT,
            aud=ABSENT,
            **{"kubernetes.io": ABSENT, "kubernetes.io/serviceaccount/namespace": "billing"},
        ),
    },
    "github": {
        "a pull request": claim("rule", event_name="pull_request"),
        "a pull request that runs in the target": claim("rule", event_name="pull_request_target"),
        "no event": claim("rule", event_name=ABSENT),
        "a repository made anew under the name": claim("rule", repository_id="9999"),
        "an owner who took the name": claim("rule", repository_owner_id="9999"),
        "an id as number": claim("rule", repository_id=74),
        "another branch": claim("rule", ref="refs/heads/dev"),
        "a branch that begins alike": claim("rule", ref="refs/heads/main2"),
        "a fork": claim("rule", repository="evil/octo-repo", repository_id="80", repository_owner_id="81"),
        "no jti": claim("claims", jti=ABSENT),
    },
    "gitlab": {
        "a job of the fork in the target's name": claim("platform", job_project_id="99"),
        "a job of another group": claim("platform", job_namespace_id="99"),
        "a merge request": claim("rule", pipeline_source="merge_request_event"),
        "no source": claim("rule", pipeline_source=ABSENT),
        "a branch that is not protected": claim("rule", ref_protected="false"),
        "protected as a boolean": claim("rule", ref_protected=True),
        "an id as number": claim("rule", project_id=20, job_project_id=20),
        "a group that took the path": claim("rule", namespace_id="73", job_namespace_id="73"),
        "no jti": claim("claims", jti=ABSENT),
    },
    "aws": {
        "another role": claim("rule", sub="arn:aws:iam::123456789012:role/Other"),
        "another account": claim("rule", sub="arn:aws:iam::999999999999:role/DataProcessingRole"),
        "a session of the role": claim("rule", sub="arn:aws:sts::123456789012:assumed-role/DataProcessingRole/i-1"),
    },
    "google": {
        "an address of the same name": claim("rule", sub="999", email="worker@my-project.iam.gserviceaccount.com"),
        "a person": claim("platform", email="somebody@example.com"),
        "a person of a company": claim("platform", hd="example.com", email=ABSENT),
        "a person who signed in": claim("platform", nonce="n", email=ABSENT),
        "an address that is no text": claim("platform", email=True),
    },
    "entra": {
        "another tenant": claim("platform", tid="bbbbbbbb-0000-cccc-1111-dddd2222eeee"),
        "no tenant": claim("platform", tid=ABSENT),
        "a person, through an application": claim("platform", scp="user_impersonation"),
        "a person's ID token": claim("platform", preferred_username="somebody@example.com"),
        "a person by idtyp": claim("platform", idtyp="user"),
        "the v1 issuer of the same tenant": claim("issuer", iss=f"https://sts.windows.net/{TENANT}/"),
        "common": claim("issuer", iss="https://login.microsoftonline.com/common/v2.0"),
    },
    "spiffe": {
        "another trust domain": claim("issuer", sub="spiffe://dev.example/ns/billing/sa/worker"),
        "the domain in capital letters": claim("issuer", sub="spiffe://PROD.example/ns/billing/sa/worker"),
        "dots in the path": claim("issuer", sub="spiffe://prod.example/ns/../sa/worker"),
        "a slash at the end": claim("issuer", sub=f"{SVID}/"),
        "a doubled slash": claim("issuer", sub="spiffe://prod.example//worker"),
        "escaped characters": claim("issuer", sub="spiffe://prod.example/ns%2fbilling"),
        "a query": claim("issuer", sub=f"{SVID}?a"),
        "a port": claim("issuer", sub="spiffe://prod.example:8443/ns/billing/sa/worker"),
        "no SPIFFE ID": claim("issuer", sub="worker"),
    },
    "generic": {
        "no jti": claim("claims", jti=ABSENT),
        "a long jti": claim("claims", jti="j" * 257),
        "a number as jti": claim("claims", jti=1),
    },
}
# SPIFFE IDs are where its issuer stands, so that a sub which is none is nobody's.
ELSEWHERE: Final = {
    ("spiffe", "no sub"): "issuer",
    ("spiffe", "a number as sub"): "issuer",
}


def _rows(name: str) -> Mapping[str, Wrong]:
    issuer = {} if name == "spiffe" else WITH_ISSUER
    return {**COMMON, **issuer, **OWN[name]}


CASES: Final = [(name, what) for name in PLATFORMS for what in _rows(name)]


@pytest.mark.rule("AS-JB-02", "AS-JB-04", "AS-JB-06", "AS-JB-09", "AS-JB-10", "AS-WI-01", "AS-WI-02", "AS-WI-05")
@pytest.mark.rule("AS-WI-07", "AS-WI-08", "AS-WI-12")
@pytest.mark.parametrize(("name", "what"), CASES)
def test_wrong(name: str, what: str) -> None:
    """Each is refused for exactly its reason."""
    platform, wrong = PLATFORMS[name], _rows(name)[what]
    with refused(JoseError, ELSEWHERE.get((name, what), wrong.reason)) as caught:
        judge(platform, wrong.token(platform), wrong.how)
    assert caught.value.hint


def test_the_tables_are_long() -> None:
    """At least twenty-five ways to be wrong for each platform."""
    assert {name: len(_rows(name)) for name in PLATFORMS if len(_rows(name)) < 25} == {}


@pytest.mark.rule("AS-WI-01", "AS-WI-05", "AS-WI-09", "AS-WI-10", "AS-WI-11", "AS-WI-12", "AS-JB-14")
@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_good(platform: Platform, use: Use) -> None:
    """The good token is good, as a grant and as authentication, with aud as text and as an array of one."""
    for audience in (ISS, [ISS]):
        assert judge(platform, platform.token(aud=audience), Presenting(use)).rule is platform.rule


@pytest.mark.rule("AS-JB-03", "AS-JB-14")
@pytest.mark.parametrize("audience", [TE, [TE], [ISS, TE]])
def test_the_token_endpoint_is_an_audience_of_grants_alone(audience: Any) -> None:
    """RFC 10070: for client authentication the issuer alone counts; a grant may name the endpoint."""
    token = GITHUB.token(aud=audience)
    judge(GITHUB, token)
    with refused(JoseError, "audience"):
        judge(GITHUB, token, Presenting(Use.AUTHENTICATION))


@pytest.mark.rule("AS-JB-03")
def test_an_operator_may_name_the_audiences_of_a_trust() -> None:
    """Then those count for grants, and no others; authentication keeps to the issuer."""
    platform = replace(GITHUB, trust=replace(GITHUB.trust, audiences=("api://groat",)))
    judge(platform, platform.token(aud="api://groat"))
    with refused(JoseError, "audience"):
        judge(platform, platform.token(aud=ISS))
    judge(platform, platform.token(aud=ISS), Presenting(Use.AUTHENTICATION))
    with refused(JoseError, "audience"):
        judge(platform, platform.token(aud="api://groat"), Presenting(Use.AUTHENTICATION))


@pytest.mark.rule("AS-JB-06")
def test_a_trust_is_for_what_the_operator_says() -> None:
    """Disabled, for grants alone, for authentication alone."""
    for use in Use:
        platform = replace(GITHUB, trust=replace(GITHUB.trust, uses=frozenset({use})))
        for other in Use:
            if other is use:
                judge(platform, platform.token(), Presenting(other))
            else:
                with refused(JoseError, "use"):
                    judge(platform, platform.token(), Presenting(other))
    platform = replace(GITHUB, trust=replace(GITHUB.trust, enabled=False))
    with refused(JoseError, "issuer") as caught:
        judge(platform, platform.token())
    assert "disabled" in caught.value.hint


@pytest.mark.rule("AS-SP-01", "AS-SP-06")
def test_an_svid_by_its_own_type() -> None:
    """Only trust domains have SVIDs, and an SVID that says iss is known by its domain all the same."""
    svid = PLATFORMS["spiffe"]
    judge(svid, svid.token(), Presenting(Use.AUTHENTICATION, svid=True))
    judge(svid, svid.token(iss="https://spire.example"), Presenting(Use.AUTHENTICATION, svid=True))
    judge(svid, svid.token(iss="https://spire.example"))
    with refused(JoseError, "audience"):
        judge(svid, svid.token(aud=[ISS, "x"]), Presenting(Use.AUTHENTICATION, svid=True))
    presented = read(svid.token(), Use.AUTHENTICATION, svid=True)
    with refused(JoseError, "use"):
        check_issuer(presented, GITHUB.trust)


@pytest.mark.rule("AS-WI-12")
def test_an_svid_need_not_say_when_it_began_nor_by_which_key() -> None:
    """iat, jti and iss may be missing; without kid the only fitting key is meant."""
    svid = PLATFORMS["spiffe"]
    judge(svid, svid.token({"kid": ABSENT, "typ": "JOSE"}, iat=ABSENT))
    with refused(JoseError, "lifetime"):
        judge(svid, svid.token(iat=ABSENT, exp=NOW + 3601))
    with refused(JoseError, "key"):
        both = (svid.key.public, OTHER_KEY.public)
        judge(svid, svid.token({"kid": ABSENT}), Presenting(keys=both))


@pytest.mark.rule("AS-WI-02")
def test_the_default_account_where_a_rule_admits_it() -> None:
    """A rule for a namespace does not mean the account that every pod has."""
    token = KUBERNETES.token(
        sub="system:serviceaccount:billing:default",
        **{"kubernetes.io": in_cluster(serviceaccount={"name": "default", "uid": "u"}, pod=POD)},
    )
    whole = '"kubernetes.io".namespace=billing'
    with refused(JoseError, "rule") as caught:
        judge(KUBERNETES, token, Presenting(rules=(rule(whole),)))
    assert "--allow-default" in caught.value.hint
    judge(KUBERNETES, token, Presenting(rules=(rule(whole, allows=frozenset({"default"})),)))


@pytest.mark.rule("AS-WI-07", "AS-WI-08")
@pytest.mark.parametrize(
    ("name", "claims", "listed"),
    [
        ("github", {"event_name": "pull_request"}, "event_name=pull_request"),
        ("gitlab", {"pipeline_source": "merge_request_event"}, "pipeline_source=merge_request_event"),
    ],
)
def test_an_event_that_a_rule_lists(name: str, claims: Mapping[str, Any], listed: str) -> None:
    """Who means pull requests says so."""
    platform = PLATFORMS[name]
    own = rule(*map(str, platform.rule.conditions), listed)
    judge(platform, platform.token(**claims), Presenting(rules=(own,)))


@pytest.mark.rule("AS-WI-06")
@pytest.mark.parametrize(
    "subject",
    ["repo:octo-org/octo-repo:ref:refs/heads/main", "repo:octo-org@65/octo-repo@74:ref:refs/heads/main", "custom"],
)
def test_the_forms_of_githubs_subject(subject: str) -> None:
    """It is never taken apart: both default forms and a customised one are the same workload by its ids."""
    judge(GITHUB, GITHUB.token(sub=subject))


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_no_kid_where_several_keys_fit(platform: Platform) -> None:
    """Then the header must say which; where one fits alone, that is meant."""
    token = platform.token({"kid": ABSENT})
    judge(platform, token)
    other = generate_private_key(platform.key.algorithm, 2048)
    with refused(JoseError, "key"):
        judge(platform, token, Presenting(keys=(platform.key.public, other.public)))


@pytest.mark.rule("AS-JB-16")
def test_outside_every_refusal_reads_the_same() -> None:
    """As a grant and as authentication; only a proven workload that is several clients learns that it must choose."""
    for use, code in ((Use.GRANT, "invalid_grant"), (Use.AUTHENTICATION, "invalid_client")):
        errors = [refusal(JoseError(reason, "why"), use) for reason in ("issuer", "signature", "rule", "client")]
        assert {(error.code, error.status, error.description) for error in errors} == {
            (code, errors[0].status, errors[0].description)
        }
        assert [error.reason for error in errors][:2] == ["workload_issuer", "workload_signature"]
    assert refusal(JoseError("ambiguous"), Use.GRANT).code == "invalid_request"
    assert refusal(JoseError("ambiguous"), Use.AUTHENTICATION).code == "invalid_client"


DEFECTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "audience": {"aud": "https://other.example"},
    "lifetime": {"exp": NOW + YEAR},
    "platform": {"job_project_id": "99"},
    "rules": {"ref_protected": "false"},
}


@pytest.mark.rule("AS-JB-19")
def test_the_earliest_defect_decides() -> None:
    """With everything wrong, and then one thing less wrong at a time, the reasons come in the fixed order."""
    gitlab = PLATFORMS["gitlab"]
    wrong: dict[str, Any] = {name: value for claims in DEFECTS.values() for name, value in claims.items()}
    wrong |= {"nbf": NOW + 60, "iss": "https://evil.example"}
    header: dict[str, Any] = {"typ": "at+jwt", "kid": "unknown", "crit": ["x"]}
    stranger = generate_private_key("RS256", 2048)
    said = []
    for mended in (None, "crit", "iss", "typ", "kid", "key", "nbf", "aud", "exp", "job_project_id", "ref_protected"):
        header.pop(mended or "", None)
        wrong.pop(mended or "", None)
        key = stranger if mended in (None, "crit", "iss", "typ", "kid") else gitlab.key
        try:
            judge(gitlab, gitlab.token(header, key, **wrong))
            said.append("good")
        except JoseError as error:
            said.append(error.reason)
    reasons = ["malformed", "issuer", "type", "key", "signature", "not_yet", "audience", "lifetime", "platform", "rule"]
    assert said == [*reasons, "good"]
    assert len(ORDER) == len(reasons)
