"""Whom a verifier trusts, checked before the first token comes: issuers, their keys, and what an API expects."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from groat.outbound.clocks import Clocks
from groat.protocol import jose
from groat.protocol.access_token import DEFAULT_ALGORITHMS, RFC9068, Dialect, Expectations
from groat.protocol.arguments import one_string, strings, strings_or_none
from groat.protocol.differences import difference, shown
from groat.protocol.errors import ConfigError, InvalidToken, JoseError, KeysUnavailable
from groat.protocol.grammar import NQSCHARS
from groat.protocol.stray import blanks, stray, without_user
from groat.protocol.uris import check_endpoint, issuer_fault
from groat.verifier.keys.fetch import Http, KeyFetcher
from groat.verifier.keys.schedule import Schedule
from groat.verifier.keys.source import KeySource
from groat.verifier.observer import Guarded, Observer


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """One of several issuers, where they differ in more than their name. Raises ConfigError."""

    issuer: str
    jwks_uri: str | None = None
    dialect: Dialect = RFC9068
    algorithms: Collection[str] = DEFAULT_ALGORITHMS

    def __post_init__(self) -> None:
        one_string("issuer", self.issuer)
        if self.jwks_uri is not None:
            one_string("jwks_uri", self.jwks_uri)
        object.__setattr__(self, "algorithms", strings("algorithms", self.algorithms))


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What a verifier's own keywords say of its issuers, of each that is given by name alone. Raises ConfigError.

    `types`: accepted `typ` values, None among them for an absent one; instead of a set, None for those of the dialect.
    """

    jwks_uri: str | None
    algorithms: Collection[str]
    accept_types: Iterable[str | None] | None
    types: frozenset[str | None] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithms", strings("algorithms", self.algorithms))
        object.__setattr__(self, "types", _accepted_types(self.accept_types))

    def about(self, named: str) -> TrustedIssuer:
        """An issuer of which nothing else is known."""
        dialect = RFC9068 if self.types is None else replace(RFC9068, types=self.types)
        return TrustedIssuer(named, self.jwks_uri, dialect, self.algorithms)

    def over(self, one: TrustedIssuer) -> TrustedIssuer:
        """The one issuer of a verifier, with what the keywords say differently."""
        return TrustedIssuer(
            one.issuer,
            self.jwks_uri or one.jwks_uri,
            one.dialect if self.types is None else replace(one.dialect, types=self.types),
            one.algorithms if self.algorithms == DEFAULT_ALGORITHMS else self.algorithms,
        )


@dataclass(frozen=True, slots=True)
class Trust:
    """What is expected of an issuer's tokens, and that issuer's own keys."""

    expected: Expectations
    source: KeySource


@dataclass(frozen=True, slots=True)
class KeySources:
    """How the keys of every issuer of one verifier are fetched and kept."""

    schedule: Schedule
    hosts: frozenset[str]
    http: Http | None
    clocks: Clocks
    observer: Observer | None

    def __post_init__(self) -> None:
        # Whatever is somebody else's code must not change a verdict by what it raises.
        if self.observer is not None:
            object.__setattr__(self, "observer", Guarded(self.observer))

    def trusts(
        self, trusted: Sequence[TrustedIssuer], audience: str, clock_tolerance: int
    ) -> tuple[dict[str, Trust], Trust | None]:
        """Each issuer's, by its name; and the only one, if there is one alone. Raises ConfigError."""
        found = {one.issuer: Trust(expectations(one, audience, clock_tolerance), self.of(one)) for one in trusted}
        return found, found[trusted[0].issuer] if len(found) == 1 else None

    def of(self, one: TrustedIssuer) -> KeySource:
        fetcher = KeyFetcher(one.issuer, one.jwks_uri, self.hosts, self.http)
        return KeySource(fetcher, self.schedule, clocks=self.clocks, observer=self.observer)


def claimed_trust(token: str | bytes, trusts: Mapping[str, Trust]) -> Trust:
    """Whose token it says it is: a rumour that only picks the keys which must then prove it. Raises InvalidToken."""
    try:
        claimed = jose.parse_jwt(token).claims.get("iss")
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None
    trust = trusts.get(claimed) if isinstance(claimed, str) else None
    # Nearly the right name is the usual mistake (a final slash, http for https), so the hint says what differs.
    if trust is None:
        close = "".join(difference(claimed, issuer) for issuer in trusts)
        listed = ", ".join(map(shown, trusts))
        raise InvalidToken("issuer", f"iss is none of {listed}{close}")
    return trust


