"""Where a request carries its access token: the Authorization header, and nowhere else (RFC 6750 2, RFC 9700 4.3.2)."""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol.errors import InvalidBearerRequest, MissingToken, VerificationError
from groat.protocol.grammar import TOKEN, TOKEN68

_SCHEME: Final = re.compile(TOKEN)
BEARER: Final = "Bearer"
DPOP: Final = "DPoP"
_SCHEMES: Final = {"bearer": BEARER, "dpop": DPOP}
_CREDENTIALS: Final = re.compile(rf"({TOKEN}) +({TOKEN68})")


def bearer_token(authorization_values: Sequence[bytes | str], query: bytes = b"") -> str:
    """Take the token out of a request.

    `authorization_values`: the value of every Authorization field line, in order and not joined; `query`: the raw
    query string. Raises MissingToken (401) without Bearer credentials, a token in the query included, and
    InvalidBearerRequest (400) for malformed or repeated ones (RFC 6750 3.1). Not checked: what the token is, and the
    form body, which nobody here reads.
    """
    token, scheme = token_of(authorization_values, query)
    if scheme != BEARER:
        raise MissingToken("the Authorization header has another scheme than Bearer")
    return token


def token_of(authorization_values: Sequence[bytes | str], query: bytes = b"") -> tuple[str, str]:
    """As `bearer_token`, for bound tokens as well (RFC 9449 7.1): the token, and BEARER or DPOP."""
    if not authorization_values:
        raise MissingToken("a token in the query string is not accepted" if _token_in(query) else "no credentials")
    if len(authorization_values) > 1:
        raise InvalidBearerRequest("malformed", "more than one Authorization header")
    if _token_in(query):
        raise InvalidBearerRequest("malformed", "access_token in the query string next to an Authorization header")
    return _credentials(authorization_values[0])


def is_dpop(raw: bytes | str) -> bool:
    """Whether these credentials are of the scheme DPoP, well-formed or not."""
    scheme = _SCHEME.match(_text(raw))
    return scheme is not None and scheme.group().lower() == "dpop"


def _text(raw: bytes | str) -> str:
    # Latin-1 maps every byte to one character, so that foreign bytes fail the grammar instead of the decoder.
    return (raw.decode("latin-1") if isinstance(raw, bytes) else raw).strip(" \t")


def _credentials(raw: bytes | str) -> tuple[str, str]:
    value = (raw.decode("latin-1") if isinstance(raw, bytes) else raw).strip(" \t")  # `_text`, for every request
    found = _CREDENTIALS.fullmatch(value)
    name = None if found is None else _SCHEMES.get(found[1].lower())
    if found is None or name is None:
        raise _no_credentials(value)
    return found[2], name


def _no_credentials(value: str) -> VerificationError:
    """What is wrong with it: another scheme than ours, or no token behind one of ours."""
    scheme = _SCHEME.match(value)
    name = None if scheme is None else _SCHEMES.get(scheme[0].lower())
    if name is None:
        return MissingToken("the Authorization header has another scheme than Bearer or DPoP")
    error = InvalidBearerRequest("malformed", f"{name} must be followed by one token and nothing else")
    error.tried = name
    return error


def _token_in(query: bytes) -> bool:
    # Spelled plainly it is not there, and nothing else is. Django's asynchronous test client has text for an empty one.
    if not query or (b"access_token" not in query and b"%" not in query):
        return False
    names = (pair.partition(b"=")[0] for pair in query.split(b"&"))
    return any(unquote_to_bytes(name.replace(b"+", b" ")) == b"access_token" for name in names)
