"""Whom a verifier trusts, checked before the first token comes: issuers, their keys, and what an API expects."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from groat.protocol import jose
from groat.protocol.access_token import DEFAULT_ALGORITHMS, RFC9068, Dialect, Expectations
from groat.protocol.arguments import one_string, strings, strings_or_none
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError
from groat.protocol.metadata import check_endpoint
from groat.protocol.models import issuer_fault
from groat.protocol.stray import blanks, stray, without_user

_REALM: Final = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]+")  # what a quoted-string holds without escapes


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


def trusted_issuers(
    issuer: str | None, audience: str | None, issuers: Sequence[str | TrustedIssuer], single: TrustedIssuer
) -> tuple[TrustedIssuer, ...]:
    """Every issuer as a TrustedIssuer; `single` is what the other arguments say of each. Raises ConfigError."""
    if not audience or (issuer is None) == (not issuers):
        raise ConfigError("a verifier needs an audience, and either issuer or issuers")
    if odd := stray(one_string("audience", audience)) or blanks(audience):
        raise ConfigError(f"audience: {odd}: {shown(without_user(audience))}")
    if issuer is not None:
        return (single,)
    if isinstance(issuers, str):
        raise ConfigError("issuers must be a list, not one string: write issuers=[...], or issuer=")
    if single.jwks_uri is not None:
        raise ConfigError("with several issuers, give jwks_uri in TrustedIssuer: each has its own keys")
    named = tuple(one if isinstance(one, TrustedIssuer) else replace(single, issuer=one) for one in issuers)
    if len({one.issuer for one in named}) != len(named):
        raise ConfigError("an issuer is listed twice")
    return named


def expectations(trusted: TrustedIssuer, audience: str, clock_tolerance: int) -> Expectations:
    """What is expected of this issuer's tokens. Raises ConfigError."""
    return Expectations(
        trusted.issuer, audience, tuple(trusted.algorithms), clock_tolerance=clock_tolerance, dialect=trusted.dialect
    )


def accepting(dialect: Dialect, types: Iterable[str | None] | None) -> Dialect:
    """The dialect with other `typ` values, None among them for an absent one. Raises ConfigError."""
    if types is None:
        return dialect
    listed = strings_or_none("accept_types", types)
    if not listed:
        raise ConfigError("accept_types is empty, so that no token could be accepted; leave it out for at+jwt")
    return replace(dialect, types=frozenset(map(jose.media_type, listed)))


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
        (_REALM.fullmatch(realm) is not None, "realm must be printable ASCII without quotes and backslashes"),
        (max_stale >= 0, "max_stale must not be negative"),
        (cooldown >= 1, "refresh_cooldown must be at least 1 s"),
        (cache_size >= 0, "cache_size must not be negative"),
    )
    return [fault for good, fault in checks if not good]
