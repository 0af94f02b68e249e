"""A good token of each platform, shaped as its documentation says, signed by test keys.

Sources, read for this file:
- kubernetes: "Managing Service Accounts", Bound service account tokens; the header of 1.34 has alg and kid alone
  (kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin).
- github: the example token of "OpenID Connect" (docs.github.com/en/actions/concepts/security/openid-connect).
- gitlab: the token payload of "OIDC authentication using ID tokens" (docs.gitlab.com/ci/secrets/id_token_authentication);
  job_project_id of gitlab-org/gitlab merge request 202241.
- aws: the sample token of "Understanding token claims" (docs.aws.amazon.com/IAM/latest/UserGuide,
  id_roles_providers_outbound_token_claims).
- google: "Verify the identity of an instance", the payload in format full (cloud.google.com/compute/docs/instances).
- entra: "Access token claims reference" (learn.microsoft.com/entra/identity-platform/access-token-claims-reference); iat
  of a managed identity's token lies five minutes back.
- spiffe: "The SPIFFE JWT-SVID" 3 and 4, and the example of a bundle (spiffe.io/docs/latest/spiffe-specs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.foreign_token import Proven, check_issuer, match, prove, read
from groat.protocol.federation.presets import check_rule, check_trust, preset_of
from groat.protocol.federation.rules import Match, Rule
from groat.protocol.federation.trust import KeySource, SourceKind, Trust, Use
from groat.protocol.jwk import PrivateKey, PublicKey
from groat.protocol.models import Policy
from tests.protocol.builders import ISS, KEYS, NOW, POLICY, changed, compact

SOURCE: Final = KeySource(SourceKind.COPIED, '{"keys":[]}')


@dataclass(frozen=True)
class Platform:
    """One platform: its trust, a rule that fits, and the header and claims of a token that is good."""

    trust: Trust
    key: PrivateKey
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    rule: Rule
    others_audience: str
    stranger: Mapping[str, Any] = field(default_factory=dict)  # claims of a token that must meet no rule

    def token(self, header: Mapping[str, Any] | None = None, key: PrivateKey | None = None, /, **claims: Any) -> str:
        """The good token, with changes."""
        return compact(changed(self.header, header or {}), changed(self.claims, claims), key or self.key)


@dataclass(frozen=True)
class Presenting:
    """How a token is presented, to whom, when; what is not said is as it should be."""

    use: Use = Use.GRANT
    client_id: str | None = None
    svid: bool = False
    keys: Sequence[PublicKey] | None = None
    rules: Sequence[Rule] | None = None
    policy: Policy = POLICY
    now: float = NOW


USUAL: Final = Presenting()


def show(platform: Platform, token: str, how: Presenting = USUAL) -> Proven:
    """Whether the token holds, through the same steps as the server's."""
    presented = read(token, how.use, how.client_id, svid=how.svid)
    trust = platform.trust if platform.trust.issuer in presented.issuers else None
    keys = (platform.key.public,) if how.keys is None else how.keys
    return prove(presented, check_issuer(presented, trust), lambda: keys, how.policy, how.now)


def judge(platform: Platform, token: str, how: Presenting = USUAL) -> Match:
    """Who the workload is."""
    return match(show(platform, token, how), (platform.rule,) if how.rules is None else how.rules)


def rule(*conditions: str, name: str = "r-1", client: str = "billing", **more: Any) -> Rule:
    """A rule as it is written on a command line."""
    return Rule(name, "ci", client, tuple(map(Condition.parse, conditions)), **more)


def _platform(preset: str, issuer: str, rule: Rule, **more: Any) -> Platform:
    trust = Trust(name="ci", issuer=issuer, source=SOURCE, preset=preset, algorithms=("RS256",))
    defaults = preset_of(trust)
    trust = replace(
        trust,
        algorithms=defaults.algorithms,
        replay=defaults.replay,
        max_lifetime=defaults.max_lifetime,
    )
    check_trust(trust)
    check_rule(rule, trust)
    return Platform(trust, rule=rule, **more)


