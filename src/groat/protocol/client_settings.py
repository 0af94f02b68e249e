"""What an operator may set for one client: each setting once, with how it is read and what it is for.

The stored document, the output and the options of the command line, the rules and docs/reference/cli.md follow from
the fields of `ClientSettings`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, StrEnum
from typing import Any, Final, Self

from groat.protocol.binding import Binding
from groat.protocol.certificate_names import (
    NAMES,
    or_none,
    read_certificates,
    read_dn,
    read_dns,
    read_email,
    read_ip,
    read_uri,
)
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.pairs import Amendment, read_claims, read_labels
from groat.protocol.read_only import ReadOnlyDict
from groat.protocol.unset import UNSET, Unset
from groat.protocol.uris import key_set_fault

MIN_ASSERTION_LIFETIME: Final = 10
MAX_ASSERTION_LIFETIME: Final = 3600
MIN_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME = 60, 3600
MAX_OWNER_CHARS: Final = 200


class AssertionAudience(StrEnum):
    """What a client's assertions may name as their one audience."""

    ISSUER = "issuer"
    ISSUER_OR_TOKEN_ENDPOINT = "issuer-or-token-endpoint"


class ScopePolicy(StrEnum):
    """What becomes of a request for more scopes than the client may have (RFC 6749 3.3)."""

    STRICT = "strict"
    NARROW = "narrow"


class Kind(Enum):
    """How a setting is written, wherever people write it."""

    WORDS = "some words"
    CHOICE = "one of a few"
    SPAN = "a span of time"
    SWITCH = "yes or no"
    URL = "a URL, empty for none"
    TEXT = "any text, empty for none"
    CERTIFICATES = "a file with certificates"
    PAIRS = "names with values, where an empty value takes a name away"


@dataclass(frozen=True, slots=True)
class Described:
    """What there is to know of one setting besides its type and default.

    `read` takes the value as JSON has it, or as it is, and raises ConfigError, ValueError or TypeError; `about` is for
    people, and empty where nobody is offered it; `off` is what the negation is called; `later`: there are documents
    without it.
    """

    read: Callable[[Any], Any]
    kind: Kind
    about: str = ""
    choices: tuple[str, ...] = ()
    off: str = ""
    later: bool = False


def _told(read: Callable[[Any], Any], kind: Kind, about: str = "", **more: Any) -> dict[type, Described]:
    return {Described: Described(read, kind, about, **more)}


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(word, str) for word in value):
        raise TypeError
    return tuple(value)


def _lifetime(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int):
        raise TypeError
    if not MIN_ASSERTION_LIFETIME <= value <= MAX_ASSERTION_LIFETIME:
        raise ConfigError(
            f"max_assertion_lifetime must be {MIN_ASSERTION_LIFETIME} to {MAX_ASSERTION_LIFETIME} seconds"
        )
    return value


