"""What each part of the server is given of the settings: a small frozen value of its own, made once from the table.

The fields of a slice are the settings of its section by their own names. A field of type Path is relative to the
directory of the configuration file until it is here; None where the setting is empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from groat.keys.ring.schedule import Timing
from groat.protocol.crl import NoRevocations
from groat.protocol.models import Policy, Profile
from groat.protocol.proof_rules import NonceMode
from groat.server.http.certificates import CertificateProxies
from groat.server.http.in_force import Limits
from groat.server.http.source import Networks
from groat.server.settings.admin_address import AdminAddress
from groat.server.settings.crl_file import CrlFile
from groat.server.store.url import POSTGRES_SCHEMES


@dataclass(frozen=True, slots=True)
class Storage:
    """Where the store is, and how long records stay in it, in seconds."""

    url: str
    retention: int

    @property
    def on_postgres(self) -> bool:
        """Whether it is PostgreSQL."""
        return self.url.startswith(POSTGRES_SCHEMES)


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """How new signing keys are made, and where each custodian finds its own; `pkcs11_module` as a loader takes it."""

    algorithm: str
    custody: str
    encryption_key_file: Path
    other_encryption_key_files: tuple[Path, ...]
    directory: Path
    passphrase_file: Path
    pkcs11_module: str
    pkcs11_token: str
    pkcs11_pin_file: Path


@dataclass(frozen=True, slots=True)
class Publishing:
    """Where keys may be that clients publish themselves."""

    client_networks: Networks


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """How long clients' own keys count, in seconds; see the table of settings."""

    key_lifetime: int
    key_warning: int
    key_idle: int


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """How long its rows stay, in seconds; 0: for good."""

    keep: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """How fast verifiers hear of what was taken back, in seconds; see the table of settings."""

    list_ttl: int
    list_lifetime: int
    feed_wait: int


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen, in how many processes, and with what certificate."""

    host: str
    port: int
    workers: int
    tls_certificate_file: Path | None
    tls_key_file: Path | None

    @property
    def tls(self) -> tuple[Path, Path] | None:
        """Certificate and private key to serve https with; None where TLS ends in front of this server."""
        if self.tls_certificate_file is None:
            return None
        return self.tls_certificate_file, self.tls_key_file or self.tls_certificate_file

    @property
    def local_address(self) -> tuple[str, int]:
        """Where this machine itself reaches the server: loopback for one that listens on every address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port  # noqa: S104


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Whether the https listener asks its callers for certificates, and which it takes."""

    client_certificates: str
    client_ca_file: Path | None

    @property
    def authorities(self) -> Path | None:
        """The file with what it takes; None where it asks nobody."""
        return self.client_ca_file if self.client_certificates == "request" else None


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much one process takes in: clients in memory, and connections, of which those of proxies count apart."""

    remembered_clients: int
    connections: int
    source_connections: int
    trusted_proxies: Networks
    proxy: CertificateProxies


@dataclass(frozen=True, slots=True)
class Logging:
    """What is logged, and how."""

    level: str
    format: str

    @property
    def pretty(self) -> bool | None:
        """As EventLog takes it; None where the stream decides."""
        return {"json": False, "pretty": True}.get(self.format)


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the admin listener stands, the names it answers to besides its address, and who else is an operator."""

    listen: str
    socket: Path | None
    hosts: tuple[str, ...]
    socket_users: tuple[int, ...]

    @property
    def address(self) -> AdminAddress:
        """Host and port, the socket, both, or nowhere. Raises ConfigError for a socket path that is too long."""
        return AdminAddress.parse(self.listen, self.socket, not self.socket_users)


# Which section of the table each is cut from.
SECTIONS: Final[Mapping[type[Any], str]] = {
    Storage: "storage",
    KeyFiles: "keys",
    Publishing: "keys",
    ClientKeys: "clients",
    AuditTrail: "audit",
    Revocation: "revocation",
    Listener: "server",
    Handshakes: "tls",
    Capacity: "server",
    Limits: "throttle",
    Logging: "log",
    Admin: "admin",
}
Slice = TypeVar(
    "Slice", Storage, KeyFiles, Publishing, ClientKeys, AuditTrail, Revocation, Listener, Handshakes, Capacity, Limits,
    Logging, Admin,
)  # fmt: skip


def cut(kind: type[Slice], values: Mapping[str, Any], directory: Path) -> Slice:
    """One slice. Not checked here: the types of the values; a test holds the table against the fields."""
    hints, section = get_type_hints(kind), SECTIONS[kind]
    own = {one.name: _found(values[f"{section}.{one.name}"], hints[one.name], directory) for one in fields(kind)}
    return kind(**own)


def _found(value: Any, kind: Any, directory: Path) -> Any:
    if kind == Path | None:
        return directory / value if value else None
    if kind == tuple[Path, ...]:
        return tuple(directory / one for one in value)
    return directory / value if kind is Path else value


def cut_policy(values: Mapping[str, Any], directory: Path) -> Policy:
    """The slice of the rules. Raises ConfigError."""
    lists = values["tls.client_crl_file"]
    return Policy(
        issuer=values["issuer"],
        profile=Profile(values["profile"]),
        token_lifetime=values["tokens.lifetime"],
        max_assertion_lifetime=values["assertions.max_lifetime"],
        clock_tolerance=values["assertions.clock_tolerance"],
        allow_http_hosts=frozenset(values["development.allow_http_hosts"]),
        extra_claims=values["tokens.extra_claims"],
        nonces=NonceMode(values["dpop.nonces"]),
        proof_algorithms=values["dpop.algorithms"],
        compatible=values["metadata.compatible"],
        protected_resources=values["metadata.protected_resources"],
        certificates=bool(values["server.proxy"]) or values["tls.client_certificates"] == "request",
        certificate_url=values["tls.certificate_url"],
        revocations=CrlFile(directory / lists) if lists else NoRevocations(),
    )


def cut_timing(values: Mapping[str, Any]) -> Timing:
    """The slice of the rotation. Not checked: whether these spans go together."""
    return Timing(
        token_lifetime=values["tokens.lifetime"],
        jwks_max_age=values["keys.jwks_max_age"],
        verifier_cache=values["keys.verifier_cache"],
        rotate_every=values["keys.rotate_every"],
    )
