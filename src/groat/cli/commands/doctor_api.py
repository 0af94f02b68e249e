"""`groat doctor api`: does an API on this host find its issuer, and do callers find the API at its public URL?"""

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Final
from urllib.parse import urljoin, urlsplit

import click

from groat.cli.commands.doctor_client import FAILED, OK, UNKNOWN, show
from groat.cli.session import Exit, Session
from groat.outbound.authorities import tls_context
from groat.outbound.clocks import Clocks
from groat.outbound.connecting import connect
from groat.outbound.real_time import monotonic
from groat.protocol import strict_json
from groat.protocol.access_token import DEFAULT_ALGORITHMS
from groat.protocol.binding import Binding
from groat.protocol.differences import mismatch, shown
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.models import MIN_CLOCK_TOLERANCE
from groat.protocol.resource_metadata import resource_metadata_url
from groat.verifier import Verifier
from groat.verifier.environment import Found, from_environment
from groat.verifier.keys.fetch import FetchError, KeyFetcher, Response, https_get
from groat.verifier.keys.schedule import Schedule
from groat.verifier.keys.source import KeySource
from groat.verifier.possession import public_bases
from groat.verifier.status.opening import ask_once
from groat.verifier.status.publisher import Publisher
from groat.verifier.status.revocation import UNKNOWN as UNKNOWN_STATUS
from groat.verifier.status.revocation import Mode, Revocation

SECONDS: Final = 5.0
AWAY: Final = frozenset({502, 503, 504})
_CANNOT: Final = "whether a proxy changes the path before the API sees it, only a bound call shows: groat call --dpop"


class Silent(Exception):
    """Nobody answered; `str(error)` says where and why."""


