"""FakeIssuer: what stands in for the authorization server in other people's tests."""

import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from time import time as wall  # by this name, because libraries that freeze time replace it in modules
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack
from urllib.parse import parse_qs, urlsplit

from groat.outbound.clocks import Clocks
from groat.protocol import strict_json
from groat.protocol.arguments import strings
from groat.protocol.client_certificate import read_certificate
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.protocol.metadata import metadata_urls
from groat.protocol.models import Api, Client, Grant, Permission, Policy
from groat.protocol.revocation_feed import TYP as FEED_TYP
from groat.protocol.status_list import TYP as LIST_TYP
from groat.testing.callers import DpopKey
from groat.testing.taken_back import FEED_PATH, INTROSPECTION_PATH, LIST_PATH, TakenBack
from groat.testing.token_endpoint import InMemoryClient, Reply, TokenEndpoint
from groat.testing.tokens import bad_tokens, header, signed
from groat.verifier.keys import fetch, source
from groat.verifier.status import opening
from groat.verifier.status.revocation import Revocation
from groat.verifier.verifier import Options, Verifier

if TYPE_CHECKING:
    from groat.client import MachineClient

ISSUER: Final = "https://auth.test"
AUDIENCE: Final = "https://api.test"
CLIENT: Final = "test-client"
Scopes = str | Iterable[str]
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_CLOSED_DOOR: Final = "the FakeIssuer is down"
# What leads past the fake, or asks for what it has not. A variable that is empty counts as one that is not set.
_UNSET: Final = (
    *("GROAT_JWKS_URI", "GROAT_ALGORITHMS", "GROAT_PUBLIC_URL", "GROAT_TOKEN_ENDPOINT", "GROAT_TOKEN_CACHE"),
    *("GROAT_CERTIFICATE_PROXIES", "GROAT_CERTIFICATE_DIALECT", "GROAT_REQUIRE_BINDING", "GROAT_DPOP_REPLAY"),
    *("GROAT_REVOCATION", "GROAT_ON_STATUS_UNKNOWN", "GROAT_REQUIRE_STATUS", "GROAT_STATUS_ORIGINS"),
    *("GROAT_API_NAME", "GROAT_API_KEY_FILE", "GROAT_INTROSPECTION_CACHE"),
    *("GROAT_CERTIFICATE_FILE", "GROAT_CERTIFICATE_KEY_FILE"),
    *("GROAT_KEY_FILE", "GROAT_ALGORITHM", "GROAT_KEY_ID", "GROAT_DPOP"),
    *("GROAT_ASSERTION_FILE", "GROAT_WORKLOAD", "GROAT_WORKLOAD_AUDIENCE"),
)


