"""The strict envelope of every JWT that groat reads or writes: compact JWS (RFC 7515, 7519, 8725).

Reading goes in three steps, so that no claim acts before its signature is proven: `parse_jwt` (shape only),
`select_key`, `verify_signature`. What a JWT may say is the business of `client_auth` and `access_token`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.grammar import BASE64URL_ALPHABET
from groat.protocol.jwk import (
    ALGORITHM_NAMES,
    ALGORITHMS,
    MAX_KID_CHARS,
    Algorithm,
    PrivateKey,
    PublicKey,
    base64url_encode,
    decode_checked_base64url,
    printable,
)
from groat.protocol.passing import passing

MAX_JWT_BYTES: Final = 8 * 1024
MAX_JTI_CHARS: Final = 256  # of whatever counts once
# Members that would change how the bytes are read. crit may only name what we understand, and we understand none;
# b64 is never used by JWTs (RFC 7797 7); zip and enc belong to JWE.
_REFUSED_HEADER_MEMBERS: Final = frozenset({"crit", "b64", "zip", "enc", "epk"})


@dataclass(frozen=True, slots=True)
class Header:
    """The members of a JOSE header that may steer us; all others are ignored (RFC 7515 4)."""

    algorithm: Algorithm
    kid: str | None
    typ: str | None

    media_type: str | None = field(init=False)
    """`typ` as a full media type in lower case; None if absent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "media_type", media_type(self.typ))


