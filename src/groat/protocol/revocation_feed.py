"""The feed: all that was taken back and could still be believed, as one signed JWT for verifiers that work offline.

Anybody may read it, so clients and tokens stand in it by their SHA-256. What can no longer matter is left out: a token
lives for MAX_TOKEN_LIFETIME at most.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.client_settings import MAX_TOKEN_LIFETIME
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import MAX_CLOCK_TOLERANCE
from groat.protocol.revocation import Cut, CutKind, RevokedToken

TYP: Final = "groat-revocations+jwt"
MEDIA_TYPE: Final = f"application/{TYP}"
MEMBER: Final = "groat_revocations_endpoint"  # of the metadata
LONGEST: Final = MAX_TOKEN_LIFETIME + MAX_CLOCK_TOLERANCE  # seconds from the iat of a token until nobody takes it
MAX_TOKENS: Final = 10_000  # named one by one, some 0.6 MiB


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What the server knows. `audiences`: of APIs by their names; `disabled`: client ids; `kids`: of revoked keys."""

    cuts: Sequence[Cut] = ()
    audiences: Mapping[str, str] = field(default_factory=dict)
    disabled: Iterable[str] = ()
    kids: Iterable[str] = ()
    tokens: Sequence[RevokedToken] = ()


def digest(text: str) -> str:
    """How a client id or a jti stands in the feed: SHA-256 in base64url, without padding."""
    return base64url_encode(hashlib.sha256(text.encode()).digest()).decode()


def feed_claims(issuer: str, seq: int, taken: TakenBack, now: int, lifetime: int) -> bytes:
    """The claims, encoded. `seq`: the number of this state; `now`: epoch seconds; `lifetime`: seconds."""
    cuts, tokens = _cuts(taken, now), list(taken.tokens)
    for client_id in _too_many(tokens):
        own = [token for token in tokens if token.client_id == client_id]
        tokens = [token for token in tokens if token.client_id != client_id]
        clients = cuts.setdefault("clients", {})
        name, second = digest(client_id), max(token.made_at for token in own) + 1
        clients[name] = max(clients.get(name, 0), second)
    claims = {
        "iss": issuer,
        "iat": now,
        "exp": now + lifetime,
        "seq": seq,
        "cuts": cuts,
        "disabled": sorted(map(digest, taken.disabled)),
        "kids": sorted(taken.kids),
        "tokens": sorted(base64url_encode(token.digest).decode() for token in tokens),
    }
    return strict_json.dumps(claims)


def _cuts(taken: TakenBack, now: int) -> dict[str, Any]:
    """Those behind which a token may still live; of an API by its audience, as tokens name it."""
    found: dict[str, Any] = {}
    for cut in taken.cuts:
        if cut.not_before + LONGEST <= now:
            continue
        if cut.kind is CutKind.ALL:
            found["all"] = cut.not_before
        elif cut.kind is CutKind.CLIENT:
            found.setdefault("clients", {})[digest(cut.subject)] = cut.not_before
        elif cut.subject in taken.audiences:
            found.setdefault("apis", {})[taken.audiences[cut.subject]] = cut.not_before
    return found


def _too_many(tokens: Collection[RevokedToken]) -> list[str]:
    """The clients whose tokens are not named one by one, so that the rest is not too long: those that took most back.

    They get a cut instead, in the feed alone: what of theirs is not over yet ends with it.
    """
    counts, left, chosen = Counter(token.client_id for token in tokens if token.client_id), len(tokens), []
    for client_id, count in counts.most_common():
        if left <= MAX_TOKENS:
            break
        chosen.append(client_id)
        left -= count
    return chosen
