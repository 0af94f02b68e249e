"""Platforms that are asked for a workload's token: GitHub Actions, Google's metadata server, Azure's endpoints.

What makes such a question dangerous is where it goes: no redirect is followed, the answer is short and soon, and what
lies on this very host or link is asked without a proxy, which would answer for itself, or see everything.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from groat.client.default_client import HttpClient, installed_libraries
from groat.client.errors import ClientError, KeyUnusable
from groat.client.platform_token import checked_token
from groat.client.wire import Answer, Outgoing, Transport
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.grammar import ACCESS_TOKEN
from groat.protocol.uris import check_endpoint

PLATFORM_SECONDS: Final = 5.0
GOOGLE_HOST: Final = "metadata.google.internal"
GOOGLE_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/identity"
AZURE_URL: Final = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01"
AZURE_SERVICE_VERSION: Final = "2019-08-01"
_GITHUB_HINT: Final = "the job needs permissions: {id-token: write}; pull requests from forks never have it"


@dataclass(frozen=True, slots=True)
class GithubSource:
    """The endpoint that the runner names, whose each answer is another token (GitHub, "OpenID Connect reference")."""

    audience: str | None = None
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """A new token. ACTIONS_ID_TOKEN_REQUEST_URL has a query already; https only."""
        url, bearer = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{part}", "") for part in ("URL", "TOKEN"))
        if not url or not bearer:
            missing = "ACTIONS_ID_TOKEN_REQUEST_URL or ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set"
            return KeyUnusable(f"github: {missing}", hint=_GITHUB_HINT)
        if ACCESS_TOKEN.fullmatch(bearer) is None:
            return KeyUnusable("github: ACTIONS_ID_TOKEN_REQUEST_TOKEN cannot stand in a header")
        try:
            check_endpoint(url)
        except (ConfigError, ValueError):
            return KeyUnusable("github: ACTIONS_ID_TOKEN_REQUEST_URL must be an https URL")
        headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json"}
        answer = _ask("github", _with(url, "audience", self.audience or audience), headers, Transport())
        return _member(answer, "value", "github")


@dataclass(frozen=True, slots=True)
class GoogleSource:
    """The metadata server of Compute Engine, Cloud Run, Functions, App Engine and GKE ("Verify VM identity")."""

    audience: str | None = None
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """The token of the default service account; the server renews it. GCE_METADATA_HOST names another host."""
        url = f"http://{os.environ.get('GCE_METADATA_HOST') or GOOGLE_HOST}{GOOGLE_PATH}?format=full"
        wanted = _with(url, "audience", self.audience or audience)
        answer = _ask("google", wanted, {"Metadata-Flavor": "Google"}, Transport(_direct))
        if isinstance(answer, KeyUnusable):
            return answer
        if answer.headers.get("metadata-flavor") != "Google":
            return KeyUnusable("google: who answers is no metadata server: no Metadata-Flavor: Google")
        return checked_token(answer.body, "google: the answer", "it")


@dataclass(frozen=True, slots=True)
class AzureSource:
    """Of virtual machines and AKS the instance metadata service, of App Service and Container Apps IDENTITY_ENDPOINT.

    "How to use managed identities for Azure resources on an Azure VM to acquire an access token", and "How to use
    managed identities for App Service", REST endpoint reference.
    """

    audience: str | None = None
    identity: str | None = None
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """The identity's token for a resource; the service keeps it, and gives it again until it nears its end."""
        url, headers = AZURE_URL, {"Metadata": "true"}
        if service := os.environ.get("IDENTITY_ENDPOINT"):
            secret = os.environ.get("IDENTITY_HEADER", "")
            if ACCESS_TOKEN.fullmatch(secret) is None or not service.startswith(("http://", "https://")):
                return KeyUnusable("azure: IDENTITY_ENDPOINT is no URL, or IDENTITY_HEADER is missing beside it")
            url = _with(service, "api-version", AZURE_SERVICE_VERSION)
            headers = {"X-IDENTITY-HEADER": secret}
        url = _with(url, "resource", self.audience or audience)
        if self.identity is not None:
            url = _with(url, "client_id", self.identity)
        return _member(_ask("azure", url, headers, Transport(_direct)), "access_token", "azure")


def _with(url: str, name: str, value: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{name}={quote(value, safe='')}"


def _direct() -> HttpClient:
    """A client that no variable of the environment sends through a proxy."""
    client: HttpClient = installed_libraries()[0].Client(trust_env=False)
    return client


def _ask(platform: str, url: str, headers: Mapping[str, str], transport: Transport) -> Answer | KeyUnusable:
    """The answer, or what became of the question; what the platform writes is not shown, it may quote the token."""
    try:
        answer = transport.exchange(Outgoing("GET", url, headers), transport.until(PLATFORM_SECONDS))
    except ClientError as error:
        return KeyUnusable(f"{platform}: {error.args[0]}", hint=error.hint, transient=error.transient)
    finally:
        transport.close()
    if answer.status == 200:
        return answer
    hint = "redirects are never followed" if 300 <= answer.status < 400 else ""
    transient = answer.status == 429 or answer.status >= 500
    return KeyUnusable(f"{platform}: the platform answered {answer.status}", hint=hint, transient=transient)


def _member(answer: Answer | KeyUnusable, name: str, platform: str) -> str | KeyUnusable:
    if isinstance(answer, KeyUnusable):
        return answer
    try:
        members: dict[str, Any] = strict_json.loads_object(answer.body)
    except JoseError:
        return KeyUnusable(f"{platform}: the answer is not a JSON object")
    value = members.get(name)
    if not isinstance(value, str):
        return KeyUnusable(f"{platform}: the answer has no {name}")
    return checked_token(value.encode("utf-8", "replace"), f"{platform}: {name}", "it")
