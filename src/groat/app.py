"""Joins the parts: from a configuration to an ASGI app."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.routing import Router
from starlette.types import ASGIApp

from groat.keys.custodians import SignerUnavailable
from groat.keys.custody import Custody, Signer
from groat.keys.invariants import ring_faults
from groat.keys.keyring import KeyState, SigningKey, in_office
from groat.outbound.published import fetch_key_set
from groat.protocol.errors import ConfigError
from groat.protocol.metadata import JWKS_PATH, issuer_path, metadata_paths
from groat.server.admin import MAX_ADMIN_CONNECTIONS, MetricsEndpoint, OwnHost, serve_admin
from groat.server.admission import Admission
from groat.server.audit import Audit
from groat.server.client_key_sets import ClientKeySets
from groat.server.client_key_watch import ClientKeyWatch
from groat.server.config import Config
from groat.server.connection.crowd import Crowd
from groat.server.connection.descriptors import connection_limit, share
from groat.server.connection.shedding import Shedding
from groat.server.custody import open_custody, open_invitations
from groat.server.discovery import JwksEndpoint, LiveEndpoint, MetadataEndpoint, ReadyEndpoint
from groat.server.enrolment import PATH as CLIENT_KEYS_PATH
from groat.server.enrolment import EnrolmentEndpoint
from groat.server.event_log import EventLog, configure_logging
from groat.server.forgetting import Forgetter
from groat.server.health import Health
from groat.server.http import Entrance, not_found
from groat.server.key_uses import KeyUses
from groat.server.metrics import Metrics
from groat.server.operator import Operator
from groat.server.publishers import Publishers
from groat.server.registry import Registry
from groat.server.reload import Reloader, Source, pretty_format
from groat.server.rotator import Rotator, Sleep
from groat.server.store import OPERATOR_PATIENCE, Store, StoreClosed, StoreUnavailable
from groat.server.store.engines import open_engine
from groat.server.throttle import Throttle
from groat.server.token_endpoint import Clock, TokenEndpoint
from groat.server.trusted_time import Reading, TrustedTime
from groat.server.unavailable import Unavailable
from groat.server.waiting_room import WaitingRoom

METRICS_INTERVAL_SECONDS = 1.0
CHORE_PAUSE_SECONDS = 1.0


def open_store(config: Config, log: EventLog | None = None, patience: int = OPERATOR_PATIENCE) -> Store:
    """The store that the configuration names, for an operator; `log` hears when it goes away and comes back.

    Raises ConfigError, StoreUnavailable. Not checked: whether PostgreSQL answers; it is asked at the first use.
    """

    def tell(event: str, facts: dict[str, Any]) -> None:
        if log is not None:
            with contextlib.suppress(OSError):
                log.emit("warning" if event == "store.up" else "error", event, facts)

    return open_engine(config, tell, patience)


def create_app(
    config: Config,
    store: Store | None = None,
    clock: Clock = time.time,
    log: EventLog | None = None,
    source: Source | None = None,
    sleep: Sleep = asyncio.sleep,
    monotonic: Clock = time.monotonic,
) -> ASGIApp:
    """The authorization server. Raises ConfigError or Unavailable when it cannot start.

    With a `source` it reads its settings again at SIGHUP, for as long as it runs. `clock`, `sleep` and `monotonic`
    belong together: whoever turns the clock faster lets the rotator sleep shorter, and turns the other clock, too.
    """
    custody, invitations = open_custody(config), open_invitations(config)
    log = log or EventLog()
    store = store or open_store(config, log, patience=1)
    audit, throttle, admission = Audit(log), Throttle(), Admission()
    remembered = config["server.remembered_clients"]
    key_sets, lead = _client_key_sets(config, audit), config.timing.lead.publish
    trusted = TrustedTime(store, clock, monotonic, log)
    registry = Registry(store, custody, key_sets, remembered, lead, lambda _: trusted.steady())
    publishers, room = Publishers(store, registry, key_sets), WaitingRoom()
    health = Health(store, registry, trusted, log)
    operator = Operator(store, config.policy, audit, clock)
    rotator = Rotator(operator, custody, config["keys.algorithm"], config.timing, trusted, sleep)
    max_age = config.timing.jwks_max_age
    endpoints: dict[str, ASGIApp] = {
        f"{issuer_path(config.policy.issuer)}{JWKS_PATH}": JwksEndpoint(registry, clock, max_age),
        "/health": LiveEndpoint(),
        "/livez": LiveEndpoint(),
        "/readyz": ReadyEndpoint(health),
    }
    watch, uses = ClientKeyWatch(operator, config["clients.key_warning"]), KeyUses(latest=trusted.latest)
    chores: list[Chore] = [Forgetter(store, trusted).run, health.watch, rotator.run, watch.run]
    chores += [partial(uses.flush_forever, store), publishers.run, *_metrics(config, audit, registry, store, trusted)]
    warm = (registry.warm, publishers.warm)
    crowd = Crowd(tell=audit.crowded, tally=audit.tally)
    lifespan = Router(lifespan=lambda _: _lifespan(store, warm, uses, chores, audit))
    entrance = Entrance(endpoints, lifespan, audit, crowd=crowd)

    def apply(settings: Config) -> None:
        """Put in force what RELOADED lists; requests that are under way end under the settings they began with."""
        policy, root = settings.policy, issuer_path(settings.policy.issuer)
        throttle.adjust(
            *(settings[f"throttle.{name}"] for name in ("client_failures", "source_failures", "failure_share"))
        )
        entrance.trusted_proxies = crowd.exempt = settings["server.trusted_proxies"]
        crowd.limit = connection_limit(share(settings["server.connections"], config.tls is not None))
        crowd.source_limit = share(settings["server.source_connections"], config.tls is not None)
        rotator.timing = settings.timing  # keys stay for as long as their tokens may live
        token = TokenEndpoint(
            policy, registry, store, throttle, audit, clock,
            uses=uses, admission=admission, publishers=publishers, room=room,
        )  # fmt: skip
        metadata = MetadataEndpoint(policy, registry, max_age)
        enrolment = EnrolmentEndpoint(
            replace(operator, policy=policy), registry, throttle, invitations, config["clients.key_lifetime"], clock,
            admission=admission,
        )  # fmt: skip
        endpoints.update(dict.fromkeys(metadata_paths(policy.issuer), metadata))
        endpoints[f"{root}/token"] = token
        entrance.shedding = Shedding(audit, admission, f"{root}/token".encode())
        endpoints[f"{root}{CLIENT_KEYS_PATH}"] = enrolment

    if source is not None:
        chores.append(partial(_reload_at_hangup, Reloader(source, apply, log)))
    apply(config)
    return entrance


def _client_key_sets(config: Config, audit: Audit) -> ClientKeySets:
    return ClientKeySets(partial(fetch_key_set, allowed=config["keys.client_networks"]), audit.fetched)


Chore = Callable[[], Coroutine[Any, Any, None]]


def _metrics(config: Config, audit: Audit, registry: Registry, store: Store, trusted: TrustedTime) -> list[Chore]:
    """Adding up what happened, and where the configuration asks for it, showing that to the operator."""
    metrics = Metrics(audit.tally)
    chores: list[Chore] = [partial(_count_forever, metrics)]
    if config.admin:
        endpoint = MetricsEndpoint(metrics, registry, store, config["clients.key_warning"], trusted)
        guarded = OwnHost(endpoint, frozenset(config["admin.hosts"]))
        crowd = Crowd(MAX_ADMIN_CONNECTIONS, tell=audit.crowded, tally=audit.tally)
        admin = Entrance({"/metrics": guarded}, not_found, audit, elsewhere="admin", crowd=crowd)
        chores.append(partial(serve_admin, admin, config.admin, audit.log))
    return chores


@contextlib.asynccontextmanager
async def _lifespan(
    store: Store, warm: Sequence[Chore], uses: KeyUses, chores: Sequence[Chore], audit: Audit
) -> AsyncIterator[None]:
    """What goes on beside the requests, from the first to the last; first of all what warms up."""
    for step in warm:
        await step()
    tasks = [asyncio.create_task(_keep_doing(chore, audit)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await uses.flush_finally(store)
        await store.close()


async def _keep_doing(chore: Chore, audit: Audit) -> None:
    """A bug in one turn of a chore must not end it silently: the log has the traceback, and it begins anew."""
    while True:
        try:
            await chore()
        except Exception:
            audit.broken({})
        await asyncio.sleep(CHORE_PAUSE_SECONDS)


async def _reload_at_hangup(reloader: Reloader) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloader.reload)
    try:
        await loop.create_future()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _count_forever(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(METRICS_INTERVAL_SECONDS)
        metrics.absorb()


def worker_app(source: Source) -> ASGIApp:
    """The app of one process of `groat serve`."""
    import gc

    config = source.config
    log = configure_logging(config["log.level"], pretty_format(config))
    app = create_app(config, log=log, source=source)
    # What start-up made lives for ever; the collector need not look at it again for every few hundred requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    return app


def _refuse(finding: str) -> None:
    raise ConfigError(finding)


async def check_ready(config: Config, warn: Callable[[str], None] = _refuse) -> None:
    """Find out before any worker starts whether they could work. Raises ConfigError, Unavailable.

    `warn` is told of each key that is to sign, now or later, and cannot be opened; a start can do without it where
    another one signs now.
    """
    custody = open_custody(config)
    store = open_store(config)
    try:
        condition = await store.condition()
        if condition.closed_at is not None:
            raise StoreClosed
        if condition.write_fault is not None:
            raise StoreUnavailable(condition.write_fault)
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
