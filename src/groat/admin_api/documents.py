"""What stands in bodies: types from which reading, refusing and the OpenAPI document follow.

What an operation gives is shown as its records show themselves (`document`); what it takes is written once more only
where JSON needs another form. The settings of clients come from their own table, one member for each.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, TypeVar, get_type_hints

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from groat.protocol.binding import Binding
from groat.protocol.client_settings import CLIENT_SETTINGS, DEFAULTS, ClientSettings, Kind
from groat.protocol.federation.trust import Replay, Use
from groat.protocol.listing import Listing
from groat.server.operations.losses import Loss

Item = TypeVar("Item")
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Instant = Annotated[int, Meta(ge=0, le=253_402_300_799, description="Epoch seconds.")]
Seconds = Annotated[int, Meta(ge=0, le=2**31, description="A span in seconds.")]
Jwk = Annotated[dict[str, Any], Meta(description="A public key (RFC 7517), or what an operator gave.")]
MAX_PAGE: Final = 500


class Problem(Struct):
    """What is wrong (RFC 9457), the reason by its word, the id of the request; `detail` where there is more."""

    type: str
    title: str
    status: int
    error: str
    reason: str
    request_id: str
    detail: str | UnsetType = UNSET


class Page(Struct, Generic[Item]):
    """A part of a list; `next` is the cursor of the part behind it, null at the end."""

    items: list[Item]
    next: str | None


class Outcome(Struct, Generic[Item]):
    """What a change did, or with `dry_run` would do; `losses`: whom it hits, and what each client loses by it."""

    dry_run: bool
    changes: bool
    before: Item | None
    after: Item | None
    losses: list[Loss]


# What comes in


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """No parameters."""


class DryRun(Query, frozen=True):
    """With it nothing is changed, and the answer says what would be."""

    dry_run: bool = False


class Force(DryRun, frozen=True):
    """Even if the client has no other valid key."""

    force: bool = False


class Paged(Query, frozen=True):
    """A part of a list: so many, behind the cursor."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: Annotated[str, Meta(max_length=1024)] = ""


class WhichClients(Paged, frozen=True):
    """Those for which everything holds that is said; `label` as NAME=VALUE, `unused` in seconds."""

    api: str = ""
    label: str = ""
    disabled: bool = False
    unused: Seconds | UnsetType = UNSET


class Recent(Query, frozen=True):
    """The last ones: so many, of one client, after an instant (epoch seconds)."""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    client: Annotated[str, Meta(max_length=128)] = ""
    since: Annotated[float, Meta(ge=0)] = 0.0


class WhichRows(Paged, frozen=True):
    """Rows since an instant (epoch seconds), of an actor (or one of his words), of an object (client/billing)."""

    since: Annotated[int, Meta(ge=0)] = 0
    actor: Annotated[str, Meta(max_length=512)] = ""
    object: Annotated[str, Meta(max_length=512)] = ""


class NewApi(Struct, forbid_unknown_fields=True):
    """A protected resource."""

    name: Name
    audience: str
    scopes: list[str] = []
    token_lifetime: int | None = None
    binding: Binding = Binding.NONE
    status: Listing = Listing.NONE


class ApiPatch(Struct, forbid_unknown_fields=True):
    """What becomes of an API (RFC 7396): what is not there stays; `scopes` are all that it has afterwards."""

    audience: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    scopes: list[str] | UnsetType = UNSET
    token_lifetime: int | UnsetType | None = UNSET
    binding: Binding | UnsetType = UNSET
    status: Listing | UnsetType = UNSET


class NewClientKey(Struct, forbid_unknown_fields=True):
    """A public key of a client, and from when to when it counts."""

    jwk: Jwk
    not_before: Instant | None = None
    expires_at: Instant | None = None


class ClientKeyPatch(Struct, forbid_unknown_fields=True):
    """From when to when a key counts (RFC 7396); null takes a limit away."""

    not_before: Instant | UnsetType | None = UNSET
    expires_at: Instant | UnsetType | None = UNSET


class Invitation(Struct, forbid_unknown_fields=True):
    """How long a join code shall be good."""

    valid_seconds: Annotated[int, Meta(ge=60, le=7 * 86400)] = 3600


class TrustMembers(Struct, forbid_unknown_fields=True):
    """How tokens of another issuer are taken; what is not there is its preset's, or stays. One source of its keys."""

    jwks: dict[str, Any] | UnsetType = UNSET
    jwks_uri: str | UnsetType = UNSET
    discovery: bool | UnsetType = UNSET
    algorithms: list[str] | UnsetType = UNSET
    audiences: list[str] | UnsetType = UNSET
    max_lifetime: int | UnsetType = UNSET
    replay: Replay | UnsetType = UNSET
    uses: list[Use] | UnsetType = UNSET


class NewTrust(TrustMembers, kw_only=True):
    """Another issuer whose tokens are taken."""

    name: Name
    issuer: str
    preset: str = ""


class NewRule(Struct, forbid_unknown_fields=True):
    """Which workloads of a trust are this client, as the command line writes it: `match` are conditions."""

    trust: Name
    match: list[str]
    copy: list[str] = []
    allow: list[str] = []


