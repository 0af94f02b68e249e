"""AWS, Google and Entra: tokens of what runs in a cloud (AS-WI-09 to AS-WI-11)."""

import re
from typing import Final
from urllib.parse import urlsplit

from groat.protocol.differences import shown
from groat.protocol.federation.preset import NOTHING, Claims, Preset, is_digits, values_on
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import MAX_LIFETIME, Replay

_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(?:role|user)/[\w+=,.@/-]{1,512}", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What only the tokens of people have: a delegated scope, or a name to greet them by.
_PERSONAL: Final = ("scp", "preferred_username", "upn", "unique_name", "nonce")


def _aws_issuer_fault(issuer: str) -> str:
    if ".tokens.sts." not in (urlsplit(issuer).hostname or ""):
        return (
            "each AWS account has an issuer of its own, https://....tokens.sts.global.api.aws: "
            "aws iam get-outbound-web-identity-federation-info prints it"
        )
    return NOTHING


def _aws_rule_fault(rule: Rule, issuer: str) -> str:
    if any(not condition.exact for condition in rule.on("sub")):
        return "pin the whole ARN: who may make roles in the account would choose how its name goes on"
    if not rule.pins("sub"):
        return "pin the role: --match sub=arn:aws:iam::ACCOUNT:role/NAME"
    if odd := [value for value in values_on(rule, "sub") if not _ROLE.fullmatch(value)]:
        return f"sub is the ARN of a role or user, arn:aws:iam::ACCOUNT:role/NAME, not {odd[0]}"
    return NOTHING


def _google_issuer_fault(issuer: str) -> str:
    return NOTHING if issuer == "https://accounts.google.com" else "Google's issuer is https://accounts.google.com"


def _google_rule_fault(rule: Rule, issuer: str) -> str:
    if not rule.pins("sub"):
        return (
            "pin the number of the service account, --match sub=NUMBER: an address can be made anew by somebody else. "
            "gcloud iam service-accounts describe ADDRESS --format='value(uniqueId)' prints it"
        )
    if odd := [value for value in values_on(rule, "sub") if not is_digits(value)]:
        return f"sub is a number in digits, not {odd[0]}"
    return NOTHING


def _google_token_fault(claims: Claims, issuer: str) -> str:
    email = claims.get("email")
    if "hd" in claims or "at_hash" in claims or "nonce" in claims:
        return "an ID token of a person who signed in"
    if email is not None and not (isinstance(email, str) and email.endswith(".gserviceaccount.com")):
        return f"email is {shown(email)}: not a service account"
    return NOTHING


def _tenant(issuer: str) -> str | None:
    """The id in the path of an issuer; None for common, organizations, consumers and names."""
    first = urlsplit(issuer).path.strip("/").partition("/")[0]
    return first if _GUID.fullmatch(first) else None


def _entra_issuer_fault(issuer: str) -> str:
    if _tenant(issuer) is None:
        return (
            "Entra's issuer holds the tenant: https://login.microsoftonline.com/TENANT-ID/v2.0, or "
            "https://sts.windows.net/TENANT-ID/ for v1 tokens; common and organizations are everybody"
        )
    return NOTHING


def _entra_rule_fault(rule: Rule, issuer: str) -> str:
    if not rule.pins("tid") or not (rule.pins("sub") or rule.pins("oid")):
        return "pin the tenant and the principal: --match tid=TENANT-ID --match oid=OBJECT-ID"
    if any(value != _tenant(issuer) for value in values_on(rule, "tid")):
        return f"tid must be the tenant of this issuer, {_tenant(issuer)}"
    if odd := [value for value in values_on(rule, "oid") if not _GUID.fullmatch(value)]:
        return f"oid is a GUID in small letters, not {odd[0]}"
    return NOTHING


def _entra_token_fault(claims: Claims, issuer: str) -> str:
    if claims.get("tid") != _tenant(issuer):
        return f"tid is {shown(claims.get('tid'))}, and the issuer is that of {_tenant(issuer)}"
    if personal := next((name for name in _PERSONAL if name in claims), ""):
        return f"{personal}: a token of a person"
    if claims.get("idtyp", "app") != "app":
        return f"idtyp is {shown(claims['idtyp'])}, not app"
    return NOTHING


AWS: Final = Preset(
    name="aws",
    algorithms=("RS256", "ES384"),
    replay=Replay.AUTO,
    index=(("sub",),),
    rule_fault=_aws_rule_fault,
    issuer_fault=_aws_issuer_fault,
)
GOOGLE: Final = Preset(
    name="google",
    algorithms=("RS256",),
    replay=Replay.AUTO,
    index=(("sub",),),
    rule_fault=_google_rule_fault,
    issuer_fault=_google_issuer_fault,
    token_fault=_google_token_fault,
)
ENTRA: Final = Preset(
    name="entra",
    algorithms=("RS256",),
    replay=Replay.AUTO,
    index=(("oid",), ("sub",)),
    rule_fault=_entra_rule_fault,
    issuer_fault=_entra_issuer_fault,
    token_fault=_entra_token_fault,
    # A managed identity gets one for a day, begun five minutes ago.
    max_lifetime=MAX_LIFETIME,
    backdated=300,
)
