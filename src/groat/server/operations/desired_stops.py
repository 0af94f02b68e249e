"""What somebody has stopped stays stopped: files that say nothing of it do not start it again."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from groat.server.desired.wanted import CLIENT, TRUST, Wanted
from groat.server.operations.registered import Object, Registered


def stopped_by_hand(wanted: Wanted, now: Registered) -> Iterator[Object]:
    """What is disabled, and stands in a file that does not say whether it is enabled."""
    for name, client in wanted.clients.items():
        if client.enabled is None and name in now.clients and not now.clients[name].enabled:
            yield CLIENT, name
    for name, trust in wanted.trusts.items():
        if trust.enabled is None and name in now.trusts and not now.trusts[name].trust.enabled:
            yield TRUST, name


def with_stops(wanted: Wanted, stopped: Iterable[Object]) -> Wanted:
    """The same, as if the files said of these that they are disabled."""
    clients, trusts = dict(wanted.clients), dict(wanted.trusts)
    for kind, name in stopped:
        if kind == CLIENT:
            clients[name] = replace(clients[name], enabled=False)
        else:
            trusts[name] = replace(trusts[name], enabled=False)
    return replace(wanted, clients=clients, trusts=trusts)