class TokenToTest(Struct, forbid_unknown_fields=True):
    """A token of a trusted issuer, and the client that the request would name."""

    token: str
    client_id: str | None = None


class NewSigningKey(Struct, forbid_unknown_fields=True):
    """`algorithm`: of the new key; null: keys.algorithm."""

    algorithm: str | None = None


class AtOnce(Struct, forbid_unknown_fields=True):
    """`at_once`: although verifiers may not know the key yet, or the next one."""

    at_once: bool = False


# What goes out where no record says it


class SigningKeyDocument(Struct):
    """A signing key; `activates_at` is null while it waits for an operator."""

    kid: str
    algorithm: str
    state: str
    created_at: int
    activates_at: int | None
    retires_at: int | None
    removes_at: int | None
    jwk: Jwk


class ClientKeyDocument(Struct):
    """A public key of a client."""

    kid: str
    client_id: str
    thumbprint: str
    algorithm: str
    jwk: Jwk
    created_at: int
    not_before: int | None
    expires_at: int | None


class ListedClientKey(ClientKeyDocument):
    """The same with what changes by itself: its state now, its last use, and whether it may go."""

    last_used_at: int | None
    state: str
    safe_to_remove: bool
    why: str


class TrustDocument(Struct):
    """A trusted issuer; `keys` says where its keys come from."""

    name: str
    issuer: str
    preset: str
    keys: str
    ca_file: str | None
    token_file: str | None
    algorithms: list[str]
    audiences: list[str]
    max_lifetime: int
    replay: str
    uses: list[str]
    enabled: bool
    created_at: int


class RuleDocument(Struct):
    """Which workloads of a trust are a client."""

    rule: str
    client: str
    trust: str
    match: list[str]
    copy: list[str]
    allow: list[str]
    created_at: int


class JoinCode(Struct):
    """A secret: with it a host registers one key for the client, once."""

    client_id: str
    code: str
    valid_seconds: int


class SigningKeys(Struct):
    """The keys that a change of the ring has touched, or would."""

    dry_run: bool
    items: list[SigningKeyDocument]
    losses: list[Loss]


class AuditDocument(Struct):
    """A row of the audit trail: `before` and `after` are the object, null where there was none."""

    seq: int
    at: int
    actor: str
    face: str
    operation: str
    object: str
    before: Any
    after: Any
    registry_version: int
    previous: str
    hash: str


class RecentRefusals(Struct):
    """Lines of the log, oldest first: `at` in epoch seconds, `event`, `reason`, `hint`, `request_id` and others."""

    items: list[dict[str, Any]]


class Overview(Struct):
    """What there is, and whether a token could be had now."""

    issuer: str
    version: str
    profile: str
    ready: bool
    reason: str | None
    registry_version: int
    apis: int
    clients: int
    clients_disabled: int
    trusts: int
    signing_kid: str | None
    next_rotation_at: int | None
    client_keys_expiring: int


_HINTS: Final = get_type_hints(ClientSettings)
OFFERED: Final = {name: told for name, told in CLIENT_SETTINGS.items() if told.about}
ALLOW: Final = dict[str, list[str]]


def _patched(name: str) -> Any:
    """The type of a setting in a change: null is its default, and of names with values null takes one away."""
    kind = dict[str, str | None] if OFFERED[name].kind is Kind.PAIRS else _HINTS[name]
    return (name, kind | UnsetType | None, UNSET)


def _new(name: str) -> Any:
    default = getattr(DEFAULTS, name)
    if isinstance(default, Mapping):
        return (name, dict[str, str], {})
    return (name, _HINTS[name], default)


ClientDocument = defstruct(
    "ClientDocument",
    [
        ("client_id", str), ("allow", dict[str, list[str]]), ("created_at", int), ("enabled", bool),
        *((name, dict[str, str] if isinstance(getattr(DEFAULTS, name), Mapping) else _HINTS[name])
          for name in CLIENT_SETTINGS),
    ],
    namespace={"__doc__": "A client, with all of its settings."},
)  # fmt: skip
ListedClientDocument = defstruct(
    "ListedClientDocument", [("unused_since", int)], bases=(ClientDocument,), kw_only=True,
    namespace={"__doc__": "A client, and since when no use of it is known."},
)  # fmt: skip
NewClient = defstruct(
    "NewClient",
    [
        ("client_id", Name), ("allow", ALLOW), ("keys", list[Jwk], []), ("no_key", bool, False),
        ("not_before", Instant | None, None), ("expires_at", Instant | None, None),
        *(_new(name) for name in OFFERED),
    ],
    forbid_unknown_fields=True,
    namespace={"__doc__": "A client with its public keys (JWK), `no_key` for none, and its settings."},
)  # fmt: skip
ClientPatch = defstruct(
    "ClientPatch",
    [("allow", dict[str, list[str] | None] | UnsetType, UNSET), *(_patched(name) for name in OFFERED)],
    forbid_unknown_fields=True,
    namespace={"__doc__": "What becomes of a client (RFC 7396): what is not there stays, null is the default."},
)  # fmt: skip
