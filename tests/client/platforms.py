"""Stand-ins for the endpoints at which platforms hand out the tokens of workloads, on loopback sockets.

They speak what these pages say:
- GitHub Actions: "OpenID Connect reference", Methods for requesting the OIDC token, and getIDToken of actions/toolkit
  (packages/core/src/oidc-utils.ts): GET of ACTIONS_ID_TOKEN_REQUEST_URL, which has a query already, with &audience=,
  `Authorization: bearer`; JSON with `value`.
- Google: "Verify the identity of an instance" and "About VM metadata" (cloud.google.com/compute/docs): header
  Metadata-Flavor: Google both ways, 403 without it, the bare JWT as text.
- Azure VM: "How to use managed identities for Azure resources on an Azure VM to acquire an access token"
  (learn.microsoft.com): header Metadata: true, api-version and resource; refused with X-Forwarded-For; JSON with
  access_token, whose numbers are strings.
- Azure App Service: "How to use managed identities for App Service and Azure Functions", REST endpoint reference.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from .servers import Reply, Seen, Server

Mint = Callable[[str], str]


class Stand(Server):
    """`mint` makes the token for an audience."""

    def __init__(self, mint: Mint, tls: Any = None) -> None:
        super().__init__(tls)
        self.mint = mint
        self.audiences: list[str] = []

    def token(self, audience: str) -> str:
        self.audiences.append(audience)
        return self.mint(audience)


class Runner(Stand):
    """The token service of a GitHub runner."""

    bearer = "runtime-token"

    def environment(self) -> dict[str, str]:
        url = f"{self.url}/idtoken/1/2?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.bearer}

    def answer(self, request: Seen) -> Reply:
        asked = query(request)
        if request.path != "/idtoken/1/2" or asked["api-version"] != "2.0":
            return Reply(404)
        scheme, _, bearer = (request.header("authorization") or "").partition(" ")
        if (scheme.lower(), bearer) != ("bearer", self.bearer):
            return Reply(401, {"message": "Unauthorized"})
        return Reply(200, {"count": 1, "value": self.token(asked["audience"])}, {"Content-Type": "application/json"})


class GoogleMetadata(Stand):
    """The metadata server of a virtual machine."""

    def environment(self) -> dict[str, str]:
        return {"GCE_METADATA_HOST": self.url.removeprefix("http://")}

    def answer(self, request: Seen) -> Reply:
        flavor = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
        if request.header("metadata-flavor") != "Google" or request.header("x-forwarded-for"):
            return Reply(403, "Missing Metadata-Flavor:Google header.", flavor)
        if request.path != "/computeMetadata/v1/instance/service-accounts/default/identity":
            return Reply(404, "", flavor)
        asked = query(request)
        assert asked["format"] == "full"
        return Reply(200, self.token(asked["audience"]), {**flavor, "Content-Type": "text/html"})


class AppService(Stand):
    """The identity endpoint of App Service and Container Apps."""

    secret = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"

    def environment(self) -> dict[str, str]:
        return {"IDENTITY_ENDPOINT": f"{self.url}/MSI/token/", "IDENTITY_HEADER": self.secret}

    def answer(self, request: Seen) -> Reply:
        asked = query(request)
        if request.header("x-identity-header") != self.secret:
            return Reply(401, {"statusCode": 401, "message": "Invalid header"})
        assert (request.path, asked["api-version"]) == ("/MSI/token/", "2019-08-01")
        return access_token(self.token(asked["resource"]), asked)


class InstanceMetadata(Stand):
    """IMDS of an Azure virtual machine."""

    def answer(self, request: Seen) -> Reply:
        asked = query(request)
        if request.header("metadata") != "true" or request.header("x-forwarded-for"):
            return Reply(
                400, {"error": "invalid_request", "error_description": "Required metadata header not specified"}
            )
        assert (request.path, asked["api-version"]) == ("/metadata/identity/oauth2/token", "2018-02-01")
        return access_token(self.token(asked["resource"]), asked)


def access_token(token: str, asked: dict[str, str]) -> Reply:
    times = {"expires_on": "1506484173", "expires_in": "3599", "not_before": "1506480273"}
    body = {"access_token": token, "token_type": "Bearer", "resource": asked["resource"], **times}
    return Reply(200, body, {"Content-Type": "application/json"})


def query(request: Seen) -> dict[str, str]:
    pairs = parse_qsl(request.target.partition("?")[2], keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs), "a parameter was repeated"
    return dict(pairs)
