"""Proofs of possession as a caller writes them, and ways to spoil exactly one thing of them.

Written by hand: what the client library writes is a test's subject, not its tool.
"""

import json
from typing import Any, Final
from uuid import uuid4

from groat.protocol import jose
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key

PROOF_KEY: Final = generate_private_key("ES256")
ABSENT: Final = object()


def bare_jwk(key: PrivateKey) -> dict[str, Any]:
    """The public members alone, as most libraries write them."""
    return {name: value for name, value in key.public.jwk.items() if name not in ("kid", "use", "alg")}


def proof(url: str, now: float, key: PrivateKey = PROOF_KEY, method: str = "POST", **changes: Any) -> str:
    """A good proof for this request but for `changes`, each of a claim, or of a header member as header_NAME."""
    header: dict[str, Any] = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": bare_jwk(key)}
    claims: dict[str, Any] = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(now)}
    for name, value in changes.items():
        members = header if name.startswith("header_") else claims
        members[name.removeprefix("header_")] = value
    return signed(_present(header), _present(claims), key)


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def signed(header: Any, claims: Any, key: PrivateKey) -> str:
    """A compact JWS over any two documents; text is taken as it is."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    data = ".".join(base64url_encode(part.encode()).decode() for part in parts)
    return f"{data}.{base64url_encode(jose.sign(data.encode(), key)).decode()}"
