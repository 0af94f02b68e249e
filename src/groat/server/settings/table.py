"""The table of settings: what each is called, how it is read, what it is without being set, and what it is for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.jwk import ALGORITHM_NAMES
from groat.protocol.proof_rules import NonceMode
from groat.server.settings.readers import (
    at_least,
    boolean,
    certificate_proxies,
    days,
    duration,
    networks,
    one_of,
    optional,
    percent,
    port,
    positive,
    strings,
    table,
    text,
    users,
)


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
    Setting("dpop.nonces", one_of(*NonceMode), "optional", "nonces in DPoP proofs: off, optional or required"),
    Setting("dpop.algorithms", strings, [], "algorithms of proofs; empty: those of the profile but RS256 to RS512"),
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
    Setting("audit.keep", days, "400d", "how long rows of the audit trail stay; 0s: for good"),
    Setting("revocation.list_ttl", duration, "30s", "how long verifiers may keep a status list"),
    Setting("revocation.list_lifetime", duration, "5m", "how long a status list or the feed counts, 10s to 1h"),
    Setting("revocation.feed_wait", duration, "30s", "how long a verifier may wait for news, 1m at most"),
    Setting("server.host", text, "127.0.0.1", "address to listen on"),
    Setting("server.port", port, 3001, "port to listen on; 0 picks a free one"),
    Setting("server.workers", positive, 1, "number of worker processes"),
    Setting("server.tls_certificate_file", optional, "", "PEM chain to serve https with; empty: plain http"),
    Setting("server.tls_key_file", optional, "", "PEM private key of the certificate; empty: in the same file"),
    Setting("server.remembered_clients", at_least(1000), 10_000, "clients a worker keeps in memory, some 5 KB each"),
    Setting("server.connections", at_least(16), 4096, "connections of a worker, an eighth over https"),
    Setting("server.source_connections", at_least(8), 1024, "the same from one address that is no trusted proxy"),
    Setting("server.trusted_proxies", networks, [], "whose X-Forwarded-For counts; nobody's by default"),
    Setting("server.proxy", certificate_proxies, [], "[[server.proxy]] network, certificate: whose header counts"),
    Setting("tls.client_certificates", one_of("none", "request"), "none", "request: https here asks for certificates"),
    Setting("tls.client_ca_file", optional, "", "PEM authorities, or certificates themselves, that it then takes"),
    Setting("tls.client_crl_file", optional, "", "lists of revoked certificates of those authorities, PEM or DER"),
    Setting("tls.certificate_url", optional, "", "https URL where they are asked for, if not at the issuer's"),
    Setting("admin.listen", optional, "", "HOST:PORT of the admin listener (/metrics); empty: none"),
    Setting("admin.hosts", strings, [], "names of the admin listener besides its address and localhost"),
    Setting("admin.socket", optional, "", "socket file of the admin listener; empty: none"),
    Setting("admin.socket_users", users, [], "numbers of users who are operators at the socket, too"),
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
        "dpop.nonces",
        "dpop.algorithms",
        "server.connections",
        "server.source_connections",
        "server.trusted_proxies",
        "server.proxy",
        "tls.certificate_url",
        "tls.client_crl_file",
        "throttle.client_failures",
        "throttle.source_failures",
        "throttle.failure_share",
        "log.level",
        "log.format",
    }
)
