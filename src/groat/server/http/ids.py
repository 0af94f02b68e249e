"""Random ids in bulk: one call into the operating system serves many tokens."""

import os
from typing import Final

from groat.protocol.jwk import base64url_encode

ID_CHARS: Final = 22  # 132 bits; RFC 9068 and FAPI 2.0 5.4.1 want at least 128
_POOL_BYTES: Final = 16 * 3 * 88


class RandomIds:
    """URL-safe ids of 132 random bits from the operating system. For one thread of one process."""

    def __init__(self) -> None:
        self._pool = ""
        self._position = 0

    def next(self) -> str:
        """An id that was never given out before."""
        end = self._position + ID_CHARS
        if end > len(self._pool):
            self._pool = base64url_encode(os.urandom(_POOL_BYTES)).decode("ascii")
            self._position, end = 0, ID_CHARS
        fresh = self._pool[self._position : end]
        self._position = end
        return fresh
