"""Verifier: what an API needs to know who is calling."""

import os
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from time import time as wall  # by this name, because libraries that freeze time replace it in modules
from typing import Final, Self, Unpack

from groat.outbound.clocks import Clocks
from groat.protocol import jose
from groat.protocol.access_token import (
    DEFAULT_ALGORITHMS,
    Caller,
    RequiredScopes,
    check_access_token,
    parse_access_token,
    require_scopes,
)
from groat.protocol.arguments import kind_of
from groat.protocol.errors import ConfigError, InvalidToken, MissingToken, VerificationError
from groat.protocol.resource_metadata import ProofsTaken, ResourceDescription
from groat.verifier import presets
from groat.verifier.bearer import DPOP, token_of
from groat.verifier.certificates import Certificates
from groat.verifier.environment import from_environment
from groat.verifier.keys.fetch import Http
from groat.verifier.keys.schedule import Schedule
from groat.verifier.observer import Observer
from groat.verifier.options import Options
from groat.verifier.possession import (
    PRESENTED,
    Dpop,
    Evidence,
    Possession,
    Presented,
    Shown,
    public_bases,
    shown_of,
    unexpected,
)
from groat.verifier.refusals import Refusals
from groat.verifier.status.opening import open_statuses
from groat.verifier.status.question import Case, Question
from groat.verifier.status.revocation import Revocation
from groat.verifier.token_cache import TokenCache
from groat.verifier.trust import (
    KeySources,
    OwnWords,
    Trust,
    TrustedIssuer,
    aload_all,
    checked_issuers,
    claimed_trust,
    limit_faults,
    load_all,
    one_audience,
    trusted_issuers,
)
from groat.verifier.waiting import Judged, Open, asettled, aside, settled

_UNDESCRIBED: Final = ResourceDescription()

Token = str | bytes


def _now() -> float:
    """The clock of the machine, as whoever freezes time has left it in this module."""
    return wall()


