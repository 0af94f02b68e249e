"""Asking the issuer about each token (RFC 7662): what the answer was stays true for a while, or not at all.

A question has a daemon thread of its own, so that event loops do not wait; there are only so many at a time.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Final
from urllib.parse import urlencode
from weakref import WeakSet

from groat.outbound.real_time import monotonic as real_monotonic
from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.errors import ConfigError, InvalidToken, JoseError
from groat.protocol.jwk import PrivateKey
from groat.protocol.token_status import read_answer
from groat.verifier.keys.fetch import DEADLINE, METADATA_MAX_AGE, FetchError, require
from groat.verifier.status.publisher import Publisher
from groat.verifier.status.question import Case, Question, Status, Unknown
from groat.verifier.status.revocation import Revocation

MAX_QUESTIONS: Final = 64  # under way at a time
MAX_ANSWERS: Final = 20_000
ASSERTION_SECONDS: Final = 60
RETRY_AFTER: Final = 1
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = frozenset({"application/json"})


@dataclass(frozen=True, slots=True)
class Asker:
    """How one API asks its issuer. `post`: blocks. Not checked: whether the API is one that the issuer knows."""

    publisher: Publisher
    chosen: Revocation
    _found: list[tuple[str, float]] = field(default_factory=lambda: [("", -inf)])

    def active(self, token: str) -> bool:
        """Whether this token counts now. Raises FetchError."""
        deadline = real_monotonic() + DEADLINE
        headers, form = {"Accept": "application/json", "Content-Type": _FORM}, {"token": token}
        if self.chosen.token is not None:
            headers["Authorization"] = f"Bearer {self._bearer(self.chosen.token)}"
        else:
            form |= {"client_assertion_type": JWT_BEARER, "client_assertion": self._assertion()}
        way = replace(self.publisher.fetcher.way, post=self.chosen.post)
        answer = way.send(self._located(deadline), headers, urlencode(form).encode(), deadline)
        # What an operator has to mend is told apart from what mends itself.
        if answer.status == 401:
            raise FetchError("the issuer does not take the key or token by which this API asks: groat api key list")
        require(answer, _JSON, "the answer about the token")
        try:
            return read_answer(answer.body)
        except JoseError as error:
            raise FetchError(f"the answer about the token is not taken: {error}") from None

    def _located(self, deadline: float) -> str:
        # Of several threads each may look it up once: they find the same.
        uri, found_at = self._found[0]
        if real_monotonic() >= found_at + METADATA_MAX_AGE:
            found = self.publisher.fetcher.metadata(deadline).introspection_endpoint
            if found is None:
                raise FetchError("the metadata document has no introspection_endpoint")
            self._found[0] = uri, _ = found, real_monotonic()
        return uri

    def _assertion(self) -> str:
        now, key = int(self.publisher.clocks.now()), self._key()
        # At an issuer the API is what a client is elsewhere: its name is iss and sub (docs/guides/revocation.md).
        claims = {
            "iss": self.chosen.api,
            "sub": self.chosen.api,
            "aud": self.publisher.issuer,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        return jose.sign_jwt(claims, key, ASSERTION_TYP)

    def _key(self) -> PrivateKey:
        try:
            return self.chosen.key()
        except ConfigError as error:
            raise FetchError(f"the key of this API: {error}") from None

    def _bearer(self, given: Callable[[], str]) -> str:
        # Asked for with each question: it ends, and whoever gives it knows when.
        try:
            return given()
        except Exception as error:  # somebody else's code
            raise FetchError(f"no token to ask with ({type(error).__name__})") from None


class IntrospectionStatus(Status):
    """Asks about each token, or about those of which the last answer is older than the operator allows."""

    def __init__(self, publisher: Publisher, unknown: Unknown, chosen: Revocation) -> None:
        self._asker, self._unknown = Asker(publisher, chosen), unknown
        self._monotonic, self._seconds = publisher.clocks.monotonic, chosen.cache_seconds
        self._answers: dict[bytes, float] = {}  # of tokens that counted: until when they do, unasked
        self._older: dict[bytes, float] = {}
        self._under_way: dict[bytes, _Asked] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False
        _all.add(self)

    def look(self, case: Case) -> Question | None:
        # It is proven, so it is ASCII; the memory knows it by its hash, since nothing else should hold it.
        token = case.token if isinstance(case.token, str) else case.token.decode("ascii")
        name = hashlib.sha256(token.encode()).digest()
        if self._seconds and self._monotonic() < (self._answers.get(name) or self._older.get(name) or -inf):
            return None
        asked, begun = self._ask(name)
        if asked is None:
            self._unknown.decide(FetchError("too many questions to the issuer are under way"), RETRY_AFTER)
            return None
        if begun:
            self._launch(asked, token, case)
        return Question(asked.done, partial(self._answer, asked))

    def forget(self) -> None:
        with self._lock:
            self._answers, self._older, self._under_way = {}, {}, {}

    def close(self) -> None:
        self._closed = True

    def _ask(self, name: bytes) -> "tuple[_Asked | None, bool]":
        """The question about this token, and whether it is a new one.

        Only where answers may be old anyway does somebody join a question that was put before.
        """
        with self._lock:
            asked = self._under_way.get(name) if self._seconds else None
            if asked is not None:
                return asked, False
            # Each is a thread and a connection: an issuer that is slow must not cost as many as there are callers.
            if self._closed or self._count >= MAX_QUESTIONS:
                return None, False
            self._count += 1
            asked = self._under_way[name] = _Asked(name, self._monotonic(), self._under_way)
            return asked, True

    def _launch(self, asked: "_Asked", token: str, case: Case) -> None:
        try:
            act = partial(self._put, asked, token, case)
            threading.Thread(target=act, name="groat-introspection", daemon=True).start()
        except RuntimeError:
            self._landed(asked, FetchError("no thread could be started"), case)

    def _put(self, asked: "_Asked", token: str, case: Case) -> None:
        outcome: bool | FetchError
        try:
            outcome = self._asker.active(token)
        except FetchError as error:
            outcome = error.with_traceback(None)
        except Exception as error:  # a callable given as `post` may raise anything
            outcome = FetchError(f"the question broke ({type(error).__name__})")
        self._landed(asked, outcome, case)

    def _landed(self, asked: "_Asked", outcome: bool | FetchError, case: Case) -> None:
        with self._lock:
            # What began before a fork, or before `forget`, is counted nowhere any more.
            current = asked.among is self._under_way
            self._count -= current
            if current and self._under_way.get(asked.name) is asked:
                del self._under_way[asked.name]
            if outcome is True and self._seconds and current:
                self._remember(asked, min(self._seconds, case.caller.expires_at - case.now))
        # In this order: whoever was let go reads the outcome.
        asked.outcome = outcome
        asked.done.set_result(None)
        self._unknown.told(outcome if isinstance(outcome, FetchError) else None)

    def _remember(self, asked: "_Asked", seconds: float) -> None:
        """From when it was asked on: the answer may be as old as the question. Two generations, as of tokens."""
        if len(self._answers) >= MAX_ANSWERS // 2:
            self._older, self._answers = self._answers, {}
        self._answers[asked.name] = asked.at + seconds

    def _answer(self, asked: "_Asked") -> None:
        outcome = asked.outcome
        if isinstance(outcome, FetchError):
            self._unknown.decide(outcome, RETRY_AFTER)
        elif not outcome:
            raise InvalidToken("revoked", "the issuer says that it is not active; its log says why (token.inactive)")

    def _after_fork(self) -> None:
        self._lock, self._count, self._under_way = threading.Lock(), 0, {}


@dataclass(eq=False, slots=True)
class _Asked:
    """One question under way. `among`: the questions of this process that it is one of."""

    name: bytes
    at: float
    among: "dict[bytes, _Asked]"
    outcome: bool | FetchError = field(default_factory=lambda: FetchError("no answer in time"))
    done: "Future[None]" = field(default_factory=Future)


_all: "Final[WeakSet[IntrospectionStatus]]" = WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
