"""Tokens that a platform signs for a workload, posted as if they were the workload's own assertion."""

from collections.abc import Mapping
from typing import Any, Final

from groat.protocol.differences import shown

# By how their issuers begin (or end), and by how their subjects begin where each installation is an issuer of its own.
_ISSUERS: Final = (
    ("https://token.actions.githubusercontent.com", "GitHub Actions"),
    ("https://gitlab.com", "GitLab"),
    ("https://accounts.google.com", "Google"),
    ("accounts.google.com", "Google"),
    ("https://container.googleapis.com/", "Kubernetes of Google"),
    ("https://login.microsoftonline.com/", "Microsoft Entra ID"),
    ("https://sts.windows.net/", "Microsoft Entra ID"),
    ("https://kubernetes.default", "Kubernetes"),
    ("https://oidc.eks.", "Kubernetes of AWS"),
    ("https://oidc.prod-aks.azure.com/", "Kubernetes of Azure"),
    ("https://oidc.circleci.com/", "CircleCI"),
    ("https://agent.buildkite.com", "Buildkite"),
    ("https://api.bitbucket.org/", "Bitbucket"),
    ("https://app.terraform.io", "HCP Terraform"),
    ("https://oidc.vercel.com", "Vercel"),
)
_HOSTS: Final = ((".tokens.sts.global.api.aws", "AWS"),)
_SUBJECTS: Final = (
    ("system:serviceaccount:", "Kubernetes"),
    ("spiffe://", "SPIFFE"),
    ("repo:", "GitHub Actions"),
    ("project_path:", "GitLab"),
)


def platform_hint(claims: Mapping[str, Any]) -> str:
    """What to do about a token of another issuer, as one sentence; empty for what is none. Nothing in it is proven."""
    issuer, subject = claims.get("iss"), claims.get("sub")
    if issuer == subject:
        return ""
    platform = _platform(issuer, subject)
    if not platform and not (isinstance(issuer, str) and "://" in issuer):
        return ""
    name = f" ({platform})" if platform else ""
    return (
        f"a token of another issuer{name}: iss is {shown(issuer)}, not the client id. This server takes only "
        "what a client signs with a key of its own; make one where it runs: groat client invite NAME --allow API=SCOPE"
    )


def _platform(issuer: Any, subject: Any) -> str:
    if isinstance(issuer, str):
        for beginning, name in _ISSUERS:
            if issuer.startswith(beginning):
                return name
        for end, name in _HOSTS:
            if issuer.rstrip("/").endswith(end):
                return name
    if isinstance(subject, str):
        for beginning, name in _SUBJECTS:
            if subject.startswith(beginning):
                return name
    return ""