@dataclass(slots=True)
class Subject:
    """One API by its settings. `found`: those that need not be there; `bases`: its public URLs, without final slash.

    What one check learns for a later one is kept: the times that the issuer stated, and where a challenge sends callers
    for the metadata.
    """

    issuer: str
    audience: str
    found: Found
    bases: tuple[str, ...]
    jwks_uri: str | None = None
    apart: list[float] = field(default_factory=list)
    named: str | None = None

    def metadata(self) -> tuple[str, str]:
        """The issuer's own (RFC 8414), read as a verifier reads them; not needed where the address of keys is given."""
        self.jwks_uri = self.found.get("jwks_uri")
        if self.jwks_uri is not None:
            return UNKNOWN, "not read: GROAT_JWKS_URI says where the keys are"
        self.jwks_uri = self._fetcher(None).locate()
        return OK, f"name {self.issuer}, and keys at {shown(self.jwks_uri)}"

    def jwks(self) -> tuple[str, str]:
        """The keys, and whether one of them is for an algorithm that this API accepts."""
        if self.jwks_uri is None:
            return UNKNOWN, "nobody says where the keys are"
        keys = self._fetcher(self.jwks_uri).fetch(None, 0.0).by_kid.values()
        # Keys that are all for other algorithms look healthy until the first token comes, and is refused.
        wanted = set(self.found.get("algorithms", DEFAULT_ALGORITHMS))
        fitting = [key for key in keys if wanted & set(key.algorithms)]
        if not fitting:
            return FAILED, f"{len(keys)} keys, none of them for {', '.join(sorted(wanted))}"
        return OK, f"{len(fitting)} keys that tokens can be verified with"

    def clock(self) -> tuple[str, str]:
        """This host's against the Date of the issuer's answers: tokens are judged by it."""
        if not self.apart:
            return UNKNOWN, "the issuer states no Date"
        # An answer that was long under way states an old time; the best one is the nearest to the truth.
        apart = min(self.apart)
        if apart > MIN_CLOCK_TOLERANCE + 1:  # Date has whole seconds
            return FAILED, f"the clocks of the issuer and of this host differ by {apart:.0f} s"
        return OK, f"within {max(1, round(apart))} s of the issuer's"

    def tls(self) -> tuple[str, str]:
        """The certificates of the issuer and of the public URLs, by the authorities that a verifier trusts."""
        # The handshake is made anew, since a connection that brought an answer does not tell what it has seen.
        origins = dict.fromkeys(
            f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in (self.issuer, *self.bases)
        )
        secure = [origin for origin in origins if origin.startswith("https:")]
        told = [f"{origin}: {_handshake(origin)}" for origin in secure]
        told += [f"{origin}: plain http" for origin in origins if origin not in secure]
        return OK if secure else UNKNOWN, "; ".join(told)

    def public_url(self) -> tuple[str, str]:
        """What a stranger gets there: a challenge that leads to the metadata of this audience (RFC 9728 5.1)."""
        if not self.bases:
            return UNKNOWN, "the audience is no URL; --public-url says where callers find this API"
        for base in self.bases:
            outcome, detail = self._asked(base)
            if outcome != OK:
                break
        return outcome, detail

    def resource(self) -> tuple[str, str]:
        """The API's own metadata (RFC 9728 3), where a caller who knows the audience looks for them."""
        url = resource_metadata_url(self.audience)
        if url is None:
            return UNKNOWN, "the audience is no https URL, so it has no metadata (RFC 9728 1.2)"
        # Nobody there is no fault of the API: callers from elsewhere may reach what this host does not.
        try:
            response = _get(url)
        except Silent as error:
            return UNKNOWN, str(error)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status != 200 or kind != "application/json":
            said = f"{url} answers {response.status}{f' ({shown(kind)})' if kind else ''}, no metadata"
            # An API need not have metadata (RFC 9728 3); one that sends callers there has them, hidden.
            if url == self.named:
                return FAILED, f"{said}, though the API's challenge names it: let the proxy pass that path on unchanged"
            return UNKNOWN, said
        document = strict_json.loads_object(response.body)
        if document.get("resource") != self.audience:
            return FAILED, f"{url} is of another API: {mismatch('resource', document.get('resource'), self.audience)}"
        issuers = document.get("authorization_servers")
        if not isinstance(issuers, list) or self.issuer not in issuers:
            return FAILED, f"{url} does not name {self.issuer} in authorization_servers, but {shown(str(issuers))}"
        return OK, f"{url} names the audience and the issuer"

    def proofs(self) -> tuple[str, str]:
        """Which URLs the proofs of bound calls must name (RFC 9449 4.3), as far as settings say that."""
        if not self.bases:
            needed = self.found.get("require_binding", "none") in (Binding.DPOP, Binding.ANY)
            return FAILED if needed else UNKNOWN, "no URL is known, so no proof fits: set GROAT_PUBLIC_URL"
        below = " or ".join(self.bases)
        home = public_bases(None, self.audience, frozenset(self.found.get("allow_http_hosts", ())))
        if home and not any(base == home[0] or base.startswith(f"{home[0]}/") for base in self.bases):
            differs = f"; not {home[0]}, the host of the audience: a caller who writes that gets dpop_url"
            return OK, f"must name URLs below {below}{differs}. {_CANNOT}"
        # Without a public URL only the host of the audience is put before the path that the API sees.
        path = urlsplit(self.audience).path.rstrip("/")
        if path and home == self.bases:
            below += f" (if a proxy takes {shown(path)} away: GROAT_PUBLIC_URL={shown(home[0] + path)})"
        return OK, f"must name URLs below {below}. {_CANNOT}"

    def revocation(self) -> tuple[str, str]:
        """How this API hears that tokens were taken back, from when on it refuses them, and whether that works now."""
        # By a first question, as the verifier would put it: a promise that cannot be kept now is a failure.
        chosen = self.found.get("revocation", Revocation(Mode.NONE))
        fetcher = self._fetcher(self.found.get("jwks_uri"))
        keys = KeySource(fetcher, Schedule())
        try:
            said = ask_once(chosen, Publisher(fetcher, keys, Clocks()), self.audience)
        except FetchError as error:
            return FAILED, f"{chosen.mode}: {error}"
        away = self.found.get("on_status_unknown", UNKNOWN_STATUS[0])
        then = "" if chosen.mode == Mode.NONE else f"; {said}; while nobody can tell: {away}"
        return OK, f"{chosen.mode}: {chosen.bound}{then}"

    def _asked(self, base: str) -> tuple[str, str]:
        # A base may be a route of its own (/mcp), or a prefix that a proxy knows with its slash alone.
        url, response = base, Response(0, {}, b"")
        for url in (base, f"{base}/") if urlsplit(base).path else (base,):
            response = _get(url)
            if response.status == 401:
                return self._challenged(url, response)
            if response.status in AWAY:
                return (
                    FAILED,
                    f"{url} answers {response.status}: a proxy that does not reach the API, or an API without keys",
                )
            if 300 <= response.status < 400 and not _leads_home(url, response):
                elsewhere = shown(response.headers.get("location", ""))
                return FAILED, f"{url} leads to {elsewhere}: what sends callers there does not know its public URL"
        return UNKNOWN, f"{url} answers {response.status} without asking for a token; name a URL that needs one"

    def _challenged(self, url: str, response: Response) -> tuple[str, str]:
        from groat.client.challenge import challenges_of

        challenges = challenges_of(response.headers.get("www-authenticate", ""))
        if not challenges:
            return FAILED, f"{url} answers 401 without WWW-Authenticate: a proxy drops it, or refuses by itself"
        named = [words["resource_metadata"] for words in challenges.values() if words.get("resource_metadata")]
        # Compared, never followed: whatever answers in the API's place could send us anywhere (RFC 9728 7.7).
        own = resource_metadata_url(self.audience)
        self.named = named[0] if named else None
        if own is not None and named and named[0] != own:
            return FAILED, f"{url} is an API of another audience: {mismatch('resource_metadata', named[0], own)}"
        if not named:
            return (
                OK,
                f"{url} asks for a token ({', '.join(sorted(challenges))}); it does not say where its metadata are",
            )
        return OK, f"{url} asks for a token ({', '.join(sorted(challenges))}) and names the metadata of the audience"

    def _fetcher(self, jwks_uri: str | None) -> KeyFetcher:
        hosts = frozenset(self.found.get("allow_http_hosts", ()))
        return KeyFetcher(self.issuer, jwks_uri, hosts, self._watched)

    def _watched(self, url: str, headers: Mapping[str, str]) -> Response:
        """As a verifier asks; the time that the answer states is kept. What a cache has is older by its Age."""
        from groat.client.retry import http_date

        response = https_get(url, headers, monotonic() + SECONDS)
        stated, age = http_date(response.headers.get("date", "")), response.headers.get("age", "")
        if stated is not None:
            self.apart.append(abs(stated + (int(age) if age.isdecimal() and len(age) < 10 else 0) - time.time()))
        return response


