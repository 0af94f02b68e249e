"""What an API answers to `groat call`: printed, and what follows from it where it is no success."""

import base64
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import click

from groat.cli.people import visible
from groat.cli.session import CommandFailed, Exit, Session
from groat.cli.streams import Output

MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Told:
    """What it answers; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_all(url: str, response: Any) -> bytes:
    """The body of an answer that is being streamed. Raises ServerUnreachable for one that has no end."""
    from groat.client import ServerUnreachable

    chunks, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > MAX_BYTES:
            raise ServerUnreachable(f"{url}: the answer is longer than {MAX_BYTES} bytes", transient=False)
        chunks.append(chunk)
    return b"".join(chunks)


def show(session: Session, told: Told) -> None:
    """The body as it came; with --json one object around it. A terminal gets no control characters of others."""
    if session.as_json:
        click.echo(json.dumps({"status": told.status, "headers": dict(told.headers), **_body_members(told)}))
        return
    if not sys.stdout.isatty():
        cast(Output, sys.stdout).write_bytes(told.body)
        return
    for line in told.body.decode("utf-8", "replace").splitlines():
        click.echo(visible(line.replace("\t", "    ")))


def _body_members(told: Told) -> dict[str, Any]:
    """JSON as it is, else text, else base64."""
    try:
        text = told.body.decode()
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(told.body).decode()}
    if "json" in told.headers.get("content-type", ""):
        with contextlib.suppress(ValueError):
            return {"body": json.loads(text)}
    return {"body": text}


def failure(asked: str, told: Told, *, bound: bool) -> CommandFailed:
    """An answer that is no success: 5xx may pass by itself, of the rest somebody must change something.

    `asked`: method and URL; `bound`: whether the token was bound to a key.
    """
    from groat.client.challenge import challenges_of
    from groat.client.errors import foreign, request_id

    challenges = challenges_of(told.headers.get("www-authenticate", ""))
    errors = [parameters["error"] for parameters in challenges.values() if "error" in parameters]
    needed = next((parameters["scope"] for parameters in challenges.values() if "scope" in parameters), "")
    kind = foreign(errors[0]) if errors else f"http_{told.status}"
    hint = ""
    if "insufficient_scope" in errors and needed:
        hint = f"; it wants --scope {foreign(needed)}"
    elif told.status == 401 and "dpop" in challenges and not bound:
        hint = "; it takes tokens that are bound to a key: --dpop"
    elif told.status < 400:
        hint = f" to {foreign(told.headers.get('location', ''))}, where the token does not go"
    known = f" [request id {found}]" if (found := request_id(told.headers)) else ""
    said = f": {kind}" if errors else ""
    code = Exit.UNREACHABLE if told.status >= 500 else Exit.REFUSED
    return CommandFailed(code, kind, f"{asked} answered {told.status}{said}{hint}{known}")
