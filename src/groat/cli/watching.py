"""What `groat call -v` tells: every request and answer, with the tokens and proofs in them decoded and never whole."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from groat.cli.people import visible
from groat.client.certificate import CertificateFiles
from groat.client.default_client import DefaultClient, HttpClient
from groat.client.errors import foreign
from groat.protocol.errors import JoseError
from groat.protocol.jwk import base64url_decode, import_public_jwk

FORM: Final = "application/x-www-form-urlencoded"
_PROVING: Final = frozenset({"client_assertion", "assertion"})  # parameters that are JWTs
_SHOWN: Final = ("content-type", "www-authenticate", "dpop-nonce", "retry-after", "location", "x-request-id")
_DULL: Final = frozenset({"host", "accept", "accept-encoding", "connection", "user-agent", "content-length"})
# What the names of headers have in them whose values are nobody's business.
_SECRET: Final = ("auth", "cookie", "key", "secret", "token", "signature")
MASK: Final = "***"


class Watch:
    """Told of what a client of httpx2 or httpx sends and gets. `tell`: takes a line for people."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._tokens: set[str] = set()

    def over(self, client: HttpClient) -> HttpClient:
        """The client, watched from now on."""
        watched: Any = client
        watched.event_hooks = {"request": [self._sent], "response": [self._received]}
        return client

    def _sent(self, request: Any) -> None:
        self._line(f"> {request.method} {request.url}")
        for name, value in request.headers.items():
            if name.lower() not in _DULL:
                self._line(f">   {name}: {_header(name.lower(), value)}")
        token = request.headers.get("authorization", "").partition(" ")[2]
        if token and token not in self._tokens:
            self._tokens.add(token)
            self._line(f">   the token: {decoded(token)}")
        for line in _body(request.headers.get("content-type", ""), request.content):
            self._line(f">   {line}")

    def _received(self, response: Any) -> None:
        self._line(f"< {response.status_code}")
        for name in _SHOWN:
            if name in response.headers:
                self._line(f"<   {name}: {foreign(response.headers[name])}")

    def _line(self, text: str) -> None:
        self._tell(visible(text))


class WatchedClient(DefaultClient):
    """The default client of the library, watched. `watch`: None for nobody; `certificate`: shown over TLS."""

    def __init__(self, watch: Watch | None, certificate: CertificateFiles | None = None) -> None:
        super().__init__(certificate)
        self._watch = watch

    def towards(self, url: str) -> HttpClient:
        client = super().towards(url)
        return client if self._watch is None else self._watch.over(client)


def decoded(jwt: str) -> str:
    """Header and claims of a JWT, without its signature, which is what makes it worth anything."""
    try:
        header, claims = (json.loads(base64url_decode(part)) for part in jwt.split(".")[:2])
    except (JoseError, ValueError):
        return "opaque, not shown"
    if isinstance(header, dict) and isinstance(header.get("jwk"), dict):
        header["jwk"] = _named(header["jwk"])
    return f"{json.dumps(header)} {json.dumps(claims)}"


def _named(jwk: Mapping[str, Any]) -> str:
    """A public key by its thumbprint, as the token that is bound to it names it."""
    try:
        return f"thumbprint {import_public_jwk(jwk).thumbprint}"
    except JoseError:
        return "no public key"


def _header(name: str, value: str) -> str:
    if name == "dpop":
        return decoded(value)
    if name == "authorization":
        return f"{value.partition(' ')[0]} {MASK}"
    return MASK if any(part in name for part in _SECRET) else value


def _body(media: str, content: bytes) -> Iterator[str]:
    if not media.startswith(FORM):
        if content:
            yield f"({len(content)} bytes)"
        return
    for name, value in parse_qsl(content.decode("utf-8", "replace")):
        yield f"{name}={decoded(value) if name in _PROVING else foreign(value)}"
