"""Certificates at an API (RFC 8705 3): which one the caller of a request has proven that he holds the key of.

Whoever ended his TLS connection knows it: our own server, which hands over what it saw, or a proxy in front, which
writes it into a header. A header may be anybody's, so it counts from proxies that the operator has named alone, and in
one dialect.
"""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from groat.protocol.arguments import strings
from groat.protocol.binding import Confirmation
from groat.protocol.certificate_headers import CERTIFICATE_HEADERS, DIALECTS
from groat.protocol.client_certificate import ClientCertificate, read_certificate
from groat.protocol.differences import shown
from groat.protocol.errors import CertificateError, ConfigError, InvalidBearerRequest, InvalidToken

UNIX: Final = "unix"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Leaf = ClientCertificate | bytes | str | None
# The leaf (bytes: DER; text: PEM), or where to ask for it once a token needs it: most do not.
CertificateSource = Leaf | Callable[[], Leaf]
Lines = Callable[[str], Sequence[bytes | str]]


@dataclass(frozen=True, slots=True)
class Connection:
    """Over what a request came.

    `peer`: the address of who connected, empty for a unix socket; never what a header says. `leaf`: the certificate
    that he proved to our own server. `lines`: the values of the header lines of a name, each as it came.
    """

    peer: str
    leaf: bytes | str | None = None
    lines: Lines = lambda _: ()


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where an API has the certificates of its callers from (RFC 8705 3).

    `proxies`: who may say it in a header: networks ("10.0.0.0/8"), addresses, "unix" for whoever connects over a unix
    socket. `dialect`: how they write it: rfc9440, nginx, envoy, haproxy, traefik or caddy. Each of them must write that
    header itself, and remove what the caller wrote there. Everybody else's headers say nothing, and neither does
    the certificate of a proxy's own connection. Without proxies: as the server in which the API runs has seen them.
    Raises ConfigError. Not checked: times, chain, names, revocation; who issued the token has done that.
    """

    proxies: str | Sequence[str] = ()
    dialect: str = ""
    _networks: tuple[Network, ...] = field(init=False, repr=False, default=())
    _unix: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        named = (self.proxies,) if isinstance(self.proxies, str) else strings("Certificates.proxies", self.proxies)
        if bool(named) != bool(self.dialect):
            raise ConfigError("Certificates needs both the proxies and the dialect of their header, or neither")
        if named and self.dialect not in DIALECTS:
            raise ConfigError(f"Certificates.dialect must be one of {', '.join(DIALECTS)}, not {shown(self.dialect)}")
        object.__setattr__(self, "proxies", named)
        object.__setattr__(self, "_networks", tuple(_network(one) for one in named if one != UNIX))
        object.__setattr__(self, "_unix", UNIX in named)

    def of(self, connection: Connection) -> Leaf:
        """The certificate of this connection's caller; None where he has shown none.

        Raises InvalidBearerRequest for a proxy's request with the header of another dialect, which the caller may have
        written, and InvalidToken for a header that cannot be read without a guess.
        """
        if not self._names(connection.peer):
            return connection.leaf
        written = [(name, value) for name in CERTIFICATE_HEADERS for value in connection.lines(name.decode())]
        try:
            return DIALECTS[self.dialect].certificate((name, _bytes(value)) for name, value in written)
        except CertificateError as error:
            if error.reason == "dialect":
                raise InvalidBearerRequest("certificate_dialect", error.hint) from None
            raise InvalidToken("certificate_malformed", error.hint) from None

    def _names(self, peer: str) -> bool:
        """Whether this is a proxy that was named."""
        if not peer or not self._networks:
            return self._unix and not peer
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


FROM_CONNECTION: Final = Certificates()


def prove_certificate(bound: Confirmation, source: CertificateSource) -> None:
    """Whether this is the certificate that the token is bound to; in the same time whatever differs (RFC 8705 3).

    Raises InvalidToken, and whatever `source` does.
    """
    leaf = source() if callable(source) else source
    if leaf is None:
        raise InvalidToken(
            "certificate_missing", "the token is bound to a certificate, and none of this caller is known"
        )
    try:
        certificate = leaf if isinstance(leaf, ClientCertificate) else read_certificate(leaf)
    except CertificateError as error:
        raise InvalidToken("certificate_malformed", error.hint) from None
    if not certificate.has(bound.thumbprint):
        hint = f"the token is bound to another certificate than the caller's, which is {certificate.thumbprint}"
        raise InvalidToken("certificate_other", hint)


def _network(text: str) -> Network:
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        hint = f"networks (10.0.0.0/8), addresses and {UNIX}, not {shown(text)}"
        raise ConfigError(f"Certificates.proxies must be {hint}") from None
    if found.prefixlen == 0:
        raise ConfigError(f"Certificates.proxies: {text} is everybody, who could then write any certificate")
    return found


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


__all__ = ["CertificateSource", "Certificates", "Connection", "Leaf", "Lines", "prove_certificate"]
