"""From the bytes of a form to a TokenRequest (RFC 6749 3.2, 4.4.2, App. B).

`content_type` to `assertion_kind` of order.py stand here.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol.errors import InvalidClient, InvalidRequest, InvalidScope, UnsupportedGrantType
from groat.protocol.jwk import BASE64URL_ALPHABET
from groat.protocol.models import SCOPE, TokenRequest

MAX_FIELDS: Final = 50
MAX_ESCAPES: Final = 1024  # of the form %41: decoding one takes longer than reading a hundred plain bytes
MAX_SCOPE_CHARS: Final = 4096
ONCE: Final = frozenset(
    {
        "grant_type",
        "scope",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
    }
)
# RFC 8707 2 lets `resource` repeat; `audience` is the older spelling that many clients still send for the same wish.
REPEATABLE: Final = ("resource", "audience")
MAX_REMEMBERED_BYTES: Final = 1024
_ASSERTION: Final = b"client_assertion="
_UNRESERVED: Final = BASE64URL_ALPHABET + b".~"
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Field = tuple[str, str]


def check_content_type(values: Sequence[bytes]) -> None:
    """Exactly one Content-Type, a form, in UTF-8. Raises InvalidRequest."""
    if len(values) != 1:
        raise InvalidRequest("content_type", "Content-Type must be present once")
    if values[0] == b"application/x-www-form-urlencoded":
        return
    media, _, parameters = values[0].decode("latin-1").partition(";")
    if media.strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidRequest("content_type", "send application/x-www-form-urlencoded")
    charset = parameters.strip().lower().replace(" ", "").replace('"', "")
    if charset not in ("", "charset=utf-8"):
        raise InvalidRequest("content_type", "the only charset is UTF-8")


def check_content_encoding(values: Sequence[bytes]) -> None:
    """Refuse compressed bodies: nothing here would decode them (RFC 9110 8.4). Raises InvalidRequest."""
    if any(value.strip().lower() != b"identity" for value in values):
        raise InvalidRequest("content_encoding", "send the form uncompressed")


def form_fields(body: bytes) -> list[Field]:
    """Decode an urlencoded body to its raw pairs, in order, repeats kept.

    Raises InvalidRequest: more than 50 fields or 1,024 escapes, a broken escape, bytes that are not UTF-8, a NUL.
    """
    if body.count(b"&") >= MAX_FIELDS:
        raise InvalidRequest("form", f"more than {MAX_FIELDS} fields")
    if body.count(b"%") > MAX_ESCAPES:
        raise InvalidRequest("form", f"more than {MAX_ESCAPES} characters are percent-encoded")
    try:
        text = body.decode("utf-8")
        if "\0" in text:
            raise ValueError("NUL")
        return [_field(part) for part in text.split("&") if part]
    except ValueError:
        raise InvalidRequest("form", "a field is not valid urlencoded UTF-8") from None


def _field(part: str) -> Field:
    name, _, value = part.partition("=")
    if "%" in name or "+" in name:
        name = _unquote(name)
    if "%" in value or "+" in value:
        value = _unquote(value)
    return name, value


def _unquote(text: str) -> str:
    # The same few values (the assertion type, scopes, resources) come with every request.
    return _unquote_short(text) if len(text) < 256 else _unquote_any(text)


def _unquote_any(text: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("broken escape")
    decoded = unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    if "\0" in decoded:
        raise ValueError("NUL")
    return decoded


_unquote_short = lru_cache(maxsize=512)(_unquote_any)


def check_query(query: bytes) -> None:
    """Protocol parameters count in the body only; one in the URL is refused, never used (RFC 6749 2.3.1)."""
    if query and any(name in ONCE or name in REPEATABLE for name, _ in form_fields(query)):
        raise InvalidRequest("query", "send parameters in the body, not in the URL")


def read_token_request(body: bytes, authorization: Sequence[bytes], grants: Collection[str]) -> TokenRequest:
    """A whole body, `decoding` to `assertion_kind`: `parse_token_request` of its `form_fields`, with the same errors.

    A client's requests differ in nothing but the assertion. Where that is plain and everything else short, the rest
    is parsed but once.
    """
    before, _, found = body.partition(_ASSERTION)
    assertion, ampersand, after = found.partition(b"&")
    plain = assertion and not assertion.translate(None, _UNRESERVED) and (not before or before.endswith(b"&"))
    if not plain or authorization or len(before) + len(after) > MAX_REMEMBERED_BYTES:
        return parse_token_request(form_fields(body), authorization, grants)
    frame = _parse_frame(b"".join((before, _ASSERTION, b"x", ampersand, after)), frozenset(grants))
    return TokenRequest(
        frame.grant_type,
        frame.scope,
        frame.targets,
        frame.client_id,
        assertion.decode("ascii"),
        frame.client_assertion_type,
        frame.auth_methods,
    )


@lru_cache(maxsize=512)
def _parse_frame(body: bytes, grants: frozenset[str]) -> TokenRequest:
    """A request with another assertion in place of its own: no rule looks into one."""
    return parse_token_request(form_fields(body), (), grants)


def parse_token_request(fields: Iterable[Field], authorization: Sequence[bytes], grants: Iterable[str]) -> TokenRequest:
    """`repeats` to `assertion_kind`: one authentication method, a grant_type, one that this server has.

    `authorization`: every Authorization header value; `grants`: the names of the supported grants.
    Raises InvalidRequest, UnsupportedGrantType. Not checked: whether the credential is any good.
    """
    once, targets = _collect(fields)
    methods = _presented_methods(once, authorization)
    if len(methods) > 1:
        raise InvalidRequest("auth_methods", "use one client authentication method")
    grant_type = once.get("grant_type")
    if not grant_type:
        raise InvalidRequest("grant_type", "grant_type is missing")
    if grant_type not in grants:
        raise UnsupportedGrantType("grant_type", "see grant_types_supported in the metadata")
    if once.get("client_assertion") and not once.get("client_assertion_type"):
        raise InvalidRequest("form", "client_assertion needs client_assertion_type")
    return TokenRequest(
        grant_type,
        once.get("scope") or None,
        targets,
        once.get("client_id") or None,
        once.get("client_assertion") or None,
        once.get("client_assertion_type") or None,
        methods,
        _scheme(authorization[0]) if authorization else None,
    )


def _collect(fields: Iterable[Field]) -> tuple[dict[str, str], tuple[str, ...]]:
    once: dict[str, str] = {}
    targets: list[str] = []
    for name, value in fields:
        if name in ONCE:
            if name in once:
                raise InvalidRequest("form", f"{name} occurs twice")
            once[name] = value
        elif name in REPEATABLE and value and value not in targets:
            targets.append(value)
    return once, tuple(targets)


def _presented_methods(once: dict[str, str], authorization: Sequence[bytes]) -> tuple[str, ...]:
    methods = ["header"] * len(authorization)
    if once.get("client_secret"):
        methods.append("client_secret")
    if once.get("client_assertion"):
        methods.append("client_assertion")
    return tuple(methods)


def _scheme(authorization: bytes) -> str:
    return authorization.partition(b" ")[0].decode("latin-1").lower()


def parse_scope(scope: str) -> tuple[str, ...]:
    """Read a scope value by the grammar of RFC 6749 3.3; repeats collapse, order stays. Raises InvalidScope."""
    # Memory for strangers' values is kept small: only what a real client would repeat is remembered.
    return _parse_short_scope(scope) if len(scope) < 256 else _parse_any_scope(scope)


def _parse_any_scope(scope: str) -> tuple[str, ...]:
    if len(scope) > MAX_SCOPE_CHARS:
        raise InvalidScope("scope", f"scope is longer than {MAX_SCOPE_CHARS} characters")
    if SCOPE.fullmatch(scope) is None:
        raise InvalidScope("scope", "scope is not a list of tokens with single spaces between them")
    return tuple(dict.fromkeys(scope.split(" ")))


_parse_short_scope = lru_cache(maxsize=512)(_parse_any_scope)


def no_credential(request: TokenRequest) -> InvalidClient:
    """The refusal of a request that proves nothing, or by a method that this server does not have."""
    return InvalidClient("auth_method", f"presented: {', '.join(request.auth_methods) or 'nothing'}")
