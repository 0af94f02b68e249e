"""What a row does with a request that was read: a change by its entity tag or as a trial, or an answer as it is."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.types import Scope

from groat.admin_api.held import Moved, held
from groat.admin_api.rows import Ask, Row, etag, plain
from groat.protocol.admin_refusals import (
    AdminConflict,
    AdminStale,
    AdminUnknown,
    AdminUnmatched,
    AdminUnprocessable,
)
from groat.protocol.errors import ConfigError, JoseError
from groat.server.http.exchange import header_values
from groat.server.operations.operator import NotRegistered
from groat.server.store import StoreConflict

ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `tag`: of what is there now, where that is one thing; `location`: of what was added."""

    status: int
    document: Any
    tag: str = ""
    location: str = ""


async def work(row: Row, ask: Ask, scope: Scope) -> Reply:
    """Raises AdminRefusal, Unavailable."""
    with _refusals():
        trial = bool(getattr(ask.query, "dry_run", False))
        if row.current is not None:
            return await _change(row, ask, scope, trial)
        if trial:
            added = await row.trial(ask.by(held(ask.operator, trial=True)))
            return Reply(200, {"dry_run": True, "changes": True, "before": None, "after": added, "losses": []})
        found = await row.answer(ask)
        if row.adds:
            place = f"{scope['raw_path'].decode('ascii')}/{quote(str(found[row.location]), safe='')}"
            return Reply(201, found, etag(found), place)
        return Reply(200, found, etag(found) if row.tagged else "")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """The one mapping from what operations raise to statuses."""
    try:
        yield
    except NotRegistered as error:
        raise AdminUnknown("admin_unknown", str(error)) from None
    except StoreConflict as error:
        raise AdminConflict("admin_conflict", str(error)) from None
    except (ConfigError, JoseError) as error:
        raise AdminUnprocessable("admin_input", str(error)) from None


async def _change(row: Row, ask: Ask, scope: Scope, trial: bool) -> Reply:
    """Under the version that the tag was judged by, or again; the answer names whom it hits."""
    assert row.current is not None
    for _ in range(ATTEMPTS):
        version = await ask.operator.store.registry_version()
        before = await row.current(ask)
        _check_tag(scope, before, wanted=not trial)
        inside = ask.by(held(ask.operator, version, trial=trial))
        losses = await row.losses(inside)
        try:
            after = await (row.trial if trial else row.answer)(inside)
        except Moved:
            continue
        outcome = {
            "dry_run": trial, "changes": before != after, "before": before, "after": after,
            "losses": [plain(loss) for loss in losses],
        }  # fmt: skip
        return Reply(200, outcome, "" if after is None or trial else etag(after))
    raise AdminStale("admin_stale", "the registry keeps changing; nothing was done")


def _check_tag(scope: Scope, before: Any, *, wanted: bool) -> None:
    """RFC 9110 13.1.1: the strong comparison. Raises AdminUnmatched, AdminStale."""
    values = header_values(scope, b"if-match")
    if not values:
        if wanted:
            raise AdminUnmatched("admin_unmatched", "read it first, and send its ETag in If-Match")
        return
    tags = [one.strip() for one in b",".join(values).decode("latin-1").split(",")]
    if "*" not in tags and etag(before) not in tags:
        raise AdminStale("admin_stale", "it was changed since; read it again")
