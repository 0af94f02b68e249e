"""RFC 9068 access tokens: what we write and what we check, side by side."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from groat.protocol import jose, strict_json
from groat.protocol.arguments import one_string, strings, strings_or_none
from groat.protocol.binding import UNBOUND, Confirmation, read_confirmation
from groat.protocol.differences import difference, other_than, shown
from groat.protocol.errors import ConfigError, InsufficientScope, InvalidToken, JoseError
from groat.protocol.jwk import ALGORITHM_NAMES, ALGORITHMS, PublicKey, base64url_encode
from groat.protocol.models import MAX_CLOCK_TOLERANCE, MIN_CLOCK_TOLERANCE, Grant, Policy
from groat.protocol.read_only import ReadOnlyDict
from groat.protocol.revocation import issuable
from groat.protocol.status_list import PLACES, Place, status_claim
from groat.protocol.time_hints import token_time_hint

TYP: Final = "at+jwt"
WORKLOAD_CLAIM: Final = "groat:workload"  # what a rule copies of a foreign token, under one name of ours (AS-JB-17)
_LATEST: Final = 99_999_999_999
_ID_CHARS: Final = 43  # of a thumbprint; our token ids are shorter
_MAX_SIGNATURE_CHARS: Final = 683  # RSA, 4096 bits
# All that the table has: none is symmetric, each key of our issuer is for one of them, and the issuer chooses which.
DEFAULT_ALGORITHMS: Final = tuple(ALGORITHMS)


def access_token_claims(grant: Grant, policy: Policy, now: int, jti: str, status: str = "") -> bytes:
    """The claims of a new token, encoded (RFC 9068 2.2). `now`: epoch seconds; `jti`: at least 128 random bits.

    `status`: where it stands in a status list, as JSON.
    Raises TemporarilyUnavailable while everything that could say to be of now is over.
    """
    if grant.not_before > now:
        now = issuable(grant.not_before, now)
    head, exp = _constant_claims(grant.plain or grant, policy), now + grant.lifetime
    if grant.confirmation is not UNBOUND or grant.workload:
        head += _own_claims(grant)
    if status:
        head += f',"status":{status}'
    return f'{head},"iat":{now},"exp":{exp},"jti":{encode_basestring(jti)}}}'.encode()


def _own_claims(grant: Grant) -> str:
    """What is of this grant alone, as members that follow others."""
    own = {"cnf": grant.confirmation.cnf, WORKLOAD_CLAIM: dict(grant.workload)}
    return "".join(f',"{name}":{strict_json.dumps(value).decode()}' for name, value in own.items() if value)


# Of the tokens of one grant only the times, the jti and what is of its own differ. What is nearer wins: the client's
# own claims over those for all, and what a token is made of over both.
@lru_cache(maxsize=2048)
def _constant_claims(grant: Grant, policy: Policy) -> str:
    claims: dict[str, Any] = {
        **policy.extra_claims,
        **grant.claims,
        "iss": policy.issuer,
        "sub": grant.client_id,
        "aud": grant.api.audience,
        "client_id": grant.client_id,
    }
    for name in ("cnf", WORKLOAD_CLAIM):  # never of the settings, and no name stands twice
        claims.pop(name, None)
    if grant.scopes:
        claims["scope"] = grant.scope
    return strict_json.dumps(claims)[:-1].decode()


def longest_token(grant: Grant, policy: Policy) -> int:
    """Characters of a token for this grant, whichever key of ours signs it."""
    status = status_claim(policy.issuer, Place("x" * 12, PLACES)) if grant.api.listed else ""
    claims = access_token_claims(grant, policy, _LATEST, "x" * _ID_CHARS, status)
    header = jose.encode_header("Ed25519", "x" * _ID_CHARS, TYP)
    return len(header) + len(base64url_encode(claims)) + _MAX_SIGNATURE_CHARS + len("..")


def subject_is_client(claims: Mapping[str, Any], client_id: str) -> bool:
    """RFC 9068 2.2: without a user, `sub` names the client."""
    return bool(claims.get("sub", client_id) == client_id)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an issuer spells its access tokens; the default is RFC 9068 to the letter.

    `types`: accepted typ values as full media types, None for "absent"; `client_id`, `scopes`, `audience`: claim
    names, the first present counts; `required`: claims that must be there; `scope_array`: scopes may be a JSON array.
    `fixed`: claims with one value. `acts_alone(claims, client_id)`: whether the client acts for itself. Raises
    ConfigError where a string stands for a list of them.
    """

    types: frozenset[str | None] = frozenset({f"application/{TYP}"})
    client_id: tuple[str, ...] = ("client_id",)
    scopes: tuple[str, ...] = ("scope",)
    audience: str = "aud"
    required: tuple[str, ...] = ("iat", "sub", "jti")
    scope_array: bool = False
    fixed: tuple[tuple[str, str], ...] = ()
    acts_alone: Callable[[Mapping[str, Any], str], bool] = subject_is_client

    def __post_init__(self) -> None:
        for name in ("client_id", "scopes", "required"):
            object.__setattr__(self, name, strings(f"Dialect.{name}", getattr(self, name)))
        object.__setattr__(self, "types", frozenset(strings_or_none("Dialect.types", self.types)))
        one_string("Dialect.audience", self.audience)


