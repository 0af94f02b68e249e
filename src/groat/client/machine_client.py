"""MachineClient: a machine's own identity at one authorization server, and the tokens it gets there."""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from groat.client.api_metadata import ApiMetadata, ApiReader, check_issuer
from groat.client.assertion import KeySource, credential_from
from groat.client.bearer import Bearer
from groat.client.certificate import CertificateFiles, CertificateSource, certificate_files
from groat.client.default_client import DefaultClient, showing
from groat.client.discovery import Directory, Endpoint, MetadataDirectory, StaticDirectory
from groat.client.key_file import KeyFile
from groat.client.origin import allowed_origins
from groat.client.possession import Possession, ProofKey, possession_of
from groat.client.retry import RefreshPolicy, RetryPolicy
from groat.client.token import Token, Wish, scope_set
from groat.client.token_cache import TokenCache
from groat.client.token_endpoint import TokenEndpoint
from groat.client.token_files import TokenFiles
from groat.client.wire import HttpSource, Transport
from groat.client.workload import WorkloadIdentity, identity_of
from groat.keys.key_text import is_key_text
from groat.keys.private_key import read_private_key
from groat.outbound.clocks import Clocks
from groat.protocol.arguments import one_string, strings
from groat.protocol.errors import ConfigError
from groat.protocol.stray import blanks, plain_name, stray, without_user
from groat.protocol.uris import check_endpoint, issuer_fault

if TYPE_CHECKING:
    from groat.client.auth import MachineAuth
    from groat.client.challenge import ApiResponse

MIN_ASSERTION_LIFETIME, MAX_ASSERTION_LIFETIME = 5, 300
Scopes = str | Iterable[str]


