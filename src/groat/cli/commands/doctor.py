"""`groat doctor server`: is a running server healthy, seen from outside, and are the keys all right?"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from groat.cli.admin_client import AdminClient
from groat.cli.admin_errors import AdminRefused, AdminUnreachable
from groat.cli.commands.doctor_api import doctor_api
from groat.cli.commands.doctor_client import doctor_client
from groat.cli.commands.health import unready_reason
from groat.cli.session import Exit, Session
from groat.client.errors import request_id
from groat.keys.client_keys import span
from groat.keys.ring.invariants import ring_faults
from groat.keys.ring.keyring import published_keys
from groat.keys.ring.schedule import MAX_PUBLISHED
from groat.outbound.published import Refused, fetch_key_set
from groat.outbound.real_time import monotonic
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.federation.trust import Trust
from groat.protocol.grammar import MAX_AGE
from groat.protocol.jose import parse_jwt, select_key, verify_signature
from groat.protocol.key_set import import_key_set
from groat.protocol.metadata import JWKS_PATH, check_metadata, issuer_path, metadata_paths
from groat.protocol.revocation_feed import MEDIA_TYPE
from groat.server import operations
from groat.server.operations import store as store_operations
from groat.server.operations.clock import check_clock
from groat.server.operations.expiries import client_expiries
from groat.server.registry.private_source import private_context, secret_of
from groat.server.registry.trust_keys import TrustKeys
from groat.server.unavailable import StoreClosed, Unavailable
from groat.verifier.keys.fetch import MAX_BODY_BYTES, FetchError, Response, exchange

if TYPE_CHECKING:
    from groat.server.settings.config import Config

TIMEOUT: Final = 5.0
MAX_SHOWN: Final = 5
MAX_VISITED: Final = 64  # key sets of clients
VISITED_AT_ONCE: Final = 16
UNAUTHORIZED: Final = 401
FEED_PATH: Final = "/revocations"
MAX_FEED_BYTES: Final = 8 * 1024 * 1024


class Failed(Exception):
    """What a check found wrong."""


class Unreachable(Exception):
    """There is no server to examine."""


@dataclass(frozen=True, slots=True)
class Examination:
    """One server and what it should be like. `url`: where it listens, without the path of its issuer.

    `outside`: from a host that does not reach its store, so that only the server is asked.
    """

    config: "Config"
    session: Session
    url: str
    outside: bool = False

    def get(self, path: str, headers: Mapping[str, str] | None = None, limit: int = MAX_BODY_BYTES) -> Response:
        """One GET without redirects. Raises Unreachable."""
        try:
            return exchange(self.url + path, headers or {}, monotonic() + TIMEOUT, limit)
        except (OSError, HTTPException, ValueError, FetchError) as error:
            raise Unreachable(f"{self.url} does not answer: {str(error) or type(error).__name__}") from None

    def health(self) -> str:
        """Of the process alone: a server without its store answers here, and says at /readyz what is wrong."""
        self._status(self.get("/health"), 200, "/health")
        return "the process answers"

    def readiness(self) -> str:
        """What a balancer asks: whether a token could be had now."""
        response = self.get("/readyz")
        reason = unready_reason(response.body)
        self._status(response, 200, f"/readyz (reason: {reason}; its log says more)" if reason else "/readyz")
        return "the store answers and a signing key is at hand"

    def store(self) -> str:
        """Asked from here: the server may have another one, or see it otherwise."""
        condition = self.session.operate(store_operations.look_at_store)
        if condition.closed_at is not None:
            raise StoreClosed
        if condition.write_fault is not None:
            raise Failed(condition.write_fault)
        return "answers and takes writes from this host"

    def clock(self) -> str:
        """The server's clock against this host's: assertions are judged by it."""
        stated = self.get("/health").headers.get("date", "")
        if not stated:
            raise Failed("the server states no Date")
        apart = abs(parsedate_to_datetime(stated).timestamp() - time.time())
        allowed = self.config.policy.clock_tolerance
        if apart > allowed + 1:  # Date has whole seconds
            raise Failed(f"the clocks of server and this host differ by {apart:.0f} s; {allowed} s are tolerated")
        doubt = "" if self.outside else self.session.operate(lambda operator: check_clock(operator.store))
        return f"within {max(1, round(apart))} s of this host's{f'; {doubt}' if doubt else ''}"

    def metadata(self) -> str:
        """At every place where a client may look: a proxy in front may pass on one of them and not the other."""
        paths = metadata_paths(self.config.policy.issuer)
        for path in paths:
            response = self.get(path)
            self._status(response, 200, path)
            document = strict_json.loads_object(response.body)
            check_metadata(document, self.config.policy.issuer, self.config.policy.allow_http_hosts)
        return f"names {self.config.policy.issuer} at {len(paths)} places"

    def key_set(self) -> str:
        """What the server shows against what the store has: they differ where it runs on another store."""
        response = self._jwks()
        keys = import_key_set(strict_json.loads_object(response.body))
        served = {key.kid for key in keys}
        if len(served) > MAX_PUBLISHED:
            raise Failed(f"{len(served)} keys; some verifiers read {MAX_PUBLISHED}")
        if self.outside:
            return f"{len(served)} keys"
        ring = self.session.operate(operations.list_signing_keys)
        expected = {key.kid for key in published_keys(ring, time.time())}
        if served != expected:
            raise Failed(f"it serves {len(served)} keys, the store publishes {len(expected)}: another store or clock?")
        return f"{len(served)} keys, those that the store publishes"

    def caching(self) -> str:
        """max-age must be what the schedule counts on, or less; an entity tag saves the body (AS-MD-14)."""
        response = self._jwks()
        found = MAX_AGE.search(response.headers.get("cache-control", ""))
        most = self.config.timing.jwks_max_age
        if found is None or int(found[1]) > most:
            raise Failed(f"caches may keep the JWKS longer than keys.jwks_max_age ({most} s): restart the server?")
        again = self.get(self._jwks_path(), {"If-None-Match": response.headers.get("etag", "")})
        self._status(again, 304, "the JWKS with its own entity tag")
        return f"max-age {found[1]} s, entity tag"

    def revocations(self) -> str:
        """The feed, by a key that the server publishes; and from when on whoever hears what refuses (AS-RV-08)."""
        response = self.get(issuer_path(self.config.policy.issuer) + FEED_PATH, limit=MAX_FEED_BYTES)
        self._status(response, 200, FEED_PATH)
        feed = parse_jwt(response.body.strip(), MAX_FEED_BYTES)
        if feed.header.media_type != MEDIA_TYPE:
            raise Failed(f"{FEED_PATH} is something else than a feed of revocations")
        keys = import_key_set(strict_json.loads_object(self._jwks().body))
        verify_signature(feed, select_key(feed.header, keys))
        heard = f"heard in 2 s by the feed, {self.config.revocation.list_ttl + 1} s by status lists"
        return f"{heard}, at the end of a token ({span(self.config.policy.token_lifetime)}) by nothing"

    def ring(self) -> str:
        """The judge of the simulations, on the keys of this store: he knows nothing of the planner."""
        keys = self.session.operate(operations.list_signing_keys)
        faults = ring_faults(keys, self.config.timing, int(time.time()))
        if faults:
            raise Failed("; ".join(map(str, faults)))
        return "no verifier meets an unknown kid, no valid token loses its key"

    def client_key_sets(self) -> str:
        """Whether the keys that clients publish can be fetched from this host; of very many, the first ones."""
        uris = self.session.operate(lambda operator: operator.store.published_at(MAX_VISITED))
        # At once, because each may take its whole time, and whoever waits at a terminal gives up before that.
        with ThreadPoolExecutor(VISITED_AT_ONCE) as pool:
            faults = [f"{uri}: {fault}" for uri, fault in zip(uris, pool.map(self._visit, uris), strict=True) if fault]
        if faults:
            more = f" (and {len(faults) - MAX_SHOWN} more)" if len(faults) > MAX_SHOWN else ""
            raise Failed("; ".join(faults[:MAX_SHOWN]) + more)
        return f"{len(uris)} published by clients, each fetched from this host"

    def _visit(self, uri: str) -> str:
        """Why this key set cannot be fetched; empty if it can."""
        try:
            fetch_key_set(uri, self.config.publishing.client_networks)
        except Refused as error:
            return str(error)
        return ""

    def trusts(self) -> str:
        """Whether the keys of trusted issuers can be had from this host, and fit; so that their tokens can come."""
        trusts = [one.trust for one in self.session.operate(operations.list_trusts) if one.trust.enabled]
        # The machinery of the servers, with the same networks: what it cannot have here, they can hardly have either.
        keys = TrustKeys(self.config.publishing.client_networks)
        with ThreadPoolExecutor(VISITED_AT_ONCE) as pool:
            found = pool.map(lambda trust: trust_fault(trust, keys), trusts)
            faults = [f"{trust.name}: {fault}" for trust, fault in zip(trusts, found, strict=True) if fault]
        if faults:
            more = f" (and {len(faults) - MAX_SHOWN} more)" if len(faults) > MAX_SHOWN else ""
            raise Failed("; ".join(faults[:MAX_SHOWN]) + more)
        return f"{len(trusts)} enabled, with keys that can be had from this host"

    def client_keys(self) -> str:
        """No client may be about to lose its last key, or have lost it lately."""
        warning = self.config.client_keys.key_warning
        now = time.time()
        found = self.session.operate(lambda operator: client_expiries(operator.store, now, warning))
        lost = [f"{one.client_id}: {one.words(now)}" for one in found if not one.expiry.replaced]
        if lost:
            more = f" (and {len(lost) - MAX_SHOWN} more)" if len(lost) > MAX_SHOWN else ""
            raise Failed("; ".join(lost[:MAX_SHOWN]) + f"{more}. groat client key list --all --expiring")
        return f"{len(found)} expire within {span(warning)}, each with another key to take over"

    def audit(self) -> str:
        """Every row of the trail, as it was written; what was cut off at its end needs a head that was kept."""
        found = self.session.operate(operations.verify_audit)
        if found.faults:
            more = f" (and {len(found.faults) - MAX_SHOWN} more)" if len(found.faults) > MAX_SHOWN else ""
            raise Failed("; ".join(found.faults[:MAX_SHOWN]) + f"{more}. groat audit verify")
        return f"{found.rows} rows, as they were written; the last is {found.last}"

    def admin(self) -> str:
        """Whether the admin API answers where this configuration has it; without a token at an address it says no."""
        settings = self.config.admin
        if settings.socket is None and not settings.listen:
            return "no admin.socket or admin.listen, and so nobody to ask"
        client = AdminClient.of(self.session, None)
        try:
            client.get("/overview")
        except AdminUnreachable as error:
            raise Failed(str(error)) from None
        except AdminRefused as error:
            if error.status != UNAUTHORIZED:
                raise Failed(f"{client.place}: {error}") from None
        return f"answers at {client.place}"

    def _jwks(self) -> Response:
        response = self.get(self._jwks_path())
        self._status(response, 200, "the JWKS")
        return response

    def _jwks_path(self) -> str:
        return issuer_path(self.config.policy.issuer) + JWKS_PATH

    def _status(self, response: Response, wanted: int, what: str) -> None:
        if response.status != wanted:
            # By this the operator finds the request in the server's log.
            named = request_id(response.headers)
            known = f" [request id {named}]" if named else ""
            raise Failed(f"{what} answers {response.status}, not {wanted}{known}")


def trust_fault(trust: Trust, keys: TrustKeys) -> str:
    """What would have all tokens of this trust refused; empty for nothing."""
    try:
        found = keys.look(trust)
        if trust.review is not None:  # what every one of its tokens needs
            secret_of(trust.review.token_file)
            if trust.review.ca_file:
                private_context(trust.review.ca_file)
    except Refused as error:
        return str(error)
    fitting = [key for key in found if key.algorithms & set(trust.algorithms)]
    return "" if fitting else f"{len(found)} keys, none of them for {', '.join(trust.algorithms)}"


def examine(examination: Examination) -> Iterator[tuple[str, bool, str]]:
    """Each check by name, whether it passed, and what it found. Raises Unreachable."""
    # From the outside to the inside, so that the first failure is mostly the cause of those that follow.
    one = examination
    checks: tuple[Callable[[], str], ...] = (
        one.health, one.readiness, one.store, one.clock, one.metadata, one.key_set, one.caching,
        one.revocations, one.ring, one.client_key_sets, one.trusts, one.client_keys, one.audit, one.admin,
    )  # fmt: skip
    if one.outside:
        checks = (one.health, one.readiness, one.clock, one.metadata, one.key_set, one.caching, one.revocations)
    for check in checks:
        try:
            yield check.__name__, True, check()
        except (Failed, JoseError, ConfigError, Unavailable) as error:
            # One that fails says nothing about the others; without a server there is nothing to say at all.
            yield check.__name__, False, str(error)


@click.group()
def doctor() -> None:
    """Examine what runs."""


doctor.add_command(doctor_client)
doctor.add_command(doctor_api)


@doctor.command("server")
@click.option("--url", metavar="URL", help="Where the server listens; default: the issuer.")
@click.option("--outside", is_flag=True, help="Ask the server alone: from a host that does not reach its store.")
@click.pass_obj
def doctor_server(session: Session, url: str | None, outside: bool) -> None:
    """Check a running server: health, store, clock, metadata, JWKS, keys, trusts, audit trail, admin API."""
    config = session.config()
    # An issuer may have a path, which its documents are below; where it listens is what stands before that.
    parts = urlsplit(url or config.policy.issuer)
    address, rows = f"{parts.scheme}://{parts.netloc}", []
    try:
        for name, passed, detail in examine(Examination(config, session, address, outside)):
            rows.append({"check": name, "outcome": "ok" if passed else "failed", "detail": detail})
    except Unreachable as error:
        # What was found before it went away is shown all the same.
        rows.append({"check": "reachable", "outcome": "failed", "detail": str(error)})
        session.show_list(rows, ("check", "outcome", "detail"), "check")
        raise click.exceptions.Exit(Exit.UNREACHABLE) from None
    session.show_list(rows, ("check", "outcome", "detail"), "outcome")
    if any(row["outcome"] == "failed" for row in rows):
        raise click.exceptions.Exit(Exit.CHECK_FAILED)
