"""What a request says: its query and its body, in the types of its row, and nothing besides."""

from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Scope

from groat.admin_api.rows import Row
from groat.protocol import strict_json
from groat.protocol.admin_refusals import AdminMalformed, AdminMediaType, AdminUnprocessable
from groat.protocol.errors import JoseError
from groat.server.http.exchange import header_values

MAX_PARAMETERS: Final = 16
_JSON: Final = b"application/json"
_PATCH: Final = (_JSON, b"application/merge-patch+json")


def read_query(row: Row, scope: Scope) -> Any:
    """Raises AdminMalformed for a parameter that is unknown, there twice, or has no such value."""
    raw = scope["query_string"]
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )  # fmt: skip
        found = dict(pairs)
        if len(found) != len(pairs):
            raise AdminMalformed("admin_query", "a parameter stands twice in the URL")
        return msgspec.convert(found, row.query, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise AdminMalformed("admin_query", _said(error, "parameter")) from None


def read_document(row: Row, scope: Scope, raw: bytes) -> Any:
    """The body. Raises AdminMediaType, AdminMalformed, AdminUnprocessable (which names the member)."""
    if row.takes is None:
        if raw:
            raise AdminMalformed("admin_body", "this takes no body")
        return None
    kinds = [value.partition(b";")[0].strip().lower() for value in header_values(scope, b"content-type")]
    if len(kinds) != 1 or kinds[0] not in (_PATCH if row.method == "PATCH" else (_JSON,)):
        raise AdminMediaType("admin_media_type", "Content-Type must be application/json")
    if header_values(scope, b"content-encoding"):
        raise AdminMediaType("admin_media_type", "send the body plain")
    try:
        return msgspec.convert(strict_json.loads_object(raw), row.takes)
    except JoseError as error:
        raise AdminMalformed("admin_body", error.hint) from None
    except msgspec.ValidationError as error:
        raise AdminUnprocessable("admin_body", _said(error, "member")) from None


def _said(error: Exception, what: str) -> str:
    """In the words of msgspec, which name the member and the type; no value but of an enumeration."""
    return str(error).replace("Object contains unknown field", f"unknown {what}").replace("field", what)
