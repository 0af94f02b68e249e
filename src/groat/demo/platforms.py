"""Stand-ins of two platforms: throw-away keys, and tokens shaped as Kubernetes and GitHub Actions shape theirs."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.jose import sign, sign_jwt, signing_input
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key

ALGORITHM: Final = "RS256"
NAMESPACE: Final = "billing"
ACCOUNT: Final = "worker"
REPOSITORY: Final = "octo-org/octo-repo"
REPOSITORY_ID: Final = "74"
OWNER_ID: Final = "65"
ENVIRONMENT: Final = "prod"
_BITS: Final = 2048  # as the platforms' own


def new_key() -> PrivateKey:
    """The signing key of a platform."""
    return generate_private_key(ALGORITHM, _BITS)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes cluster with one pod for each service account that is asked for."""

    key: PrivateKey = field(default_factory=new_key)
    name = "cluster"
    preset = "kubernetes"
    issuer = "https://kubernetes.default.svc.cluster.local"

    def token(self, audience: str, account: str = ACCOUNT) -> str:
        """What the kubelet writes into a pod: a bound service account token with a header of alg and kid alone."""
        now = int(time.time())
        claims = {
            "aud": [audience],
            "exp": now + 3600,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": NAMESPACE,
                "node": {"name": "node-1", "uid": str(uuid.uuid4())},
                "pod": {"name": f"{account}-7d9c", "uid": str(uuid.uuid4())},
                "serviceaccount": {"name": account, "uid": str(uuid.uuid4())},
            },
            "nbf": now,
            "sub": f"system:serviceaccount:{NAMESPACE}:{account}",
        }
        header = base64url_encode(strict_json.dumps({"alg": ALGORITHM, "kid": self.key.kid}))
        data = signing_input(header, strict_json.dumps(claims))
        return (data + b"." + base64url_encode(sign(data, self.key))).decode("ascii")


@dataclass(frozen=True, slots=True)
class Pipelines:
    """GitHub Actions with one job; a `TokenSource` of the client library, where a job asks GitHub for a token."""

    key: PrivateKey = field(default_factory=new_key)
    name = "github"
    preset = "github"
    issuer = "https://token.actions.githubusercontent.com"
    replaced = False

    def token(self, audience: str, **changes: str) -> str:
        """A new token of the job, which deploys to an environment; `changes`: what another job's says instead."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": f"repo:{REPOSITORY}:environment:{ENVIRONMENT}",
            "aud": audience,
            "iat": now,
            "nbf": now - 600,
            "exp": now + 300,
            "jti": str(uuid.uuid4()),
            "repository": REPOSITORY,
            "repository_id": REPOSITORY_ID,
            "repository_owner": REPOSITORY.partition("/")[0],
            "repository_owner_id": OWNER_ID,
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "environment": ENVIRONMENT,
            "event_name": "push",
            "runner_environment": "github-hosted",
        }
        return sign_jwt(claims | changes, self.key, "JWT")

    def read(self, audience: str) -> str:
        """Each token counts once, so each request has its own."""
        return self.token(audience)


Platform = Cluster | Pipelines
