"""What takes an access token back before its end (RFC 7009 2.2): a word about this one, or about all from before.

A cut ends every token of its subject that was issued before a second. Tokens tell time in whole seconds, so a cut lies
in the second after the command, and what is issued from then on says at least that second: nothing that was there
before survives, and nothing that came after is touched.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from groat.protocol.errors import TemporarilyUnavailable
from groat.protocol.status_list import Place

# Seconds that the iat of a token may lie ahead of the clock that issues it, after cuts in quick succession or by a
# clock that was ahead: verifiers allow ten.
MAX_AHEAD: Final = 8


class CutKind(StrEnum):
    """Whose tokens a cut ends."""

    CLIENT = "client"
    API = "api"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Cut:
    """Every token of this subject with an earlier iat is over. `not_before`, `made_at`: epoch seconds.

    `subject`: the id of a client, the name of an API; empty for all.
    """

    kind: CutKind
    subject: str
    not_before: int
    made_at: int


@dataclass(frozen=True, slots=True)
class RevokedToken:
    """A token that was taken back. `digest`: of its jti; `made_at`, `ends_at`: epoch seconds, the latter its end.

    `listed`: its place in a status list, LIST~INDEX; empty where it has none.
    """

    digest: bytes
    client_id: str
    made_at: int
    ends_at: int
    listed: str = ""

    @property
    def row(self) -> tuple[bytes, str, int, int, str]:
        """As the store has it."""
        return self.digest, self.client_id, self.made_at, self.ends_at, self.listed


def listed_place(jti: str) -> str:
    """What `RevokedToken.listed` is for this jti."""
    return jti.partition("~")[2] if Place.of(jti) else ""


class Cuts:
    """Those in force, by subject."""

    __slots__ = ("_all", "_by_subject")

    def __init__(self, cuts: Iterable[Cut] = ()) -> None:
        self._by_subject = {(cut.kind, cut.subject): cut.not_before for cut in cuts}
        self._all = self._by_subject.get((CutKind.ALL, ""), 0)

    def of(self, kind: CutKind, subject: str) -> int:
        """The second from which on tokens of this subject count; 0: all do."""
        return max(self._all, self._by_subject.get((kind, subject), 0)) if self._by_subject else 0


def token_digest(jti: str) -> bytes:
    """By what a token that was taken back is known: 32 bytes that say nothing of it."""
    return hashlib.sha256(jti.encode()).digest()


def next_cut(now: int, ahead: int, before: int) -> int:
    """The second of a new cut. `ahead`: seconds by which some token says to be of later; `before`: of the last cut.

    Later than each of them, so that what was issued under the last cut ends with this one.
    """
    return max(now + 1 + ahead, before + 1)


def issuable(not_before: int, now: int) -> int:
    """The second that a new token is to say it is of, where those from before `not_before` are over.

    Raises TemporarilyUnavailable where verifiers would not believe it yet.
    """
    if not_before > now + MAX_AHEAD:
        hint = f"all tokens from before {not_before} are over, and it is {now} by this host's clock"
        raise TemporarilyUnavailable("revoked_ahead", hint, retry_after=not_before - now - MAX_AHEAD)
    return not_before
