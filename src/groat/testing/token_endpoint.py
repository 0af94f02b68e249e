"""A token endpoint in memory: the rules of the real one, without its network, store and bounds.

Assertions are proven by the same functions as in `groat serve`, so that one which is wrong there is wrong here.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from groat.protocol import strict_json
from groat.protocol.client_auth import authenticate_client, read_credential
from groat.protocol.errors import InvalidClient, NotFound, OAuthError
from groat.protocol.grants import decide_grant
from groat.protocol.models import Api, Client, Grant, Permission, Policy, TokenRequest
from groat.protocol.scope import parse_scope
from groat.protocol.token_request import check_content_type, read_token_request

_JSON: Final = {"content-type": "application/json", "cache-control": "no-store"}
REQUEST_ID: Final = "in-memory"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, as `groat.client` reads those of httpx2; header names in lower case."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def iter_raw(self) -> Iterator[bytes]:
        """The body, in one piece."""
        yield self.body

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class InMemoryClient:
    """What `MachineClient(http=...)` takes: `answer` instead of a connection. Raises OSError where that does."""

    answer: Callable[[str, str, Mapping[str, str], bytes], Reply]

    def build_request(
        self, method: str, url: Any, *, content: Any = None, headers: Any = None, timeout: Any = None
    ) -> _Request:
        """The request, not sent yet."""
        named = {name.lower(): value for name, value in dict(headers or {}).items()}
        return _Request(method, str(url), named, content or b"")

    def send(self, request: Any, *, stream: bool = False, auth: Any = None, follow_redirects: Any = False) -> Reply:
        """The answer to it, at once."""
        return self.answer(request.method, request.url, request.headers, request.content)

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """`token`: writes the access token for a grant. `now`: epoch seconds.

    Clients are judged by `clients`; those without permissions of their own may have whatever they ask for, of one API.
    Not done: throttling, registrations, remembering a jti beyond this object, and binding: a proof (DPoP) is not looked
    at, and every token is a bearer token.
    """

    policy: Policy
    default_audience: str
    token: Callable[[Grant], str]
    now: Callable[[], float]
    clients: dict[str, Client] = field(default_factory=dict)
    _used: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answer(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one request as the real endpoint would (RFC 6749 5)."""
        try:
            if method != "POST" or urlsplit(url).path != urlsplit(self.policy.token_endpoint).path:
                raise NotFound("path")
            check_content_type([headers.get("content-type", "").encode()])
            authorization = [headers["authorization"].encode()] if "authorization" in headers else []
            return self._issue(read_token_request(body, authorization))
        except OAuthError as error:
            document = {"error": error.code, "error_description": error.description}
            return reply(error.status, document, {"x-request-id": REQUEST_ID})

    def _issue(self, request: TokenRequest) -> Reply:
        credential = read_credential(request)
        proven = authenticate_client(credential, self.clients.get(credential.client_id), self.policy, self.now())
        if proven.once is not None:
            with self._lock:
                if proven.once.digest in self._used:
                    raise InvalidClient("assertion_replayed")
                self._used.add(proven.once.digest)
        if not proven.client.permissions:
            proven = replace(proven, client=_permitted(proven.client, request, self.default_audience))
        grant = decide_grant(request, proven, self.policy)
        members = {"token_type": grant.confirmation.token_type, "expires_in": grant.lifetime, "scope": grant.scope}
        return reply(200, {**members, "access_token": self.token(grant)}, {"x-request-id": REQUEST_ID})


def reply(status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> Reply:
    """A JSON answer."""
    return Reply(status, {**_JSON, **headers}, strict_json.dumps(dict(document)))


def _permitted(client: Client, request: TokenRequest, default_audience: str) -> Client:
    """The client with a permission for exactly what it asks; what is malformed is refused as ever."""
    audience = request.targets[0] if request.targets else default_audience
    scope = request.parameters.get("scope")
    scopes = frozenset(parse_scope(scope)) if scope is not None else frozenset()
    return Client(client.client_id, client.keys, (Permission(Api("any", audience, scopes), scopes),))
