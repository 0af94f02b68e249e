"""Refusals before parsing: only what is plainly one token request, and only while the process is full."""

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.load.connection import post_request
from groat.server.connection.shedding import Shedding, sole_request
from groat.server.http.admission import Admission
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.log.tally import TOKEN_REQUESTS

PLAIN = post_request(b"grant_type=client_credentials")
HEAD, _, BODY = PLAIN.partition(b"\r\n\r\n")


def with_field(field: bytes) -> bytes:
    return HEAD + b"\r\n" + field + b"\r\n\r\n" + BODY


@pytest.mark.rule("L08", "H05", "FO-1")
@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace(b"POST", b"GET"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN[:-1],
        PLAIN + b"P",
        PLAIN + PLAIN,
        HEAD + b"\r\n\r\n",
        with_field(b"Transfer-Encoding: chunked"),
        with_field(b"transfer-encoding : chunked"),
        with_field(b"Content-Length: 29"),
        with_field(b"Connection: close"),
        with_field(b"Expect: 100-continue"),
        with_field(b"Upgrade: h2c"),
        with_field(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
        with_field(b" folded: line"),
        with_field(b"X: a\x00b"),
        with_field(b"X: a\nTransfer-Encoding: chunked"),
        PLAIN.replace(b"Content-Length: 29", b"Content-Length: +29"),
        PLAIN.replace(b"Content-Length: 29", b"Content-Length: 0x1d"),
        PLAIN.replace(b"Content-Length: 29", b"Content-Length : 29"),
    ],
)
def test_whatever_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    """Where a message might end elsewhere by somebody else's reading, or a connection might not stay."""
    assert sole_request(data) is None


@pytest.mark.rule("L08")
def test_a_plain_request_is_refused_in_full(tmp_path: Path) -> None:
    """503 with Retry-After and the fixed body; counted each, logged once a second; other paths are left alone."""

    async def refuse() -> bytes | None:
        shedding = Shedding(audit, Admission(2), b"/token")
        assert shedding.refusal(PLAIN.replace(b"/token", b"/client-keys"), 2, []) is None
        assert shedding.refusal(PLAIN, 1, []) is None
        shedding.admission.reading = 1
        assert shedding.refusal(PLAIN, 2, []) is None
        shedding.admission.reading = 0
        answers = [shedding.refusal(PLAIN, 2, [(b"date", b"now")]) for _ in range(3)]
        await asyncio.sleep(1.1)
        return answers[-1]

    with (tmp_path / "log").open("w") as stream:
        audit = Audit(EventLog(stream, pretty=False))
        answer = asyncio.run(refuse())
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = head.split(b"\r\n")
    assert fields[0] == b"HTTP/1.1 503 Service Unavailable"
    assert {b"retry-after: 1", b"date: now", b"cache-control: no-store", b"content-length: %d" % len(body)} <= set(
        fields
    )
    assert json.loads(body)["error"] == "temporarily_unavailable"
    assert audit.tally.answered[TOKEN_REQUESTS, "temporarily_unavailable", "overloaded"] == 3
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (line["event"], line["refused"]) == ("server.overloaded", 3)
