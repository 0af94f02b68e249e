"""What a reload may change, as one value.

A request takes the value along that it found, so that it ends under the settings it began with; what lives longer than
a request asks for it each time. Nobody is told of a change, and nothing is changed in part.
"""

import math
from dataclasses import dataclass, field

from groat.keys.ring.schedule import Timing
from groat.protocol.models import Policy
from groat.server.http.certificates import CertificateProxies
from groat.server.http.source import Networks


@dataclass(frozen=True, slots=True)
class Limits:
    """Failures a minute, of one source in the name of one client and of one source; percent of the time for all."""

    client_failures: int = 30
    source_failures: int = 300
    failure_share: int = 50


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections one listener of one process has, and how many of them one address."""

    connections: float = math.inf
    source_connections: float = math.inf


@dataclass(frozen=True, slots=True)
class InForce:
    """What the server goes by now. `trusted_proxies`: whose word counts for where a request comes from.

    `certificate_proxies`: whose word counts for the caller's certificate.
    """

    policy: Policy
    timing: Timing = field(default_factory=Timing)  # of signing keys: they stay for as long as their tokens may live
    limits: Limits = field(default_factory=Limits)
    room: Room = field(default_factory=Room)
    trusted_proxies: Networks = ()
    certificate_proxies: CertificateProxies = ()


@dataclass(slots=True)
class Current:
    """Where it is found. Who sets `now` puts all of it in force at once."""

    now: InForce
