"""The nouns of the token endpoint, as values that cannot be illegal."""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.binding import UNBOUND, Binding, Confirmation
from groat.protocol.claim_names import REGISTERED_CLAIMS
from groat.protocol.client_certificate import ClientCertificate
from groat.protocol.client_settings import (
    DEFAULTS,
    MAX_ASSERTION_LIFETIME,
    MAX_TOKEN_LIFETIME,
    MIN_TOKEN_LIFETIME,
    ClientSettings,
)
from groat.protocol.crl import NoRevocations, Revocations
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError, Finding
from groat.protocol.jwk import ALGORITHM_NAMES, ALGORITHMS, FAPI2_ALGORITHMS, PublicKey
from groat.protocol.key_limits import KeyLimits
from groat.protocol.passing import passing
from groat.protocol.proof_rules import PROOF_ALGORITHMS, NonceMode, ProofRules
from groat.protocol.uris import issuer_fault

API_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

MIN_CLOCK_TOLERANCE, MAX_CLOCK_TOLERANCE = 10, 60
# Proxies commonly take 4 to 8 KiB of headers, and a token is one of several (AT-14).
MAX_TOKEN_CHARS: Final = 4096
MAX_EXTRA_BYTES: Final = 1024


class Profile(StrEnum):
    """Which set of algorithms and strictness applies; never both claims at once (RFC 9068 2.1 and FAPI 2.0)."""

    DEFAULT = "default"
    FAPI2 = "fapi2"


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All policy that the rules may see. Times are whole seconds. Like `Client` and `Grant` equal to itself alone.

    Raises ConfigError for values outside the caps of the standards. Not checked: whether the issuer is reachable.
    """

    issuer: str
    profile: Profile = Profile.DEFAULT
    token_lifetime: int = 600
    max_assertion_lifetime: int = 300
    clock_tolerance: int = 10
    allow_http_hosts: frozenset[str] = frozenset()
    extra_claims: Mapping[str, Any] = field(default_factory=dict)
    # Whether the metadata have what some readers demand and no client of this server needs (AS-MC-01).
    compatible: bool = True
    # Whether they list the audiences of all APIs (RFC 9728 4): that tells strangers the inventory.
    protected_resources: bool = False
    nonces: NonceMode = NonceMode.OPTIONAL
    proof_algorithms: Collection[str] = ()  # of those, the ones that the profile has; empty: all but a few
    certificates: bool = False  # whether those of callers can be had here
    certificate_url: str = ""  # where they are asked for, if that is not at the issuer's own URL
    revocations: Revocations = field(default_factory=NoRevocations)  # which of them their authorities took back
    algorithms: frozenset[str] = field(init=False)
    token_endpoint: str = field(init=False)
    token_urls: frozenset[str] = field(init=False)  # that and, where there is one, its alias (RFC 8705 5)
    jwks_uri: str = field(init=False)
    proofs: ProofRules = field(init=False)
    binding: Binding = field(init=False)

    def __post_init__(self) -> None:
        if findings := self._findings():
            raise ConfigError(*findings)
        root, strict = self.issuer.rstrip("/"), self.profile is Profile.FAPI2
        algorithms = FAPI2_ALGORITHMS if strict else frozenset(ALGORITHMS)
        derived = {
            # The canonical names of the algorithms that may sign assertions and tokens.
            "algorithms": algorithms,
            "proofs": ProofRules(
                _canonical(self.proof_algorithms) & algorithms, future=self.clock_tolerance, nonces=self.nonces
            ),
            # FAPI 2.0 5.3.2.1 (4): all its tokens are bound, by either.
            "binding": Binding.ANY if strict else Binding.NONE,
            "token_endpoint": f"{root}/token",
            "token_urls": frozenset(f"{one.rstrip('/')}/token" for one in (root, self.certificate_url) if one),
            "jwks_uri": f"{root}/.well-known/jwks.json",
            # A copy, so that what was checked is what gets written.
            "extra_claims": MappingProxyType(dict(self.extra_claims)),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _findings(self) -> list[Finding]:
        claims, tolerance = "tokens.extra_claims", "assertions.clock_tolerance"
        overridden = sorted(REGISTERED_CLAIMS & self.extra_claims.keys())
        faults = (
            ("issuer", issuer_fault(self.issuer, self.allow_http_hosts)),
            _outside("tokens.lifetime", self.token_lifetime, MIN_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME),
            _outside("assertions.max_lifetime", self.max_assertion_lifetime, 10, MAX_ASSERTION_LIFETIME),
            _outside(tolerance, self.clock_tolerance, MIN_CLOCK_TOLERANCE, MAX_CLOCK_TOLERANCE),
            (claims, f"{claims} must not set {', '.join(overridden)}" if overridden else ""),
            _too_long(claims, self.extra_claims),
            ("tls.certificate_url", _no_place(self.certificate_url, self.allow_http_hosts)),
            ("dpop.algorithms", _no_proofs(self.proof_algorithms, self.profile)),
        )
        return [Finding(fault, setting=setting) for setting, fault in faults if fault]


def _canonical(names: Collection[str]) -> frozenset[str]:
    """Algorithms of proofs, each by its one name."""
    return frozenset(ALGORITHM_NAMES[name].name for name in names if name in ALGORITHM_NAMES) or PROOF_ALGORITHMS


def _no_proofs(names: Collection[str], profile: Profile) -> str:
    if unknown := [name for name in names if name not in ALGORITHM_NAMES]:
        return f"dpop.algorithms must be among {', '.join(ALGORITHM_NAMES)}, not {shown(unknown[0])}"
    if profile is Profile.FAPI2 and not _canonical(names) & FAPI2_ALGORITHMS:
        return f"dpop.algorithms has none that profile {profile} allows: {', '.join(sorted(FAPI2_ALGORITHMS))}"
    return ""


def _no_place(url: str, allow_http_hosts: frozenset[str]) -> str:
    """What is wrong with the URL before the paths of endpoints, which is formed as an issuer."""
    return issuer_fault(url, allow_http_hosts).replace("issuer", "tls.certificate_url", 1) if url else ""


def _too_long(setting: str, claims: Mapping[str, Any]) -> tuple[str, str]:
    size = len(strict_json.dumps(dict(claims)))
    long = f"{setting} must be at most {MAX_EXTRA_BYTES} bytes of JSON, not {size}"
    return setting, long if size > MAX_EXTRA_BYTES else ""


def _outside(setting: str, value: int, low: int, high: int) -> tuple[str, str]:
    return setting, "" if low <= value <= high else f"{setting} must be {low} to {high} seconds, not {value}"


@dataclass(frozen=True, slots=True)
class Api:
    """A protected resource: the `aud` its tokens carry and the scopes it knows.

    `token_lifetime`: seconds that a token for it lives at most; None: as the policy has it. `binding`: what every token
    for it must be bound to, whoever asks; `listed`: whether they stand in a status list. `not_before`: epoch seconds;
    its tokens from before are over.
    """

    name: str
    audience: str
    scopes: frozenset[str]
    token_lifetime: int | None = None
    binding: Binding = Binding.NONE
    not_before: int = 0
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Permission:
    """What one client may ask of one API."""

    api: Api
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """A registered client, with everything that judging its requests needs.

    `keys`: also those that it publishes itself; `limits` by kid: keys without any are not in there. `not_before`:
    epoch seconds; its tokens from before are over.
    """

    client_id: str
    keys: tuple[PublicKey, ...]
    permissions: tuple[Permission, ...] = ()
    enabled: bool = True
    settings: ClientSettings = DEFAULTS
    limits: Mapping[str, KeyLimits] = field(default_factory=dict, repr=False)
    not_before: int = 0
    listed: bool = field(init=False, default=False)  # whether some token of it may have to stand in a status list
    # One key for hints, made beforehand: the time of a refusal must not tell how many there are.
    shown_keys: str = field(init=False, default="none", repr=False)

    def __post_init__(self) -> None:
        if any(permission.api.listed for permission in self.permissions):
            object.__setattr__(self, "listed", True)
        if self.keys:
            key, more = self.keys[-1], len(self.keys) - 1
            shown = f"{key.kid} ({'/'.join(sorted(key.algorithms))})" + (f" and {more} more" if more else "")
            object.__setattr__(self, "shown_keys", shown)


@passing(kw_only=True)
class ClientRequest:
    """A request in the name of a client, whose form is sound; nothing in it is proven yet. What is empty is absent.

    `parameters`: those that its endpoint or its grant reads; `credentials`: those that some method of client
    authentication reads. Others that were sent are in neither. `certificate`: of the connection that it came by.
    """

    parameters: Mapping[str, str] = field(repr=False)
    credentials: Mapping[str, str] = field(repr=False)
    client_id: str | None = None
    auth_methods: tuple[str, ...] = ()
    authorization_scheme: str | None = None
    certificate: ClientCertificate | None = None


@passing(kw_only=True)
class TokenRequest(ClientRequest):
    """One for a token. `targets` are the `resource` values (RFC 8707), those of `audience` included."""

    grant_type: str
    targets: tuple[str, ...] = ()


@passing()
class Credential:
    """How the client wants to be known, and as whom; nothing is proven yet. Each method adds what it will prove."""

    method: str
    client_id: str


def _sized(text: str) -> bytes:
    member = text.encode()
    return len(member).to_bytes(4, "big") + member


class OneTimeKind(StrEnum):
    """What can be used once; values of two kinds never stand for each other."""

    ASSERTION = "assertion"  # its jti
    ENDORSEMENT = "endorsement"  # its jti
    ENDORSEMENT_TEXT = "endorsement text"
    FOREIGN_TOKEN = "foreign token"  # its jti, whose owner is its issuer
    JOIN_CODE = "join code"
    OWNED_TOKEN = "owned token"  # a foreign token, that counts for its first key alone; its owner is its issuer
    PROOF = "proof of possession"  # its jti, whose owner is a key
    TOKEN = "token"  # its own jti: what it was given for cannot come again

    prefix: bytes  # made beforehand, for each digest

    def __init__(self, name: str) -> None:
        self.prefix = _sized(name)


@passing()
class OneTimeValue:
    """A value that must be used once only: the rule's question to whoever has a memory.

    `owner`: the client whose value it is. `expires_at`: the second from which the value could not be accepted anyway;
    `signed_at`: when the client made it, at the earliest. The default, long ago, is the careful one: a memory that
    starts later refuses it.
    """

    kind: OneTimeKind
    owner: str
    value: str
    expires_at: int
    signed_at: float = 0

    @property
    def digest(self) -> bytes:
        """32 bytes; the length before each member but the last keeps ("ab", "c") and ("a", "bc") apart."""
        owner = self.owner.encode()
        members = self.kind.prefix + len(owner).to_bytes(4, "big") + owner + self.value.encode()
        return hashlib.sha256(members).digest()


@passing()
class Workload:
    """Who a client is by the token of another issuer: which trust and rule made it that, and what the rule copies.

    `key`: the kid that the token was signed by.
    """

    trust: str
    rule: str
    subject: str
    key: str
    algorithm: str
    copied: tuple[tuple[str, str | int | float], ...] = ()


@passing()
class AuthenticatedClient:
    """Proof of authentication: only the `prove` of a method makes one.

    `key`: the registered key it was proven by, where there is one. `once`: still to be used up, where the proof could
    be presented again. `advice`: for the log line, what the client should do better. `workload`: where another issuer
    said who it is. `owned`: its token, where that counts for the first key that came with it and no other; and where
    none comes with it, too, unless `must_prove`. `certificate`: the thumbprint of the one that it was proven by.
    """

    client: Client
    method: str
    key: PublicKey | None = None
    once: OneTimeValue | None = None
    advice: str = ""
    workload: Workload | None = None
    owned: OneTimeValue | None = None
    must_prove: bool = False
    certificate: str = ""


@passing(eq=False)
class Grant:
    """What an authenticated client gets: one API, some scopes, some seconds; and who may use it.

    `claims`: of the client, beside those of the token. `narrowed`: what was asked and is not in it, for the log.
    `workload`: claims of a foreign token. `plain`: the grant that this one is, but for `confirmation` and `workload`;
    what is made of it is remembered, and serves for all that differ in these alone. `not_before`: epoch seconds, the
    earliest that its token may say to be of.
    """

    client_id: str
    api: Api
    scopes: tuple[str, ...]
    lifetime: int
    confirmation: Confirmation = UNBOUND
    claims: Mapping[str, Any] = field(default_factory=dict)
    narrowed: str = ""
    workload: tuple[tuple[str, str | int | float], ...] = ()
    plain: "Grant | None" = field(default=None, repr=False)
    not_before: int = 0
    scope: str = field(init=False)  # as it is written

    def __post_init__(self) -> None:
        object.__setattr__(self, "scope", " ".join(self.scopes))

    def held(self, confirmation: Confirmation, workload: tuple[tuple[str, str | int | float], ...]) -> "Grant":
        """The same for one holder. `dataclasses.replace` takes three times as long, and each bound token needs it."""
        given = self.client_id, self.api, self.scopes, self.lifetime, confirmation, self.claims, self.narrowed
        return Grant(*given, workload, plain=self)
