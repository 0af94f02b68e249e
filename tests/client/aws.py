"""AWS as far as a workload needs it: STS over its query protocol, which checks signatures, and where credentials come from.

Written by hand from "Signature Version 4 for API requests" (docs.aws.amazon.com), the API reference of GetWebIdentityToken,
"Container credential provider" and "Use IMDSv2"; botocore is the subject here, and not the tool.
"""

import hashlib
import hmac
from typing import Final
from urllib.parse import quote

from .platforms import Stand
from .servers import Reply, Seen

KEY_ID, SECRET, SESSION = "AKIDEXAMPLE", "wJalrXUtnFEMI-K7MDENG", "session-of-the-role"
REGION: Final = "eu-central-1"
XML: Final = {"Content-Type": "text/xml"}
_ERROR: Final = "<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><Error><Type>Sender</Type><Code>{}</Code></Error></ErrorResponse>"
_GOOD: Final = (
    "<GetWebIdentityTokenResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><GetWebIdentityTokenResult>"
    "<WebIdentityToken>{}</WebIdentityToken><Expiration>2030-01-01T00:00:00Z</Expiration>"
    "</GetWebIdentityTokenResult></GetWebIdentityTokenResponse>"
)


def _signature(request: Seen, scope: str, names: str) -> str:
    """What the signature of this request must be."""
    headers = "".join(f"{name}:{' '.join((request.header(name) or '').split())}\n" for name in names.split(";"))
    path, _, query = request.target.partition("?")
    assert not query
    body = hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join((request.method, quote(path), "", headers, names, body))
    stamp = request.header("x-amz-date") or ""
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


class Sts(Stand):
    """The regional endpoint; `session` is what the credentials' token must be."""

    session = ""

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_STS": self.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip

    def answer(self, request: Seen) -> Reply:
        kind, _, rest = (request.header("authorization") or "").partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(",")) if kind == "AWS4-HMAC-SHA256" else {}
        key_id, _, scope = parts.get("Credential", "").partition("/")
        if key_id != KEY_ID or parts["Signature"] != _signature(request, scope, parts["SignedHeaders"]):
            return Reply(403, _ERROR.format("SignatureDoesNotMatch"), XML)
        if (request.header("x-amz-security-token") or "") != self.session or f"/{REGION}/sts/" not in scope:
            return Reply(403, _ERROR.format("InvalidClientTokenId"), XML)
        form = request.form
        asked = {name: form[name] for name in ("Action", "Version", "SigningAlgorithm")}
        assert asked == {"Action": "GetWebIdentityToken", "Version": "2011-06-15", "SigningAlgorithm": "ES384"}
        return Reply(200, _GOOD.format(self.token(form["Audience.member.1"])), XML)


_CREDENTIALS: Final = {
    "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": SESSION, "Expiration": "2035-01-01T00:00:00Z",
    "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
}  # fmt: skip


class Container(Stand):
    """The credentials endpoint of ECS and of EKS Pod Identity."""

    def environment(self) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "of-pod",
        }

    def answer(self, request: Seen) -> Reply:
        good = request.target == "/v1/credentials" and request.header("authorization") == "of-pod"
        return Reply(200, _CREDENTIALS, {"Content-Type": "application/json"}) if good else Reply(401)


class Instance(Stand):
    """The metadata service of an instance, version 2 alone."""

    def environment(self) -> dict[str, str]:
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.url}/"}

    def answer(self, request: Seen) -> Reply:
        roles = "/latest/meta-data/iam/security-credentials/"
        if request.method == "PUT":
            good = request.target == "/latest/api/token" and request.header("x-aws-ec2-metadata-token-ttl-seconds")
            return Reply(200, "v2-token") if good else Reply(400)
        if request.header("x-aws-ec2-metadata-token") != "v2-token":
            return Reply(401)
        if request.target == roles:
            return Reply(200, "worker")
        return Reply(200, _CREDENTIALS) if request.target == f"{roles}worker" else Reply(404)
