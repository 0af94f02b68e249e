"""Reading the body of a form, within bounds of size and time."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from starlette.types import Receive, Scope

from groat.protocol.errors import (
    PayloadTooLarge,
    RequestTimeout,
)
from groat.protocol.token_request import check_content_encoding, check_content_type, check_query
from groat.server.http.admission import Admission

MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 15.0
_FORM_HEADERS: Final = frozenset({b"content-length", b"content-type", b"content-encoding", b"authorization", b"dpop"})


class ClientDisconnected(Exception):
    """The peer went away before its request was complete; there is nobody to answer."""


async def read_form(
    scope: Scope, receive: Receive, admission: Admission
) -> tuple[bytes, Sequence[bytes], Sequence[bytes]]:
    """The body of a form, the Authorization headers that came with it and the DPoP ones; `size` to `query` of order.py.

    Raises PayloadTooLarge, RequestTimeout, ClientDisconnected, InvalidRequest. Not checked: what the form says.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        if name in _FORM_HEADERS:
            found.setdefault(name, []).append(value)
    body = await read_body(found.get(b"content-length", ()), receive, admission)
    check_content_type(found.get(b"content-type", ()))
    if b"content-encoding" in found:
        check_content_encoding(found[b"content-encoding"])
    if scope["query_string"]:
        check_query(scope["query_string"])
    proofs = found[b"dpop"] if b"dpop" in found else ()  # noqa: SIM401 - no call for what few send
    return body, found.get(b"authorization", ()), proofs


async def read_body(lengths: Sequence[bytes], receive: Receive, admission: Admission) -> bytes:
    """Read at most 64 KiB within 15 s. Raises PayloadTooLarge, RequestTimeout, ClientDisconnected."""
    for value in lengths:
        if value.isdigit():
            _check_size(int(value[:20]))
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        # Nearly every request: the body came with the headers, and no timer is needed.
        _check_size(len(body))
        return body
    admission.reading += 1
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_rest(message, receive)
    except TimeoutError:
        raise RequestTimeout("body_slow") from None
    finally:
        admission.reading -= 1


async def _read_rest(message: Any, receive: Receive) -> bytes:
    chunks = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        chunks += message.get("body", b"")
        _check_size(len(chunks))
        if not message.get("more_body"):
            return bytes(chunks)
        message = await receive()


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise PayloadTooLarge("body_size", f"more than {MAX_BODY_BYTES} bytes; a token request has some hundreds")
