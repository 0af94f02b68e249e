"""The table of the admin API, and why some operations are not in it."""

from collections.abc import Mapping
from typing import Final

from groat.admin_api import apis, audit, client_keys, clients, overview, refusals, revocations, signing_keys, trusts
from groat.admin_api.rows import Row

ROWS: Final[tuple[Row, ...]] = (
    *apis.ROWS, *clients.ROWS, *client_keys.ROWS, *trusts.ROWS, *signing_keys.ROWS, *overview.ROWS, *audit.ROWS,
    *refusals.ROWS, *revocations.ROWS,
)  # fmt: skip
_HOST: Final = "the client's host asks for it, at /client-keys"
_STORE: Final = "it is about the file or database itself, and for whoever is at the machine: groat store"
# Operations that no row has.
NOT_HERE: Final[Mapping[str, str]] = {
    "client_key.list_all": "a list without a bound; ask for the keys of one client",
    "client_key.enrol": _HOST,
    "client_key.retire": _HOST,
    "registry.apply": "it is about files; here each thing has a URL of its own, and dry_run is the plan",
    "registry.export": "the same: a list of each kind is what there is",
    "audit.export": "all of it at once; the list is the same in parts",
    "audit.verify": "it reads the whole trail; whoever does not trust the server would not ask it: groat audit verify",
    "key.first": "a part of groat init, before there is a server",
    "store.init": "what makes the first start possible: groat init",
    "store.fence": _STORE,
    "store.take_back": _STORE,
    "store.reopen": _STORE,
    "store.backup": _STORE,
    "store.restore": _STORE,
    "store.copy": _STORE,
}
