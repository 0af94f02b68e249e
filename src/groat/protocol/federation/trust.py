"""An issuer whose tokens are taken, and in what way: everything comes from the operator, nothing from a token.

A token's `iss` selects a trust; keys, algorithms, audiences, life and replay are the trust's (AS-JB-06).
"""

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.uris import issuer_fault, key_set_fault, split

TRUST_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TRUST_DOMAIN: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}")
MIN_LIFETIME, DEFAULT_LIFETIME, MAX_LIFETIME = 10, 3600, 86400
MAX_AUDIENCES: Final = 10
MAX_AUDIENCE_CHARS: Final = 512
MAX_ISSUER_CHARS: Final = 512
MAX_PATH_CHARS: Final = 1024


class Replay(StrEnum):
    """How often one token may be used (AS-JB-11)."""

    ONCE = "once"  # it has a jti, and that counts once
    BIND = "bind"  # by the key that used it first
    REUSE = "reuse"  # until it ends
    AUTO = "auto"  # bind for clients whose access tokens must be bound, else reuse


class Use(StrEnum):
    """What a foreign token is presented as."""

    GRANT = "grant"  # RFC 7523 2.1
    AUTHENTICATION = "authentication"  # RFC 7523 2.2


class SourceKind(StrEnum):
    """Where the issuer's keys come from."""

    COPIED = "jwks"
    FILE = "jwks_file"
    URI = "jwks_uri"
    DISCOVERY = "discovery"


@dataclass(frozen=True, slots=True)
class KeySource:
    """One source of keys. `at`: the set as JSON text, its path or its URL; empty for discovery.

    `ca_file`: PEM of the authorities that alone count for the URL; `token_file`: a bearer token for it. Raises
    ConfigError. Not checked: whether there is anything at that place.
    """

    kind: SourceKind
    at: str = ""
    ca_file: str | None = None
    token_file: str | None = None

    def __post_init__(self) -> None:
        fault = ""
        if self.kind is SourceKind.URI:
            fault = key_set_fault(self.at)
        elif self.ca_file or self.token_file:
            fault = "a CA and a token are for jwks_uri alone"
        for path in (self.at if self.kind is SourceKind.FILE else None, self.ca_file, self.token_file):
            fault = _path_fault(path) or fault
        if fault:
            raise ConfigError(fault)


def _path_fault(path: str | None) -> str:
    if path is None or (path.startswith("/") and len(path) <= MAX_PATH_CHARS and "\0" not in path):
        return ""
    return f"{path!r} must be an absolute path: every server reads it"


@dataclass(frozen=True, slots=True)
class Review:
    """Where a cluster is asked whether a token still counts (Kubernetes, TokenReview of authentication.k8s.io/v1).

    `server`: the API server, https and no path; `token_file`: a bearer token that may ask; `ca_file`: PEM of the
    authorities that alone count for it. Raises ConfigError. Not checked: whether anybody answers there.
    """

    server: str
    token_file: str
    ca_file: str | None = None

    def __post_init__(self) -> None:
        fault = key_set_fault(self.server)
        parts = split(self.server)
        if parts is not None and (parts.path.strip("/") or parts.query):
            fault = "the API server is named without a path: https://10.0.0.1:6443"
        for path in (self.token_file, self.ca_file):
            fault = fault or _path_fault(path)
        if fault:
            raise ConfigError(fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom we trust. `audiences`: those a grant may name; empty: this issuer and its token endpoint. Life in seconds.

    `preset`: the platform whose further checks apply (`presets.py`). `uses`: what its tokens may be presented as.
    `review`: who is asked whether a good token still counts. Raises ConfigError. Not checked: what depends on the
    preset, and whether the issuer is our own.
    """

    name: str
    issuer: str
    source: KeySource
    algorithms: tuple[str, ...]
    preset: str = ""
    audiences: tuple[str, ...] = ()
    max_lifetime: int = DEFAULT_LIFETIME
    replay: Replay = Replay.ONCE
    uses: frozenset[Use] = frozenset(Use)
    review: Review | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if faults := [fault for fault in self._faults() if fault]:
            raise ConfigError(*faults)

    def _faults(self) -> list[str]:
        unknown = [name for name in self.algorithms if name not in ALGORITHM_NAMES]
        return [
            "" if TRUST_NAME.fullmatch(self.name) else f"trust {self.name!r} must be 1 to 64 of A-Z a-z 0-9 . _ -",
            foreign_issuer_fault(self.issuer),
            f"unknown algorithm {unknown[0]}" if unknown else "",
            "" if self.algorithms else "name an algorithm with --alg",
            _audiences_fault(self.audiences),
            ""
            if MIN_LIFETIME <= self.max_lifetime <= MAX_LIFETIME
            else f"max lifetime must be {MIN_LIFETIME} to {MAX_LIFETIME} seconds, not {self.max_lifetime}",
            "" if self.uses else "a trust is for grants, for authentication, or for both",
        ]

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it; a copied set is not repeated."""
        source = self.source
        place = "copied" if source.kind is SourceKind.COPIED else source.at or "discovery"
        return {
            "name": self.name,
            "issuer": self.issuer,
            "preset": self.preset,
            "keys": place,
            "ca_file": source.ca_file,
            "token_file": source.token_file,
            "algorithms": list(self.algorithms),
            "audiences": list(self.audiences),
            "max_lifetime": self.max_lifetime,
            "replay": self.replay.value,
            "uses": sorted(self.uses),
            "review": None if self.review is None else asdict(self.review),
            "enabled": self.enabled,
        }


def foreign_issuer_fault(issuer: str) -> str:
    """Why this cannot be the issuer of a trust: https, or the trust domain of SPIFFE."""
    if len(issuer) > MAX_ISSUER_CHARS:
        return f"issuer has at most {MAX_ISSUER_CHARS} characters"
    if issuer.startswith("spiffe://"):
        return "" if TRUST_DOMAIN.fullmatch(issuer) else "a trust domain is written spiffe://prod.example, nothing more"
    if fault := issuer_fault(issuer):
        return fault
    parts = split(issuer)
    return "" if parts is not None and parts.scheme == "https" else "issuer must use https"


def _audiences_fault(audiences: tuple[str, ...]) -> str:
    for audience in audiences:
        if not 0 < len(audience) <= MAX_AUDIENCE_CHARS or not audience.isprintable():
            return f"an audience has 1 to {MAX_AUDIENCE_CHARS} printable characters"
    return "" if len(audiences) <= MAX_AUDIENCES else f"{MAX_AUDIENCES} audiences at most"
