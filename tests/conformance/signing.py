"""Keys and JWTs of the other side, by joserfc: good ones, and ones that are wrong in a single place."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

ALGORITHMS: Final = ("PS256", "ES256")
ABSENT: Final = object()
_SIGNING: Final = JWSRegistry(algorithms=[*ALGORITHMS, "RS256"])


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def changed(members: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The members with some replaced, and those that are ABSENT left out."""
    return {name: value for name, value in {**members, **(changes or {})}.items() if value is not ABSENT}


@dataclass(frozen=True)
class Key:
    """A key pair with the one algorithm that it signs with."""

    algorithm: str
    pair: RSAKey | ECKey = field(repr=False)

    @classmethod
    def new(cls, algorithm: str) -> Self:
        """RSA of 2048 bits, or P-256."""
        return cls(algorithm, ECKey.generate_key("P-256") if algorithm == "ES256" else RSAKey.generate_key(2048))

    @property
    def kid(self) -> str:
        return self.pair.thumbprint()

    @property
    def public(self) -> dict[str, Any]:
        """The bare members."""
        return dict(self.pair.as_dict(private=False))

    @property
    def private(self) -> dict[str, Any]:
        return dict(self.pair.as_dict(private=True))

    @property
    def registered(self) -> dict[str, Any]:
        """As it stands in a JWKS."""
        return {**self.public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, header: Mapping[str, Any], claims: Mapping[str, Any], algorithm: str | None = None) -> str:
        """A compact JWS over exactly this header; `algorithm`: what it is really signed with."""
        data = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = _SIGNING.get_alg(algorithm or self.algorithm).sign(data.encode(), self.pair)
        return f"{data}.{encoded(signature)}"
