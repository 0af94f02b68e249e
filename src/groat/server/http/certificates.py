"""Where the certificate of a request's caller comes from: the connection itself, or a proxy that is named for it.

A listener that asks for certificates in its own handshakes looks at no header; at another one a header counts from a
named proxy, in its one dialect. Everybody else's says nothing, and is not even read (RFC 9700 4.13, RFC 9440 4).
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

from groat.protocol.certificate_headers import DIALECTS
from groat.protocol.client_certificate import NOTHING, Presented
from groat.protocol.errors import CertificateError, InvalidRequest
from groat.server.http.source import read_address

if TYPE_CHECKING:  # commands of a client's host read settings without it
    from starlette.types import Scope

OF_THE_CONNECTION: Final = "certificate"  # in the scope, where the listener asks for certificates


@dataclass(frozen=True, slots=True)
class CertificateProxy:
    """A network whose hosts terminate TLS for this server, and how they hand on the certificate: a name of DIALECTS."""

    network: IPv4Network | IPv6Network
    certificate: str

    def __str__(self) -> str:
        return f"{self.network} ({self.certificate})"


CertificateProxies = tuple[CertificateProxy, ...]


def presented(scope: "Scope", proxies: CertificateProxies) -> Presented:
    """What of a certificate came with this request. Raises InvalidRequest for a header of a second dialect.

    Not checked: what the certificate says, and whether it counts for anything.
    """
    own: Presented | None = scope.get(OF_THE_CONNECTION)
    if own is not None:
        return own
    named = _proxy(scope, proxies)
    if named is None:
        return NOTHING
    try:
        return Presented(DIALECTS[named.certificate].certificate(scope["headers"]))
    except CertificateError as error:
        if error.reason == "dialect":
            raise InvalidRequest("certificate_dialect", error.hint) from None
        return Presented(None, error.hint)


def _proxy(scope: "Scope", proxies: CertificateProxies) -> CertificateProxy | None:
    peer = scope.get("client")
    address = read_address(peer[0]) if peer and proxies else None
    if address is None:
        return None
    return next((one for one in proxies if address in one.network), None)


def overlap(proxies: CertificateProxies) -> str:
    """Which of them would speak two dialects, as a sentence; empty where none would."""
    for place, one in enumerate(proxies):
        for other in proxies[:place]:
            alike = one.network.version == other.network.version and one.network.overlaps(other.network)
            if alike and one.certificate != other.certificate:
                return f"{one} and {other} overlap: a proxy speaks one dialect"
    return ""