RFC9068: Final = Dialect()


@dataclass(frozen=True, slots=True)
class Expectations:
    """What one API accepts: tokens of this issuer, for this audience, signed by these algorithms.

    `clock_tolerance`: seconds that iat and nbf may lie ahead; exp gets none. Raises ConfigError for an empty or unsafe
    combination. `at_issuer`: the issuer itself is the API, as where somebody asks it about tokens.
    """

    issuer: str
    audience: str
    algorithms: Collection[str] = DEFAULT_ALGORITHMS
    clock_tolerance: int = 10
    dialect: Dialect = RFC9068
    at_issuer: bool = False
    algorithm_names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience or not self.algorithms:
            raise ConfigError("a verifier needs an issuer, an audience and known algorithms")
        if unknown := [name for name in self.algorithms if name not in ALGORITHM_NAMES]:
            raise ConfigError(f"algorithms must be among {', '.join(ALGORITHM_NAMES)}, not {shown(unknown[0])}")
        if self.issuer == self.audience and not self.at_issuer:
            raise ConfigError("audience must name the API, not the issuer")
        if not MIN_CLOCK_TOLERANCE <= self.clock_tolerance <= MAX_CLOCK_TOLERANCE:
            raise ConfigError(f"clock_tolerance must be {MIN_CLOCK_TOLERANCE} to {MAX_CLOCK_TOLERANCE} seconds")
        names = frozenset(ALGORITHM_NAMES[name].name for name in self.algorithms)
        object.__setattr__(self, "algorithm_names", names)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called, proven by a verified access token: a value that copies, pickles and is equal to its like.

    `expires_at` and `issued_at`: epoch seconds. `confirmation`: what the token is bound to, with a `kind` ("dpop",
    "mtls") and a `thumbprint`; None for a bearer token.
    """

    client_id: str
    subject: str
    scopes: frozenset[str]
    expires_at: float
    issued_at: float | None
    token_id: str | None
    claims: Mapping[str, Any] = field(repr=False, hash=False)
    dialect: Dialect = field(default=RFC9068, repr=False, compare=False)

    @property
    def is_client(self) -> bool:
        """Whether the client acts for itself: then `subject` names no user (RFC 9068 5, RFC 9700 4.15)."""
        return self.dialect.acts_alone(self.claims, self.client_id)

    @property
    def confirmation(self) -> Confirmation | None:
        return read_confirmation(self.claims["cnf"]) if "cnf" in self.claims else None


def parse_access_token(token: str | bytes, expected: Expectations) -> jose.UnverifiedJwt:
    """Shape, algorithm and type, before any key is looked for. Raises InvalidToken."""
    try:
        jwt = jose.parse_jwt(token)
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None
    if jwt.header.algorithm.name not in expected.algorithm_names:
        listed = ", ".join(sorted(expected.algorithm_names))
        raise InvalidToken("algorithm", f"{jwt.header.algorithm.name} is not accepted here; algorithms={listed}")
    if jwt.header.media_type not in expected.dialect.types:
        raise InvalidToken("type", _type_hint(jwt.header.typ, jwt.header.media_type, expected.dialect))
    return jwt


def check_access_token(jwt: jose.UnverifiedJwt, key: PublicKey, expected: Expectations, now: float) -> Caller:
    """Signature, then claims (RFC 9068 4). `key` was chosen by kid from this issuer's own set.

    Raises InvalidToken. Not checked: scopes (see `require_scopes`), revocation, and what a token is bound to: whoever
    lets a caller in with a `confirmation` must have seen its proof.
    """
    try:
        jose.verify_signature(jwt, key)
        return _caller(jwt.claims, expected, now)
    except JoseError as error:
        if error.reason in ("expired", "not_yet"):
            raise InvalidToken(error.reason, token_time_hint(error, jwt.claims, now)) from None
        raise InvalidToken(error.reason, error.hint) from None


def _caller(claims: dict[str, Any], expected: Expectations, now: float) -> Caller:
    dialect = expected.dialect
    if claims.get("iss") != expected.issuer:
        raise JoseError("issuer", other_than("iss", claims.get("iss"), expected.issuer))
    if claims.get(dialect.audience) != expected.audience:
        _check_audience(claims, expected)
    exp = jose.check_times(claims, now, tolerance=expected.clock_tolerance)
    for name in dialect.required:
        if name not in claims:
            raise JoseError("claims", f"{name} is missing")
    for name, value in dialect.fixed:
        if claims.get(name) != value:
            raise JoseError("type", f"the claim {name} is not {value}")
    if "cnf" in claims:
        read_confirmation(claims["cnf"])
    client_id = jose.string_claim(claims, _first(claims, dialect.client_id))
    return Caller(
        client_id,
        jose.string_claim(claims, "sub") if "sub" in claims else client_id,
        _scopes(claims, dialect),
        exp,
        jose.numeric_date(claims, "iat"),
        jose.string_claim(claims, "jti") if "jti" in claims else None,
        ReadOnlyDict(claims),
        dialect,
    )


def _check_audience(claims: Mapping[str, Any], expected: Expectations) -> None:
    """Where it is not the one alone, it must be among several."""
    name = expected.dialect.audience
    values = jose.audience(claims if name == "aud" else {"aud": claims.get(name)})
    if expected.audience not in values:
        close = next((value for value in values if difference(value, expected.audience)), None)
        raise JoseError("audience", other_than(name, close, expected.audience))


# A type of its own says that a JWT is something else (dpop+jwt, logout+jwt, dc+sd-jwt): a verifier that takes it for
# an access token can be fooled (RFC 8725 3.11, 3.12).
_OWN_TYPES: Final = ("+jwt", "+sd-jwt")
_ACCESS_TOKEN: Final = "application/at+jwt"


def _type_hint(typ: str | None, media_type: str | None, dialect: Dialect) -> str:
    names = sorted(one.removeprefix("application/") for one in dialect.types if one)
    untyped = None in dialect.types
    found = f"typ is {shown(typ)}, accepted is {' or '.join([*names, *(['none'] if untyped else [])])}"
    if media_type and media_type.endswith(_OWN_TYPES) and media_type != _ACCESS_TOKEN:
        return f"{found}: no access token"
    options = [*map(shown, names), *(["None"] if untyped else []), "None" if typ is None else shown(typ)]
    return f"{found}; accept_types=[{', '.join(options)}] would take it too, where the issuer has no RFC 9068 type"


def _first(claims: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        if name in claims:
            return name
    return names[0]


def _scopes(claims: Mapping[str, Any], dialect: Dialect) -> frozenset[str]:
    name = _first(claims, dialect.scopes)
    value = claims.get(name)
    if isinstance(value, str):
        return _scope_set(value)
    if name not in claims:
        return frozenset()
    if dialect.scope_array and isinstance(value, list) and all(isinstance(s, str) for s in value):
        return frozenset(value)
    raise JoseError("claims", "scope is not a string")


@lru_cache(maxsize=512)  # the tokens of a client mostly carry the same scopes; signed by the issuer, at most 8 KiB
def _scope_set(value: str) -> frozenset[str]:
    return frozenset(filter(None, value.split(" ")))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Any one of these scopes is enough."""

    scopes: tuple[str, ...]


