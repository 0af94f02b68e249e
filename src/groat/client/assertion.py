"""How the client proves who it is: a fresh signed assertion for every attempt (RFC 7523 2.2, rfc7523bis)."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from groat.client.discovery import Endpoint
from groat.client.errors import KeyUnusable, foreign
from groat.client.key_file import KeyFile
from groat.client.workload import WorkloadIdentity
from groat.keys.private_key import read_private_key
from groat.protocol import jose, strict_json
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import ALGORITHM_NAMES, PrivateKey, base64url_encode, printable

JTI_BYTES: Final = 16
CERTIFICATE_METHODS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})


@runtime_checkable
class Signer(Protocol):
    """A private key that lives elsewhere (KMS, HSM, agent).

    `sign` returns the JOSE signature of `data`: for ECDSA that is R and S with fixed length (RFC 7518 3.4), not DER.
    It may block: it is called in a thread of its own. `algorithm`: ES256, PS256, Ed25519, ...
    """

    @property
    def kid(self) -> str: ...

    @property
    def algorithm(self) -> str: ...

    def sign(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Assertion:
    """A credential for one attempt. `kid` and `jti` are for the log; None for one that we did not write.

    `as_grant`: it is the grant itself (RFC 7523 2.1). `replaced`: a second look may find another one. `value`: empty
    where the certificate of the connection says who asks, and nothing else does.
    """

    value: str = field(repr=False)
    assertion_type: str = JWT_BEARER
    kid: str | None = None
    jti: str | None = None
    as_grant: bool = False
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What an assertion states: who we are, to whom, and when. `now`: epoch seconds; `lifetime`: seconds.

    `client_id` is empty where the server finds the client by the workload's token.
    """

    issuer: str
    client_id: str
    now: int
    lifetime: int

    def claims(self, jti: str) -> dict[str, str | int]:
        """The claims; the audience is the issuer as one string, so that no other server can use it (rfc7523bis)."""
        return {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "iat": self.now,
            "exp": self.now + self.lifetime,
            "jti": jti,
        }


class Credential(Protocol):
    """Makes one assertion per attempt. Raises KeyUnusable."""

    def assertion(self, statement: Statement, endpoint: Endpoint) -> Assertion: ...


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A signer around a key in memory."""

    key: PrivateKey

    @property
    def kid(self) -> str:
        return self.key.kid

    @property
    def algorithm(self) -> str:
        return self.key.algorithm

    def sign(self, data: bytes, /) -> bytes:
        return jose.sign(data, self.key)


@dataclass(frozen=True, slots=True)
class SigningCredential:
    """private_key_jwt: assertions that we write; `signer` is asked anew each time, because key files change."""

    signer: Callable[[], Signer]

    def assertion(self, statement: Statement, endpoint: Endpoint) -> Assertion:
        if endpoint.auth_methods and "private_key_jwt" not in endpoint.auth_methods:
            raise KeyUnusable(f"{statement.issuer} does not offer private_key_jwt")
        signer = self.signer()
        kid, written = signer.kid, written_algorithm(signer.algorithm, endpoint)
        jti = secrets.token_urlsafe(JTI_BYTES)
        payload = strict_json.dumps(statement.claims(jti))
        data = jose.signing_input(jose.encode_header(written, kid, ASSERTION_TYP), payload)
        signature = _sign(signer, data)
        value = (data + b"." + base64url_encode(signature)).decode("ascii")
        return Assertion(value, kid=kid, jti=jti)


def written_algorithm(name: str, endpoint: Endpoint) -> str:
    """The `alg` to write: the key's own, if the server takes it under this name or its other name (RFC 9864).

    Raises KeyUnusable for an unknown algorithm and for one that the metadata does not list.
    """
    known = ALGORITHM_NAMES.get(name)
    if known is None:
        raise KeyUnusable(f"the signer's algorithm {printable(name)} is unknown")
    offered = endpoint.signing_algorithms
    if not offered or known.name in offered:
        return known.name
    for alias, algorithm in ALGORITHM_NAMES.items():
        if algorithm is known and alias in offered:
            return alias
    listed = ", ".join(foreign(algorithm) for algorithm in offered)
    raise KeyUnusable(f"the key is for {known.name}, but the server takes {listed}", hint="make a key that fits")


def _sign(signer: Signer, data: bytes) -> bytes:
    try:
        signature = signer.sign(data)
    except Exception as error:
        raise KeyUnusable(f"the signer failed: {type(error).__name__}") from error
    expected = ALGORITHM_NAMES[signer.algorithm].signature_bytes
    if expected is not None and len(signature) != expected:
        raise KeyUnusable(
            f"the signer must return {expected} bytes for {signer.algorithm}, not {len(signature)}",
            hint="an ECDSA signature in DER must be turned into R and S of fixed length",
        )
    return signature


@dataclass(frozen=True, slots=True)
class WorkloadCredential:
    """A ready assertion of the platform's. It cannot be made fresh here, only read or asked for anew."""

    identity: WorkloadIdentity

    def assertion(self, statement: Statement, endpoint: Endpoint) -> Assertion:
        source, wanted = self.identity.source, self.identity.as_grant
        found = source.read(statement.issuer)
        if isinstance(found, KeyUnusable):
            raise found
        as_grant = not statement.client_id if wanted is None else wanted
        return Assertion(found, self.identity.assertion_type, as_grant=as_grant, replaced=source.replaced)


@dataclass(frozen=True, slots=True)
class CertificateCredential:
    """tls_client_auth and self_signed_tls_client_auth (RFC 8705 2): the request has nothing but the client's id."""

    def assertion(self, statement: Statement, endpoint: Endpoint) -> Assertion:
        if endpoint.auth_methods and not CERTIFICATE_METHODS & set(endpoint.auth_methods):
            hint = "give a key beside the certificate: tokens are bound to that all the same"
            raise KeyUnusable(f"{statement.issuer} does not offer authentication by certificate", hint=hint)
        return Assertion("")


KeySource = str | os.PathLike[str] | KeyFile | PrivateKey | Signer | WorkloadIdentity


def credential_from(key: KeySource | None) -> Credential:
    """The credential for whatever the caller gave as `key`, None for a certificate alone; reads no file yet.

    Raises ConfigError.
    """
    if key is None:
        return CertificateCredential()
    if isinstance(key, WorkloadIdentity):
        return WorkloadCredential(key)
    if isinstance(key, str | os.PathLike | KeyFile):
        file = key if isinstance(key, KeyFile) else KeyFile(key)
        return SigningCredential(lambda: LocalSigner(file.load()))
    if isinstance(key, PrivateKey):
        return SigningCredential(_always(LocalSigner(key)))
    if isinstance(key, Signer):
        return SigningCredential(_always(key))
    raise ConfigError("key must be a path, a KeyFile, PrivateKey, Signer (kid, algorithm, sign) or WorkloadIdentity")


def _always(signer: Signer) -> Callable[[], Signer]:
    return lambda: signer


def private_key_from_text(text: str, *, algorithm: str | None = None, kid: str | None = None) -> PrivateKey:
    """A key from a JWK or PEM that a secret store handed over as text. Raises KeyUnusable.

    `algorithm`: for an RSA key that does not name its own; `kid`: replaces the JWK's, or the RFC 7638 thumbprint.
    """
    key = read_private_key(text.encode(), algorithm, kid)
    if isinstance(key, str):
        raise KeyUnusable(f"the key: {key}")
    return key