class MachineClient:
    """Gets, keeps and renews access tokens: client credentials with private_key_jwt, or a workload's own token.

    Args:
        issuer: the authorization server's issuer identifier, exactly as it writes it itself.
        client_id: who we are there. May be left out with a `WorkloadIdentity`, by which the server finds it.
        key: a path to a JWK or PEM file (mode 0600), a `KeyFile` where more is to be said of it, a `PrivateKey`, a
            `Signer` (KMS, HSM) or a `WorkloadIdentity`.
        token_endpoint: skips the metadata and posts there.
        http: an httpx2.Client or httpx.Client for the requests to the authorization server, or a function that makes
            one. A client is used as it is and stays yours; the function's product is closed by `close`, and made
            anew in a forked child.
        allow_http_hosts: hosts besides loopback that may be spoken to without TLS; for development.
        timeout: seconds for each step of one exchange; `retry.total` bounds a call as a whole.
        assertion_lifetime: seconds, 5 to 300.
        token_cache: a directory in which tokens are kept between runs, for whoever starts often; default: none are.
        allow_narrowed_scope: return a token that grants less than was asked, instead of ScopeNarrowed.
        dpop: bind tokens to a key, so that they are of no use to whoever steals them (RFC 9449): True for a key of this
            object alone, or the key (a path, a `KeyFile`, a `PrivateKey`). A server that gives a bearer token instead
            is an error.
        certificate: shown to the authorization server in the handshake (RFC 8705): the paths of a PEM file with the
            certificate and of one with its key, or of one with both. It binds the tokens, and without a `key` it says
            who we are. An `http` of your own has to show it by itself. For APIs see `ssl_context`.
        refresh, retry: the schedules, in seconds.
        clocks: for tests.

    There is no I/O before the first token is wanted. Raises ConfigError for arguments that cannot work. Safe to share
    among threads, event loops (asyncio) and over a fork. What a token says inside is never looked at.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str | None = None,
        key: KeySource | None = None,
        *,
        token_endpoint: str | None = None,
        http: HttpSource = None,
        allow_http_hosts: Iterable[str] = (),
        timeout: float = 5.0,
        assertion_lifetime: int = 60,
        token_cache: str | os.PathLike[str] | None = None,
        allow_narrowed_scope: bool = False,
        dpop: ProofKey = False,
        certificate: CertificateSource | None = None,
        refresh: RefreshPolicy = RefreshPolicy(),  # noqa: B008 - frozen
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        clocks: Clocks = Clocks(),  # noqa: B008 - frozen
    ) -> None:
        self._issuer = one_string("issuer", issuer)
        self._client_id = "" if client_id is None else one_string("client_id", client_id)
        self._allow_http_hosts = frozenset(strings("allow_http_hosts", allow_http_hosts))
        self._certificate, self._shown, self._timeout = certificate_files(certificate), "", timeout
        fault = _identity_fault(client_id, key or self._certificate, kept=token_cache is not None)
        self._check(http, timeout, assertion_lifetime, fault)
        self._transport = Transport(http or self._own_http(), timeout=timeout, monotonic=clocks.monotonic)
        self._possession = possession_of(dpop, clocks.now, kept=token_cache is not None)
        endpoint = TokenEndpoint(
            self._directory(token_endpoint, clocks),
            credential_from(key),
            self._transport,
            clocks,
            retry,
            refresh,
            assertion_lifetime,
            allow_narrowed_scope,
            self._possession,
        )
        files = None if token_cache is None else TokenFiles(Path(token_cache), token_endpoint, refresh, clocks)
        self._cache = TokenCache(endpoint.fetch, refresh, clocks, retry.total, files)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A client from the environment; `options` are the constructor's and win.

        GROAT_ISSUER, GROAT_CLIENT_ID, and one of GROAT_KEY_FILE (path), GROAT_KEY (JWK or PEM text),
        GROAT_ASSERTION_FILE (path of a workload token) and GROAT_WORKLOAD (a platform: kubernetes, github, gitlab,
        google, azure, spiffe, file), with which GROAT_CLIENT_ID may be left out, GROAT_ASSERTION_FILE says where the
        token is, and GROAT_WORKLOAD_AUDIENCE for whom it is to be; optional GROAT_TOKEN_ENDPOINT, GROAT_ALGORITHM,
        GROAT_KEY_ID, GROAT_TOKEN_CACHE (directory), GROAT_DPOP (1, or the path of a key file),
        GROAT_CERTIFICATE_FILE and GROAT_CERTIFICATE_KEY_FILE (paths), beside which no key is needed.
        Raises ConfigError with everything that is missing.
        """
        given, findings = _read_environment(os.environ if environ is None else environ, options)
        if findings:
            raise ConfigError(*findings)
        return cls(**given)

    def auth(
        self, resource: str | None = None, scopes: Scopes = (), *, origins: Iterable[str] | None = None
    ) -> "MachineAuth":
        """An auth object for `httpx2.Client(auth=...)`, AsyncClient, single requests, and the same of httpx.

        `resource`: the API's identifier (RFC 8707), which is also the only origin that gets the token, unless
        `origins` lists others. Raises ConfigError; HttpClientMissing when no HTTP library is installed; KeyUnusable
        where `dpop` is a file that cannot be read, or holds no such key. Its requests raise ClientError.
        """
        from groat.client.auth import MachineAuth

        return MachineAuth(self.bearer(resource, scopes, origins=origins))

    def bearer(
        self, resource: str | None = None, scopes: Scopes = (), *, origins: Iterable[str] | None = None
    ) -> Bearer:
        """What an auth object for another library is made of; arguments, ConfigError and KeyUnusable as of `auth`."""
        allowed = allowed_origins(resource, origins, self._allow_http_hosts)
        certified = None if self._certificate is None else self._certified
        return Bearer(self._cache, self._wish(resource, scopes, plain=True), allowed, self._possession, certified)

    def ssl_context(self) -> ssl.SSLContext:
        """For connections to APIs: trusts as usual, and shows `certificate`, which bound tokens are worthless without.

            httpx2.Client(verify=machine.ssl_context(), auth=machine.auth(...))

        Once a changed file was noticed, by the next token that is wanted, later handshakes show the new certificate;
        open connections keep the old one. Raises ConfigError without `certificate`; KeyUnusable, EnvironmentUnusable.
        """
        if self._certificate is None:
            raise ConfigError("there is no certificate to show: MachineClient(certificate=(certificate, key))")
        return showing(self._certificate)

    def token(self, resource: str | None = None, scopes: Scopes = ()) -> Token:
        """A token that is good for a while yet; blocks when one must be fetched. Raises ClientError."""
        return self._cache.get(self._wish(resource, scopes))

    async def atoken(self, resource: str | None = None, scopes: Scopes = ()) -> Token:
        """The same on an asyncio event loop, which is not blocked."""
        return await self._cache.aget(self._wish(resource, scopes))

    @property
    def bound(self) -> bool:
        """Whether its tokens are bound to a key, and presented with proofs."""
        return self._possession is not None

    @property
    def possession(self) -> Possession | None:
        """Who makes the proofs that its tokens are presented with; None where they are not bound to a key."""
        return self._possession

    def drop(self, token: Token, resource: str | None = None, scopes: Scopes = ()) -> None:
        """Forget this token, which an API has refused, so that the next call gets another.

        One that has replaced it meanwhile stays. `auth` does this by itself.
        """
        self._cache.drop(self._wish(resource, scopes), token)

    def check_api(self, resource: str, response: "ApiResponse | None" = None) -> ApiMetadata:
        """What an API says of itself (RFC 9728), if it takes tokens of our issuer, or does not say whose; blocks.

        `response`: an answer of the API whose challenge may name the address; otherwise the identifier does. Nothing
        secret is sent (`http` neither: the API is none of the authorization server's business), and no other issuer is
        asked. Raises IssuerNotTrusted, MetadataInvalid, ServerUnreachable; ConfigError for a resource that is no URL.
        """
        with contextlib.closing(Transport(timeout=self._timeout)) as transport:
            found = ApiReader(transport, self._allow_http_hosts).read(
                one_string("resource", resource), response, transport.until(self._timeout)
            )
        check_issuer(found, self._issuer)
        return found

    def find_api(self, url: str) -> ApiMetadata:
        """What the API says of itself that this URL belongs to, above all its identifier, the `resource`; blocks.

        It is asked at the URL's own origin, without a token, and believed only where the document's address, the
        identifier and the URL fit each other. Raises as `check_api`.
        """
        with contextlib.closing(Transport(timeout=self._timeout)) as transport:
            found = ApiReader(transport, self._allow_http_hosts).find(url, transport.until(self._timeout))
        check_issuer(found, self._issuer)
        return found

    def close(self) -> None:
        """Forget the tokens and close our connections. Later calls raise ClientClosed."""
        self._cache.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"MachineClient(issuer={self._issuer!r}, client_id={self._client_id or None!r})"

    def _own_http(self) -> Callable[[], DefaultClient] | None:
        return None if self._certificate is None else partial(DefaultClient, self._certificate)

    def _certified(self, wish: Wish) -> Wish:
        """The wish for a token by the certificate as it is now; those of the one before are forgotten (CL-34)."""
        assert self._certificate is not None
        thumbprint = self._certificate.thumbprint
        if thumbprint != self._shown:
            self._shown = thumbprint
            self._cache.forget_certificates(but=thumbprint)
        return replace(wish, certificate=thumbprint)

    def _wish(self, resource: str | None, scopes: Scopes, *, plain: bool = False) -> Wish:
        named = None if resource is None else one_string("resource", resource)
        bound_to = None if self._possession is None else self._possession.thumbprint
        wish = Wish(self._issuer, self._client_id, named, scope_set(scopes), bound_to)
        return wish if plain or self._certificate is None else self._certified(wish)

    def _directory(self, token_endpoint: str | None, clocks: Clocks) -> Directory:
        if token_endpoint is None:
            certified = self._certificate is not None
            return MetadataDirectory(self._issuer, self._transport, clocks, self._allow_http_hosts, certified=certified)
        try:
            return StaticDirectory(Endpoint(check_endpoint(token_endpoint, self._allow_http_hosts)))
        except ValueError:
            raise ConfigError("token_endpoint is not a URL") from None

    def _check(self, http: object, timeout: float, assertion_lifetime: int, identity_fault: str) -> None:
        low, high = MIN_ASSERTION_LIFETIME, MAX_ASSERTION_LIFETIME
        findings = (
            issuer_fault(self._issuer, self._allow_http_hosts),
            identity_fault,
            "" if timeout > 0 else "timeout must be positive",
            "" if low <= assertion_lifetime <= high else f"assertion_lifetime must be {low} to {high} seconds",
            "http must be a Client, not an AsyncClient" if iscoroutinefunction(getattr(http, "send", None)) else "",
        )
        if any(findings):
            raise ConfigError(*filter(None, findings))