def load_all(trusts: Iterable[Trust], *, force: bool) -> None:
    """Load the keys of every issuer now. Raises KeysUnavailable if one cannot be had, after all were tried."""
    problems = []
    # One that is away must not keep the keys of the others from being had: each has callers of its own.
    for trust in trusts:
        try:
            trust.source.load(force=force)
        except KeysUnavailable as error:
            problems.append(error)
    if problems:
        raise problems[0]


async def aload_all(trusts: Iterable[Trust], *, force: bool) -> None:
    """As `load_all`, without blocking the event loop; one after the other, as the fetches have threads of their own."""
    problems = []
    for trust in trusts:
        try:
            await trust.source.aload(force=force)
        except KeysUnavailable as error:
            problems.append(error)
    if problems:
        raise problems[0]


def trusted_issuers(
    issuer: str | TrustedIssuer | None, issuers: Sequence[str | TrustedIssuer], own: OwnWords
) -> tuple[TrustedIssuer, ...]:
    """Every issuer as a TrustedIssuer. Raises ConfigError."""
    if (issuer is None) == (not issuers):
        raise ConfigError("a verifier needs an audience, and either issuer or issuers")
    if issuer is not None:
        return (own.over(issuer) if isinstance(issuer, TrustedIssuer) else own.about(issuer),)
    if isinstance(issuers, str):
        raise ConfigError("issuers must be a list, not one string: write issuers=[...], or issuer=")
    if own.jwks_uri is not None:
        raise ConfigError("with several issuers, give jwks_uri in TrustedIssuer: each has its own keys")
    named = tuple(one if isinstance(one, TrustedIssuer) else own.about(one) for one in issuers)
    if len({one.issuer for one in named}) != len(named):
        raise ConfigError("an issuer is listed twice")
    return named


def one_audience(audience: str | None) -> str:
    """The name of the API. Raises ConfigError for one that no token could have."""
    if not audience:
        raise ConfigError("a verifier needs an audience, and either issuer or issuers")
    if odd := stray(one_string("audience", audience)) or blanks(audience):
        raise ConfigError(f"audience: {odd}: {shown(without_user(audience))}")
    return audience


def expectations(trusted: TrustedIssuer, audience: str, clock_tolerance: int) -> Expectations:
    """What is expected of this issuer's tokens. Raises ConfigError. Proofs are asked for in `possession`."""
    return Expectations(
        trusted.issuer,
        audience,
        tuple(trusted.algorithms),
        clock_tolerance=clock_tolerance,
        dialect=trusted.dialect,
    )


def _accepted_types(types: Iterable[str | None] | None) -> frozenset[str | None] | None:
    if types is None:
        return None
    listed = strings_or_none("accept_types", types)
    if not listed:
        raise ConfigError("accept_types is empty, so that no token could be accepted; leave it out for at+jwt")
    return frozenset(map(jose.media_type, listed))


def checked_issuers(
    trusted: tuple[TrustedIssuer, ...], allow_http_hosts: Collection[str], other_faults: Sequence[str]
) -> tuple[tuple[TrustedIssuer, ...], frozenset[str]]:
    """The same issuers, and the hosts that may be asked without TLS. Raises ConfigError with all that is wrong."""
    # All at once, so that an operator mends them in one go.
    hosts = frozenset(strings("allow_http_hosts", allow_http_hosts))
    if findings := [*trust_faults(trusted, hosts), *other_faults]:
        raise ConfigError(*findings)
    return trusted, hosts


def trust_faults(trusted: Sequence[TrustedIssuer], hosts: frozenset[str]) -> list[str]:
    """What is wrong with addresses. Plain http is for loopback and `hosts`."""
    faults = [f"{without_user(one.issuer)}: {fault}" for one in trusted if (fault := issuer_fault(one.issuer, hosts))]
    for one in trusted:
        try:
            check_endpoint(one.jwks_uri or "https://none", hosts)
        except ConfigError:
            faults.append(f"jwks_uri of {without_user(one.issuer)} must be https, or http on loopback")
    return faults


def limit_faults(realm: str, max_stale: float, cooldown: float, cache_size: int) -> list[str]:
    """What is wrong with numbers and the realm."""
    checks: tuple[tuple[bool, str], ...] = (
        (NQSCHARS.fullmatch(realm) is not None, "realm must be printable ASCII without quotes and backslashes"),
        (max_stale >= 0, "max_stale must not be negative"),
        (cooldown >= 1, "refresh_cooldown must be at least 1 s"),
        (cache_size >= 0, "cache_size must not be negative"),
    )
    return [fault for good, fault in checks if not good]
