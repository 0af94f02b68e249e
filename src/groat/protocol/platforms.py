"""Tokens that a platform signs for a workload, posted as if they were the workload's own assertion."""

import re
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
_PLAIN: Final = re.compile(r"[A-Za-z0-9:/._~-]+")
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
        f"a token of another issuer{name}: iss is {shown(issuer)}, which nobody trusts here. Trust it, "
        f"groat trust add NAME --issuer {_typed(issuer)}, or make a key where it runs: groat client invite NAME"
    )


def _typed(issuer: Any) -> str:
    """As somebody would type it; a word in its place where it is nothing that one would."""
    plain = (
        isinstance(issuer, str) and issuer.startswith("https://") and len(issuer) <= 100 and _PLAIN.fullmatch(issuer)
    )
    return str(issuer) if plain else "ISSUER"


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
