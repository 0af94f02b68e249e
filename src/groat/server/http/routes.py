"""An endpoint as a row of a table: where it is, what it takes, what it adds to the metadata, where refusals go."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from groat.protocol.metadata import issuer_path
from groat.protocol.models import Policy
from groat.server.log.tally import Ledger

Parts = TypeVar("Parts")
Paths = Callable[[str], tuple[str, ...]]  # from the issuer
Says = Callable[[Policy], Mapping[str, Any]]
When = Callable[[Policy], bool]

READ: Final = ("GET", "HEAD")
POST: Final = ("POST",)
ANY: Final[tuple[str, ...]] = ()  # whatever it is


def at(*paths: str) -> Paths:
    """These paths, whoever the issuer is."""
    return lambda issuer: paths


def below(path: str) -> Paths:
    """This path behind that of the issuer."""
    return lambda issuer: (issuer_path(issuer) + path,)


def _nothing(policy: Policy) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Route(Generic[Parts]):
    """One endpoint. `make`: from the parts of a process; refusals are raised there, and go to the `ledger`.

    `member`: of the metadata, for its URL, if it is to be found there; `says`: what else there is to say of it
    (RFC 8414 2). `asks_who`: clients authenticate there, so that it has an alias where certificates are asked for.
    `when`: there is nothing at its paths, and nothing of it in the metadata, while this is not so; it is asked for each
    request, since a reload may change the answer.
    """

    paths: Paths
    methods: tuple[str, ...]
    make: Callable[[Parts], ASGIApp]
    ledger: Ledger
    member: str = ""
    says: Says = _nothing
    when: When | None = None
    asks_who: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """A row in service."""

    app: ASGIApp
    methods: tuple[str, ...]
    ledger: Ledger
    when: When | None = None


@dataclass(frozen=True, slots=True)
class WithTree(Mapping[str, Served]):
    """The rows of `exact` by their paths, and `tree` for whatever begins with `prefix`."""

    exact: Mapping[str, Served]
    prefix: str
    tree: Served

    def __getitem__(self, path: str) -> Served:
        found = self.exact.get(path)
        if found is None and path.startswith(self.prefix):
            found = self.tree
        if found is None:
            raise KeyError(path)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter((*self.exact, self.prefix))

    def __len__(self) -> int:
        return len(self.exact) + 1


def served(routes: Iterable[Route[Parts]], parts: Parts, issuer: str) -> dict[str, Served]:
    """By exact path, who answers there: a table of fixed strings needs no pattern to be tried."""
    table: dict[str, Served] = {}
    for route in routes:
        found = Served(route.make(parts), route.methods, route.ledger, route.when)
        table.update(dict.fromkeys(route.paths(issuer), found))
    return table


def with_tree(exact: Mapping[str, Served], route: Route[Parts], parts: Parts, issuer: str) -> WithTree:
    """The same with a row for all paths that begin as its own, which ends in a slash."""
    (prefix,) = route.paths(issuer)
    return WithTree(exact, prefix, Served(route.make(parts), route.methods, route.ledger, route.when))


def advertised(routes: Sequence[Route[Any]], policy: Policy) -> dict[str, Any]:
    """The members of the metadata that follow from the rows: first where they are, then what they can do."""
    parts = urlsplit(policy.issuer)
    origin = f"{parts.scheme}://{parts.netloc}"
    shown = [row for row in routes if row.when is None or row.when(policy)]
    members: dict[str, Any] = {row.member: origin + row.paths(policy.issuer)[0] for row in shown if row.member}
    for row in shown:
        members.update(row.says(policy))
    if policy.certificate_url:  # RFC 8705 5
        root, path = policy.certificate_url.rstrip("/"), issuer_path(policy.issuer)
        asking = {row.member: row.paths(policy.issuer)[0] for row in shown if row.asks_who and row.member}
        members["mtls_endpoint_aliases"] = {name: root + found.removeprefix(path) for name, found in asking.items()}
    return members
