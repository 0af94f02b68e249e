"""Joins the parts: from a configuration to an ASGI app."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.routing import Router
from starlette.types import ASGIApp

from groat.keys.invariants import ring_faults
from groat.keys.keyring import in_office
from groat.protocol.errors import ConfigError
from groat.protocol.metadata import JWKS_PATH, issuer_path, metadata_paths
from groat.server.admin import MetricsEndpoint, serve_admin
from groat.server.audit import Audit
from groat.server.client_key_sets import ClientKeySets, fetch_key_set
from groat.server.config import Config, load_config
from groat.server.custody import open_custody, open_invitations
from groat.server.discovery import JwksEndpoint, LiveEndpoint, MetadataEndpoint, ReadyEndpoint
from groat.server.enrolment import PATH as CLIENT_KEYS_PATH
from groat.server.enrolment import EnrolmentEndpoint
from groat.server.event_log import EventLog, configure_logging
from groat.server.http import Entrance, not_found
from groat.server.metrics import Metrics
from groat.server.operator import Operator
from groat.server.registry import Registry
from groat.server.rotator import Rotator, Sleep
from groat.server.store import Store, StoreUnavailable
from groat.server.store.sqlite import SqliteStore
from groat.server.throttle import Gcra, Throttle
from groat.server.token_endpoint import Clock, TokenEndpoint

# A digest is kept well past the moment its assertion dies, so that a clock that steps back opens no replay window.
RETENTION_MARGIN_SECONDS = 600
PURGE_INTERVAL_SECONDS = 1.0
METRICS_INTERVAL_SECONDS = 1.0


def open_store(config: Config) -> Store:
    """The store that the configuration names. Raises ConfigError, StoreUnavailable."""
    return SqliteStore.open(config.database)


def create_app(
    config: Config,
    store: Store | None = None,
    clock: Clock = time.time,
    log: EventLog | None = None,
    sleep: Sleep = asyncio.sleep,
) -> ASGIApp:
    """The authorization server. Raises ConfigError or StoreUnavailable when it cannot start.

    `clock` and `sleep` belong together: whoever turns the clock faster lets the rotator sleep shorter.
    """
    custody = open_custody(config)
    store = store or open_store(config)
    policy, log = config.policy, log or EventLog()
    audit = Audit(log)
    registry = Registry(store, custody, _client_key_sets(config, audit))
    operator = Operator(store, policy, audit, clock)
    rotator = Rotator(operator, custody, config["keys.algorithm"], config.timing, sleep)
    throttle = Throttle(Gcra(config["throttle.client_failures"], 60.0), Gcra(config["throttle.source_failures"], 60.0))
    max_age = config.timing.jwks_max_age
    metadata = MetadataEndpoint(policy, registry, max_age)
    prefix = issuer_path(policy.issuer)
    endpoints: dict[str, ASGIApp] = {
        f"{prefix}/token": TokenEndpoint(policy, registry, store, throttle, audit, clock),
        f"{prefix}{CLIENT_KEYS_PATH}": EnrolmentEndpoint(operator, registry, throttle, open_invitations(config), clock),
        f"{prefix}{JWKS_PATH}": JwksEndpoint(registry, clock, max_age),
        **dict.fromkeys(metadata_paths(policy.issuer), metadata),
        "/health": LiveEndpoint(),
        "/livez": LiveEndpoint(),
        "/readyz": ReadyEndpoint(registry, clock),
    }
    metrics = Metrics(audit.tally)
    chores: list[Chore] = [partial(_purge_forever, store, clock), partial(_count_forever, metrics), rotator.run]
    if config.admin:
        admin = Entrance({"/metrics": MetricsEndpoint(metrics, registry, clock)}, not_found, Audit(log))
        chores.append(partial(serve_admin, admin, config.admin, log))
    lifespan = Router(lifespan=lambda _: _lifespan(store, chores))
    return Entrance(endpoints, lifespan, audit, config["server.trusted_proxies"])


def _client_key_sets(config: Config, audit: Audit) -> ClientKeySets:
    def report(host: str, why: str) -> None:
        audit.troubled("client.keys_unavailable", {"host": host, "hint": why})

    return ClientKeySets(partial(fetch_key_set, allowed=config["keys.client_networks"]), report)


Chore = Callable[[], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def _lifespan(store: Store, chores: Sequence[Chore]) -> AsyncIterator[None]:
    """What goes on beside the requests, from the first to the last."""
    tasks = [asyncio.create_task(chore()) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await store.close()


async def _purge_forever(store: Store, clock: Clock) -> None:
    """Forget what no longer needs remembering, a small slice at a time, off the path of any request."""
    while True:
        await asyncio.sleep(PURGE_INTERVAL_SECONDS)
        # A store that cannot purge cannot issue either, and says so on the requests themselves.
        with contextlib.suppress(StoreUnavailable):
            await store.forget_expired(int(clock()) - RETENTION_MARGIN_SECONDS)


async def _count_forever(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(METRICS_INTERVAL_SECONDS)
        metrics.absorb()


def app_from_environment() -> ASGIApp:
    """The app of one worker process: `groat serve` hands the configuration over in the environment."""
    import gc

    config = load_config(Path(os.environ.get("GROAT_CONFIG", "groat.toml")), os.environ)
    log = configure_logging(config["log.level"], _pretty(config["log.format"]))
    app = create_app(config, log=log)
    # What start-up made lives for ever; the collector need not look at it again for every few hundred requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    return app


def _pretty(log_format: str) -> bool | None:
    return None if log_format == "auto" else log_format == "pretty"


async def check_ready(config: Config) -> None:
    """Find out before any worker starts whether they could work. Raises ConfigError, StoreUnavailable."""
    custody = open_custody(config)
    store = open_store(config)
    try:
        registry = Registry(store, custody)
        for key in in_office(await registry.signing_keys(), time.time()):
            if key.public.algorithm not in config.policy.algorithms:
                raise ConfigError(f"signing key {key.kid} is outside profile {config.policy.profile}")
        await registry.signer(time.time())
    finally:
        await store.close()


async def ring_findings(config: Config) -> list[str]:
    """Every promise to verifiers that the signing keys would break from now on. Raises StoreUnavailable."""
    store = open_store(config)
    try:
        return [str(fault) for fault in ring_faults(await store.signing_keys(), config.timing, int(time.time()))]
    finally:
        await store.close()
