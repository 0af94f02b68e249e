"""Verifier: what an API needs to know who is calling."""

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import time as wall  # by this name, because libraries that freeze time replace it in modules
from typing import Final, Self, TypedDict, Unpack

from groat.protocol import jose
from groat.protocol.access_token import (
    DEFAULT_ALGORITHMS,
    RFC9068,
    Caller,
    Dialect,
    Expectations,
    RequiredScopes,
    check_access_token,
    parse_access_token,
    require_scopes,
)
from groat.protocol.arguments import strings
from groat.protocol.differences import difference, shown
from groat.protocol.errors import ConfigError, InvalidToken, JoseError, KeysUnavailable, VerificationError
from groat.protocol.jwk import PublicKey, printable
from groat.protocol.stray import blanks, stray, without_user
from groat.verifier import dialects
from groat.verifier.bearer import bearer_token
from groat.verifier.keys.fetch import Http, KeyFetcher
from groat.verifier.keys.schedule import Schedule
from groat.verifier.keys.source import KeySource
from groat.verifier.notices import Notices
from groat.verifier.observer import Guarded, Observer
from groat.verifier.token_cache import TokenCache
from groat.verifier.trust import TrustedIssuer, accepting, expectations, limit_faults, trust_faults, trusted_issuers

logger = logging.getLogger("groat.verifier")

Token = str | bytes


@dataclass(frozen=True, slots=True)
class _Trust:
    """What is expected of an issuer's tokens, and that issuer's own keys."""

    expected: Expectations
    source: KeySource


class Options(TypedDict, total=False):
    """The optional keywords of Verifier."""

    jwks_uri: str | None
    algorithms: Collection[str]
    clock_tolerance: int
    max_stale: float
    refresh_cooldown: float
    accept_types: Iterable[str | None] | None
    http: Http | None
    strict_startup: bool
    allow_http_hosts: Collection[str]
    dialect: Dialect
    realm: str
    cache_size: int
    observer: Observer | None
    clock: Callable[[], float] | None
    monotonic: Callable[[], float]


