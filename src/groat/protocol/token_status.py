"""What an issuer publishes of tokens that it took back, as whoever verifies tokens reads it.

A list has a status for each token (draft-ietf-oauth-status-list); a feed says what is over, by kinds (groat's own).
Both are JWTs by the issuer's keys with a type of their own, so that neither passes for a token or the other.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from groat.protocol import jose, strict_json
from groat.protocol.access_token import Caller
from groat.protocol.errors import JoseError
from groat.protocol.jwk import PublicKey, base64url_decode
from groat.protocol.revocation_feed import MEDIA_TYPE as FEED_MEDIA_TYPE
from groat.protocol.revocation_feed import digest
from groat.protocol.status_list import MEDIA_TYPE as LIST_MEDIA_TYPE
from groat.protocol.uris import is_plain

MAX_TABLE_BYTES: Final = 2 * 1024 * 1024  # of a list, inflated
MAX_LIST_BYTES: Final = 4 * 1024 * 1024  # of its JWT: what cannot be compressed grows by base64 twice
MAX_FEED_BYTES: Final = 8 * 1024 * 1024
MAX_TTL: Final = 3600.0
DEFAULT_TTL: Final = 300.0
SUSPENDED: Final = 2
_BITS: Final = frozenset({1, 2, 4, 8})

FindKey = Callable[[jose.Header], PublicKey]


@dataclass(frozen=True, slots=True)
class StatusList:
    """One list as it was fetched. `ends_at`: epoch seconds; `ttl`: seconds until it is to be fetched again."""

    uri: str
    bits: int
    table: bytes = field(repr=False)
    ends_at: float
    ttl: float | None

    def status(self, index: int) -> int | None:
        """The status at this place; None where the list has no such place."""
        at, place = divmod(index, 8 // self.bits)
        if at >= len(self.table):
            return None
        return (self.table[at] >> place * self.bits) & ((1 << self.bits) - 1)


@dataclass(frozen=True, slots=True)
class Feed:
    """What was taken back, as one API sees it: tokens from before a second, of disabled clients, by key, one by one.

    `floor`: the second before which everything for this API is over. `clients`, `disabled` and `tokens` are known by
    digests. `quiet`: nothing is over.
    """

    seq: int
    ends_at: float
    floor: int = 0
    clients: Mapping[str, int] = field(default_factory=dict)
    disabled: frozenset[str] = frozenset()
    kids: frozenset[str] = frozenset()
    tokens: frozenset[bytes] = frozenset()
    quiet: bool = field(init=False)

    def __post_init__(self) -> None:
        said = self.floor or self.clients or self.disabled or self.kids or self.tokens
        object.__setattr__(self, "quiet", not said)

    def suspends(self, caller: Caller) -> bool:
        """Whether the client of this token is disabled."""
        return bool(self.disabled) and _client_digest(caller.client_id) in self.disabled

    def ended(self, caller: Caller, kid: str) -> str:
        """Why the token of this caller, signed by the key of this kid, is over; empty where it is not."""
        if kid in self.kids:
            return "its signing key was revoked"
        floor = max(self.floor, self.clients.get(_client_digest(caller.client_id), 0)) if self.clients else self.floor
        if floor and (caller.issued_at is None or caller.issued_at < floor):
            return "what was issued before some second was taken back: all of it, its client's or this API's"
        if self.tokens and caller.token_id is not None and sha256(caller.token_id.encode()).digest() in self.tokens:
            return "it was taken back by itself"
        return ""


# The clients of an API are few, and ask again and again.
_client_digest: Final = lru_cache(maxsize=4096)(digest)


def reference(claim: Any) -> tuple[int, str]:
    """Index and URI of a `status` claim (TSL 6.1). Raises JoseError("status")."""
    member = claim.get("status_list") if isinstance(claim, dict) else None
    index = member.get("idx") if isinstance(member, dict) else None
    uri = member.get("uri") if isinstance(member, dict) else None
    if type(index) is not int or index < 0 or not isinstance(uri, str):
        raise JoseError("status", "status must hold status_list, with idx (a number from 0) and uri")
    return index, uri


@lru_cache(maxsize=1024)
def origin(url: str) -> tuple[str, str] | None:
    """Scheme and host with port, by which URLs are of one origin; None for what is no URL."""
    try:
        parts = urlsplit(url) if is_plain(url) else None
    except ValueError:
        return None
    if parts is None or not parts.hostname or "@" in parts.netloc or "#" in url:
        return None
    return parts.scheme, parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ":"))


def read_list(document: bytes, find: FindKey, uri: str, now: float, tolerance: float) -> StatusList:
    """A list from the JWT that its URI gave (TSL 5.1, 8.3). `find`: a key of the issuer's set. Raises JoseError."""
    claims = _proven(document, find, LIST_MEDIA_TYPE, MAX_LIST_BYTES)
    if claims.get("sub") != uri:
        raise JoseError("claims", "sub of the status list is not its URI")
    ends_at = jose.check_times(claims, now, tolerance=tolerance)
    ttl = jose.numeric_date(claims, "ttl")
    if ttl is not None and ttl <= 0:
        raise JoseError("claims", "ttl must be positive")
    member = claims.get("status_list")
    bits, packed = (member.get("bits"), member.get("lst")) if isinstance(member, dict) else (None, None)
    if type(bits) is not int or bits not in _BITS or not isinstance(packed, str):
        raise JoseError("claims", "status_list must hold bits (1, 2, 4 or 8) and lst")
    return StatusList(uri, bits, _inflated(base64url_decode(packed)), ends_at, ttl)