def _get(url: str) -> Response:
    """One GET without a token and without redirects. Raises Silent."""
    try:
        return https_get(url, {"Accept": "application/json"}, monotonic() + SECONDS)
    except ssl.SSLCertVerificationError as error:
        raise Silent(f"{url}: {_distrust(error)}") from None
    except (OSError, HTTPException, ValueError, FetchError) as error:
        raise Silent(f"{url} does not answer: {shown(str(error) or type(error).__name__)}") from None


def _handshake(origin: str) -> str:
    """Version, and how long the certificate is good. Raises Silent."""
    parts, deadline = urlsplit(origin), monotonic() + SECONDS
    try:
        with (
            connect(parts.hostname or "", parts.port or 443, deadline) as plain,
            tls_context().wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            end = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
            return f"{secure.version()}, certificate until {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(end))}"
    except ssl.SSLCertVerificationError as error:
        raise Silent(f"{origin}: {_distrust(error)}") from None
    except OSError as error:
        raise Silent(f"{origin} does not answer: {shown(str(error) or type(error).__name__)}") from None


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    return (
        f"the certificate is not trusted: {shown(error.verify_message)}; SSL_CERT_FILE names the authorities to trust"
    )


def _leads_home(url: str, response: Response) -> bool:
    """Whether a redirect stays at the scheme, host and port that were asked."""
    try:
        there = urlsplit(urljoin(url, response.headers.get("location", "")))
    except ValueError:
        return False
    return (there.scheme, there.netloc) == urlsplit(url)[:2]


def examine(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Each check: its name, its outcome, and what it found. One that fails hides none of the others."""
    checks: tuple[Callable[[], tuple[str, str]], ...] = (
        subject.metadata,
        subject.jwks,
        subject.clock,
        subject.tls,
        subject.public_url,
        subject.resource,
        subject.proofs,
        subject.revocation,
    )
    for check in checks:
        try:
            yield check.__name__, *check()
        except (Silent, FetchError, JoseError, ConfigError) as error:
            yield check.__name__, FAILED, str(error)


def subject_of(issuer: str, audience: str, public_urls: Iterable[str]) -> Subject:
    """By options and environment, as `Verifier.from_env` reads it. Raises ConfigError for what that would refuse."""
    given = {"GROAT_ISSUER": issuer, "GROAT_AUDIENCE": audience}
    if listed := ",".join(public_urls):
        given["GROAT_PUBLIC_URL"] = listed
    found = from_environment({**os.environ, **given})
    # Made for what it raises: the API would not start with settings that this refuses. It asks nobody.
    Verifier(issuer, audience, **found)
    hosts = frozenset(found.get("allow_http_hosts", ()))
    return Subject(issuer, audience, found, public_bases(found.get("public_url"), audience, hosts))


@click.command("api")
@click.option("--issuer", required=True, envvar="GROAT_ISSUER", metavar="URL", help="Whose tokens the API takes.")
@click.option("--audience", required=True, envvar="GROAT_AUDIENCE", metavar="URI", help="What the API is called.")
@click.option(
    "--public-url",
    "public_urls",
    multiple=True,
    metavar="URL",
    help="By which callers know it. Default: GROAT_PUBLIC_URL, or the host of the audience. May be repeated.",
)
@click.pass_obj
def doctor_api(session: Session, issuer: str, audience: str, public_urls: tuple[str, ...]) -> None:
    """Check from an API's host: the issuer, its keys and clock, TLS, and what callers find at the public URL.

    Exit code 7: a check failed. What nobody can tell ("unknown") is no failure.
    """
    found = examine(subject_of(issuer, audience, public_urls))
    rows = [{"check": name, "outcome": outcome, "detail": detail} for name, outcome, detail in found]
    show(session, rows)
    if any(row["outcome"] == FAILED for row in rows):
        raise click.exceptions.Exit(Exit.CHECK_FAILED)
