"""Nonces for proofs of possession (RFC 9449 8, 9, 11.3): whoever shows one has signed after it was given.

A nonce is a keyed hash of a slot of time, so that nothing is stored and everybody who has the secret knows it. It is
the same for all who ask within a slot: what it proves is when, not who.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from groat.protocol.dpop import Life
from groat.protocol.jwk import base64url_encode

SLOT_SECONDS: Final = 150
NONCE_BYTES: Final = 18
_PURPOSE: Final = b"groat dpop nonce v1"


@dataclass(frozen=True, slots=True)
class Nonces:
    """Those of one deployment. `secrets`: of the first new ones are made, of all they are known again.

    `tolerance`: seconds that clocks of those who share the secret may differ by. An authorization server and an API
    must not have the same secret: their nonces are not for each other (RFC 9449 9).
    """

    secrets: Sequence[bytes] = field(repr=False)
    tolerance: int = 10

    def current(self, now: float) -> str:
        """The one to give out; good for 150 s at least and 300 s at most."""
        return _nonce(self.secrets[0], int(now // SLOT_SECONDS))

    def newer(self, nonce: str | None, now: float) -> str | None:
        """The one to hand on to who has shown this good one, or none (RFC 9449 8.2); None where his is as new.

        So a nonce is followed by the next in the second half of its life, before it is refused.
        """
        ahead = _nonce(self.secrets[0], int((now + self.tolerance) // SLOT_SECONDS))
        current = self.current(now)
        return None if nonce in (current, ahead) else current

    def life(self, nonce: str, now: float) -> Life | None:
        """From when to when a proof with this nonce can have been made; None for a stale one and for no nonce of ours.

        Also of the next slot, shortly before it begins here: by another clock it has begun.
        """
        slot = int(now // SLOT_SECONDS)
        ahead = int((now + self.tolerance) // SLOT_SECONDS)
        for one in sorted({ahead, slot, slot - 1}, reverse=True):
            for secret in self.secrets:
                if hmac.compare_digest(nonce.encode(), _nonce(secret, one).encode()):
                    return Life(one * SLOT_SECONDS - self.tolerance, (one + 2) * SLOT_SECONDS)
        return None


@lru_cache(maxsize=64)
def _nonce(secret: bytes, slot: int) -> str:
    """The same few for everybody: a slot is worth one hash for each secret."""
    digest = hmac.new(secret, _PURPOSE + slot.to_bytes(8, "big", signed=True), hashlib.sha256).digest()
    return base64url_encode(digest[:NONCE_BYTES]).decode()
