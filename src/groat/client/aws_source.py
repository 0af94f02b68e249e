"""AWS: a token of STS for who holds AWS credentials (GetWebIdentityToken, "outbound identity federation").

Where those credentials are (environment, container, instance, profile), how they are renewed and how a request is
signed with them is botocore's to know: the extra `aws`.
"""

from dataclasses import dataclass
from typing import Any, Final

from groat.client.errors import KeyUnusable
from groat.client.platform_endpoints import PLATFORM_SECONDS
from groat.client.platform_token import checked_token

ALGORITHM: Final = "ES384"  # the shorter of the two
LIFETIME: Final = 300  # seconds; one token is sent once
_HINTS: Final = {
    "NoCredentialsError": "neither environment, profile, container nor instance has AWS credentials",
    "OutboundWebIdentityFederationDisabledException": "aws iam enable-outbound-web-identity-federation",
    "AccessDenied": "the role needs sts:GetWebIdentityToken",
}


@dataclass(frozen=True, slots=True)
class AwsSource:
    """STS, asked with whatever AWS credentials this process has."""

    audience: str | None = None
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """A new token. Of what AWS answers only the code is shown."""
        try:
            import botocore.session
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError:
            return KeyUnusable("aws: botocore is not installed", hint='pip install "groat[aws]"')
        # One attempt: whoever waits for a token decides whether to wait longer.
        config = Config(
            connect_timeout=PLATFORM_SECONDS, read_timeout=PLATFORM_SECONDS, retries={"total_max_attempts": 1}
        )
        session = botocore.session.get_session()
        session.set_config_variable("sts_regional_endpoints", "regional")
        if session.get_config_variable("region") is None:  # botocore would go to the global endpoint
            return KeyUnusable("aws: no region", hint="set AWS_DEFAULT_REGION: STS takes this call in regions alone")
        wanted = {"Audience": [self.audience or audience], "SigningAlgorithm": ALGORITHM, "DurationSeconds": LIFETIME}
        try:
            answer: dict[str, Any] = session.create_client("sts", config=config).get_web_identity_token(**wanted)
        except ClientError as error:
            code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            busy = status >= 500 or status == 429
            return KeyUnusable(f"aws: STS answered {status} {code}", hint=_HINTS.get(code, ""), transient=busy)
        except BotoCoreError as error:
            name = type(error).__name__
            return KeyUnusable(f"aws: {name}", hint=_HINTS.get(name, ""), transient=name not in _HINTS)
        return checked_token(answer["WebIdentityToken"].encode("utf-8", "replace"), "aws: WebIdentityToken", "it")