@passing()
class UnverifiedJwt:
    """A well-formed JWT whose signature nobody has checked yet: its claims are rumours."""

    header: Header
    claims: dict[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@lru_cache(maxsize=512)
def _parse_header(segment: bytes) -> Header:
    """Headers repeat from token to token, and a Header is immutable: decode each but once."""
    return Header(*steering_members(header_members(segment)))


def header_members(segment: bytes) -> dict[str, Any]:
    """Every member of an encoded header. Raises JoseError."""
    return strict_json.loads_object(decode_checked_base64url(segment))


def steering_members(members: Mapping[str, Any]) -> tuple[Algorithm, str | None, str | None]:
    """Algorithm, kid and typ of a header, after what no header may have. Raises JoseError."""
    if refused := _REFUSED_HEADER_MEMBERS & members.keys():
        raise JoseError("malformed", f"header member {min(refused)} is not accepted")
    if media_type(members.get("cty", "")) == "application/jwt":
        raise JoseError("malformed", "nested JWTs are not accepted")
    alg = members.get("alg")
    algorithm = ALGORITHM_NAMES.get(alg) if isinstance(alg, str) else None
    if algorithm is None:
        raise JoseError("algorithm", "alg is missing, unknown, none or symmetric")
    return algorithm, _kid(members), _optional_string(members, "typ")


def parse_jwt(
    token: str | bytes, max_bytes: int = MAX_JWT_BYTES, read_header: Callable[[bytes], Header] = _parse_header
) -> UnverifiedJwt:
    """Take a compact JWS apart, strictly; verifies nothing.

    `read_header`: for a kind whose header says more than others'. Raises JoseError: "malformed" for anything but three
    non-empty parts of canonical base64url around two strict JSON objects, at most `max_bytes` long; "algorithm" for an
    alg outside the table (none and HS* included).
    """
    if len(token) > max_bytes:
        raise JoseError("malformed", f"the JWT is longer than {max_bytes} bytes")
    try:
        raw = token.encode("ascii") if isinstance(token, str) else token
    except UnicodeEncodeError:
        raise JoseError("malformed", "the JWT is not ASCII") from None
    # One C-speed pass proves both the alphabet and the number of parts.
    if raw.translate(None, BASE64URL_ALPHABET) != b"..":
        raise JoseError("malformed", "not three base64url parts with two dots between them")
    signing_input, _, signature = raw.rpartition(b".")
    header, _, claims = signing_input.partition(b".")
    parsed_header = read_header(header)
    return UnverifiedJwt(
        parsed_header,
        strict_json.loads_object(decode_checked_base64url(claims)),
        signing_input,
        decode_checked_base64url(signature),
    )


def _kid(members: Mapping[str, Any]) -> str | None:
    kid = _optional_string(members, "kid")
    if kid is not None and not 0 < len(kid) <= MAX_KID_CHARS:
        raise JoseError("malformed", "kid must have 1 to 256 characters")
    return kid


def _optional_string(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if (value is not None and not isinstance(value, str)) or (value is None and name in members):
        raise JoseError("malformed", f"header member {name} is not a string")
    return value


def media_type(value: Any) -> str | None:
    """A `typ` or `cty` value as a full media type in lower case (RFC 7515 4.1.9); None if it is no string."""
    if not isinstance(value, str):
        return None
    return (value if "/" in value else f"application/{value}").lower()


def select_key(header: Header, keys: Sequence[PublicKey]) -> PublicKey:
    """Find the one key that may have made this signature, by exact kid and algorithm (RFC 7515 4.1.4).

    Without a kid exactly one key must fit. Raises JoseError("key_unknown"), or JoseError("algorithm") when the kid
    is known but belongs to another algorithm.
    """
    key = find_key(header, keys)
    if key is None:
        raise JoseError(*no_key(header, keys))
    return key


def find_key(header: Header, keys: Sequence[PublicKey]) -> PublicKey | None:
    """The same as `select_key`, with None instead of a refusal."""
    name = header.algorithm.name
    if header.kid is None:
        fitting = [key for key in keys if name in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None
    for key in keys:
        if key.kid == header.kid:
            return key if name in key.algorithms else None
    return None


def no_key(header: Header, keys: Sequence[PublicKey]) -> tuple[str, str]:
    """Reason and hint for a header that `find_key` finds nothing for."""
    name = header.algorithm.name
    if header.kid is None:
        fitting = sum(name in key.algorithms for key in keys)
        which = ": the header must say which" if fitting > 1 else ""
        return "key_unknown", f"no kid, and {fitting} keys fit {name}{which}"
    if any(key.kid == header.kid for key in keys):
        return "algorithm", f"key {printable(header.kid)} is not for {name}"
    return "key_unknown", f"no key with kid {printable(header.kid)}"


def verify_signature(jwt: UnverifiedJwt, key: PublicKey) -> None:
    """Prove the signature with this key. Raises JoseError("signature"); does not look at any claim."""
    algorithm = jwt.header.algorithm
    if algorithm.name not in key.algorithms:
        raise JoseError("algorithm", "the key is for another algorithm")
    size = algorithm.signature_bytes
    if size is not None and len(jwt.signature) != size:
        raise JoseError("signature", "the signature has the wrong length")
    if not algorithm.signature.verify(jwt.signature, jwt.signing_input, key.native):
        raise JoseError("signature", "the signature does not verify")


def signing_input(header_segment: bytes, payload: bytes) -> bytes:
    """The bytes to sign: an encoded header (see `encode_header`) and the claims as JSON (RFC 7515 5.1)."""
    return header_segment + b"." + base64url_encode(payload)


def encode_header(algorithm: str, kid: str, typ: str) -> bytes:
    """The encoded JOSE header; the same for every token of a key, so callers keep it."""
    return base64url_encode(strict_json.dumps({"alg": algorithm, "kid": kid, "typ": typ}))


def sign(data: bytes, key: PrivateKey) -> bytes:
    """Sign raw bytes with the key's one algorithm; returns the JOSE signature (RFC 7518 3.4: R and S, fixed size)."""
    return ALGORITHMS[key.algorithm].signature.sign(data, key.native)


def sign_jwt(claims: Mapping[str, Any], key: PrivateKey, typ: str, alg_name: str | None = None) -> str:
    """Write a whole compact JWS; `alg_name` may give EdDSA as the name to write for an Ed25519 key."""
    written = alg_name or key.algorithm
    if ALGORITHM_NAMES.get(written) is not ALGORITHMS[key.algorithm]:
        raise JoseError("algorithm", f"the key signs {key.algorithm} only")
    data = signing_input(encode_header(written, key.kid, typ), strict_json.dumps(claims))
    return (data + b"." + base64url_encode(sign(data, key))).decode("ascii")


Number = int | float


def numeric_date(claims: Mapping[str, Any], name: str) -> Number | None:
    """A NumericDate claim (RFC 7519 2): a finite JSON number, never a boolean or string; None if absent."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise JoseError("claims", f"{name} is not a number")
    return value


def string_claim(claims: Mapping[str, Any], name: str, max_chars: int = 4096) -> str:
    """A required claim that is a non-empty string; JoseError("claims") otherwise."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= max_chars:
        raise JoseError("claims", f"{name} must be a string of 1 to {max_chars} characters")
    return value


def audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The aud claim as a tuple (RFC 7519 4.1.3). Raises JoseError("audience") if absent, empty or not strings."""
    value = claims.get("aud")
    values = value if isinstance(value, list) else [value]
    if not values or any(not isinstance(item, str) or not item for item in values):
        raise JoseError("audience", "aud must be a string or a non-empty array of strings")
    return tuple(values)


def check_times(claims: Mapping[str, Any], now: float, *, tolerance: float, exp_leeway: float = 0) -> Number:
    """Apply exp (required), nbf and iat to the instant `now` (RFC 7519 4.1.4 to 4.1.6); returns exp.

    `tolerance`: seconds that nbf and iat may lie in the future (10 to 60, FAPI 2.0 5.3.2.1); exp gets `exp_leeway`
    only. Raises JoseError: "claims", "expired", "not_yet".
    """
    exp = numeric_date(claims, "exp")
    if exp is None:
        raise JoseError("claims", "exp is missing")
    if now >= exp + exp_leeway:
        raise JoseError("expired", f"exp is {_seconds(now - exp)} in the past")
    for name in ("nbf", "iat"):
        begin = numeric_date(claims, name)
        if begin is not None and begin > now + tolerance:
            raise JoseError("not_yet", f"{name} is {_seconds(begin - now)} in the future")
    return exp


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 10**9 else "very far"
