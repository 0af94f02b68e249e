"""Join codes: whoever brings one may register one public key for one client, once.

A code carries the client, its expiry and a nonce under an HMAC whose key is derived from the key-encryption key, so
that nothing is stored before it is used; that it is used once is the store's business.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.jwk import base64url_decode, base64url_encode

PREFIX: Final = "groat-join-"
NONCE_BYTES: Final = 12
MAC_BYTES: Final = 16
TIME_BYTES: Final = 8
HEAD: Final = 2 * TIME_BYTES + NONCE_BYTES  # what comes before the client id
MAX_CODE_CHARS: Final = 400
_PURPOSE: Final = b"groat join code v1"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a good code says. `expires_at`: epoch seconds."""

    client_id: str
    nonce: str
    made_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Invitations:
    """Makes codes under the first key-encryption key and reads those of all."""

    keks: Sequence[KeyEncryptionKey]

    def make(self, client_id: str, now: int, expires_at: int) -> str:
        """A fresh code; 12 random bytes keep two for the same client apart."""
        times = now.to_bytes(TIME_BYTES, "big") + expires_at.to_bytes(TIME_BYTES, "big")
        content = times + secrets.token_bytes(NONCE_BYTES) + client_id.encode()
        return PREFIX + base64url_encode(self._mac(self.keks[0], content) + content).decode()

    def read(self, code: str, now: float) -> Invitation:
        """What the code says. Raises JoseError("code") for one that is malformed, forged or expired."""
        if len(code) > MAX_CODE_CHARS or not code.startswith(PREFIX):
            raise JoseError("code", "not a join code")
        raw = base64url_decode(code[len(PREFIX) :])
        mac, content = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not any(hmac.compare_digest(mac, self._mac(kek, content)) for kek in self.keks):
            raise JoseError("code", "the join code was not made by this server, or for another one")
        made_at, expires_at = (int.from_bytes(content[at : at + TIME_BYTES], "big") for at in (0, TIME_BYTES))
        if now >= expires_at:
            raise JoseError("code", "the join code has expired: groat client invite")
        return Invitation(content[HEAD:].decode(), content[2 * TIME_BYTES : HEAD].hex(), made_at, expires_at)

    def _mac(self, kek: KeyEncryptionKey, content: bytes) -> bytes:
        return hmac.new(kek.derived(_PURPOSE), content, hashlib.sha256).digest()[:MAC_BYTES]


def invited_client(code: str) -> str:
    """For whom a code says it is; nothing is proven. Raises ConfigError where it is none."""
    try:
        raw = base64url_decode(code.removeprefix(PREFIX))
        client_id = raw[MAC_BYTES + HEAD :].decode()
    except (JoseError, UnicodeDecodeError):
        client_id = ""
    if not code.startswith(PREFIX):
        raise ConfigError(f"this is not a join code; one begins with {PREFIX}")
    if CLIENT_ID.fullmatch(client_id) is None:
        raise ConfigError("the join code is not whole, or something is attached to it; copy it again")
    return client_id