class Verifier:
    """Accepts the access tokens of an issuer for one API, and says who called (RFC 9068 4, RFC 6750 3).

    Args:
        issuer: what the server calls itself; a `TrustedIssuer` where it spells its tokens its own way (`presets`).
        audience: what the server calls this API.
        issuers: instead of `issuer`, while an API moves from one to another: the unverified `iss` then only chooses
            whose keys are asked.
        jwks_uri: where the keys are, instead of asking the issuer's metadata.
        algorithms: those of the issuer; by default all that are asymmetric.
        accept_types: other `typ` values than at+jwt.
        clock_tolerance: seconds, 0 to 60, for iat and nbf alone.
        max_stale: seconds for which the last good keys serve while the issuer is out of reach.
        refresh_cooldown: seconds between two fetches for unknown kids.
        http: a callable (url, headers) -> Response that follows no redirects, such as one for a proxy.
        allow_http_hosts: hosts besides loopback that may be asked without TLS; for development.
        strict_startup: fetch keys at once. Otherwise nothing is fetched before the first token comes.
        realm: what challenges say is protected.
        cache_size: proven tokens to remember, 0 for none.
        observer: is told every verdict and fetch, for metrics.
        clocks: for tests; by default those of the machine, as whoever freezes `time.time` has turned them.
        description: what people read of this API in its metadata (RFC 9728 2).
        dpop: how proofs of possession are taken; those of bound tokens are checked in any case.
        public_url: by which callers know this API, several too; by default the host of the audience.
        certificates: whose word counts for the certificates of callers, where a proxy terminates TLS.
        require_binding: what every token must be bound to: "none", "dpop", "mtls", or "any" of the two.
        revocation: how this API hears that a token was taken back: "none", by its end; "list" or "feed", within
            seconds; "introspection", at once; a `Revocation` where there is more to say.
        on_status_unknown: "refuse" (503) or "accept" a token of which nobody can tell whether it was taken back.

    Raises ConfigError for what could never be safe. Safe to share between threads, event loops and forked processes.
    Not checked: of a certificate anything but that a token is bound to it.
    """

    def __init__(
        self,
        issuer: str | TrustedIssuer | None = None,
        audience: str | None = None,
        *,
        issuers: Sequence[str | TrustedIssuer] = (),
        jwks_uri: str | None = None,
        algorithms: Collection[str] = DEFAULT_ALGORITHMS,
        accept_types: Iterable[str | None] | None = None,
        clock_tolerance: int = 10,
        max_stale: float = 86400,
        refresh_cooldown: float = 30,
        http: Http | None = None,
        allow_http_hosts: Collection[str] = (),
        strict_startup: bool = False,
        realm: str = "api",
        cache_size: int = 0,
        observer: Observer | None = None,
        clocks: Clocks | None = None,
        description: ResourceDescription = _UNDESCRIBED,
        dpop: Dpop | None = None,
        public_url: str | Sequence[str] | None = None,
        certificates: Certificates | None = None,
        require_binding: str = "none",
        revocation: str | Revocation = "none",
        on_status_unknown: str = "refuse",
    ) -> None:
        self.audience, self._clock = one_audience(audience), clocks.now if clocks else None
        limits = limit_faults(realm, max_stale, refresh_cooldown, cache_size)
        own = OwnWords(jwks_uri, algorithms, accept_types)
        trusted, hosts = checked_issuers(trusted_issuers(issuer, issuers, own), allow_http_hosts, limits)
        self.realm, self.description, self.explain = realm, description, os.environ.get("GROAT_DEV") == "1"
        keys = KeySources(Schedule(max_stale, refresh_cooldown), hosts, http, clocks or Clocks(_now), observer)
        bases = public_bases(public_url, self.audience, hosts)
        self._possession = Possession(dpop, bases, require_binding, certificates, keys.clocks.monotonic)
        self._trusts, self._only = keys.trusts(trusted, self.audience, clock_tolerance)
        self._status = open_statuses(revocation, on_status_unknown, keys, self._trusts)
        self._cache, self._observer = TokenCache(cache_size) if cache_size else None, keys.observer
        self._refusals = Refusals(realm, self._possession, keys.clocks, self._observer)
        load_all(self._trusts.values() if strict_startup else (), force=False)

    def verify(self, token: Token, scopes: RequiredScopes = ()) -> Caller:
        """Accept an access token, or raise a VerificationError that knows its status and challenge.

        `scopes`: all of a list, or one of `any_of(...)`. A token by a known key is judged without I/O or locks; only
        when keys are missing or overdue the call waits for one shared fetch, 5.5 s at most. What is no string (None,
        where a header is missing) is an InvalidToken like any other malformed token; so is a token that is bound to a
        key, which takes a request to prove (`verify_request`).
        """
        judged = self._judge(token, scopes, None)
        return judged if isinstance(judged, Caller) else settled(judged)

    async def averify(self, token: Token, scopes: RequiredScopes = ()) -> Caller:
        """As `verify`; waits for keys without blocking the event loop."""
        judged = self._judge(token, scopes, None)
        return judged if isinstance(judged, Caller) else await asettled(judged)

    def verify_request(
        self,
        authorization: Sequence[bytes | str],
        query: bytes = b"",
        scopes: RequiredScopes = (),
        **presented: Unpack[Presented],
    ) -> Caller:
        """As `verify`, from the values of all Authorization header lines and the raw query string (RFC 6750 2).

        For tokens that are bound to a key (RFC 9449 7): `method`; `url`, the path that was asked for, as it was sent,
        which is put behind `public_url` (of a whole URL the path counts); `dpop`, the values of all DPoP header lines;
        `offer`, called with the DPoP-Nonce that the answer should have, if any. For those that are bound to a
        certificate (RFC 8705 3): the leaf, as bytes (DER) or text (PEM), or a callable that gives it if it is needed.
        """
        if not presented.keys() <= PRESENTED:
            raise unexpected(presented)
        token, scheme = self._token(authorization, query, scopes)
        evidence = shown_of(presented) if scheme == DPOP else presented.get("certificate")
        judged = self._judge(token, scopes, evidence)
        return judged if isinstance(judged, Caller) else settled(judged)

    async def averify_request(
        self,
        authorization: Sequence[bytes | str],
        query: bytes = b"",
        scopes: RequiredScopes = (),
        **presented: Unpack[Presented],
    ) -> Caller:
        """As `verify_request`, without blocking the event loop."""
        if not presented.keys() <= PRESENTED:
            raise unexpected(presented)
        token, scheme = self._token(authorization, query, scopes)
        evidence = shown_of(presented) if scheme == DPOP else presented.get("certificate")
        if scheme == DPOP and self._possession.waits:
            return await aside(partial(self._judge, token, scopes, evidence))
        judged = self._judge(token, scopes, evidence)
        return judged if isinstance(judged, Caller) else await asettled(judged)

    @property
    def issuers(self) -> tuple[str, ...]:
        """Whom it trusts, by name."""
        return tuple(self._trusts)

    @property
    def proofs_taken(self) -> ProofsTaken:
        """What the metadata say of proofs of possession."""
        return self._possession.taken

    @property
    def certificates(self) -> Certificates:
        """Whose word counts for the certificates of callers."""
        return self._possession.certificates

    def require(self, caller: Caller, scopes: RequiredScopes) -> None:
        """Whether a caller that was accepted has these scopes as well. Raises InsufficientScope."""
        try:
            require_scopes(caller, scopes)
        except VerificationError as error:
            self._refusals.refused(error, None, caller, scopes, "cnf" in caller.claims)
            raise

    def unasked(self, scopes: RequiredScopes = ()) -> MissingToken:
        """The refusal of whoever shows no token, for challenges of others: neither counted nor logged."""
        missing = MissingToken()
        self._refusals.offer(missing, scopes, dpop=False)
        return missing

    def turned_away(self, error: VerificationError, kid: str | None = None, client: str | None = None) -> None:
        """Count and log a refusal: for adapters that refuse by themselves."""
        self._refusals.turned_away(error, kid, client)

    def warm_sync(self, *, force: bool = False) -> None:
        """Load the keys of every issuer now; `force` even if they are current.

        Raises KeysUnavailable if one cannot be had, after all were tried.
        """
        load_all(self._trusts.values(), force=force)

    async def warm(self, *, force: bool = False) -> None:
        """As `warm_sync`, without blocking the event loop."""
        await aload_all(self._trusts.values(), force=force)

    def jwks_age(self) -> float | None:
        """Seconds since keys were fetched, of the issuer where that is longest ago; None while one has none."""
        ages = [trust.source.age() for trust in self._trusts.values()]
        known = [age for age in ages if age is not None]
        return max(known) if len(known) == len(ages) else None

    def status_age(self) -> float | None:
        """Seconds since the list or feed was fetched, of the issuer where that is longest ago; None without any."""
        ages = [status.age() for status in (self._status or {}).values()]
        return max((age for age in ages if age is not None), default=None)

    def close(self) -> None:
        """Fetch nothing more; what is at hand serves until it is stale."""
        for trust in self._trusts.values():
            trust.source.close()
        for status in (self._status or {}).values():
            status.close()
        self._possession.close()

    def _judge(self, token: Token, scopes: RequiredScopes, evidence: Evidence) -> Judged:
        """Judge by what is at hand; what is open is so for want of a key or a status."""
        jwt = caller = digest = None
        try:
            if not isinstance(token, Token):
                raise InvalidToken("malformed", f"the token must be a string, not {kind_of(token)}")
            now = wall() if self._clock is None else self._clock()
            if self._cache is not None:
                digest, caller, kid = self._cache.find(token, now)
            if caller is None:
                # With one issuer nothing has to be read from the token to know whose keys must prove it.
                trust = self._only or claimed_trust(token, self._trusts)
                jwt = parse_access_token(token, trust.expected)
                key = trust.source.known_key(jwt.header)
                if key is None:
                    again = partial(self._judge_again, trust, jwt, digest, token, scopes, evidence)
                    return Open(trust.source.board(jwt.header), again)
                caller, kid = check_access_token(jwt, key, trust.expected, now), key.kid
                if self._cache is not None and digest is not None:
                    self._cache.remember(digest, caller, key, trust.source)
            return self._accept(caller, token, scopes, evidence, now, kid)
        except VerificationError as error:
            self._refusals.refused(error, jwt, caller, scopes, isinstance(evidence, Shown))
            raise

    def _judge_again(
        self,
        trust: Trust,
        jwt: jose.UnverifiedJwt,
        digest: bytes | None,
        token: Token,
        scopes: RequiredScopes,
        evidence: Evidence,
    ) -> Judged:
        """The verdict after the wait: the key is there now, or the answer says why not."""
        caller = None
        try:
            key, now = trust.source.verdict(jwt.header), (self._clock or wall)()
            caller = check_access_token(jwt, key, trust.expected, now)
            if self._cache is not None and digest is not None:
                self._cache.remember(digest, caller, key, trust.source)
            return self._accept(caller, token, scopes, evidence, now, key.kid)
        except VerificationError as error:
            self._refusals.refused(error, jwt, caller, scopes, isinstance(evidence, Shown))
            raise

    def _accept(
        self, caller: Caller, token: Token, scopes: RequiredScopes, evidence: Evidence, now: float, kid: str
    ) -> Judged:
        """What is left to ask once the token is proven, in whichever way that was; whether it was taken back, last."""
        if "cnf" in caller.claims or self._possession.required or isinstance(evidence, Shown):
            self._possession.confirm(caller, token, evidence, now)
        require_scopes(caller, scopes)
        if self._status is not None:
            question = self._status[caller.claims["iss"]].look(Case(caller, token, kid, now))
            if question is not None:
                return Open(question.flight, partial(self._answered, question, caller, scopes, evidence))
        if self._observer is not None:
            self._observer.verified("accepted", "")
        return caller

    def _answered(self, question: Question, caller: Caller, scopes: RequiredScopes, evidence: Evidence) -> Caller:
        """The verdict after the wait for a status: a proof is used up by now, and not asked for again."""
        try:
            question.answer()
        except VerificationError as error:
            self._refusals.refused(error, None, caller, scopes, isinstance(evidence, Shown))
            raise
        if self._observer is not None:
            self._observer.verified("accepted", "")
        return caller

    def _token(self, authorization: Sequence[bytes | str], query: bytes, scopes: RequiredScopes) -> tuple[str, str]:
        try:
            return token_of(authorization, query)
        except VerificationError as error:
            self._refusals.refused(error, None, None, scopes, error.tried == DPOP)
            raise

    @classmethod
    def from_env(cls, **options: Unpack[Options]) -> Self:
        """Configure from GROAT_ISSUER and GROAT_AUDIENCE (both required), GROAT_JWKS_URI, and comma-separated
        GROAT_ALGORITHMS and GROAT_ALLOW_HTTP_HOSTS; keywords win. Raises ConfigError that names what is missing, and
        what env files leave in values."""
        given: Options = {**from_environment(os.environ), **options}
        return cls(os.environ["GROAT_ISSUER"], os.environ["GROAT_AUDIENCE"], **given)

    @classmethod
    def keycloak(cls, url: str, realm_name: str, audience: str, **options: Unpack[Options]) -> Self:
        """A verifier for `presets.keycloak`."""
        return cls(presets.keycloak(url, realm_name), audience, **options)

    @classmethod
    def auth0(cls, domain: str, audience: str, **options: Unpack[Options]) -> Self:
        """A verifier for `presets.auth0`."""
        return cls(presets.auth0(domain), audience, **options)

    @classmethod
    def entra(cls, tenant_id: str, audience: str, **options: Unpack[Options]) -> Self:
        """A verifier for `presets.entra`."""
        return cls(presets.entra(tenant_id), audience, **options)

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
        """A verifier for `presets.cognito`: with `audience` if tokens are bound to a resource and carry aud; else with
        `client_id`, the one client to accept."""
        if (audience is None) == (client_id is None):
            raise ConfigError("Cognito needs either an audience or a client_id")
        pool = presets.cognito(region, user_pool_id, by_client=audience is None)
        return cls(pool, audience or client_id, **options)


__all__ = ["Clocks", "Options", "TrustedIssuer", "Verifier"]
