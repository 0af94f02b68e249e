"""What is said about a token to an API that asks (RFC 7662), also as a signed answer (RFC 9701)."""

from collections.abc import Iterable
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.access_token import Caller
from groat.protocol.binding import UNBOUND

SCOPE: Final = "groat:introspect"  # of the issuer's own API: whoever has it may ask
PARAMETERS: Final = ("token", "token_type_hint")
SIGNED_TYP: Final = "token-introspection+jwt"
SIGNED_MEDIA_TYPE: Final = f"application/{SIGNED_TYP}"
INACTIVE: Final[dict[str, Any]] = {"active": False}
# In this order, as far as the token has them; a copied claim of a workload is for the API as it is for a verifier.
_SHOWN: Final = ("scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti", "cnf", "groat:workload")


def active(caller: Caller) -> dict[str, Any]:
    """What a token that counts says (RFC 7662 2.2, RFC 9449 6.2): what its API would read in it, and its type."""
    kind = (caller.confirmation or UNBOUND).token_type
    shown = {name: caller.claims[name] for name in _SHOWN if name in caller.claims}
    return {"active": True, "token_type": kind, **shown}


def signed_claims(about: dict[str, Any], issuer: str, audience: str, now: int) -> bytes:
    """The claims of a signed answer (RFC 9701 5): nothing at the top that could make an access token of it."""
    return strict_json.dumps({"iss": issuer, "aud": audience, "iat": now, "token_introspection": about})


def wants_signed(accept: Iterable[str]) -> bool:
    """Whether Accept asks for the signed form: named itself, and liked no less than JSON (RFC 9110 12.5.1).

    A media range with a wildcard is no word for it. What cannot be read is ignored.
    """
    liked = {SIGNED_MEDIA_TYPE: 0.0, "application/json": 0.0}
    named = False
    for part in ",".join(accept).split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media not in liked:
            continue
        liked[media] = _quality(parameters)
        named = named or media == SIGNED_MEDIA_TYPE
    return named and liked[SIGNED_MEDIA_TYPE] > 0 and liked[SIGNED_MEDIA_TYPE] >= liked["application/json"]


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