def token_lifetime(value: Any) -> int | None:
    """Seconds that a token lives at most, or None. Raises ConfigError, TypeError."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if not MIN_TOKEN_LIFETIME <= value <= MAX_TOKEN_LIFETIME:
        raise ConfigError(f"token_lifetime must be {MIN_TOKEN_LIFETIME} to {MAX_TOKEN_LIFETIME} seconds, not {value}")
    return value


def _owner(value: Any) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise TypeError
    if not value.isprintable() or len(value) > MAX_OWNER_CHARS:
        raise ConfigError(f"owner must be at most {MAX_OWNER_CHARS} printable characters")
    return value


def _algorithm(value: Any) -> str | None:
    """By its one name, of those that it has. Not checked: whether the profile allows it."""
    if value is not None and value not in ALGORITHM_NAMES:
        raise ConfigError(f"unknown algorithm {value}")
    return None if value is None else ALGORITHM_NAMES[value].name


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _address(value: Any) -> str | None:
    if value in (None, ""):
        return None
    if fault := key_set_fault(value):
        raise ConfigError(fault)
    return str(value)


def _certified(about: str) -> dict[type, Described]:
    """Certificates, which people name by the files that they are in."""
    return _told(read_certificates, Kind.CERTIFICATES, about, later=True)


def _named(read: Callable[[str], str], about: str) -> dict[type, Described]:
    """A name in certificates: of several kinds of which a client has one at most."""
    return _told(or_none(read), Kind.TEXT, f"{about}; empty for none.", later=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """The settings of one client. `max_assertion_lifetime`, in seconds, and `signing_alg` (RFC 7591 2) override the
    policy's.

    Raises ConfigError for what cannot be right. Not checked: what depends on the policy or on the client's APIs.
    """

    default_scopes: tuple[str, ...] = field(
        default=(), metadata=_told(_words, Kind.WORDS, "Granted when none is asked.")
    )
    grant_types: tuple[str, ...] = field(default=("client_credentials",), metadata=_told(_words, Kind.WORDS))
    assertion_audience: AssertionAudience = field(
        default=AssertionAudience.ISSUER,
        metadata=_told(
            AssertionAudience,
            Kind.CHOICE,
            "What assertions may name as aud; default: the issuer alone.",
            choices=tuple(AssertionAudience),
        ),
    )
    max_assertion_lifetime: int | None = field(
        default=None, metadata=_told(_lifetime, Kind.SPAN, "How far ahead exp of an assertion may lie, such as 5m.")
    )
    signing_alg: str | None = field(
        default=None, metadata=_told(_algorithm, Kind.CHOICE, "Pin one algorithm.", choices=tuple(ALGORITHM_NAMES))
    )
    strict_typ: bool = field(
        default=False, metadata=_told(_switch, Kind.SWITCH, "Demand the explicit assertion typ.", off="lenient-typ")
    )
    jwks_uri: str | None = field(
        default=None,
        metadata=_told(
            _address, Kind.URL, "Where the client publishes its keys itself; empty for nowhere.", later=True
        ),
    )
    token_lifetime: int | None = field(
        default=None,
        metadata=_told(
            token_lifetime, Kind.SPAN, "How long its tokens live at most; the shortest span counts.", later=True
        ),
    )
    scope_policy: ScopePolicy = field(
        default=ScopePolicy.STRICT,
        metadata=_told(
            ScopePolicy,
            Kind.CHOICE,
            "Whether a request for more than it may have is refused or narrowed.",
            choices=tuple(ScopePolicy),
            later=True,
        ),
    )
    claims: Mapping[str, str] = field(
        default_factory=ReadOnlyDict,
        metadata=_told(read_claims, Kind.PAIRS, "NAME=VALUE in each of its tokens; NAME= takes it away.", later=True),
    )
    owner: str | None = field(
        default=None, metadata=_told(_owner, Kind.TEXT, "Whom to ask about it; empty for nobody.", later=True)
    )
    labels: Mapping[str, str] = field(
        default_factory=ReadOnlyDict,
        metadata=_told(read_labels, Kind.PAIRS, "NAME=VALUE to find it by; NAME= takes it away.", later=True),
    )

    binding: Binding = field(
        default=Binding.NONE,
        metadata=_told(
            Binding,
            Kind.CHOICE,
            "What tokens must be bound to; default: none.",
            choices=tuple(Binding),
            later=True,
        ),
    )

    # By certificates (RFC 8705 2): themselves, so that nobody need have signed them and a new one is registered beside
    # the one that it replaces; or who signs them and for which name, so that a new one needs no change here.
    certificates: tuple[str, ...] = field(
        default=(), metadata=_certified("PEM file with the certificates that it authenticates by.")
    )
    certificate_ca: tuple[str, ...] = field(
        default=(), metadata=_certified("PEM file with who may sign its certificates; needs a name.")
    )
    certificate_dns: str | None = field(default=None, metadata=_named(read_dns, "DNS name in its certificates"))
    certificate_uri: str | None = field(default=None, metadata=_named(read_uri, "URI in its certificates"))
    certificate_dn: str | None = field(default=None, metadata=_named(read_dn, "Subject of its certificates, RFC 4514"))
    certificate_ip: str | None = field(default=None, metadata=_named(read_ip, "Address in its certificates"))
    certificate_email: str | None = field(default=None, metadata=_named(read_email, "Mailbox in its certificates"))

    def __post_init__(self) -> None:
        _read_all(self)
        # An authority without a name would let in whomever it signs for, and a name without one whoever writes it.
        names = [name for name in NAMES if getattr(self, name) is not None]
        if len(names) > 1:
            raise ConfigError(f"a client has one name in its certificates, not {' and '.join(names)}")
        if bool(names) != bool(self.certificate_ca):
            raise ConfigError("certificate_ca and one name belong together: who may sign, and for whom")

    @property
    def certificate_name(self) -> tuple[str, str] | None:
        """The setting that holds its one name in certificates, and the name; None where it has none."""
        return next(((name, value) for name in NAMES if (value := getattr(self, name)) is not None), None)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """What `document` has written, of a larger one. Raises LookupError where it is not whole, else as reading."""
        return cls(**{n: document[n] for n, told in CLIENT_SETTINGS.items() if not told.later or n in document})

    def document(self) -> dict[str, Any]:
        """The members of a JSON document."""
        return {name: _plain(getattr(self, name)) for name in CLIENT_SETTINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """What becomes of a client's settings: those of ClientSettings, where UNSET leaves one as it is. Raises alike.

    An `Amendment` changes the names that it has; another mapping replaces all that there were.
    """

    default_scopes: tuple[str, ...] | Unset = UNSET
    grant_types: tuple[str, ...] | Unset = UNSET
    assertion_audience: AssertionAudience | Unset = UNSET
    max_assertion_lifetime: int | Unset | None = UNSET
    signing_alg: str | Unset | None = UNSET
    strict_typ: bool | Unset = UNSET
    jwks_uri: str | Unset | None = UNSET
    token_lifetime: int | Unset | None = UNSET
    scope_policy: ScopePolicy | Unset = UNSET
    claims: Mapping[str, str] | Unset = UNSET
    owner: str | Unset | None = UNSET
    labels: Mapping[str, str] | Unset = UNSET
    binding: Binding | Unset = UNSET
    certificates: tuple[str, ...] | Unset = UNSET
    certificate_ca: tuple[str, ...] | Unset = UNSET
    certificate_dns: str | Unset | None = UNSET
    certificate_uri: str | Unset | None = UNSET
    certificate_dn: str | Unset | None = UNSET
    certificate_ip: str | Unset | None = UNSET
    certificate_email: str | Unset | None = UNSET

    def __post_init__(self) -> None:
        _read_all(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The change to what this document has, as JSON would have it. Raises TypeError for any other member."""
        return cls(**document)

    @property
    def given(self) -> dict[str, Any]:
        """What is set, by name."""
        found = {name: getattr(self, name) for name in CLIENT_SETTINGS}
        return {name: value for name, value in found.items() if value is not UNSET}

    def applied(self, settings: ClientSettings) -> ClientSettings:
        """The settings after this change. Raises ConfigError for what cannot be right together."""
        values: dict[str, Any] = {
            name: value.applied(getattr(settings, name)) if isinstance(value, Amendment) else value
            for name, value in self.given.items()
        }
        return replace(settings, **values)


# Every setting of a client by name, and what there is to know of it.
CLIENT_SETTINGS: Final[Mapping[str, Described]] = {one.name: one.metadata[Described] for one in fields(ClientSettings)}


def _read_all(settings: ClientSettings | SettingsChange) -> None:
    for name, told in CLIENT_SETTINGS.items():
        value = getattr(settings, name)
        if value is not UNSET:
            object.__setattr__(settings, name, told.read(value))


def _plain(value: Any) -> Any:
    if isinstance(value, ReadOnlyDict):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


DEFAULTS: Final = ClientSettings()
UNCHANGED: Final = SettingsChange()
