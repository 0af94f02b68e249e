"""Refuses token requests of a full process before they are parsed, at a few microseconds each.

A refusal that goes the ordinary way (parser, task, application, log line) costs a third of a token, so at three times
the capacity most of a process went into refusals (docs/decisions/0017-shedding.md). Only a chunk that is exactly one
plain `POST /token` is refused here; whatever is out of the ordinary is parsed, and refused by `Admission`.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from groat.protocol.errors import TemporarilyUnavailable
from groat.protocol.grammar import TOKEN
from groat.server.http.admission import RETRY_AFTER_SECONDS, Admission
from groat.server.http.answers import refusal_body
from groat.server.http.ids import RandomIds
from groat.server.log.audit import Audit
from groat.server.log.tally import TOKEN_REQUESTS

REPORT_SECONDS: Final = 1.0
_HEAD: Final = re.compile(rb"POST (/[!-~]*) HTTP/1\.1\r\n((?:%s:[\t\x20-\x7e]*\r\n)+)\r\n" % TOKEN.encode("ascii"))
_LENGTH: Final = re.compile(rb"^content-length: *([0-9]{1,9})\r\n", re.IGNORECASE | re.MULTILINE)
# Each changes where a message ends or whether the connection stays.
_SPECIAL: Final = re.compile(rb"^(?:transfer-encoding|connection|upgrade|expect)\s*:", re.IGNORECASE | re.MULTILINE)
_REFUSAL: Final = TemporarilyUnavailable("overloaded", retry_after=RETRY_AFTER_SECONDS)
_ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n%%b"
    b"content-length: %d\r\nx-request-id: %%b\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
    b"pragma: no-cache\r\nretry-after: %d\r\n\r\n%b"
) % (len(refusal_body(_REFUSAL)), RETRY_AFTER_SECONDS, refusal_body(_REFUSAL))


def sole_request(data: bytes) -> bytes | None:
    """The path of the POST that these bytes are, whole and alone, in its plainest form; else None."""
    head = _HEAD.match(data)
    if head is None:
        return None
    fields = head[2]
    lengths = _LENGTH.findall(fields)
    if len(lengths) != 1 or head.end() + int(lengths[0]) != len(data) or _SPECIAL.search(fields):
        return None
    return head[1]


@dataclass(slots=True)
class Shedding:
    """Answers for a process that has no place left. `path`: the token endpoint's."""

    audit: Audit
    admission: Admission
    path: bytes
    ids: RandomIds = field(default_factory=RandomIds)
    _refused: int = 0

    def refusal(self, data: bytes, under_way: int, default_headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer to these bytes if they are a token request that finds no place, else None.

        `under_way`: requests of this process. Not checked: anything in its body.
        """
        if not self.admission.is_full(under_way) or sole_request(data) != self.path:
            return None
        self.audit.tally.answer(TOKEN_REQUESTS, _REFUSAL.code, _REFUSAL.reason)
        if not self._refused:
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        self._refused += 1
        date = b"".join([b"%b: %b\r\n" % header for header in default_headers])
        return _ANSWER % (date, self.ids.next().encode())

    def _report(self) -> None:
        """One line a second while it goes on: a line for each would be most of what a refusal costs."""
        self.audit.overloaded(
            self._refused, f"{self.admission.limit} requests are being served; add workers or replicas"
        )
        self._refused = 0