def any_of(*scopes: str) -> AnyOf:
    """Require at least one of these scopes. Raises ConfigError when none is named, or a list of them."""
    scopes = strings("any_of", scopes)
    if not scopes:
        raise ConfigError("any_of needs at least one scope")
    return AnyOf(scopes)


RequiredScopes = Iterable[str] | AnyOf


def require_scopes(caller: Caller, required: RequiredScopes) -> None:
    """All of a list, or one of `any_of(...)`: exact and case-sensitive (RFC 6749 3.3). Raises InsufficientScope."""
    if isinstance(required, AnyOf):
        if caller.scopes.isdisjoint(required.scopes):
            raise InsufficientScope(required.scopes, f"none of {_listed(required.scopes)} is granted")
        return
    wanted = required if type(required) is tuple else scope_names(required)  # a tuple is what adapters have
    if not caller.scopes.issuperset(wanted):
        raise InsufficientScope(wanted, f"{_listed(set(wanted) - caller.scopes)} is not granted")


def scope_names(required: RequiredScopes) -> tuple[str, ...]:
    """Every scope that a demand names."""
    if isinstance(required, AnyOf):
        return required.scopes
    # A lone string would be read letter by letter, and an empty result would let everybody in.
    return (required,) if isinstance(required, str) else tuple(required)


def _listed(scopes: Collection[str]) -> str:
    return shown(" ".join(sorted(scopes)))
