"""Lists in parts: a cursor is the name of the last item that was shown, so that nothing is skipped or shown twice.

Items that are added meanwhile appear where their names belong.
"""

from collections.abc import Sequence
from typing import Any

from groat.admin_api.documents import Paged
from groat.protocol.admin_refusals import AdminMalformed
from groat.protocol.errors import JoseError
from groat.protocol.jwk import base64url_decode, base64url_encode


def cursor_of(name: str) -> str:
    """What stands for this name."""
    return base64url_encode(name.encode()).decode()


def last_name(query: Paged) -> str:
    """The name behind which the part begins; empty for the first part. Raises AdminMalformed."""
    try:
        name = base64url_decode(query.cursor).decode()
    except (JoseError, UnicodeError):
        name = "\n"
    if not name.isprintable():
        raise AdminMalformed("admin_query", "cursor is none that was given out")
    return name


def page_of(documents: Sequence[dict[str, Any]], name: str, query: Paged) -> dict[str, Any]:
    """The part of a whole list that is asked for; `name`: the member by which its items are told apart."""
    last = last_name(query)
    names = [str(one[name]) for one in documents]
    start = names.index(last) + 1 if last in names else sum(1 for one in names if last and one < last)
    part = list(documents[start : start + query.limit])
    more = start + query.limit < len(documents)
    return {"items": part, "next": cursor_of(str(part[-1][name])) if more else None}
