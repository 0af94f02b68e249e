"""What a check demands: the scopes that the operator wrote into the URL that the proxy asks.

Whatever cannot be read is `Misasked`: a misspelt parameter that was ignored would let every token through.
"""

from functools import lru_cache
from typing import Final, Literal
from urllib.parse import parse_qsl

from groat.protocol.access_token import any_of
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError
from groat.server.log.event_log import redact
from groat.verifier.demands import Demand
from groat.verifier.protected_resource import checked_scopes

MAX_FIELDS: Final = 32
_ALL, _ANY = "scope", "any"
Kind = Literal["demand", "original", "path", "nowhere"]


class Misasked(Exception):
    """The operator has the proxy ask in a way that the guard cannot answer; nobody is let through for it.

    `kind`: what of it; `hint`: what was found and what to write, for the log.
    """

    def __init__(self, kind: Kind, hint: str) -> None:
        super().__init__(hint)
        self.kind = kind
        self.hint = hint


@lru_cache(maxsize=64)  # an operator writes a handful; in no dialect a caller's words get here
def read_demand(query: bytes) -> Demand:
    """`scope=a&scope=b` or `scope=a+b`: all of them; `any=a+b`: one of them; nothing at all: any good token.

    Raises Misasked for another parameter, an empty value, what is no scope (RFC 6749 3.3), and both words at once.
    """
    if not query:
        return ()
    pairs = _pairs(query)
    unknown = [name for name, _ in pairs if name not in (_ALL, _ANY)]
    if unknown:
        raise _odd(query, f"{shown(unknown[0])} is no parameter; there are {_ALL} and {_ANY}")
    if len({name for name, _ in pairs}) > 1:
        raise _odd(query, f"{_ALL} and {_ANY} do not go together")
    if not all(value.strip(" ") for _, value in pairs):
        raise _odd(query, "a scope is empty; for any good token write no parameter at all")
    scopes = tuple(dict.fromkeys(scope for _, value in pairs for scope in value.split(" ") if scope))
    try:
        return checked_scopes(any_of(*scopes) if pairs[0][0] == _ANY else scopes)
    except ConfigError as error:
        raise _odd(query, str(error)) from None


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise _odd(query, "it is no list of name=value") from None


def _odd(query: bytes, what: str) -> Misasked:
    asked = shown(redact(query).decode("latin-1"))  # before it is cut: a JWT has its dots yet
    return Misasked("demand", f"{what}: the proxy asks {asked}")
