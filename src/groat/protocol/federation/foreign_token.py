"""A token of another issuer, judged in one fixed order, whatever it is presented as (AS-JB-19, RFC 7523 3).

`read`, then `prove`, then `match`: between them the caller finds the trust, its keys and its rules. Nothing of those is
asked for before `check_issuer` has passed, so that an issuer that nobody trusts costs no look-up of keys.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from groat.protocol import jose
from groat.protocol.client_signature import check_nothing, fits_size
from groat.protocol.differences import difference, shown
from groat.protocol.errors import InvalidClient, InvalidGrant, InvalidRequest, JoseError, OAuthError
from groat.protocol.federation.preset import Preset
from groat.protocol.federation.presets import preset_of
from groat.protocol.federation.rules import Match, Rule, choose
from groat.protocol.federation.spiffe import domain_of
from groat.protocol.federation.trust import Replay, Trust, Use
from groat.protocol.jwk import PublicKey, printable
from groat.protocol.models import OneTimeKind, OneTimeValue, Policy
from groat.protocol.passing import passing
from groat.protocol.platforms import platform_hint
from groat.protocol.time_hints import time_hint

MAX_SUBJECT_CHARS: Final = 2048
# The order of the checks; tests walk it.
ORDER: Final = ("shape", "issuer", "header", "key", "signature", "time", "audience", "lifetime", "platform", "rules")


@passing()
class Presented:
    """A well-formed token and what it is presented as; nothing in it is proven yet.

    `svid`: as a SPIFFE JWT-SVID, by its own assertion type. `client_id`: the client that the request names.
    """

    jwt: jose.UnverifiedJwt
    use: Use
    client_id: str | None = None
    svid: bool = False

    @property
    def issuers(self) -> tuple[str, ...]:
        """By which issuers a trust may be found: what iss says, then the trust domain of a SPIFFE ID.

        It only selects (AS-JB-06): a token that names an issuer which is not trusted has nobody's keys.
        """
        claims = self.jwt.claims
        named = claims.get("iss")
        domain = domain_of(claims.get("sub"))
        found = [] if self.svid or not isinstance(named, str) else [named]
        return tuple(found if domain is None else [*found, domain])


@passing()
class Proven:
    """A token of this trust that holds: what it says is so.

    `use`: what is to be remembered of it, as the trust says: of kind FOREIGN_TOKEN still to be used up, of OWNED_TOKEN
    still to be claimed by a key.
    """

    presented: Presented
    trust: Trust
    key: PublicKey
    use: OneTimeValue | None

    @property
    def claims(self) -> Mapping[str, Any]:
        return self.presented.jwt.claims


def read(text: str, use: Use, client_id: str | None = None, *, svid: bool = False) -> Presented:
    """The shape of a token. Raises JoseError."""
    return Presented(jose.parse_jwt(text), use, client_id, svid)


def check_issuer(presented: Presented, trust: Trust | None) -> Trust:
    """Whether this issuer is trusted for this use. Raises JoseError: "issuer", "use".

    Where it is not, the time that a signature takes is spent all the same.
    """
    if trust is None or not trust.enabled:
        check_nothing(presented.jwt)
        name = next(iter(presented.issuers), None)
        if trust is not None:
            raise JoseError("issuer", f"issuer {shown(name)} is that of trust {trust.name}, which is disabled")
        raise JoseError("issuer", platform_hint(presented.jwt.claims) or f"issuer {shown(name)} is not trusted here")
    if presented.svid and not preset_of(trust).issuer_in_sub:
        raise JoseError("use", f"trust {trust.name} is no trust domain, so its tokens are no SVIDs")
    if presented.use not in trust.uses:
        raise JoseError("use", f"trust {trust.name} is not for tokens as {presented.use}")
    return trust


def prove(
    presented: Presented, trust: Trust, keys: Callable[[], Sequence[PublicKey]], policy: Policy, now: float
) -> Proven:
    """`header` to `platform` of ORDER, after `check_issuer`. `now`: epoch seconds. Raises JoseError.

    `keys`: asked once the header has passed, because whoever is asked may fetch them.
    Not checked: whether a token that counts once was used before.
    """
    _check_header(presented.jwt.header, trust, preset_of(trust), policy)
    key = _check_signature(presented.jwt, keys(), trust)
    return Proven(presented, trust, key, check_claims(presented, trust, policy, now))


def check_claims(presented: Presented, trust: Trust, policy: Policy, now: float) -> OneTimeValue | None:
    """`time` to `platform` of ORDER; gives what is to be remembered of the token. Raises JoseError.

    Not checked: the signature, without which all of this is a rumour. Only an operator who wants to know what a token
    lacks calls this by itself.
    """
    claims, preset = presented.jwt.claims, preset_of(trust)
    exp, signed_at = _check_times(claims, trust, preset, policy, now)
    _check_audience(presented, trust, policy)
    _check_lifetime(exp, signed_at, trust, preset, now)
    if fault := preset.token_fault(claims, trust.issuer):
        raise JoseError("platform", fault)
    return _use(presented.jwt, trust, policy, exp, signed_at)


def match(proven: Proven, rules: Sequence[Rule]) -> Match:
    """Which client it is, by those rules of the trust that can be about it. Raises JoseError."""
    return match_claims(proven.presented, proven.trust, rules)


def match_claims(presented: Presented, trust: Trust, rules: Sequence[Rule]) -> Match:
    """The same for claims that nobody has proven: see `check_claims`."""
    guard, claims = preset_of(trust).guard, presented.jwt.claims
    return choose(rules, claims, presented.client_id, {rule.rule_id: guard(rule, claims) for rule in rules})


def refusal(error: JoseError, use: Use) -> OAuthError:
    """What the peer is told: the same for every fault of the token and of the rules (AS-JB-16).

    Only to a workload that has proven itself, and is several clients, it is said that it must choose (AS-JB-13).
    """
    if use is Use.AUTHENTICATION:
        return InvalidClient(f"workload_{error.reason}", error.hint)
    if error.reason == "ambiguous":
        return InvalidRequest("workload_ambiguous", error.hint)
    return InvalidGrant(f"workload_{error.reason}", error.hint)


def _check_header(header: jose.Header, trust: Trust, preset: Preset, policy: Policy) -> None:
    if header.media_type not in preset.types:
        what = (
            "an access token, which is for an API" if header.media_type == "application/at+jwt" else shown(header.typ)
        )
        raise JoseError("type", f"typ must be absent or JWT, and is {what}")
    name = header.algorithm.name
    if name not in trust.algorithms:
        raise JoseError("algorithm", f"alg is {name}, and trust {trust.name} takes {', '.join(trust.algorithms)}")
    if name not in policy.algorithms:
        raise JoseError("algorithm", f"alg is {name}, which is outside profile {policy.profile}")


def _check_signature(jwt: jose.UnverifiedJwt, keys: Sequence[PublicKey], trust: Trust) -> PublicKey:
    key = jose.find_key(jwt.header, keys)
    if key is None or not fits_size(jwt, key):
        check_nothing(jwt)
    if key is None:
        _, why = jose.no_key(jwt.header, keys)
        known = ", ".join(printable(one.kid) for one in keys[:5]) or "none"
        raise JoseError("key", f"{why}; known keys of trust {trust.name}: {known}. groat trust update has new ones")
    jose.verify_signature(jwt, key)
    return key


def _check_times(
    claims: Mapping[str, Any], trust: Trust, preset: Preset, policy: Policy, now: float
) -> tuple[jose.Number, jose.Number | None]:
    """What must be there, and when it counts; gives exp and iat."""
    jose.string_claim(claims, "sub", MAX_SUBJECT_CHARS)
    if not preset.issuer_in_sub and claims.get("iss") != trust.issuer:
        raise JoseError("claims", f"iss is {shown(claims.get('iss'))}, not {shown(trust.issuer)}")
    issued = jose.numeric_date(claims, "iat")
    if issued is None and not preset.issuer_in_sub:
        raise JoseError("claims", "iat is missing")
    try:
        return jose.check_times(claims, now, tolerance=policy.clock_tolerance), issued
    except JoseError as error:
        hint = error.hint if error.reason == "claims" else time_hint(error, claims, now)
        raise JoseError(error.reason, hint) from None


def _check_audience(presented: Presented, trust: Trust, policy: Policy) -> None:
    """All that it names must be meant for us: each other one could present it here (AS-JB-03, AS-JB-10, AS-JB-14)."""
    values = jose.audience(presented.jwt.claims)
    if presented.use is Use.AUTHENTICATION:
        allowed: tuple[str, ...] = (policy.issuer,)
        good = values == allowed
    else:
        allowed = trust.audiences or (policy.issuer, policy.token_endpoint)
        good = set(values) <= set(allowed)
    if not good:
        sent = ", ".join(shown(value) for value in values[:3])
        known = " or ".join(shown(value) for value in allowed)
        near = difference(values[0], allowed[0]) if len(values) == 1 else "; no other may stand beside it"
        raise JoseError("audience", f"aud is {sent}; only {known} counts{near}. Ask the platform for that audience")


def _check_lifetime(exp: jose.Number, issued: jose.Number | None, trust: Trust, preset: Preset, now: float) -> None:
    """A long life is what makes a stolen token worth something. An SVID need not say when it began."""
    counted = preset.issuer_in_sub or issued is None
    life = exp - (now if counted or issued is None else issued)
    if life <= 0 or life > trust.max_lifetime + (0 if counted else preset.backdated):
        longer = f"groat trust update {trust.name} --max-lifetime allows more, up to a day"
        raise JoseError("lifetime", f"it lives {life:.0f} s, and {trust.max_lifetime} s are allowed; {longer}")


def _use(
    jwt: jose.UnverifiedJwt, trust: Trust, policy: Policy, exp: jose.Number, issued: jose.Number | None
) -> OneTimeValue | None:
    """What makes a second use known: the jti, or what was signed; of a signature there may be several for one token."""
    if trust.replay is Replay.REUSE:
        return None
    kind, value = OneTimeKind.OWNED_TOKEN, hashlib.sha256(jwt.signing_input).hexdigest()
    if trust.replay is Replay.ONCE:
        if "jti" not in jwt.claims:
            missing = f"jti is missing, and trust {trust.name} takes each token once; or --replay auto"
            raise JoseError("claims", missing)
        kind, value = OneTimeKind.FOREIGN_TOKEN, jose.string_claim(jwt.claims, "jti", jose.MAX_JTI_CHARS)
    signed_at = exp - trust.max_lifetime if issued is None else issued
    ends = math.ceil(exp) + policy.clock_tolerance
    return OneTimeValue(kind, trust.issuer, value, ends, signed_at)