class FakeIssuer:
    """An authorization server in memory, with keys of its own that end with it.

    Args:
        url: what it calls itself: that of the real server where the code under test has it built in. https, or http on
            loopback.
        audience: the API of tokens for which no other is named.
        algorithm: of its first key.
        allow_http_hosts: hosts besides loopback that `url` may name without TLS, as for `Verifier`.
        clocks: `now` says when tokens are issued and clients judged; by default `time.time`, frozen or not.
        lists: whether tokens have a place in a status list.

    Verifiers and clients of it are the real ones, with real signatures: only the network is missing. Tokens are worth
    nothing elsewhere, so that they may be printed. Raises ConfigError. Safe to share between threads and event loops.
    """

    def __init__(
        self,
        url: str = ISSUER,
        *,
        audience: str = AUDIENCE,
        algorithm: str = "ES256",
        allow_http_hosts: Iterable[str] = (),
        clocks: Clocks | None = None,
        lists: bool = False,
    ) -> None:
        self._hosts = strings("allow_http_hosts", allow_http_hosts)
        self._policy = Policy(url, allow_http_hosts=frozenset(self._hosts))
        self.url, self.audience = url, audience
        self._keys: tuple[PrivateKey, ...] = (generate_private_key(algorithm),)
        self._up = True
        self._clocks = clocks
        self._taken = TakenBack(url, lists)
        # Assertions are judged by the clock that clients write them by: libraries that freeze time reach neither.
        self._endpoint = TokenEndpoint(self._policy, audience, self._granted, (clocks or Clocks()).now)

    @classmethod
    def from_env(cls) -> Self:
        """One that calls itself GROAT_ISSUER, for GROAT_AUDIENCE, where these are set; with GROAT_ALLOW_HTTP_HOSTS."""
        env = os.environ
        hosts = [host.strip() for host in env.get("GROAT_ALLOW_HTTP_HOSTS", "").split(",")]
        url, audience = env.get("GROAT_ISSUER") or ISSUER, env.get("GROAT_AUDIENCE") or AUDIENCE
        return cls(url, audience=audience, allow_http_hosts=filter(None, hosts))

    def __repr__(self) -> str:
        return f"FakeIssuer({self.url!r}, audience={self.audience!r})"

    @property
    def key(self) -> PrivateKey:
        """The key that signs at present; that of another FakeIssuer is one that nobody knows."""
        return self._keys[-1]

    def token(
        self,
        client_id: str = CLIENT,
        scopes: Scopes = (),
        audience: str | None = None,
        *,
        expires_in: float = 600,
        typ: str | None = "at+jwt",
        key: PrivateKey | None = None,
        dpop_key: DpopKey | None = None,
        certificate: bytes | str | None = None,
        claims: Mapping[str, Any] = NOTHING,
        **more: Any,
    ) -> str:
        """An access token (RFC 9068), good unless you ask for another.

        `expires_in`: seconds from `iat`; what is not positive gives a token that was good once. `typ`: of the header,
        None leaves it out. `key`: signs instead of the issuer's. `dpop_key`, `certificate` (bytes: DER, text: PEM):
        what it is bound to. Further keywords are claims that are added, or replace
        those of a good token (`exp=`, `iat=`, `nbf=`, `iss=`, ...); None leaves one out. `claims` has those whose names
        cannot be keywords. Raises TypeError, ValueError for what JSON cannot hold, CertificateError.
        """
        bound = {} if dpop_key is None else {"jkt": dpop_key.thumbprint}
        if certificate is not None:
            bound["x5t#S256"] = read_certificate(certificate).thumbprint
        changes = {**({"cnf": bound} if bound else {}), **claims, **more}
        members = {**self._claims(client_id, scopes, audience, expires_in), **changes}
        if "exp" not in changes and isinstance(begin := changes.get("iat"), int | float):
            members["exp"] = int(begin + expires_in)
        key = key or self.key
        kept = {name: value for name, value in members.items() if value is not None}
        return signed(header(key, typ), kept, key)

    def bad_tokens(
        self, client_id: str = CLIENT, scopes: Scopes = (), audience: str | None = None
    ) -> Mapping[str, str]:
        """Tokens that an API of this audience must refuse with 401, by what is wrong with each.

        Not among them: a good one that lacks a scope, which is 403.
        """
        claims = self._claims(client_id, scopes, audience, 600)
        return bad_tokens(claims, self.key, generate_private_key(self.key.algorithm))

    def rotate(self, algorithm: str | None = None, *, revoke: bool = False) -> None:
        """Sign with a new key from now on; the old ones stay published, unless they are revoked.

        Verifiers of this issuer fetch when they next meet what they do not know. What takes its time elsewhere (30 s
        between two such fetches, 5 minutes until a revoked key is missed) is not waited for.
        """
        new = generate_private_key(algorithm or self.key.algorithm)
        self._keys = (new,) if revoke else (*self._keys, new)
        source.forget(self.url, keys=revoke)
        opening.forget(self.url)

    def down(self) -> AbstractContextManager[object]:
        """Refuse connections from now on, until `up`, or until the end of `with issuer.down():`.

        A verifier that has keys goes on with them for as long as it would in production; one without answers 503.
        """
        self._up, end = False, ExitStack()
        end.callback(self.up)
        return end

    def up(self) -> None:
        """Answer again. Verifiers ask at once, which elsewhere takes up to 60 s."""
        self._up = True
        source.forget(self.url, keys=False)
        opening.forget(self.url)

    def revoke(self, token: str) -> None:
        """Take this token back.

        Who verifies by `revocation="feed"`, or asks (`asking`), hears of it at once; who goes by "list", too, if the
        issuer has `lists`. Any other lets it in until its end, as in production.
        """
        self._taken.add(token)
        opening.forget(self.url)

    def asking(self, cache_seconds: float = 60) -> Revocation:
        """For `Verifier(revocation=...)`: to ask this issuer about each token, without a key."""
        return Revocation("introspection", token=lambda: "in-memory", cache_seconds=cache_seconds, post=self.http)

    def verifier(self, audience: str | None = None, **options: Unpack[Options]) -> Verifier:
        """A verifier of this issuer's tokens; `options` are those of `Verifier`. Raises ConfigError."""
        own: Options = {"http": self.http, "clocks": self._clocks, "allow_http_hosts": self._hosts}
        given: Options = {**own, **options}
        return Verifier(self.url, audience or self.audience, **given)

    def http(self, url: str, headers: Mapping[str, str], body: bytes | None = None) -> fetch.Response:
        """What `Verifier(http=...)` takes: the metadata and keys of this issuer, and what it took back.

        Raises ConnectionRefusedError.
        """
        if not self._up:
            raise ConnectionRefusedError(_CLOSED_DOOR)
        path = url.partition("?")[0].removeprefix(self.url.rstrip("/"))
        if body is not None and path == INTROSPECTION_PATH:
            (token,) = parse_qs(body.decode("ascii"))["token"]
            return fetch.Response(200, {"content-type": "application/json"}, self._taken.answer(token))
        if path == FEED_PATH:
            return self._feed({name.lower(): value for name, value in headers.items()})
        if path == LIST_PATH:
            return self._published(LIST_TYP, self._taken.list(int(self._now())), {})
        document = self._metadata() if url in metadata_urls(self.url) else self._jwks()
        return fetch.Response(200, {"content-type": "application/json"}, strict_json.dumps(document))

    def _feed(self, headers: Mapping[str, str]) -> fetch.Response:
        etag = {"etag": f'"{self._taken.seq}"'}
        if headers.get("if-none-match") == etag["etag"]:
            return fetch.Response(304, etag, b"")
        return self._published(FEED_TYP, self._taken.feed(int(self._now())), etag)

    def _published(self, typ: str, claims: Mapping[str, Any], headers: Mapping[str, str]) -> fetch.Response:
        document = signed(header(self.key, typ), claims, self.key).encode("ascii")
        return fetch.Response(200, {"content-type": f"application/{typ}", **headers}, document)

    def register(self, client_id: str = CLIENT, scopes: Scopes | None = None) -> PrivateKey:
        """Make a client, or a further key for one, and give that key; the keys before it stay good.

        `scopes`: the only ones that it may have, of this issuer's audience; None: whatever it asks for, of any API.
        What the last call says counts.
        """
        key = generate_private_key("ES256")
        known = self._endpoint.clients.get(client_id)
        keys = (*(known.keys if known is not None else ()), key.public)
        allowed: tuple[Permission, ...] = ()
        if scopes is not None:
            names = frozenset(_names(scopes))
            allowed = (Permission(Api("api", self.audience, names), names),)
        self._endpoint.clients[client_id] = Client(client_id, keys, allowed)
        return key

    def machine(self, client_id: str = CLIENT, scopes: Scopes | None = None, **options: Any) -> "MachineClient":
        """A client that is registered as by `register`; `options` are those of `MachineClient`. Raises ConfigError."""
        from groat.client import MachineClient

        own = {
            "http": InMemoryClient(self._answer),
            "clocks": self._clocks or Clocks(),
            "allow_http_hosts": self._hosts,
        }
        given = {**own, **options}
        return MachineClient(self.url, client_id, self.register(client_id, scopes), **given)

    def environment(self, client_id: str | None = None, scopes: Scopes | None = None) -> dict[str, str]:
        """The variables by which `Verifier.from_env` finds this issuer; with `client_id` a client is registered, too,
        and its key is in them for `MachineClient.from_env`. Those that must not be set are empty."""
        variables = dict.fromkeys(_UNSET, "") | {"GROAT_ISSUER": self.url, "GROAT_AUDIENCE": self.audience}
        variables["GROAT_ALLOW_HTTP_HOSTS"] = ",".join(self._hosts)
        if client_id is None:
            return variables
        key = strict_json.dumps(self.register(client_id, scopes).private_jwk()).decode()
        return {**variables, "GROAT_CLIENT_ID": client_id, "GROAT_KEY": key}

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Until the end of the block every `Verifier` of this URL in this process fetches from here, and every
        `MachineClient` that asks its host: also those that exist already, and those with an `http=` of their own.

        Keys that they had are forgotten at both ends, so that no test knows those of the one before. Of several issuers
        of one URL that which was installed last counts. Not covered: other processes.
        """
        with _installing:
            _installed.append(self)
            _settle(self.url)
        try:
            yield self
        finally:
            with _installing:
                _installed.reverse()  # so that the last of the same one goes first
                _installed.remove(self)
                _installed.reverse()
                _settle(self.url)

    def _now(self) -> float:
        return wall() if self._clocks is None else self._clocks.now()

    def _claims(self, client_id: str, scopes: Scopes, audience: str | None, expires_in: float) -> dict[str, Any]:
        now = int(self._now())
        issued_at = now if expires_in > 0 else int(now + expires_in - 600)
        names = _names(scopes)
        return {
            "iss": self.url,
            "sub": client_id,
            "aud": audience or self.audience,
            "client_id": client_id,
            "iat": issued_at,
            "exp": int(now + expires_in),
            "jti": secrets.token_hex(16),
            **self._taken.status(),
            **({"scope": " ".join(names)} if names else {}),
        }

    def _granted(self, grant: Grant) -> str:
        return self.token(grant.client_id, grant.scopes, grant.api.audience, expires_in=grant.lifetime)

    def _answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if not self._up:
            raise ConnectionRefusedError(_CLOSED_DOOR)
        if method == "GET":
            found = self.http(url, headers)
            return Reply(found.status, found.headers, found.body)
        return self._endpoint.answer(method, url, headers, body)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "token_endpoint": self._policy.token_endpoint,
            "jwks_uri": self._policy.jwks_uri,
            "introspection_endpoint": self.url.rstrip("/") + INTROSPECTION_PATH,
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": sorted(self._policy.algorithms),
        }

    def _jwks(self) -> dict[str, Any]:
        return public_key_set([key.public for key in self._keys])


def _names(scopes: Scopes) -> tuple[str, ...]:
    return tuple(scopes.split() if isinstance(scopes, str) else scopes)


# Those that are installed, the last one at the end: blocks of several threads need not end in the order of a stack.
_installed: Final[list[FakeIssuer]] = []
_installing: Final = threading.Lock()


def _settle(url: str) -> None:
    """Let the last issuer of this URL, and the last of its host, stand where the network was. The lock is held."""
    from groat.client import wire

    origin = urlsplit(url)[:2]
    fetch.stand_ins.pop(url, None)
    wire.stand_ins.pop(origin, None)
    for one in _installed:
        if one.url == url:
            fetch.stand_ins[url] = one.http
        if urlsplit(one.url)[:2] == origin:
            wire.stand_ins[origin] = InMemoryClient(one._answer)
    source.forget(url, keys=True)
    opening.forget(url)
