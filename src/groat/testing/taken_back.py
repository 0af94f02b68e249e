"""What an issuer in memory says of tokens that a test took back: in a feed, in a list, and when it is asked."""

import itertools
import threading
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.jose import parse_jwt
from groat.protocol.jwk import base64url_encode
from groat.protocol.revocation_feed import digest

FEED_PATH: Final = "/revocations"
LIST_PATH: Final = "/status/1"
INTROSPECTION_PATH: Final = "/introspect"
LIFETIME: Final = 300
PLACES: Final = 4096


@dataclass(slots=True)
class TakenBack:
    """Of one issuer. `lists`: whether its tokens have a place in a list."""

    issuer: str
    lists: bool
    seq: int = 1
    _gone: set[str] = field(default_factory=set, repr=False)
    _tokens: set[str] = field(default_factory=set)
    _places: set[int] = field(default_factory=set)
    _next: "itertools.count[int]" = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, token: str) -> None:
        """Take this token back. Raises JoseError for what is none."""
        claims = parse_jwt(token).claims
        with self._lock:
            self._gone.add(token)
            if isinstance(claims.get("jti"), str):
                self._tokens.add(digest(claims["jti"]))
            if self.lists:
                self._places.add(claims["status"]["status_list"]["idx"])
            self.seq += 1

    def status(self) -> dict[str, Any]:
        """The claim of a new token, as a member of its claims."""
        if not self.lists:
            return {}
        return {"status": {"status_list": {"idx": next(self._next) % PLACES, "uri": self.issuer + LIST_PATH}}}

    def feed(self, now: int) -> dict[str, Any]:
        """The claims of the feed."""
        with self._lock:
            said = {"cuts": {}, "disabled": [], "kids": [], "tokens": sorted(self._tokens)}
            return {"iss": self.issuer, "iat": now, "exp": now + LIFETIME, "seq": self.seq, **said}

    def list(self, now: int) -> dict[str, Any]:
        """The claims of the list: a bit for each place, the least significant one first."""
        table = bytearray(PLACES // 8)
        with self._lock:
            for place in self._places:
                table[place // 8] |= 1 << place % 8
        packed = base64url_encode(zlib.compress(bytes(table))).decode("ascii")
        members = {"ttl": 30, "status_list": {"bits": 1, "lst": packed}}
        return {"sub": self.issuer + LIST_PATH, "iat": now, "exp": now + LIFETIME, **members}

    def answer(self, token: str) -> bytes:
        """What somebody hears who asks about this token (RFC 7662 2.2)."""
        with self._lock:
            return strict_json.dumps({"active": token not in self._gone})
