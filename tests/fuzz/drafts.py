"""A good token request in parts, so that a mutation may change any of them before the later ones are written."""

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from urllib.parse import quote_plus

from .judge import ASSERTION_TYPE

Pairs = list[tuple[str, Any]]
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Party:
    """A client with its private key: `sign` takes the bytes and gives the signature of JOSE."""

    client_id: str
    kid: str
    algorithm: str
    sign: Callable[[bytes], bytes] = field(repr=False)


@dataclass
class Draft:
    """One request. What is None yet is written from the parts above it when it is asked for."""

    random: Random
    party: Party
    others: tuple[Party, ...]
    issuer: str
    audience: str
    header: Pairs = field(default_factory=list)
    claims: Pairs = field(default_factory=list)
    header_json: bytes | None = None
    claims_json: bytes | None = None
    signer: Callable[[bytes], bytes] | None = None
    jwt: str | None = None
    fields: Pairs | None = None
    body: bytes | None = None
    method: str = "POST"
    target: str = "/token"
    version: str = "HTTP/1.1"
    headers: Pairs | None = None
    framing: list[bytes] | None = None  # the lines that say how long the body is
    sent_body: bytes | None = None
    raw: bytes | None = None
    before: list[bytes] = field(default_factory=list)  # sent first, each on a connection of its own

    def __post_init__(self) -> None:
        now, name = int(time.time()), self.party.client_id
        self.header = [("alg", self.party.algorithm), ("kid", self.party.kid), ("typ", "client-authentication+jwt")]
        self.claims = [("iss", name), ("sub", name), ("aud", self.issuer), ("iat", now), ("exp", now + 60)]
        self.claims.append(("jti", secrets.token_urlsafe(16)))

    def json_of(self, which: str) -> bytes:
        """`header` or `claims` as JSON."""
        written: bytes | None = getattr(self, f"{which}_json")
        return written if written is not None else members(getattr(self, which))

    def token(self) -> str:
        """The assertion."""
        if self.jwt is None:
            data = f"{b64(self.json_of('header'))}.{b64(self.json_of('claims'))}"
            self.jwt = f"{data}.{b64((self.signer or self.party.sign)(data.encode()))}"
        return self.jwt

    def form(self) -> Pairs:
        """The fields, to be changed in place."""
        if self.fields is None:
            self.fields = [
                ("grant_type", "client_credentials"),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", self.token()),
                ("scope", "orders:read"),
                ("resource", self.audience),
            ]
        return self.fields

    def content(self) -> bytes:
        """The body as the media type has it."""
        if self.body is None:
            self.body = "&".join(f"{quoted(name)}={quoted(str(value))}" for name, value in self.form()).encode()
        return self.body

    def lines(self) -> Pairs:
        """The header fields but those of the framing, to be changed in place."""
        if self.headers is None:
            self.headers = [("Host", "127.0.0.1"), ("Content-Type", FORM), ("Accept", "application/json")]
        return self.headers

    def message(self) -> bytes:
        """The bytes to send."""
        if self.raw is None:
            body = self.content() if self.sent_body is None else self.sent_body
            framing = [b"Content-Length: %d" % len(self.content())] if self.framing is None else self.framing
            head = [f"{self.method} {self.target} {self.version}".encode("utf-8", "replace")]
            head += [f"{name}: {value}".encode("utf-8", "replace") for name, value in self.lines()]
            self.raw = b"\r\n".join([*head, *framing, b"", body])
        return self.raw


def quoted(text: str) -> str:
    """A name or value of a form; lone surrogates become bytes that are not UTF-8."""
    return quote_plus(text, errors="surrogatepass")


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def members(pairs: Pairs) -> bytes:
    """A JSON object that may have a member twice."""
    return ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()