def _identity_fault(client_id: str | None, key: KeySource | CertificateFiles | None, *, kept: bool) -> str:
    """Why this does not say who we are, or too little to keep tokens apart; empty if it does."""
    if client_id == "":
        return "client_id is empty"
    if key is None:
        return "key is missing, and so is a certificate"
    if client_id is None and not isinstance(key, WorkloadIdentity):
        return "client_id is missing; only a WorkloadIdentity says by itself who we are"
    # Two workloads of one machine may share a directory, and must not share tokens.
    return "tokens are kept by client_id: name it, or leave token_cache out" if client_id is None and kept else ""


_DPOP: Final = "GROAT_DPOP"
_VARIABLES: Final = {
    "issuer": "GROAT_ISSUER",
    "client_id": "GROAT_CLIENT_ID",
    "token_endpoint": "GROAT_TOKEN_ENDPOINT",
    "token_cache": "GROAT_TOKEN_CACHE",
}
_WORKLOAD: Final = "GROAT_WORKLOAD"
_FILE: Final = "GROAT_ASSERTION_FILE"
_AUDIENCE: Final = "GROAT_WORKLOAD_AUDIENCE"
_KEY_VARIABLES: Final = ("GROAT_KEY_FILE", "GROAT_KEY", _FILE, _WORKLOAD)
_CERTIFICATE: Final = ("GROAT_CERTIFICATE_FILE", "GROAT_CERTIFICATE_KEY_FILE")
_KEY_FACTS: Final = ("GROAT_ALGORITHM", "GROAT_KEY_ID")