class Verifier:
    """Accepts the access tokens of an issuer for one API, and says who called (RFC 9068 4, RFC 6750 3).

    `issuer` and `audience` are required; `issuers` takes their place while an API moves from one issuer to another:
    the unverified `iss` then only chooses whose keys are asked. Nothing is fetched before the first token comes,
    unless `strict_startup` asks for it. Seconds: `clock_tolerance` (0 to 60, for iat and nbf alone), `max_stale` (how
    long the last good keys serve while the issuer is out of reach), `refresh_cooldown` (between two fetches for
    unknown kids). `accept_types`: other `typ` values than at+jwt. `http`: a callable (url, headers) -> Response that
    follows no redirects, such as one for a proxy. `cache_size`: proven tokens to remember, 0 for none. `observer`: is
    told every verdict and fetch, for metrics. `algorithms`: those of the issuer; by default all that are asymmetric.
    `clock`: epoch seconds, instead of `time.time`.

    Raises ConfigError for what could never be safe. Safe to share between threads, event loops and forked processes.
    Not checked: revocation of a single token; proof of possession (bound tokens are refused).
    """

    def __init__(
        self,
        issuer: str | None = None,
        audience: str | None = None,
        *,
        issuers: Sequence[str | TrustedIssuer] = (),
        jwks_uri: str | None = None,
        algorithms: Collection[str] = DEFAULT_ALGORITHMS,
        clock_tolerance: int = 10,
        max_stale: float = 86400,
        refresh_cooldown: float = 30,
        accept_types: Iterable[str | None] | None = None,
        http: Http | None = None,
        strict_startup: bool = False,
        allow_http_hosts: Collection[str] = (),
        dialect: Dialect = RFC9068,
        realm: str = "api",
        cache_size: int = 0,
        observer: Observer | None = None,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        single = TrustedIssuer(issuer or "", jwks_uri, accepting(dialect, accept_types), algorithms)
        trusted = trusted_issuers(issuer, audience, issuers, single)
        hosts = frozenset(strings("allow_http_hosts", allow_http_hosts))
        findings = [*trust_faults(trusted, hosts), *limit_faults(realm, max_stale, refresh_cooldown, cache_size)]
        if findings:
            raise ConfigError(*findings)
        schedule = Schedule(max_stale=max_stale, cooldown=refresh_cooldown)
        fetchers = [KeyFetcher(one.issuer, one.jwks_uri, hosts, http) for one in trusted]
        watching = None if observer is None else Guarded(observer)
        sources = [KeySource(fetcher, schedule, monotonic=monotonic, observer=watching) for fetcher in fetchers]
        expected = [expectations(one, audience or "", clock_tolerance) for one in trusted]
        self.audience = audience or ""
        self.issuers = tuple(one.issuer for one in trusted)
        self.realm = realm
        self.explain = os.environ.get("GROAT_DEV") == "1"
        self._trusts: Mapping[str, _Trust] = dict(zip(self.issuers, map(_Trust, expected, sources), strict=True))
        # With one issuer nothing has to be read from the token to know whose keys must prove it.
        self._only = self._trusts[self.issuers[0]] if len(trusted) == 1 else None
        self._cache = TokenCache(cache_size) if cache_size else None
        self._clock = clock
        self._observer = watching
        self._notices = Notices(monotonic)
        if strict_startup:
            self.warm_sync()

    def verify(self, token: Token, scopes: RequiredScopes = ()) -> Caller:
        """Accept an access token, or raise a VerificationError that knows its status and challenge.

        `scopes`: all of a list, or one of `any_of(...)`. A token by a known key is judged without I/O or locks; only
        when keys are missing or overdue the call waits for one shared fetch, 5.5 s at most.
        """
        jwt = caller = None
        try:
            digest, caller = self._recall(token)
            if caller is None:
                trust, jwt = self._parse(token)
                key = trust.source.known_key(jwt.header)
                if key is None:
                    key = trust.source.key(jwt.header)
                caller = self._prove(trust, jwt, key, digest)
            require_scopes(caller, scopes)
            if self._observer is not None:
                self._observer.verified("accepted", "")
            return caller
        except VerificationError as error:
            self._refused(error, jwt, caller)
            raise

    async def averify(self, token: Token, scopes: RequiredScopes = ()) -> Caller:
        """As `verify`; waits for keys without blocking the event loop."""
        jwt = caller = None
        try:
            digest, caller = self._recall(token)
            if caller is None:
                trust, jwt = self._parse(token)
                key = trust.source.known_key(jwt.header)
                if key is None:
                    key = await trust.source.akey(jwt.header)
                caller = self._prove(trust, jwt, key, digest)
            require_scopes(caller, scopes)
            if self._observer is not None:
                self._observer.verified("accepted", "")
            return caller
        except VerificationError as error:
            self._refused(error, jwt, caller)
            raise

    def verify_request(
        self, authorization: Sequence[bytes | str], query: bytes = b"", scopes: RequiredScopes = ()
    ) -> Caller:
        """As `verify`, from the values of all Authorization header lines and the raw query string (RFC 6750 2)."""
        return self.verify(self._token(authorization, query), scopes)

    async def averify_request(
        self, authorization: Sequence[bytes | str], query: bytes = b"", scopes: RequiredScopes = ()
    ) -> Caller:
        """As `verify_request`, without blocking the event loop."""
        return await self.averify(self._token(authorization, query), scopes)

    def warm_sync(self, *, force: bool = False) -> None:
        """Load the keys of every issuer now; `force` even if they are current.

        Raises KeysUnavailable if one cannot be had, after all were tried.
        """
        problems = []
        for trust in self._trusts.values():
            try:
                trust.source.load(force=force)
            except KeysUnavailable as error:
                problems.append(error)
        _raise_first(problems)

    async def warm(self, *, force: bool = False) -> None:
        """As `warm_sync`, without blocking the event loop."""
        problems = []
        for trust in self._trusts.values():
            try:
                await trust.source.aload(force=force)
            except KeysUnavailable as error:
                problems.append(error)
        _raise_first(problems)

    def jwks_age(self) -> float | None:
        """Seconds since keys were fetched, of the issuer where that is longest ago; None while one has none."""
        ages = [trust.source.age() for trust in self._trusts.values()]
        known = [age for age in ages if age is not None]
        return max(known) if len(known) == len(ages) else None

    def close(self) -> None:
        """Fetch no more keys; those at hand serve until they are stale."""
        for trust in self._trusts.values():
            trust.source.close()

    def _recall(self, token: Token) -> tuple[bytes | None, Caller | None]:
        if self._cache is None:
            return None, None
        digest = TokenCache.digest(token)
        return digest, None if digest is None else self._cache.find(
            digest, wall() if self._clock is None else self._clock()
        )

    def _parse(self, token: Token) -> tuple[_Trust, jose.UnverifiedJwt]:
        trust = self._only or self._claimed_trust(token)
        return trust, parse_access_token(token, trust.expected)

    def _claimed_trust(self, token: Token) -> _Trust:
        """Whose token it says it is: a rumour that only picks the keys which must then prove it."""
        try:
            claimed = jose.parse_jwt(token).claims.get("iss")
        except JoseError as error:
            raise InvalidToken(error.reason, error.hint) from None
        trust = self._trusts.get(claimed) if isinstance(claimed, str) else None
        if trust is None:
            close = "".join(difference(claimed, issuer) for issuer in self.issuers)
            listed = ", ".join(map(shown, self.issuers))
            raise InvalidToken("issuer", f"iss is none of {listed}{close}")
        return trust

    def _prove(self, trust: _Trust, jwt: jose.UnverifiedJwt, key: PublicKey, digest: bytes | None) -> Caller:
        caller = check_access_token(jwt, key, trust.expected, wall() if self._clock is None else self._clock())
        if self._cache is not None and digest is not None:
            self._cache.remember(digest, caller, key, trust.source)
        return caller

    def _token(self, authorization: Sequence[bytes | str], query: bytes) -> str:
        try:
            return bearer_token(authorization, query)
        except VerificationError as error:
            self._refused(error, None, None)
            raise

    def _refused(self, error: VerificationError, jwt: jose.UnverifiedJwt | None, caller: Caller | None) -> None:
        """Log why, as a warning where `Notices` allows. The client is named only once its token is proven.

        Python shows warnings of a logger that nobody has configured, as under uvicorn.
        """
        error.realm = self.realm
        if self._observer is not None:
            self._observer.verified("unavailable" if isinstance(error, KeysUnavailable) else "refused", error.reason)
        kid = printable(jwt.header.kid) if jwt is not None and jwt.header.kid else None
        client = None if caller is None else printable(caller.client_id)
        held = self._notices.due(error.reason)
        more = f" (and {held} more for this reason since the last warning)" if held else ""
        level = logging.INFO if held is None else logging.WARNING
        words = "refused: reason=%s kid=%s client=%s hint=%s%s"
        logger.log(level, words, error.reason, kid, client, error.hint, more)

    @classmethod
    def from_env(cls, **options: Unpack[Options]) -> Self:
        """Configure from GROAT_ISSUER and GROAT_AUDIENCE (both required), GROAT_JWKS_URI, and comma-separated
        GROAT_ALGORITHMS and GROAT_ALLOW_HTTP_HOSTS; keywords win. Raises ConfigError that names what is missing, and
        what env files leave in values."""
        issuer, audience = (os.environ.get(name, "") for name in _REQUIRED)
        findings = [f"{name} is not set" for name in _REQUIRED if not os.environ.get(name)] + _odd_variables()
        if findings:
            raise ConfigError(*findings)
        if jwks_uri := os.environ.get("GROAT_JWKS_URI"):
            options.setdefault("jwks_uri", jwks_uri)
        if algorithms := _listed("GROAT_ALGORITHMS"):
            options.setdefault("algorithms", algorithms)
        if hosts := _listed("GROAT_ALLOW_HTTP_HOSTS"):
            options.setdefault("allow_http_hosts", hosts)
        return cls(issuer, audience, **options)

    @classmethod
    def keycloak(cls, url: str, realm_name: str, audience: str, **options: Unpack[Options]) -> Self:
        """A Keycloak realm, for example ("https://sso.example.com", "acme", ...); see `dialects.KEYCLOAK`."""
        options.setdefault("dialect", dialects.KEYCLOAK)
        return cls(f"{url.rstrip('/')}/realms/{realm_name}", audience, **options)

    @classmethod
    def auth0(cls, domain: str, audience: str, **options: Unpack[Options]) -> Self:
        """An Auth0 tenant by its domain, for example "acme.eu.auth0.com"; see `dialects.AUTH0`."""
        options.setdefault("dialect", dialects.AUTH0)
        options.setdefault("algorithms", ("RS256", "PS256"))
        return cls(f"https://{domain}/", audience, **options)

    @classmethod
    def entra(cls, tenant_id: str, audience: str, **options: Unpack[Options]) -> Self:
        """One Microsoft Entra tenant, v2.0 tokens; `audience` is the API's application id; see `dialects.ENTRA`.

        Raises ConfigError for `common` and its kin, whose metadata names no one issuer.
        """
        if tenant_id in ("common", "organizations", "consumers"):
            raise ConfigError("Entra needs the id of one tenant; a shared endpoint has no one issuer")
        options.setdefault("dialect", dialects.ENTRA)
        options.setdefault("algorithms", ("RS256",))
        return cls(f"https://login.microsoftonline.com/{tenant_id}/v2.0", audience, **options)

    @classmethod
    def cognito(
        cls,
        region: str,
        user_pool_id: str,
        audience: str | None = None,
        *,
        client_id: str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """An Amazon Cognito user pool; see `dialects.COGNITO`.

        Give `audience` if tokens are bound to a resource and carry aud; else `client_id`, the one client to accept,
        and then always require scopes (`dialects.COGNITO_BY_CLIENT`).
        """
        if (audience is None) == (client_id is None):
            raise ConfigError("Cognito needs either an audience or a client_id")
        options.setdefault("dialect", dialects.COGNITO if audience else dialects.COGNITO_BY_CLIENT)
        options.setdefault("algorithms", ("RS256",))
        return cls(f"https://cognito-idp.{region}.amazonaws.com/{user_pool_id}", audience or client_id, **options)


_REQUIRED: Final = ("GROAT_ISSUER", "GROAT_AUDIENCE")
_OPTIONAL: Final = ("GROAT_JWKS_URI", "GROAT_ALGORITHMS", "GROAT_ALLOW_HTTP_HOSTS")


def _odd_variables() -> list[str]:
    """Quotes, blanks and marks that came with a value: an audience of those would refuse every token."""
    values = {name: os.environ.get(name, "") for name in (*_REQUIRED, *_OPTIONAL)}
    odd = {name: stray(value) or blanks(value) for name, value in values.items()}
    return [f"{name}: {words}: {shown(without_user(values[name]))}" for name, words in odd.items() if words]


def _raise_first(problems: Sequence[KeysUnavailable]) -> None:
    if problems:
        raise problems[0]


def _listed(name: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in os.environ.get(name, "").split(",") if item.strip())


__all__ = ["Options", "TrustedIssuer", "Verifier"]
