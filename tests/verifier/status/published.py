"""What an issuer publishes of tokens that it took back, written with the standard library alone."""

import base64
import hashlib
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from groat.protocol.jwk import PrivateKey
from tests.verifier.issuer import Answer, Issuer
from tests.verifier.tokens import ABSENT, signed

LIST: Final = "/status/1"
FEED: Final = "/revocations"
INTROSPECT: Final = "/introspect"


def packed(statuses: Iterable[int], bits: int) -> bytes:
    """Statuses as bytes, the least significant bit first (TSL 4.1)."""
    values = list(statuses)
    table = bytearray((len(values) * bits + 7) // 8)
    for at, status in enumerate(values):
        table[at * bits // 8] |= status << (at * bits % 8)
    return bytes(table)


def lst(statuses: Iterable[int], bits: int = 1) -> str:
    """The member of that name."""
    return unpadded(zlib.compress(packed(statuses, bits), 9))


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def digest(text: str) -> str:
    return unpadded(hashlib.sha256(text.encode()).digest())


class PublishedList:
    """One list of an issuer; every request is signed anew. `changes`: of its claims, ABSENT leaves one out."""

    def __init__(self, issuer: Issuer, path: str = LIST, clock: Callable[[], float] = time.time) -> None:
        self.issuer, self.path, self.clock = issuer, path, clock
        self.statuses = [0] * 64
        self.bits, self.ttl, self.lifetime = 1, 30, 300
        self.typ, self.key = "statuslist+jwt", issuer.key
        self.changes: dict[str, Any] = {}
        issuer.routes[path] = lambda *_: self.answer()

    @property
    def uri(self) -> str:
        return self.issuer.origin + self.path

    @property
    def fetches(self) -> int:
        return self.issuer.requests[self.path]

    def claim(self, index: int) -> dict[str, Any]:
        """What a token of this list has as `status`."""
        return {"status_list": {"idx": index, "uri": self.uri}}

    def token(self, index: int, **changes: Any) -> str:
        return self.issuer.token(status=self.claim(index), **changes)

    def document(self) -> str:
        now = int(self.clock())
        good = {
            "sub": self.uri,
            "iat": now,
            "exp": now + self.lifetime,
            "ttl": self.ttl,
            "status_list": {"bits": self.bits, "lst": lst(self.statuses, self.bits)},
            **self.changes,
        }
        kept = {name: value for name, value in good.items() if value is not ABSENT}
        return signed(kept, self.key, typ=self.typ, kid=self.key.kid)

    def answer(self) -> Answer:
        return Answer(self.document().encode(), content_type="application/statuslist+jwt")


class PublishedFeed:
    """The feed of an issuer, which holds an answer back while there is no news, as the real one does."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.time) -> None:
        self.issuer, self.clock = issuer, clock
        self.key: PrivateKey = issuer.key
        self.seq, self.lifetime, self.typ = 1, 300, "groat-revocations+jwt"
        self.said: dict[str, Any] = {"cuts": {}, "disabled": [], "kids": [], "tokens": []}
        self.waits: list[str] = []
        self.replayed: str | None = None
        self.changed = threading.Condition()
        self._whole: tuple[tuple[int, int], str] | None = None
        issuer.routes[FEED] = self._answer

    @property
    def fetches(self) -> int:
        return self.issuer.requests[FEED]

    def say(self, **said: Any) -> None:
        """Something more is over."""
        with self.changed:
            self.said |= said
            self.seq += 1
            self.changed.notify_all()

    def poke(self) -> None:
        """Answer whoever waits."""
        with self.changed:
            self.changed.notify_all()

    def document(self) -> str:
        now = int(self.clock())
        claims = {"iss": self.issuer.url, "iat": now, "exp": now + self.lifetime, "seq": self.seq, **self.said}
        return signed(claims, self.key, typ=self.typ, kid=self.key.kid)

    def _answer(self, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        asked = parse_qs(urlsplit(target).query)
        with self.changed:
            self.waits += asked.get("wait", [])  # behind the lock: whoever has seen it can wake us
            known = headers.get("If-None-Match")
            if known == self._etag and "wait" in asked:
                self.changed.wait(float(asked["wait"][0]))
            if self.replayed is not None:
                return self._200(self.replayed, '"replayed"')
            if known == self._etag:
                return Answer(status=304, headers={"ETag": self._etag}, content_type=None)
            return self._200(self.document(), self._etag)

    @property
    def _etag(self) -> str:
        return f'"{self.seq}"'

    def _200(self, document: str, etag: str) -> Answer:
        return Answer(document.encode(), headers={"ETag": etag}, content_type="application/groat-revocations+jwt")


class Introspection:
    """Answers questions: about tokens that were taken back with inactive. `forms`: what was asked, `headers`: how."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.gone: set[str] = set()
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str | None] = []
        self.answers: list[Answer] = []
        issuer.routes[INTROSPECT] = self._answer
        good = issuer.metadata()
        issuer.metadata = lambda: {**good, "introspection_endpoint": issuer.origin + INTROSPECT}  # type: ignore[method-assign]

    def _answer(self, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        self.forms.append(form)
        self.authorizations.append(headers.get("Authorization"))
        if self.answers:
            return self.answers.pop()
        return Answer(json.dumps({"active": form["token"] not in self.gone}).encode())
