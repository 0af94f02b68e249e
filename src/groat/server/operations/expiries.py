"""Which keys of clients end soon: the store is asked for ends that are near or just over, `expiries` explains them."""

from itertools import groupby
from typing import Final

from groat.keys.client_keys import ClientExpiry, expiries
from groat.server.operations.client_keys import key_life
from groat.server.store import Store

MAX_CLIENTS: Final = 1000  # of one look, those first whose keys end first


async def client_expiries(store: Store, now: float, warning: int) -> tuple[ClientExpiry, ...]:
    """What `expiries` finds for every enabled client, soonest first. Raises StoreUnavailable."""
    records = await store.keys_of_expiring(int(now) - warning, int(now) + warning, MAX_CLIENTS)
    found = [
        ClientExpiry(client_id, expiry)
        for client_id, keys in groupby(records, key=lambda record: record.client_id)
        for expiry in expiries([key_life(key) for key in keys], now, warning)
    ]
    return tuple(sorted(found, key=lambda one: (one.expiry.expires_at, one.client_id, one.expiry.kid)))
