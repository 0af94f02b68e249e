"""The admin API of a process, made of its parts."""

from dataclasses import replace

from groat.admin_api.callers import Asker, Gate, names_of, own_users
from groat.admin_api.endpoint import AdminApi
from groat.admin_api.problems import BELOW, send_problem
from groat.admin_api.rows import Desk
from groat.keys.custody import Custody
from groat.server.chores.admin_listener import Annex
from groat.server.endpoints.parts import Parts
from groat.server.endpoints.standing import Standing
from groat.server.http.throttle import Throttle
from groat.server.operations.operator import Operator
from groat.server.settings.config import Config
from groat.verifier.possession import DEFAULT, Possession


def admin_api(config: Config, parts: Parts, custody: Custody) -> Annex:
    """What the admin listener has besides the metrics."""
    address, hosts = config.admin.address, config.admin.hosts
    desk = Desk(parts.operator, custody, parts.invitations, parts.health, parts.audit.refusals, config)
    possession = Possession(DEFAULT, names_of(address.host, address.port, hosts))
    users = own_users(frozenset(config.admin.socket_users))
    standing = Standing(parts.asking.registry, parts.asking.store)
    gate = Gate(config.policy, standing, possession, Throttle(), users, parts.time.clock)

    def acting(asker: Asker) -> Operator:
        return replace(parts.operator, actor=asker.actor)

    return Annex(BELOW, AdminApi(desk, gate, acting), send_problem)