def _read_environment(env: Mapping[str, str], options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The constructor's arguments, and what is wrong: an exception from here would carry the key in its frames."""
    given = {name: env[variable] for name, variable in _VARIABLES.items() if env.get(variable)} | options
    by_workload = isinstance(given["key"], WorkloadIdentity) if "key" in given else bool(env.get(_WORKLOAD))
    needed = ("issuer",) if by_workload else ("issuer", "client_id")
    findings = [f"{_VARIABLES[name]} is not set" for name in needed if name not in given]
    findings += _odd_variables(env)
    if (proof_key := env.get(_DPOP) or "0") != "0":
        given.setdefault("dpop", proof_key == "1" or proof_key)
    certificate, certificate_key = (env.get(name) for name in _CERTIFICATE)
    if certificate:
        given.setdefault("certificate", (certificate, certificate_key or certificate))
    elif certificate_key:
        findings.append(f"{_CERTIFICATE[1]} is set, and {_CERTIFICATE[0]} is not")
    if "key" in given:
        return given, findings
    sources = [variable for variable in _KEY_VARIABLES if env.get(variable)]
    if _WORKLOAD in sources and _FILE in sources:
        sources.remove(_FILE)  # it says where that workload's token is
    if not sources and given.get("certificate") is not None:
        return given, findings
    if len(sources) != 1:
        what = f"{' and '.join(sources)} are set" if sources else "there is no key"
        return given, [*findings, f"{what}: set exactly one of {', '.join(_KEY_VARIABLES)}"]
    key = _key_from(sources[0], env)
    if isinstance(key, ConfigError):
        return given, [*findings, str(key)]
    return {**given, "key": key}, findings


def _odd_variables(env: Mapping[str, str]) -> list[str]:
    """What env files put into values and names; the text of a key is judged by its reader, and shown never."""
    known = {*_VARIABLES.values(), *_KEY_VARIABLES, *_KEY_FACTS, *_CERTIFICATE, _AUDIENCE, _DPOP}
    findings = [
        f"unknown variable {name!r}: {stray(name) or 'blanks or a word'} around {plain}"
        for name in env
        if name not in known and (plain := plain_name(name)) in known
    ]
    for name in sorted(known - {"GROAT_KEY"}):
        value = env.get(name, "")
        if odd := stray(value) or blanks(value):
            findings.append(f"{name}: {odd}" + ("" if is_key_text(value) else f": {without_user(value)!r}"))
    return findings


def _key_from(variable: str, env: Mapping[str, str]) -> KeySource | ConfigError:
    value = env[variable]
    algorithm, kid = (env.get(name) or None for name in _KEY_FACTS)
    if variable in (_WORKLOAD, _FILE):
        return _workload_from(value if variable == _WORKLOAD else "file", env)
    if variable == "GROAT_KEY_FILE" and is_key_text(value):
        return ConfigError("GROAT_KEY_FILE: the text of a key, not a path; GROAT_KEY takes the text")
    if variable == "GROAT_KEY_FILE":
        return KeyFile(value, algorithm=algorithm, kid=kid)
    key = read_private_key(value.encode(), algorithm, kid)
    return ConfigError(f"GROAT_KEY: {key}") if isinstance(key, str) else key


def _workload_from(platform: str, env: Mapping[str, str]) -> WorkloadIdentity | ConfigError:
    try:
        return identity_of(platform, env.get(_FILE) or None, env.get(_AUDIENCE) or None)
    except ConfigError as error:
        return ConfigError(f"{_WORKLOAD if env.get(_WORKLOAD) else _FILE}: {error}")
