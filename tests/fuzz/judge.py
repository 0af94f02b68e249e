"""The judge: a second, strict reading of a request, which shares no code with the server.

Framing by h11, JSON by the standard library with a look at repeated members, signatures by PyJWT, form and base64url by
hand. It says what a request may get at most; a server that is stricter is no breach. Not judged: how a refusal reads.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import h11
from jwt.algorithms import get_default_algorithms

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LEEWAY, LIFETIME, SLACK = 10, 300, 3  # the server's settings, and the seconds between sending and judging
_SIGNED: Final = get_default_algorithms()
_TYPES: Final = {None, "jwt", "application/jwt", "client-authentication+jwt", "application/client-authentication+jwt"}
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*\Z")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_ONCE: Final = ("grant_type", "client_assertion_type", "client_assertion", "client_id", "client_secret", "scope")


@dataclass(frozen=True)
class Registered:
    """A client as the judge knows it: its public key (of `cryptography`), the names of its one algorithm, its kid."""

    client_id: str
    public_key: Any
    algorithms: frozenset[str]
    kid: str


@dataclass(frozen=True)
class World:
    """What the server under test is set up with."""

    issuer: str
    audience: str
    scopes: frozenset[str]
    clients: Mapping[str, Registered]


@dataclass(frozen=True)
class Reading:
    """One request as the judge reads it. `proven`: (client, jti) of a good assertion; `granted`: it may get a token."""

    proven: tuple[str, str] | None = None
    granted: bool = False
    signed_at: float = 0.0
    ends_at: float = 0.0

    @property
    def digest(self) -> bytes | None:
        """What a server may remember of it: SHA-256 over kind and client id, each after its length, and the jti."""
        if self.proven is None:
            return None
        client, jti = (part.encode("utf-8", "surrogatepass") for part in self.proven)
        return sha256(b"\0\0\0\x09assertion" + len(client).to_bytes(4, "big") + client + jti).digest()


class Wrong(Exception):
    """The request breaks a rule."""


def readings(raw: bytes, world: World, now: float) -> tuple[Reading, ...]:
    """Every complete request of one connection, as far as there is only one way to read it."""
    return tuple(_reading(request, body, world, now) for request, body in _framed(raw))


def _framed(raw: bytes) -> Iterator[tuple[h11.Request, bytes]]:
    """The complete requests of a connection, up to the first that h11 does not take.

    Two things that a server may overlook (RFC 9112 2.2 and 3) are taken away first: empty lines before a request, and
    further spaces in its first line.
    """
    while True:
        line, end, rest = raw.lstrip(b"\r\n").partition(b"\r\n")
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            connection.receive_data(re.sub(rb" +", b" ", line) + end + rest)
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return
            body = bytearray()
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
            if not isinstance(event, h11.EndOfMessage):
                return
        except h11.ProtocolError:
            return
        yield request, bytes(body)
        raw, _ = connection.trailing_data
        if connection.our_state is h11.MUST_CLOSE or not raw:
            return


def _reading(request: h11.Request, body: bytes, world: World, now: float) -> Reading:
    try:
        _check_head(request)
        form = _form(body)
        client, claims = _assertion(form, world, now)
    except (Wrong, ValueError, RecursionError):
        return Reading()
    signed_at = float(claims.get("iat", claims["exp"] - LIFETIME))
    return Reading((client.client_id, claims["jti"]), _granted(form, world), signed_at, float(claims["exp"]))


def _require(holds: object, what: str) -> None:
    if not holds:
        raise Wrong(what)


def _check_head(request: h11.Request) -> None:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        headers.setdefault(bytes(name), []).append(bytes(value))
    target = urlsplit(request.target.decode("ascii"))
    _require(request.method == b"POST", "method")
    _require(unquote(target.path) == "/token", "path")
    _require(not any(f"{name}=" in target.query for name in (*_ONCE, "resource", "audience")), "query")
    _require(b"authorization" not in headers, "a second method of authentication")
    (content_type,) = headers.get(b"content-type", [b""]) if len(headers.get(b"content-type", [])) == 1 else [b""]
    media, _, parameters = content_type.decode("latin-1").lower().partition(";")
    _require(media.strip() == "application/x-www-form-urlencoded", "media type")
    _require("charset" not in parameters or re.search(r'charset\s*=\s*"?utf-8"?\s*(;|$)', parameters), "charset")
    encodings = [value.strip().lower() for value in headers.get(b"content-encoding", [])]
    _require(all(value == b"identity" for value in encodings), "encoding")


def _form(body: bytes) -> dict[str, list[str]]:
    form: dict[str, list[str]] = {}
    for part in filter(None, body.split(b"&")):
        name, _, value = (_decoded(piece) for piece in part.partition(b"="))
        form.setdefault(name, []).append(value)
    for name in _ONCE:
        given = [value for value in form.get(name, []) if value]
        _require(len(given) <= 1, f"{name} twice")
        form[name] = given
    return form


def _decoded(piece: bytes) -> str:
    def byte(match: re.Match[bytes]) -> bytes:
        _require(match[1], "escape")
        return bytes([int(match[1], 16)])

    return _ESCAPE.sub(byte, piece.replace(b"+", b" ")).decode("utf-8")


def _one(form: Mapping[str, list[str]], name: str) -> str | None:
    return form[name][0] if form[name] else None


def _assertion(form: Mapping[str, list[str]], world: World, now: float) -> tuple[Registered, dict[str, Any]]:
    _require(_one(form, "grant_type") == "client_credentials", "grant")
    _require(_one(form, "client_assertion_type") == ASSERTION_TYPE, "assertion type")
    _require(not form["client_secret"], "a second method of authentication")
    parts = (_one(form, "client_assertion") or "").split(".")
    _require(len(parts) == 3, "three parts")
    header, claims = _object(_bytes(parts[0])), _object(_bytes(parts[1]))
    client = world.clients.get(claims["sub"]) if isinstance(claims.get("sub"), str) else None
    if client is None:
        raise Wrong("client")
    _check_signature(header, ".".join(parts[:2]).encode(), _bytes(parts[2]), client)
    _require(claims.get("iss") == client.client_id, "issuer")
    _require(_one(form, "client_id") in (None, client.client_id), "client_id")
    _require(claims.get("aud") in (world.issuer, [world.issuer]), "audience")
    jti = claims.get("jti")
    _require(isinstance(jti, str) and 0 < len(jti) <= 256, "jti")
    _check_times(claims, now)
    return client, claims


def _bytes(segment: str) -> bytes:
    _require(_SEGMENT.match(segment), "base64url")
    raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    _require(base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == segment, "canonical base64url")
    return raw


def _object(raw: bytes) -> dict[str, Any]:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require(len({name for name, _ in pairs}) == len(pairs), "a member twice")
        return dict(pairs)

    def constant(name: str) -> None:
        raise Wrong(name)

    value = json.loads(raw.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)
    _require(isinstance(value, dict), "an object")
    return dict(value)


def _check_signature(header: dict[str, Any], data: bytes, signature: bytes, client: Registered) -> None:
    name, typ = header.get("alg"), header.get("typ")
    _require(isinstance(name, str) and name in client.algorithms, "algorithm")
    _require(typ is None or isinstance(typ, str), "typ")
    _require((typ.lower() if typ else typ) in _TYPES and ("typ" not in header or typ is not None), "typ")
    _require("kid" not in header or header["kid"] == client.kid, "kid")
    _require(not {"crit", "b64", "zip", "enc"} & header.keys(), "a member that changes the reading")
    algorithm = _SIGNED["EdDSA" if name == "Ed25519" else str(name)]
    _require(algorithm.verify(data, client.public_key, signature), "signature")


def _check_times(claims: dict[str, Any], now: float) -> None:
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    _require(all(type(value) in (int, float) for value in times.values()), "numbers")
    exp = times.get("exp", 0)
    _require(now - SLACK < exp <= now + LIFETIME + SLACK, "exp")
    _require(all(times.get(name, 0) <= now + LEEWAY + SLACK for name in ("iat", "nbf")), "ahead")
    _require(now - LIFETIME - SLACK <= times.get("iat", now) <= exp, "iat")


def _granted(form: Mapping[str, list[str]], world: World) -> bool:
    targets = {value for name in ("resource", "audience") for value in form.get(name, []) if value}
    scope = _one(form, "scope") or ""
    known = bool(_SCOPE.match(scope)) and world.scopes.issuperset(scope.split(" "))
    return known and targets <= {world.audience}
