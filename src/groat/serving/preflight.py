"""What is found out before a server starts, or when an operator asks: could it work, and will its keys do?"""

import time
from collections.abc import Callable
from typing import Final

from groat.keys.custody import Custody, Signer
from groat.keys.custody.several import SignerUnavailable
from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import KeyState, SigningKey, in_office
from groat.protocol.errors import ConfigError
from groat.server.registry.registry import Registry
from groat.server.settings.config import Config
from groat.server.settings.open_custody import open_custody
from groat.server.settings.open_store import open_store
from groat.server.store import Condition, Store, StoreClosed, StoreUnavailable
from groat.server.store.trusted_time import Reading, TrustedTime
from groat.server.unavailable import Unavailable

WRITE_TRIALS: Final = 3  # each waits for two seconds at most


def _refuse(finding: str) -> None:
    raise ConfigError(finding)


async def check_ready(config: Config, warn: Callable[[str], None] = _refuse) -> None:
    """Find out before any worker starts whether they could work. Raises ConfigError, Unavailable.

    `warn` is told of each key that is to sign, now or later, and cannot be opened; a start can do without it where
    another one signs now.
    """
    config.policy.revocations.check()
    custody = open_custody(config)
    store = open_store(config)
    try:
        condition = await _condition(store)
        registry, now = Registry(store, custody, publish_lead=config.timing.lead.publish), time.time()
        office = in_office(await registry.signing_keys(), now)
        for key in office:
            if key.public.algorithm not in config.policy.algorithms:
                raise ConfigError(f"signing key {key.kid} is outside profile {config.policy.profile}")
        active = (await _first_signer(registry, TrustedTime(store).judge(condition), now)).public.kid
        for key in office:
            if key.kid != active and (fault := await _key_fault(custody, key)):
                due = "is to sign" if key.state(now) is KeyState.ACTIVE else "is to take over"
                warn(f"signing key {key.kid} {due} and cannot be opened: {fault}")
    finally:
        await store.close()


async def _condition(store: Store) -> Condition:
    """How a store is that takes writes; a disk that is slow for a moment gets another one. Raises Unavailable."""
    for left in reversed(range(WRITE_TRIALS)):
        condition = await store.condition()
        if condition.closed_at is not None:
            raise StoreClosed
        if condition.write_fault is None:
            break
        if not left:
            raise StoreUnavailable(condition.write_fault)
    return condition


async def _first_signer(registry: Registry, reading: Reading, now: float) -> Signer:
    """Raises Unavailable: where no key is active by a clock that is wrong, it names the clock."""
    try:
        return await registry.signer(now)
    except Unavailable as error:
        if error.reason == "signing_key_missing" and reading.fault is not None:
            raise Unavailable("clock_skew", f"no key is active by this clock: {reading.fault}") from None
        raise


async def _key_fault(custody: Custody, key: SigningKey) -> str | None:
    try:
        await custody.signer(key.public, key.sealed)
    except (ConfigError, SignerUnavailable) as error:
        return str(error)
    return None


async def ring_findings(config: Config) -> list[str]:
    """Every promise to verifiers that the signing keys would break from now on. Raises StoreUnavailable."""
    store = open_store(config)
    try:
        return [str(fault) for fault in ring_faults(await store.signing_keys(), config.timing, int(time.time()))]
    finally:
        await store.close()
