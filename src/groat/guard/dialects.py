"""How each proxy says what it asks about: the request of the caller, behind the check that the proxy sends.

What a proxy names itself (its recipe in deploy/ has it written over whatever the caller sent) is believed only in the
dialect that the operator chose: without one no header is, since a caller may have written it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from groat.guard.demand import Misasked, read_demand
from groat.verifier.demands import Demand

Scope = Mapping[str, Any]
CHECK: Final = b"/forward-auth"
ANYBODY: Final = b"-"  # in the place of a demand: any good token


@dataclass(frozen=True, slots=True)
class Check:
    """One question: may a caller with such headers pass?

    `method` and `target` (path and query, raw): of the caller's own request; empty where nobody names them. `passes`:
    the status that lets it through.
    """

    demand: Demand
    method: str = ""
    target: bytes = b""
    passes: int = 204

    @property
    def query(self) -> bytes:
        """The caller's own query string, raw."""
        return self.target.partition(b"?")[2]


Dialect = Callable[[Scope], Check]


def header_lines(scope: Scope, name: bytes) -> list[bytes]:
    """The values of every line of this header (in lower case), as they came."""
    return [value for key, value in scope["headers"] if key == name]


def peer_of(scope: Scope) -> str:
    """The address of who asks: the proxy."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _bare(scope: Scope) -> Check:
    """No dialect: the demand is all that is looked at besides the token."""
    _refuse_path(scope)
    return Check(read_demand(scope["query_string"]))


def _named(proxy: str, method: bytes, target: bytes, scope: Scope) -> Check:
    """The caller's request stands in two headers of these names."""
    _refuse_path(scope)
    demand = read_demand(scope["query_string"])
    found = _only(proxy, scope, target)
    return Check(demand, _only(proxy, scope, method).decode("latin-1"), found)


def _only(proxy: str, scope: Scope, name: bytes) -> bytes:
    values = header_lines(scope, name)
    if len(values) != 1 or not values[0]:
        number = "an empty one" if len(values) == 1 else str(len(values))
        hint = f"--proxy {proxy} needs one header {name.decode()} with the caller's request; the proxy sent {number}"
        raise Misasked("original", hint)
    return values[0]


def _refuse_path(scope: Scope) -> None:
    if scope["raw_path"] != CHECK:
        raise Misasked("path", f"only --proxy envoy has a path behind {CHECK.decode()}; others demand in the query")


def _envoy(scope: Scope) -> Check:
    """Envoy puts its path_prefix before the caller's path: /forward-auth/DEMAND/of/the/caller?and=query.

    The caller's path begins with a slash, so nothing of it can become part of the demand; where it does not, as in
    `OPTIONS *`, nobody passes. The method is the caller's own. Of all answers 200 alone lets a request through.
    """
    rest: bytes = scope["raw_path"][len(CHECK) + 1 :]
    demand, slash, path = rest.partition(b"/")
    if not demand or not slash:
        hint = "Envoy's path_prefix must be /forward-auth/scope=SCOPE, or /forward-auth/- for any good token"
        raise Misasked("path", hint)
    wanted = () if demand == ANYBODY else read_demand(demand)
    query: bytes = scope["query_string"]
    return Check(wanted, scope["method"], b"/" + path + (b"?" + query if query else b""), passes=200)


_FORWARDED: Final = (b"x-forwarded-method", b"x-forwarded-uri")
DIALECTS: Final[Mapping[str, Dialect]] = {
    "": _bare,
    "nginx": partial(_named, "nginx", b"x-original-method", b"x-original-uri"),
    "caddy": partial(_named, "caddy", *_FORWARDED),
    "traefik": partial(_named, "traefik", *_FORWARDED),
    "envoy": _envoy,
}
PROXIES: Final = tuple(name for name in DIALECTS if name)
