"""From options and environment to a running guard."""

import contextlib
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from groat.guard.dialects import DIALECTS
from groat.guard.figures import Figures
from groat.guard.gate import Gate
from groat.protocol.errors import ConfigError
from groat.protocol.uris import LOOPBACK_HOSTS, in_url
from groat.server.connection.crowd import Crowd
from groat.server.connection.descriptors import raise_limit, room
from groat.server.http.in_force import Room
from groat.server.http.source import Networks
from groat.server.log.event_log import EventLog, configure_logging, set_library_level
from groat.serving.listening import bind
from groat.serving.process import Server, bounded
from groat.verifier import Certificates, Verifier
from groat.verifier.options import Options
from groat.verifier.protected_resource import ProtectedResource

MAX_CONNECTIONS: Final = 4096
# By the word that a finding of the verifier has about it; the issuer comes last, since others name it too.
_VARIABLES: Final = (
    ("jwks_uri", "GROAT_JWKS_URI"),
    ("algorithms", "GROAT_ALGORITHMS"),
    ("public_url", "GROAT_PUBLIC_URL"),
    ("require_binding", "GROAT_REQUIRE_BINDING"),
    ("on_status_unknown", "GROAT_ON_STATUS_UNKNOWN"),
    ("documentation", "GROAT_RESOURCE_DOCUMENTATION"),
    ("issuer", "GROAT_ISSUER"),
)


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the command line says.

    `scopes`: those of the API, for its metadata; `cache`: tokens to remember; `certificates`: the networks of the
    proxy, if it writes callers' certificates into the header of its dialect.
    """

    host: str
    port: int
    proxy: str
    scopes: Sequence[str]
    cache: int
    verbose: bool = False
    certificates: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Unchanging:
    """The bounds of the crowd. All callers come from one address, the proxy's, so one address may have all there is."""

    room: Room
    trusted_proxies: Networks = ()

    @property
    def now(self) -> "_Unchanging":
        return self


def run_guard(options: GuardOptions) -> None:
    """Answer checks until a signal ends it; SIGTERM and SIGINT drain. Raises ConfigError before anything listens.

    The issuer and the API come from the environment, as `Verifier.from_env` reads it. The issuer need not be there yet:
    until its keys are, every check is answered 503.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it outlives its terminal, and has no settings to read again
    raise_limit()
    figures = Figures()
    verifier = _verifier(options, figures)
    resource = ProtectedResource(verifier, known=options.scopes)
    if not options.proxy:
        resource.take_no_proofs()  # nobody names the caller's method and URL, so every bound token is refused
    log = configure_logging()
    # Why a token is refused, the verifier says as a warning now and then; a line for each is for who asks for it.
    set_library_level("info" if options.verbose else "warning")
    listener = bind(options.host, options.port, "another: groat guard serve --port 0")
    bounds = room(MAX_CONNECTIONS, MAX_CONNECTIONS, secure=False)
    gate = Gate(resource, DIALECTS[options.proxy], figures, Crowd(_Unchanging(bounds), _teller(log)), log)
    _announce(options, verifier, listener, log)
    server = Server(bounded(gate))
    with contextlib.suppress(SystemExit):  # uvicorn's, with a code of its own
        server.run([listener])
    if server.ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    if server.ended_by is None:
        sys.exit(1)


def _verifier(options: GuardOptions, figures: Figures) -> Verifier:
    """Raises ConfigError whose every finding names its variable: nobody here has written a keyword."""
    given: Options = {"cache_size": options.cache, "observer": figures}
    if options.certificates and not options.proxy:
        raise ConfigError("--certificates needs --proxy, which says in what header they are")
    if options.certificates:
        given["certificates"] = Certificates(options.certificates, options.proxy)
    try:
        return Verifier.from_env(**given)
    except ConfigError as error:
        raise ConfigError(*(_named(str(finding)) for finding in error.findings)) from None


def _named(finding: str) -> str:
    if "GROAT_" in finding:
        return finding
    variable = next((name for word, name in _VARIABLES if word in finding), None)
    return finding if variable is None else f"{variable}: {finding}"


def _teller(log: EventLog) -> Callable[[dict[str, Any]], None]:
    def tell(facts: dict[str, Any]) -> None:
        hint = "let the proxy keep its connections (keepalive), raise the limit of open files, or run another guard"
        with contextlib.suppress(OSError):
            log.emit("warning", "guard.crowded", {**facts, "hint": hint})

    return tell


def _announce(options: GuardOptions, verifier: Verifier, listener: socket.socket, log: EventLog) -> None:
    host, port = listener.getsockname()[:2]
    facts = {
        "address": f"http://{in_url(host)}:{port}",
        "issuer": verifier.issuers[0],
        "audience": verifier.audience,
        "proxy": options.proxy or "none",
    }
    with contextlib.suppress(OSError):
        if not _is_loopback(host):
            log.emit(
                "warning", "guard.exposed", {"hint": "tokens come over plain http: keep this network to the proxy"}
            )
        log.emit("info", "guard.started", facts)


def _is_loopback(host: str) -> bool:
    return host in LOOPBACK_HOSTS or ipaddress.ip_address(host).is_loopback
