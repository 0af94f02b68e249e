"""From the bytes of a form to a TokenRequest (RFC 6749 3.2, 4.4.2, App. B).

`content_type` to `assertion_kind` of order.py stand here.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol import client_auth, grants
from groat.protocol.errors import InvalidRequest, UnsupportedGrantType
from groat.protocol.grammar import BROKEN_ESCAPE, UNRESERVED
from groat.protocol.models import ClientRequest, TokenRequest

MAX_FIELDS: Final = 50
MAX_ESCAPES: Final = 1024  # of the form %41: decoding one takes longer than reading a hundred plain bytes
# Of every request; a secret proves nothing here, but it must not come beside what does.
_COMMON: Final = frozenset({"grant_type", "client_id", "client_secret"})
# RFC 8707 2 lets `resource` repeat; `audience` is the older spelling that many clients still send for the same wish.
REPEATABLE: Final = frozenset({"resource", "audience"})
MAX_REMEMBERED_BYTES: Final = 1024
_ASSERTION: Final = b"client_assertion="
_GRANT_ASSERTION: Final = b"assertion="

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
    if BROKEN_ESCAPE.search(text):
        raise ValueError("broken escape")
    decoded = unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    if "\0" in decoded:
        raise ValueError("NUL")
    return decoded


_unquote_short = lru_cache(maxsize=512)(_unquote_any)


def check_query(query: bytes, own: Iterable[str] = ()) -> None:
    """Protocol parameters count in the body only; one in the URL is refused, never used (RFC 6749 2.3.1).

    `own`: what an endpoint reads besides. Raises InvalidRequest.
    """
    if query and not (recognised() | REPEATABLE).union(own).isdisjoint(name for name, _ in form_fields(query)):
        raise InvalidRequest("query", "send parameters in the body, not in the URL")


def recognised() -> frozenset[str]:
    """The parameters that stand once: those of every request, and those that a row of one of the two tables names."""
    read_by_grants = (grant.parameters for grant in grants.GRANTS.values())
    read_by_methods = (method.parameters for method in client_auth.CLIENT_AUTH_METHODS.values())
    return _COMMON.union(*read_by_grants, *read_by_methods)


def read_token_request(body: bytes, authorization: Sequence[bytes]) -> TokenRequest:
    """A whole body, `decoding` to `assertion_kind`: `parse_token_request` of its `form_fields`, with the same errors.

    A client's requests differ in nothing but the assertion, and a workload's in nothing but its token. Where that is
    plain and everything else short, the rest is parsed but once.
    """
    name = _ASSERTION if _ASSERTION in body else _GRANT_ASSERTION
    before, _, found = body.partition(name)
    assertion, ampersand, after = found.partition(b"&")
    plain = assertion and not assertion.translate(None, UNRESERVED) and (not before or before.endswith(b"&"))
    if not plain or authorization or len(before) + len(after) > MAX_REMEMBERED_BYTES:
        return parse_token_request(form_fields(body), authorization)
    frame = _parse_frame(b"".join((before, name, b"x", ampersand, after)))
    text = assertion.decode("ascii")
    parameters, credentials = frame.parameters, frame.credentials
    if name is _ASSERTION:
        credentials = {**credentials, "client_assertion": text}
    elif "assertion" in parameters:  # a grant that has none ignores it
        parameters = {**parameters, "assertion": text}
    return TokenRequest(
        grant_type=frame.grant_type,
        parameters=parameters,
        credentials=credentials,
        targets=frame.targets,
        client_id=frame.client_id,
        auth_methods=frame.auth_methods,
    )


@lru_cache(maxsize=512)
def _parse_frame(body: bytes) -> TokenRequest:
    """A request with another assertion in place of its own: no rule looks into one."""
    return parse_token_request(form_fields(body), ())


def parse_token_request(fields: Iterable[Field], authorization: Sequence[bytes]) -> TokenRequest:
    """`repeats` to `assertion_kind`: one authentication method, a grant_type, one that this server has.

    `authorization`: every Authorization header value. Raises InvalidRequest, UnsupportedGrantType. Not checked: whether
    the credential is any good. Parameters that no row reads are ignored (RFC 6749 3.2).
    """
    once, targets = _collect(fields, recognised())
    presented = _sole_method(once, authorization)
    grant_type = once.get("grant_type")
    if not grant_type:
        raise InvalidRequest("grant_type", "grant_type is missing")
    grant = grants.GRANTS.get(grant_type)
    if grant is None:
        raise UnsupportedGrantType("grant_type", "see grant_types_supported in the metadata")
    if grant.proves:
        _check_sole_proof(grant, once, presented)
    return TokenRequest(
        grant_type=grant_type,
        parameters=_chosen(once, grant.parameters),
        credentials=_credentials(once),
        targets=targets,
        client_id=once.get("client_id") or None,
        auth_methods=presented,
        authorization_scheme=_scheme(authorization[0]) if authorization else None,
    )


def _check_sole_proof(grant: grants.GrantType, once: Mapping[str, str], presented: Sequence[str]) -> None:
    """What says who asks must be there, and say it alone: of two it would be guessed who is meant."""
    if not once.get(grant.parameters[0]):
        raise InvalidRequest("form", f"{grant.parameters[0]} is missing")
    if presented:
        raise InvalidRequest(
            "auth_methods", f"{grant.parameters[0]} says who asks; send no client authentication beside it"
        )


def read_client_request(body: bytes, authorization: Sequence[bytes], own: Sequence[str] = ()) -> ClientRequest:
    """A whole body for an endpoint that gives out no token: `decoding` to `assertion_kind`, but for the grant.

    `own`: the parameters that the endpoint reads, each once at most. Raises InvalidRequest. Not checked: whether they
    are there, and whether the credential is any good.
    """
    once, _ = _collect(form_fields(body), recognised().union(own))
    return ClientRequest(
        auth_methods=_sole_method(once, authorization),
        parameters=_chosen(once, own),
        credentials=_credentials(once),
        client_id=once.get("client_id") or None,
        authorization_scheme=_scheme(authorization[0]) if authorization else None,
    )


def _collect(fields: Iterable[Field], names: Set[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    once: dict[str, str] = {}
    targets: list[str] = []
    for name, value in fields:
        if name in names:
            if name in once:
                raise InvalidRequest("form", f"{name} occurs twice")
            once[name] = value
        elif name in REPEATABLE and value and value not in targets:
            targets.append(value)
    return once, tuple(targets)


def _sole_method(once: Mapping[str, str], authorization: Sequence[bytes]) -> tuple[str, ...]:
    presented = _presented_methods(once, authorization)
    if len(presented) > 1:
        raise InvalidRequest("auth_methods", "use one client authentication method")
    return presented


def _presented_methods(once: Mapping[str, str], authorization: Sequence[bytes]) -> tuple[str, ...]:
    """What proves who asks, by whichever method: headers, a secret (of which only this is kept), credentials."""
    marks = [method.parameters[0] for method in client_auth.CLIENT_AUTH_METHODS.values() if method.parameters]
    sent = [name for name in dict.fromkeys(["client_secret", *marks]) if once.get(name)]
    return (*["header"] * len(authorization), *sent)


def _credentials(once: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters of client authentication; none of them is without those that belong to it."""
    names: list[str] = []
    for method in client_auth.CLIENT_AUTH_METHODS.values():
        for name in method.parameters:
            if once.get(method.parameters[0]) and not once.get(name):
                raise InvalidRequest("form", f"{method.parameters[0]} needs {name}")
            names.append(name)
    return _chosen(once, names)


def _chosen(once: Mapping[str, str], names: Iterable[str]) -> Mapping[str, str]:
    return MappingProxyType({name: once[name] for name in names if once.get(name)})


def _scheme(authorization: bytes) -> str:
    return authorization.partition(b" ")[0].decode("latin-1").lower()