def _header(key: PrivateKey, **more: Any) -> dict[str, Any]:
    return {"alg": key.algorithm, "kid": key.kid, **more}


TIMES: Final = {"iat": NOW - 10, "exp": NOW + 890}
RSA: Final = KEYS["RS256"]
POD: Final = {"name": "billing-7d9c", "uid": "8597bc3b-7219-47dc-9d9d-a4a6bfeb8d94"}
TENANT: Final = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
PRINCIPAL: Final = "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"
ROLE: Final = "arn:aws:iam::123456789012:role/DataProcessingRole"
SVID: Final = "spiffe://prod.example/ns/billing/sa/worker"


def in_cluster(**changes: Any) -> dict[str, Any]:
    """The object `kubernetes.io` of the good token, with changes."""
    good = {
        "namespace": "billing",
        "node": {"name": "worker-1", "uid": "aad42a6b-b5dc-4d96-95b3-902cb3dc9e4a"},
        "pod": POD,
        "serviceaccount": {"name": "worker", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
    }
    return changed(good, changes)


KUBERNETES: Final = _platform(
    "kubernetes",
    "https://kubernetes.default.svc.cluster.local",
    rule("sub=system:serviceaccount:billing:worker"),
    key=RSA,
    header=_header(RSA),
    claims={
        "aud": [ISS],
        "exp": NOW + 3590,
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "iss": "https://kubernetes.default.svc.cluster.local",
        "jti": "a9a186b9-58c4-4000-b767-e55399d278dd",
        "kubernetes.io": in_cluster(),
        "sub": "system:serviceaccount:billing:worker",
    },
    others_audience="https://kubernetes.default.svc.cluster.local",
    stranger={
        "sub": "system:serviceaccount:billing:other",
        "kubernetes.io": in_cluster(serviceaccount={"name": "other", "uid": "u"}),
    },
)
GITHUB: Final = _platform(
    "github",
    "https://token.actions.githubusercontent.com",
    rule("repository_owner_id=65", "repository_id=74", "ref=refs/heads/main"),
    key=RSA,
    header=_header(RSA, typ="JWT", x5t="example-thumbprint"),
    claims={
        "jti": "example-id",
        "sub": "repo:octo-org/octo-repo:environment:prod",
        "environment": "prod",
        "aud": ISS,
        "ref": "refs/heads/main",
        "sha": "example-sha",
        "repository": "octo-org/octo-repo",
        "repository_owner": "octo-org",
        "actor_id": "12",
        "repository_visibility": "private",
        "repository_id": "74",
        "repository_owner_id": "65",
        "run_id": "example-run-id",
        "run_number": "10",
        "run_attempt": "2",
        "runner_environment": "github-hosted",
        "actor": "octocat",
        "workflow": "example-workflow",
        "head_ref": "",
        "base_ref": "",
        "event_name": "workflow_dispatch",
        "ref_type": "branch",
        "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
        "iss": "https://token.actions.githubusercontent.com",
        "nbf": NOW - 610,
        "exp": NOW + 290,
        "iat": NOW - 10,
    },
    others_audience="https://github.com/octo-org",
    stranger={"repository_id": "75"},
)
GITLAB: Final = _platform(
    "gitlab",
    "https://gitlab.example.com",
    rule("project_id=20", "namespace_id=72", "ref_protected=true"),
    key=RSA,
    header=_header(RSA, typ="JWT"),
    claims={
        "namespace_id": "72",
        "namespace_path": "my-group",
        "project_id": "20",
        "project_path": "my-group/my-project",
        "job_project_id": "20",
        "job_project_path": "my-group/my-project",
        "job_namespace_id": "72",
        "job_namespace_path": "my-group",
        "user_id": "1",
        "user_login": "sample-user",
        "user_email": "sample-user@example.com",
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": "302",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "environment": "production",
        "environment_protected": "true",
        "deployment_tier": "production",
        "runner_id": 1,
        "runner_environment": "self-hosted",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
        "iss": "https://gitlab.example.com",
        "iat": NOW - 10,
        "nbf": NOW - 15,
        "exp": NOW + 3590,
        "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
        "aud": ISS,
    },
    others_audience="https://vault.example.com",
    stranger={"project_id": "21", "job_project_id": "21"},
)
AWS: Final = _platform(
    "aws",
    "https://abc123-def456-ghi789-jkl012.tokens.sts.global.api.aws",
    rule(f"sub={ROLE}"),
    key=KEYS["ES384"],
    header=_header(KEYS["ES384"], typ="JWT"),
    claims={
        "iss": "https://abc123-def456-ghi789-jkl012.tokens.sts.global.api.aws",
        "aud": ISS,
        "sub": ROLE,
        **TIMES,
        "jti": "xyz123-def456-ghi789-jkl012",
        "https://sts.amazonaws.com/": {
            "aws_account": "123456789012",
            "source_region": "us-east-1",
            "org_id": "o-abc1234567",
            "principal_tags": {"environment": "production", "cost-center": "engineering"},
            "lambda_source_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:process-data",
        },
    },
    others_audience="https://api.example.com",
    stranger={"sub": f"{ROLE}2"},
)
GOOGLE: Final = _platform(
    "google",
    "https://accounts.google.com",
    rule("sub=112179062720391305885"),
    key=RSA,
    header=_header(RSA, typ="JWT"),
    claims={
        "iss": "https://accounts.google.com",
        "iat": NOW - 10,
        "exp": NOW + 3590,
        "aud": ISS,
        "sub": "112179062720391305885",
        "azp": "112179062720391305885",
        "email": "worker@my-project.iam.gserviceaccount.com",
        "email_verified": True,
        "google": {
            "compute_engine": {
                "project_id": "my-project",
                "project_number": 739419398126,
                "zone": "us-west1-a",
                "instance_id": "152986662232938449",
                "instance_name": "example",
                "instance_creation_timestamp": 1504109467,
            }
        },
    },
    others_audience="32555940559.apps.googleusercontent.com",
    stranger={"sub": "112179062720391305886"},
)
ENTRA: Final = _platform(
    "entra",
    f"https://login.microsoftonline.com/{TENANT}/v2.0",
    rule(f"tid={TENANT}", f"oid={PRINCIPAL}"),
    key=RSA,
    header=_header(RSA, typ="JWT", x5t="example-thumbprint"),
    claims={
        "aud": ISS,
        "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "iat": NOW - 310,
        "nbf": NOW - 310,
        "exp": NOW + 86390,
        "aio": "example",
        "azp": "00001111-aaaa-2222-bbbb-3333cccc4444",
        "azpacr": "2",
        "idtyp": "app",
        "oid": PRINCIPAL,
        "rh": "example",
        "sub": PRINCIPAL,
        "tid": TENANT,
        "uti": "example",
        "ver": "2.0",
    },
    others_audience="https://management.azure.com/",
    stranger={"oid": "bbbbbbbb-0000-1111-2222-bbbbbbbbbbbb"},
)
SPIFFE: Final = _platform(
    "spiffe",
    "spiffe://prod.example",
    rule(f"sub={SVID}"),
    key=KEYS["ES256"],
    header=_header(KEYS["ES256"]),
    claims={"aud": [ISS], "exp": NOW + 290, "iat": NOW - 10, "sub": SVID},
    others_audience="spiffe://prod.example/ns/api",
    stranger={"sub": f"{SVID}2"},
)
GENERIC: Final = _platform(
    "",
    "https://ci.example.com",
    rule("sub=job/deploy"),
    key=RSA,
    header=_header(RSA, typ="JWT"),
    claims={"iss": "https://ci.example.com", "sub": "job/deploy", "aud": ISS, "jti": "j-1", **TIMES},
    others_audience="https://other.example.com",
    stranger={"sub": "job/deploy2"},
)
PLATFORMS: Final[Mapping[str, Platform]] = {
    "kubernetes": KUBERNETES, "github": GITHUB, "gitlab": GITLAB, "aws": AWS, "google": GOOGLE, "entra": ENTRA,
    "spiffe": SPIFFE, "generic": GENERIC,
}  # fmt: skip
