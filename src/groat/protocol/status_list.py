"""Token Status Lists (draft-ietf-oauth-status-list): a bit or two for each token, by which any verifier hears its end.

A listed token says which list and which place in it are its own; so does its jti, by which the store remembers whom it
was given to, and by which an operator takes it back.
"""

import re
import zlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from groat.protocol import strict_json
from groat.protocol.client_settings import MAX_TOKEN_LIFETIME
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import MAX_CLOCK_TOLERANCE

TYP: Final = "statuslist+jwt"
MEDIA_TYPE: Final = f"application/{TYP}"
AGGREGATION: Final = "status_list_aggregation_endpoint"  # of the metadata
PLACES: Final = 2**20  # of a list, whether they are taken or not: what a verifier holds must reach to the next token
KEEP: Final = MAX_TOKEN_LIFETIME + MAX_CLOCK_TOLERANCE  # seconds that a list is there after its last token was issued
LIST_ID: Final = re.compile(r"[A-Za-z0-9_-]{12}")
_LISTED: Final = re.compile(rf"[A-Za-z0-9_-]{{22}}~({LIST_ID.pattern})~(0|[1-9][0-9]{{0,6}})")


class Status(IntEnum):
    """What a list says of a token (7.1 of the draft); nothing else is ever written."""

    VALID = 0
    INVALID = 1
    SUSPENDED = 2


class Place(NamedTuple):
    """Where the status of a token stands."""

    list_id: str
    at: int

    @classmethod
    def of(cls, jti: str) -> "Place | None":
        """That of a listed token by its jti; None for any other."""
        found = _LISTED.fullmatch(jti)
        return None if found is None else cls(found[1], int(found[2]))

    def jti(self, random: str) -> str:
        """That of the token, from 22 random characters."""
        return f"{random}~{self.list_id}~{self.at}"


def list_uri(issuer: str, list_id: str) -> str:
    return f"{issuer.rstrip('/')}/status/{list_id}"


def status_claim(issuer: str, place: Place) -> str:
    """The member `status` of a token, as JSON (6.1)."""
    return f'{{"status_list":{{"idx":{place.at},"uri":"{list_uri(issuer, place.list_id)}"}}}}'


def encode_list(statuses: Mapping[int, int], places: int = PLACES, fill: Status = Status.VALID) -> tuple[int, str]:
    """The bits for each status, and the list as it is written (4.1, 4.2): least significant bits first, compressed.

    `fill`: what those say that `statuses` does not name. Takes some milliseconds.
    """
    bits = 2 if Status.SUSPENDED in (fill, *statuses.values()) else 1
    mask, each = (1 << bits) - 1, 8 // bits
    packed = bytearray([sum(fill << bits * n for n in range(each))]) * -(-places // each)
    for index, status in statuses.items():
        shift = index % each * bits
        packed[index // each] = packed[index // each] & ~(mask << shift) | status << shift
    return bits, base64url_encode(zlib.compress(packed, 9)).decode()


def list_claims(uri: str, now: int, lifetime: int, ttl: int, encoded: tuple[int, str]) -> bytes:
    """The claims of a list (5.1), encoded. `now`: epoch seconds; the others in seconds."""
    times = {"iat": now, "exp": now + lifetime, "ttl": ttl}
    return strict_json.dumps({"sub": uri, **times, "status_list": {"bits": encoded[0], "lst": encoded[1]}})
