"""What a load run saw: every presentation of every assertion, with the answer or the lack of one.

A history only records; `tests/faults/checker.py` judges it.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.load.driver import presign_bodies

# What is in the place of a status where no answer came. An unsent request cannot have had an effect.
AMBIGUOUS: Final = 0
UNSENT: Final = -1


@dataclass(frozen=True, slots=True)
class Assertion:
    """One signed assertion in its form body; `expires_at` in epoch seconds."""

    client: str
    jti: str
    expires_at: int
    body: bytes = field(repr=False)

    @property
    def name(self) -> tuple[str, str]:
        """What single use is about."""
        return self.client, self.jti


@dataclass(frozen=True, slots=True)
class Presentation:
    """One request: monotonic seconds of sending and of the answer, its status (or AMBIGUOUS, UNSENT)."""

    assertion: Assertion
    replica: str
    sent: float
    received: float
    status: int
    token: str | None = field(default=None, repr=False)
    retry_after: bool = False

    @property
    def seconds(self) -> float:
        return self.received - self.sent

    def as_json(self) -> str:
        """One line for an artefact: no assertion and no token in it."""
        fields = {"client": self.assertion.client, "jti": self.assertion.jti, "replica": self.replica}
        return json.dumps({**fields, "sent": self.sent, "received": self.received, "status": self.status})


def write_history(path: Path, history: Iterable[Presentation]) -> None:
    """Keep a history as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{presentation.as_json()}\n" for presentation in history)


def read_assertion(body: bytes) -> Assertion:
    """Know a form body written by `presign_bodies` again. Not checked: its signature."""
    payload = body.rpartition(b"client_assertion=")[2].split(b".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    return Assertion(claims["sub"], claims["jti"], claims["exp"], body)


@dataclass(frozen=True, slots=True)
class Caller:
    """A registered client that asks for one scope of one API."""

    client_id: str
    issuer: str
    resource: str
    scope: str
    private_jwk: Mapping[str, Any] = field(repr=False)

    def sign(self, count: int, lifetime: int = 3500) -> list[Assertion]:
        """So many fresh assertions, issued now; large counts are signed by two processes."""
        with TemporaryDirectory() as folder:
            return list(self._sign(Path(folder) / "bodies", count, lifetime))

    def _sign(self, file: Path, count: int, lifetime: int) -> Iterator[Assertion]:
        presign_bodies(
            file,
            count,
            client_id=self.client_id,
            private_jwk=self.private_jwk,
            alg="ES256",
            issuer=self.issuer,
            resource=self.resource,
            scope=self.scope,
            lifetime=lifetime,
        )
        with file.open("rb") as lines:
            yield from (read_assertion(line.rstrip(b"\n")) for line in lines)
