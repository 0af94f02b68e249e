"""Joins the parts: from a configuration to an ASGI app."""

import asyncio
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

from starlette.routing import Router
from starlette.types import ASGIApp

from groat.keys.custody import Custody
from groat.keys.ring.schedule import Timing
from groat.outbound.published import fetch_key_set
from groat.server.chores.admin_listener import admin_entrance, serve_admin
from groat.server.chores.audit_retention import AuditRetention
from groat.server.chores.client_key_watch import ClientKeyWatch
from groat.server.chores.forgetting import Forgetter
from groat.server.chores.reloading import in_force, reload_at_hangup
from groat.server.chores.rotator import Rotator, Sleep
from groat.server.chores.upkeep import Chore, count_forever, lifespan
from groat.server.connection.crowd import Crowd
from groat.server.connection.guarded import GuardedEntrance
from groat.server.connection.shedding import Shedding
from groat.server.endpoints import LISTS, ROUTES
from groat.server.endpoints.asking import Asking, Clock
from groat.server.endpoints.exposition import MULTIPROCESS_FOLDER, Metrics
from groat.server.endpoints.feed import Feed
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.places import Places
from groat.server.endpoints.statuses import StatusBook, StatusLists
from groat.server.endpoints.workloads import Workloads
from groat.server.http.in_force import Current
from groat.server.http.routes import served, with_tree
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog, configure_logging
from groat.server.log.refusals import Refusals
from groat.server.operations.operator import Operator
from groat.server.operations.signing_keys import Ring
from groat.server.registry.api_book import ApiBook
from groat.server.registry.health import Health
from groat.server.registry.key_sets import ClientKeySets
from groat.server.registry.key_uses import KeyUses
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.registry.token_reviews import TokenReviews
from groat.server.registry.trust_keys import TrustKeys
from groat.server.registry.trusts import Trusts
from groat.server.settings.config import Config
from groat.server.settings.open_custody import open_custody, open_invitations, open_nonces
from groat.server.settings.open_store import open_store
from groat.server.settings.reload import Reloader, Source
from groat.server.store import Store
from groat.server.store.audit_trail import Face, this_process
from groat.server.store.trusted_time import TrustedTime
from groat.server.turns import Turns


@dataclass(frozen=True, slots=True)
class Clockwork:
    """What belongs together: whoever turns the clock faster lets the rotator sleep shorter and turns the other, too."""

    clock: Clock = time.time
    monotonic: Clock = time.monotonic
    sleep: Sleep = asyncio.sleep


def join_parts(
    config: Config, store: Store, custody: Custody, log: EventLog, clockwork: Clockwork, turns: Turns
) -> Parts:
    """What the endpoints of one process are made of. Raises ConfigError."""
    audit = Audit(log, refusals=Refusals.of_folder(os.environ.get(MULTIPROCESS_FOLDER)))
    trusted = TrustedTime(store, clockwork.clock, clockwork.monotonic, log)
    key_sets = ClientKeySets(partial(fetch_key_set, allowed=config.publishing.client_networks), audit.fetched)
    remembered, lead = config.capacity.remembered_clients, config.timing.lead.publish
    registry = Registry(store, custody, key_sets, remembered, lead, lambda _: trusted.steady())
    trust_keys = TrustKeys(config.publishing.client_networks, audit.looked_for_keys, key_sets.turns)
    reviews = TokenReviews(config.publishing.client_networks)
    workloads = Workloads(registry, Trusts(store, registry), trust_keys, reviews)
    publishers, uses = Publishers(store, registry, key_sets, workloads.tend), KeyUses(latest=trusted.latest)
    asking = Asking(registry, store, publishers, workloads, clockwork.clock, uses=uses)
    feed = Feed(registry, store, config.policy.issuer, clockwork.clock, config.revocation.list_lifetime)
    book = StatusBook(registry, store)
    return Parts(
        asking=asking,
        # The same counts: who fails here has failed there. What APIs use of their keys is not noted.
        apis_asking=replace(asking, registry=ApiBook(store, custody, publish_lead=lead), uses=KeyUses()),
        audit=audit,
        operator=Operator(store, config.policy, audit, clockwork.clock),
        invitations=open_invitations(config),
        nonces=open_nonces(config),
        health=Health(store, registry, trusted, log),
        metrics=Metrics(audit.tally, [route.ledger for route in ROUTES]),
        time=trusted,
        turns=turns,
        feed=feed,
        revocation=config.revocation,
        lists=StatusLists(feed, book, config.policy.issuer, config.revocation, clockwork.clock),
        places=Places(store, clockwork.clock),
        jwks_max_age=config.timing.jwks_max_age,
        key_lifetime=config.client_keys.key_lifetime,
        key_warning=config.client_keys.key_warning,
    )


def list_chores(config: Config, parts: Parts, custody: Custody, current: Current, sleep: Sleep) -> list[Chore]:
    """What is done beside the requests, each for ever."""
    asking, rotating = parts.asking, replace(parts.operator, actor=this_process(Face.ROTATOR))
    ring = Ring(rotating, custody, config.key_files.algorithm)

    def timing() -> Timing:
        return current.now.timing

    chores: list[Chore] = [
        Forgetter(asking.store, parts.time).run,
        parts.health.watch,
        Rotator(ring, timing, parts.time, sleep).run,
        ClientKeyWatch(parts.operator, parts.key_warning).run,
        partial(asking.uses.flush_forever, asking.store),
        asking.publishers.run,
        partial(count_forever, parts.metrics),
    ]
    if keep := config.audit_trail.keep:
        chores.append(AuditRetention(parts.operator, keep, parts.time).run)
    if address := config.admin.address:
        chores.append(partial(serve_admin, _admin(config, parts, custody), address, parts.audit.log))
    return chores


def _admin(config: Config, parts: Parts, custody: Custody) -> ASGIApp:
    """Imported where it is wanted: a server without an admin listener starts a sixth faster."""
    from groat.admin_api.joined import admin_api

    return admin_entrance(config, parts, admin_api(config, parts, custody))


def create_app(
    config: Config,
    store: Store | None = None,
    clockwork: Clockwork = Clockwork(),
    log: EventLog | None = None,
    source: Source | None = None,
) -> ASGIApp:
    """The authorization server. Raises ConfigError or Unavailable when it cannot start.

    With a `source` it reads its settings again at SIGHUP, for as long as it runs.
    """
    log, turns, current = log or EventLog(), Turns(), Current(in_force(config))
    store, custody = store or open_store(config, log, 1, turns), open_custody(config)
    parts = join_parts(config, store, custody, log, clockwork, turns)
    audit, asking, policy = parts.audit, parts.asking, config.policy
    chores = list_chores(config, parts, custody, current, clockwork.sleep)

    def apply(settings: Config) -> None:
        current.now = in_force(settings)

    if source is not None:
        chores.append(partial(reload_at_hangup, Reloader(source, apply, log)))
    warm = (asking.registry.warm, asking.publishers.warm, asking.workloads.warm)
    return GuardedEntrance(
        with_tree(served(ROUTES, parts, policy.issuer), LISTS, parts, policy.issuer), current, audit,
        lifespan=Router(lifespan=lambda _: lifespan(store, warm, asking.uses, chores, audit)),
        shedding=Shedding(audit, asking.admission, urlsplit(policy.token_endpoint).path.encode()),
        crowd=Crowd(current, audit.crowded, audit.tally),
    )  # fmt: skip


def worker_app(source: Source) -> ASGIApp:
    """The app of one process of `groat serve`."""
    config = source.config
    log = configure_logging(config.logging.level, config.logging.pretty)
    return create_app(config, log=log, source=source)
