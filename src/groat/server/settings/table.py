"""The table of settings: what each is called, how it is read, what it is without being set, and what it is for."""

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.server.http.source import Networks

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(value: Any) -> int:
    """Seconds from 90, "90s", "10m", "2h" or "30d"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration such as "90s", "10m", "2h" or "30d"')
    return int(match[1]) * _UNITS[match[2] or "s"]


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a non-empty string")
    return value


def optional(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string")
    return value


def integer(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def strings(value: Any) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or any(not isinstance(item, str) for item in items):
        raise ValueError("a list of strings (in the environment: separated by commas)")
    return tuple(item.strip() for item in items if item.strip())


def networks(value: Any) -> Networks:
    try:
        return tuple(ipaddress.ip_network(item) for item in strings(value))
    except ValueError:
        raise ValueError('a list of addresses or networks such as "10.0.0.0/8"') from None


def table(value: Any) -> dict[str, Any]:
    try:
        members = strict_json.loads_object(value.encode()) if isinstance(value, str) else value
        if not isinstance(members, dict):
            raise TypeError
        return dict(json.loads(json.dumps(members, allow_nan=False)))
    except (TypeError, ValueError, JoseError):
        raise ValueError(
            "a table of claims: strings, numbers, booleans, arrays and tables of these (in the environment: JSON)"
        ) from None


def boolean(value: Any) -> bool:
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def one_of(*choices: str) -> Callable[[Any], str]:
    def choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return str(value)

    return choice


def port(value: Any) -> int:
    number = integer(value)
    if not 0 <= number <= 65535:
        raise ValueError("a port from 0 to 65535")
    return number


def at_least(least: int) -> Callable[[Any], int]:
    def number(value: Any) -> int:
        if (found := integer(value)) < least:
            raise ValueError(f"a whole number of at least {least}")
        return found

    return number


positive: Final = at_least(1)


def percent(value: Any) -> int:
    number = integer(value)
    if not 1 <= number <= 100:
        raise ValueError("a whole number from 1 to 100")
    return number


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: dotted name, how to read it, its default in file form (None: required), what it is for."""

    name: str
    read: Callable[[Any], Any]
    default: Any
    about: str
    secret: bool = False

    @property
    def env(self) -> str:
        return "GROAT_" + self.name.upper().replace(".", "__")


SETTINGS: Final = (
    Setting("issuer", text, None, "who signs the tokens: the public https URL of this server"),
    Setting("profile", one_of("default", "fapi2"), "default", "fapi2 allows PS256, ES256 and Ed25519 only"),
    Setting("storage.url", text, "sqlite:///data/groat.db", "where clients, APIs and keys live", secret=True),
    Setting("storage.retention", duration, "0s", "how long the record of an issuance stays, if longer than needed"),
    Setting("tokens.lifetime", duration, "10m", "life of an access token, 1m to 1h"),
    Setting("tokens.extra_claims", table, {}, "fixed claims for every token; never a registered one"),
    Setting("metadata.compatible", boolean, True, "members that Spring, go-oidc, MCP SDKs demand"),
    Setting("metadata.protected_resources", boolean, False, "also lists every API's audience (RFC 9728 4)"),
    Setting("assertions.max_lifetime", duration, "5m", "how far ahead exp of an assertion may lie"),
    Setting("assertions.clock_tolerance", duration, "10s", "how far ahead iat and nbf may lie, 10s to 60s"),
    Setting("keys.algorithm", one_of(*ALGORITHM_NAMES), "ES256", "algorithm of new signing keys"),
    Setting("keys.rotate_every", duration, "30d", "how long a signing key signs; 0 never rotates by itself"),
    Setting("keys.jwks_max_age", duration, "5m", "how long caches may keep the JWKS, 1m to 1h"),
    Setting("keys.verifier_cache", duration, "1h", "how long any verifier may keep it, whatever it was told"),
    Setting("keys.encryption_key_file", text, "data/key-encryption.key", "seals the signing keys in the store"),
    Setting("keys.other_encryption_key_files", strings, [], "open what they sealed, seal nothing; see key reseal"),
    Setting("keys.custody", one_of("store", "files", "pkcs11", "aws-kms"), "store", "where new signing keys live"),
    Setting("keys.directory", text, "data/keys", "custody files: where the encrypted PEM files are"),
    Setting("keys.passphrase_file", text, "data/keys.passphrase", "custody files: what encrypts them"),
    Setting("keys.pkcs11_module", text, "/usr/lib/softhsm/libsofthsm2.so", "custody pkcs11: the module's library"),
    Setting("keys.pkcs11_token", text, "groat", "custody pkcs11: label of the token"),
    Setting("keys.pkcs11_pin_file", text, "data/pkcs11.pin", "custody pkcs11: file with the user PIN"),
    Setting("keys.client_networks", networks, [], "private networks that a client's jwks_uri may lead to"),
    Setting("clients.key_lifetime", duration, "0s", "how long a key counts that a client enrols; 0s: for good"),
    Setting("clients.key_warning", duration, "14d", "how long before its end a client's key is warned about"),
    Setting("clients.key_idle", duration, "7d", "how long a key is unused before it is called safe to remove"),
    Setting("server.host", text, "127.0.0.1", "address to listen on"),
    Setting("server.port", port, 3001, "port to listen on; 0 picks a free one"),
    Setting("server.workers", positive, 1, "number of worker processes"),
    Setting("server.tls_certificate_file", optional, "", "PEM chain to serve https with; empty: plain http"),
    Setting("server.tls_key_file", optional, "", "PEM private key of the certificate; empty: in the same file"),
    Setting("server.remembered_clients", at_least(1000), 10_000, "clients a worker keeps in memory, some 5 KB each"),
    Setting("server.connections", at_least(16), 4096, "connections of a worker, an eighth over https"),
    Setting("server.source_connections", at_least(8), 1024, "the same from one address that is no trusted proxy"),
    Setting("server.trusted_proxies", networks, [], "whose X-Forwarded-For counts; nobody's by default"),
    Setting("admin.listen", optional, "", "HOST:PORT of the admin listener (/metrics); empty: none"),
    Setting("admin.hosts", strings, [], "names of the admin listener besides its address and localhost"),
    Setting("admin.socket", optional, "", "socket file of the admin listener; empty: none"),
    Setting("throttle.client_failures", positive, 30, "failed authentications a minute per source and client"),
    Setting("throttle.source_failures", positive, 300, "failed authentications a minute per source"),
    Setting("throttle.failure_share", percent, 50, "percent of a worker's time for failures before newcomers wait"),
    Setting("log.level", one_of("debug", "info", "warning", "error"), "info", "least level that is logged"),
    Setting("log.format", one_of("auto", "json", "pretty"), "auto", "auto is pretty on a terminal, JSON elsewhere"),
    Setting("development.allow_http_hosts", strings, [], "hosts besides loopback that may use plain http"),
)
BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
# What a reload by SIGHUP applies; everything else needs a restart: sockets, the store, and who this server is.
RELOADED: Final = frozenset(
    {
        "tokens.lifetime",
        "tokens.extra_claims",
        "metadata.compatible",
        "metadata.protected_resources",
        "assertions.max_lifetime",
        "assertions.clock_tolerance",
        "server.connections",
        "server.source_connections",
        "server.trusted_proxies",
        "throttle.client_failures",
        "throttle.source_failures",
        "throttle.failure_share",
        "log.level",
        "log.format",
    }
)
