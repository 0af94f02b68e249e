"""SPIFFE: JWT-SVIDs of one trust domain (AS-WI-12; SPIFFE ID 2, JWT-SVID 2 to 4, trust domain and bundle 4)."""

import re
from collections.abc import Mapping
from typing import Any, Final

from groat.protocol.differences import shown
from groat.protocol.federation.preset import NOTHING, PLAIN_TYPES, Claims, Preset
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import TRUST_DOMAIN, Replay

MAX_ID_BYTES: Final = 2048
_ID: Final = re.compile(rf"({TRUST_DOMAIN.pattern})((?:/[A-Za-z0-9._-]+)*)")
KEY_USE: Final = "jwt-svid"


def domain_of(value: Any) -> str | None:
    """The trust domain of a SPIFFE ID, as `spiffe://domain`; None for what is none, `.` and `..` in it included."""
    if not isinstance(value, str) or not value.startswith("spiffe://") or len(value) > MAX_ID_BYTES:
        return None
    found = _ID.fullmatch(value)
    return None if found is None or {".", ".."} & set(found[2].split("/")) else found[1]


def rule_fault(rule: Rule, issuer: str) -> str:
    """The whole ID, or a path below the trust domain: the domain alone is everybody in it."""
    if not rule.on("sub"):
        return f"pin the SPIFFE ID, --match sub={issuer}/PATH, or a part of the domain, --match sub^={issuer}/PATH/"
    for condition in rule.on("sub"):
        for value in condition.values:
            path = value.removeprefix(issuer)
            if domain_of(value if condition.exact else value.rstrip("/")) != issuer or not path.strip("/"):
                return f"sub must be a SPIFFE ID below {issuer}, and not all of it"
            if not condition.exact and not path.endswith("/"):
                return "a part of the domain ends in /"
    return NOTHING


def issuer_fault(issuer: str) -> str:
    return NOTHING if issuer.startswith("spiffe://") else "the issuer of a SPIFFE trust is its domain: spiffe://DOMAIN"


def token_fault(claims: Claims, issuer: str) -> str:
    if domain_of(claims.get("sub")) != issuer:
        return f"sub is {shown(claims.get('sub'))}, which is no SPIFFE ID of {issuer}"
    return NOTHING


def sequence_of(bundle: Mapping[str, Any]) -> int | None:
    """The number that a bundle's changes count up; None where it has none that could be one."""
    value = bundle.get("spiffe_sequence")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


SPIFFE: Final = Preset(
    name="spiffe",
    algorithms=("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"),
    # Agents keep an SVID and present it again and again (AS-SP-02).
    replay=Replay.AUTO,
    index=(("sub",),),
    rule_fault=rule_fault,
    issuer_fault=issuer_fault,
    token_fault=token_fault,
    types=PLAIN_TYPES | {"application/jose"},
    issuer_in_sub=True,
    key_use=KEY_USE,
)
