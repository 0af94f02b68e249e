"""The optional keywords of a verifier."""

from collections.abc import Collection, Iterable, Sequence
from typing import TypedDict

from groat.outbound.clocks import Clocks
from groat.protocol.resource_metadata import ResourceDescription
from groat.verifier.certificates import Certificates
from groat.verifier.keys.fetch import Http
from groat.verifier.observer import Observer
from groat.verifier.possession import Dpop
from groat.verifier.status.revocation import Revocation


class Options(TypedDict, total=False):
    """The optional keywords of Verifier, for whoever passes them on."""

    jwks_uri: str | None
    algorithms: Collection[str]
    accept_types: Iterable[str | None] | None
    clock_tolerance: int
    max_stale: float
    refresh_cooldown: float
    http: Http | None
    allow_http_hosts: Collection[str]
    strict_startup: bool
    realm: str
    cache_size: int
    observer: Observer | None
    clocks: Clocks | None
    description: ResourceDescription
    dpop: Dpop | None
    public_url: str | Sequence[str] | None
    certificates: Certificates | None
    require_binding: str
    revocation: str | Revocation
    on_status_unknown: str