def read_feed(document: bytes, find: FindKey, issuer: str, audience: str, now: float, tolerance: float) -> Feed:
    """A feed of this issuer, as the API of this audience sees it. Raises JoseError."""
    claims = _proven(document, find, FEED_MEDIA_TYPE, MAX_FEED_BYTES)
    if claims.get("iss") != issuer:
        raise JoseError("issuer", "the feed is of another issuer")
    ends_at = jose.check_times(claims, now, tolerance=tolerance)
    seq, cuts = claims.get("seq"), claims.get("cuts")
    if type(seq) is not int or seq < 0 or not isinstance(cuts, dict):
        raise JoseError("claims", "the feed must have seq (a number from 0) and cuts")
    apis, everything = _seconds(cuts.get("apis", {})), _second(cuts.get("all", 0))
    return Feed(
        seq,
        ends_at,
        max(everything, apis.get(audience, 0)),
        _seconds(cuts.get("clients", {})),
        _names(claims.get("disabled", [])),
        _names(claims.get("kids", [])),
        frozenset(map(base64url_decode, _names(claims.get("tokens", [])))),
    )


def _proven(document: bytes, find: FindKey, kind: str, max_bytes: int) -> dict[str, Any]:
    jwt = jose.parse_jwt(document.strip(), max_bytes)
    if jwt.header.media_type != kind:
        raise JoseError("type", f"typ is not {kind.removeprefix('application/')}")
    jose.verify_signature(jwt, find(jwt.header))
    return jwt.claims


def _inflated(packed: bytes) -> bytes:
    """What ZLIB has compressed, and never more of it than a list may have: a bomb ends where it begins to swell."""
    machine = zlib.decompressobj()
    try:
        table = machine.decompress(packed, MAX_TABLE_BYTES + 1)
    except zlib.error:
        raise JoseError("claims", "lst is not compressed by ZLIB") from None
    if len(table) > MAX_TABLE_BYTES:
        raise JoseError("claims", f"the status list is larger than {MAX_TABLE_BYTES} bytes")
    if not machine.eof or machine.unused_data:
        raise JoseError("claims", "lst ends early, or late")
    return table


def _second(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise JoseError("claims", "a cut must be a second")
    return value


def _seconds(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise JoseError("claims", "cuts must be objects")
    return {name: _second(second) for name, second in value.items()}


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or any(not isinstance(name, str) for name in value):
        raise JoseError("claims", "what was taken back must be arrays of strings")
    return frozenset(value)


def read_answer(body: bytes) -> bool:
    """Whether a token counts, by the answer to a question about it (RFC 7662 2.2). Raises JoseError."""
    active = strict_json.loads_object(body).get("active")
    if not isinstance(active, bool):
        raise JoseError("claims", "active is not a boolean")
    return active
