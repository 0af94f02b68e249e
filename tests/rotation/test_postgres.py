"""Many replicas on one PostgreSQL: each step of the rotation is made once, and every replica sees the same ring."""

import asyncio
from typing import Final

import pytest

from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import KeyState, active_key
from groat.keys.ring.schedule import Timing
from groat.protocol.models import Policy
from groat.server import operations
from groat.server.chores.rotator import Rotator
from groat.server.operations.operator import Operator
from groat.server.store.postgres.store import PostgresStore
from tests.postgres import GivenServer, PostgresServer

from .clock import DAY, KEK, NOW, Clock, DistantTime

REPLICAS: Final = 6


@pytest.mark.rule("K09", "KEY-19", "KEY-20", "KEY-21", "KEY-22", "L05")
def test_replicas_on_postgresql_rotate_without_a_leader(postgres: PostgresServer | GivenServer) -> None:
    """Six rotators look at once, three times over; then one operator revokes, and all know it at once."""
    url, clock = postgres.database(), Clock()

    async def work() -> None:
        stores = [PostgresStore(url) for _ in range(REPLICAS)]
        await stores[0].migrate()
        operators = [Operator(store, Policy("https://as.example"), clock=clock) for store in stores]
        by_each = [operations.Ring(operator, KEK, "ES256") for operator in operators]
        rotators = [Rotator(ring, Timing, DistantTime(ring.operator.store, clock, clock)) for ring in by_each]
        await operations.first_signing_key(by_each[0])
        for day, steps in ((0, 1), (32, 2), (64, 2)):
            clock.now = NOW + day * DAY
            assert sum(await asyncio.gather(*(rotator.look() for rotator in rotators))) == steps
            rings = await asyncio.gather(*(store.signing_keys() for store in stores))
            assert all(ring == rings[0] for ring in rings)
            assert ring_faults(rings[0], Timing(), int(clock.now)) == ()
            assert sum(key.state(clock.now) is KeyState.PENDING for key in rings[0]) == 1
        stolen = active_key(rings[0], clock.now)
        assert stolen is not None
        await operations.revoke_signing_key(operations.Ring(operators[0], KEK, "ES256", Timing().lead), stolen.kid)
        for store in stores:
            signer = active_key(await store.signing_keys(), clock.now - 60)
            assert signer is not None
            assert signer.kid != stolen.kid
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(work())
