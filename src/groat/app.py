"""Joins the parts: from a configuration to an ASGI app."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.routing import Router
from starlette.types import ASGIApp

from groat.keys.invitation import Invitations
from groat.outbound.published import fetch_key_set
from groat.protocol.metadata import JWKS_PATH, issuer_path, metadata_paths
from groat.server.chores.admin_listener import MAX_ADMIN_CONNECTIONS, serve_admin
from groat.server.chores.client_key_watch import ClientKeyWatch
from groat.server.chores.forgetting import Forgetter
from groat.server.chores.rotator import Rotator, Sleep
from groat.server.chores.upkeep import Chore, count_forever, lifespan, reload_at_hangup
from groat.server.connection.crowd import Crowd
from groat.server.connection.descriptors import connection_limit, share
from groat.server.connection.guarded import GuardedEntrance
from groat.server.connection.shedding import Shedding
from groat.server.endpoints.asking import Asking, Clock
from groat.server.endpoints.client_keys import PATH as CLIENT_KEYS_PATH
from groat.server.endpoints.client_keys import EnrolmentEndpoint
from groat.server.endpoints.discovery import JwksEndpoint, MetadataEndpoint
from groat.server.endpoints.exposition import Metrics
from groat.server.endpoints.health import LiveEndpoint, ReadyEndpoint
from groat.server.endpoints.metrics import MetricsEndpoint
from groat.server.endpoints.token import TokenEndpoint
from groat.server.http.admission import Admission
from groat.server.http.entrance import not_found
from groat.server.http.own_host import OwnHost
from groat.server.http.throttle import Throttle
from groat.server.http.waiting_room import WaitingRoom
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog, configure_logging
from groat.server.operations.operator import Operator
from groat.server.registry.health import Health
from groat.server.registry.key_sets import ClientKeySets
from groat.server.registry.key_uses import KeyUses
from groat.server.registry.publishers import Publishers
from groat.server.registry.registry import Registry
from groat.server.settings.config import Config
from groat.server.settings.open_custody import open_custody, open_invitations
from groat.server.settings.open_store import open_store
from groat.server.settings.reload import Reloader, Source, pretty_format
from groat.server.store import Store
from groat.server.store.trusted_time import TrustedTime
from groat.server.turns import Turns


@dataclass(slots=True)
class Parts:
    """What one process consists of. Endpoints know the parts that they are given, and no part knows this.

    `config` is that of the start; what a reload brings is handed to whoever may change by it.
    """

    config: Config
    store: Store
    clock: Clock
    audit: Audit
    trusted: TrustedTime
    registry: Registry
    health: Health
    publishers: Publishers
    operator: Operator
    rotator: Rotator
    crowd: Crowd
    uses: KeyUses
    invitations: Invitations
    turns: Turns
    throttle: Throttle = field(default_factory=Throttle)
    admission: Admission = field(default_factory=Admission)
    room: WaitingRoom = field(default_factory=WaitingRoom)

    def endpoints(self, settings: Config) -> dict[str, ASGIApp]:
        """Every path and who answers there, under these settings."""
        # What caches may keep is that of the start: the rotation counts on it for as long as this process runs.
        root, max_age = issuer_path(settings.policy.issuer), self.config.timing.jwks_max_age
        metadata = MetadataEndpoint(settings.policy, self.registry, max_age)
        return {
            f"{root}{JWKS_PATH}": JwksEndpoint(self.registry, self.clock, max_age),
            **dict.fromkeys(metadata_paths(settings.policy.issuer), metadata),
            f"{root}/token": self._token(settings),
            f"{root}{CLIENT_KEYS_PATH}": self._enrolment(settings),
            "/health": LiveEndpoint(),
            "/livez": LiveEndpoint(),
            "/readyz": ReadyEndpoint(self.health),
        }

    def _token(self, settings: Config) -> TokenEndpoint:
        return TokenEndpoint(self._asking(settings), self.audit, self.turns)

    def _asking(self, settings: Config) -> Asking:
        return Asking(
            settings.policy, self.registry, self.store, self.throttle, self.clock,
            uses=self.uses, admission=self.admission, publishers=self.publishers, room=self.room,
        )  # fmt: skip

    def _enrolment(self, settings: Config) -> EnrolmentEndpoint:
        # The operator of the chores stays as he is; whoever enrols is judged by the policy in force.
        operator, lifetime = replace(self.operator, policy=settings.policy), self.config["clients.key_lifetime"]
        return EnrolmentEndpoint(self._asking(settings), operator, self.invitations, lifetime)

    def adjust(self, settings: Config) -> None:
        """Change what a reload may change in parts that stay."""
        limits = ("client_failures", "source_failures", "failure_share")
        self.throttle.adjust(*(settings[f"throttle.{name}"] for name in limits))
        over_tls = self.config.tls is not None  # such a connection takes some eight times the memory
        self.crowd.exempt = settings["server.trusted_proxies"]
        self.crowd.limit = connection_limit(share(settings["server.connections"], over_tls))
        self.crowd.source_limit = share(settings["server.source_connections"], over_tls)
        self.rotator.timing = settings.timing  # keys stay for as long as their tokens may live

    def chores(self) -> list[Chore]:
        """What is done beside the requests, each for ever."""
        return [
            Forgetter(self.store, self.trusted).run,
            self.health.watch,
            self.rotator.run,
            ClientKeyWatch(self.operator, self.config["clients.key_warning"]).run,
            partial(self.uses.flush_forever, self.store),
            self.publishers.run,
            *self._metrics(),
        ]

    def _metrics(self) -> list[Chore]:
        """Adding up what happened, and where the configuration asks for it, showing that to the operator."""
        metrics, config, audit = Metrics(self.audit.tally), self.config, self.audit
        count: Chore = partial(count_forever, metrics)
        if not config.admin:
            return [count]
        endpoint = MetricsEndpoint(metrics, self.registry, self.store, config["clients.key_warning"], self.trusted)
        guarded = OwnHost(endpoint, frozenset(config["admin.hosts"]))
        # Of its own: whoever fills the public listener must not keep the operator from seeing that.
        crowd = Crowd(MAX_ADMIN_CONNECTIONS, tell=audit.crowded, tally=audit.tally)
        admin = GuardedEntrance({"/metrics": guarded}, not_found, audit, elsewhere="admin", crowd=crowd)
        return [count, partial(serve_admin, admin, config.admin, audit.log)]


@dataclass(frozen=True, slots=True)
class Clockwork:
    """What belongs together: whoever turns the clock faster lets the rotator sleep shorter and turns the other, too."""

    clock: Clock = time.time
    monotonic: Clock = time.monotonic
    sleep: Sleep = asyncio.sleep


def join_parts(config: Config, store: Store, log: EventLog, clockwork: Clockwork, turns: Turns) -> Parts:
    """The parts of one process. Raises ConfigError."""
    audit, custody, clock = Audit(log), open_custody(config), clockwork.clock
    trusted = TrustedTime(store, clock, clockwork.monotonic, log)
    key_sets = ClientKeySets(partial(fetch_key_set, allowed=config["keys.client_networks"]), audit.fetched)
    remembered, lead = config["server.remembered_clients"], config.timing.lead.publish
    registry = Registry(store, custody, key_sets, remembered, lead, lambda _: trusted.steady())
    operator = Operator(store, config.policy, audit, clock)
    return Parts(
        config, store, clock, audit, trusted, registry,
        health=Health(store, registry, trusted, log),
        publishers=Publishers(store, registry, key_sets),
        operator=operator,
        rotator=Rotator(operator, custody, config["keys.algorithm"], config.timing, trusted, clockwork.sleep),
        crowd=Crowd(tell=audit.crowded, tally=audit.tally),
        uses=KeyUses(latest=trusted.latest),
        invitations=open_invitations(config),
        turns=turns,
    )  # fmt: skip


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
    log, turns = log or EventLog(), Turns()
    store = store or open_store(config, log, 1, turns)
    parts = join_parts(config, store, log, clockwork, turns)
    chores, warm = parts.chores(), (parts.registry.warm, parts.publishers.warm)
    life = Router(lifespan=lambda _: lifespan(store, warm, parts.uses, chores, parts.audit))
    entrance = GuardedEntrance({}, life, parts.audit, crowd=parts.crowd)

    def apply(settings: Config) -> None:
        """Put in force what RELOADED lists; requests that are under way end under the settings they began with."""
        parts.adjust(settings)
        entrance.trusted_proxies = settings["server.trusted_proxies"]
        entrance.endpoints = parts.endpoints(settings)
        token = f"{issuer_path(settings.policy.issuer)}/token".encode()
        entrance.shedding = Shedding(parts.audit, parts.admission, token)

    # Last of the chores: it cannot apply anything before everything is there.
    if source is not None:
        chores.append(partial(reload_at_hangup, Reloader(source, apply, log)))
    apply(config)
    return entrance


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
