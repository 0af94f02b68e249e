"""The good assertion A and request BASE of the rule list, and ways to spoil exactly one thing of them."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode, generate_private_key
from tests.server.wire import encoded

ISS: Final = "https://as.example"
TE: Final = f"{ISS}/token"
ORDERS: Final = "https://orders.example"
STOCK: Final = "https://stock.example/v1"
NOW: Final = 1_800_000_000
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TYP: Final = "client-authentication+jwt"


class _Absent:
    """Marks a member that is to be left out."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The members with some replaced, and those set to ABSENT left out."""
    return {name: value for name, value in {**members, **changes}.items() if value is not ABSENT}


def segment(value: Any) -> str:
    """Base64url of bytes as they are, of anything else as JSON by the standard library."""
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64url_encode(data).decode()


def compact(header: Any, claims: Any, key: PrivateKey) -> str:
    """A JWS over any header and claims, signed by the key whatever the header says."""
    data = f"{segment(header)}.{segment(claims)}"
    return f"{data}.{base64url_encode(jose.sign(data.encode(), key)).decode()}"


def decoded(jwt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT, unverified."""
    header, claims, _ = jwt.split(".")
    return json.loads(base64url_decode(header)), json.loads(base64url_decode(claims))


@dataclass(slots=True)
class Party:
    """A client as an attacker or a good caller sees it: an id, a key, a clock."""

    client_id: str
    key: PrivateKey = field(default_factory=lambda: generate_private_key("ES256"))
    now: float = NOW

    def header(self, **changes: Any) -> dict[str, Any]:
        return changed({"alg": self.key.algorithm, "kid": self.key.kid, "typ": TYP}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        good = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": ISS,
            "iat": int(self.now),
            "exp": int(self.now) + 60,
            "jti": secrets.token_urlsafe(16),
        }
        return changed(good, changes)

    def assertion(self, **claims: Any) -> str:
        """A[x=y]: freshly signed, with changes to its claims."""
        return compact(self.header(), self.claims(**claims), self.key)

    def headed(self, **header: Any) -> str:
        """A with changes to its header."""
        return compact(self.header(**header), self.claims(), self.key)


Changes = Mapping[str, Any] | Sequence[tuple[str, Any]]


def base(assertion: str, **changes: Any) -> bytes:
    """BASE[x=y]: the form body around an assertion, one field changed, added, or left out with ABSENT."""
    return encoded(list(changed(base_fields(assertion), changes).items()))


def base_fields(assertion: str) -> dict[str, str]:
    """The fields of BASE."""
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
    }
