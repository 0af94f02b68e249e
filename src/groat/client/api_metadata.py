"""What an API says of itself (RFC 9728), read by a caller that believes none of it but whether it goes on.

The document never leads anywhere: it is read from the API's own origin, and the issuers that it names are compared
with the one that is configured, and not asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from groat.client.challenge import ApiResponse, named_metadata
from groat.client.errors import (
    ClientError,
    IssuerNotTrusted,
    MetadataInvalid,
    ServerUnreachable,
    TokenResponseInvalid,
    foreign,
)
from groat.client.origin import Origin, parse_origin, show_origin
from groat.client.wire import Answer, Outgoing, Transport
from groat.protocol import strict_json
from groat.protocol.differences import difference, mismatch
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.grammar import SCOPE_TOKEN
from groat.protocol.resource_metadata import RESOURCE_WELL_KNOWN, resource_metadata_url

MAX_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class ApiMetadata:
    """An API's own words: its identifier, whose tokens it takes, and its scopes; empty where it does not say.

    `bound`: whether it takes tokens alone that are bound to a key (DPoP).
    """

    resource: str
    issuers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    bound: bool = False


@dataclass(frozen=True, slots=True)
class _Challenged:
    status_code: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ApiReader:
    """Reads the metadata of APIs: no redirects, 64 KiB, https or http on loopback and listed hosts.

    No token or assertion is ever sent. Not read: signed metadata (RFC 9728 2.2).
    """

    transport: Transport
    allow_http_hosts: frozenset[str] = frozenset()

    def read(self, resource: str, response: ApiResponse | None, end: float) -> ApiMetadata:
        """The metadata of this resource. `response`: one of the API whose challenge may name their address.

        Raises ConfigError for a resource that is no URL, and ClientError: MetadataInvalid, ServerUnreachable.
        """
        answer = self.transport.exchange(Outgoing("GET", self._url(resource, response), _HEADERS), end)
        found = _read(resource, answer)
        if isinstance(found, ClientError):
            raise found.about(answer.request_id)
        return found

    def find(self, url: str, end: float) -> ApiMetadata:
        """The metadata of the API that this URL belongs to, of its own origin.

        Their address is what a GET of the URL, without a token, is challenged with (RFC 9728 5.1), or else that of the
        origin. What they call the API must be what the address is made of (3.3), and the URL must lie below it: else an
        API could have itself sent a token that is for another. Raises ConfigError for a URL that no token goes to,
        MetadataInvalid, ServerUnreachable.
        """
        home = parse_origin(url, self.allow_http_hosts)
        address = self._challenged_with(url, end) or f"{show_origin(home)}{RESOURCE_WELL_KNOWN}"
        if not self._is_at(address, home):
            raise MetadataInvalid(f"the API names metadata that are not at {show_origin(home)}; they were not read")
        answer = self.transport.exchange(Outgoing("GET", address, _HEADERS), end)
        found = _read_named(url, address, answer)
        if isinstance(found, ClientError):
            raise found.about(answer.request_id)
        return found

    def _challenged_with(self, url: str, end: float) -> str | None:
        try:
            answer = self.transport.exchange(Outgoing("GET", url, _HEADERS), end)
        except TokenResponseInvalid:  # whoever shows so much to strangers challenges nobody
            return None
        return named_metadata(_Challenged(answer.status, answer.headers))

    def _is_at(self, url: str, home: Origin) -> bool:
        try:
            return parse_origin(url, self.allow_http_hosts) == home
        except ConfigError:
            return False

    def _url(self, resource: str, response: ApiResponse | None) -> str:
        own = resource_metadata_url(resource)
        if own is None:
            raise ConfigError("the resource is no https URL, so it has no metadata (RFC 9728 1.2)")
        named = None if response is None else named_metadata(response)
        if named is None:
            return own
        home = parse_origin(own)
        # Whatever answered in the API's place could send us anywhere, also to hosts that only we can reach (7.7).
        if not self._is_at(named, home):
            raise MetadataInvalid(f"the API names metadata that are not at {show_origin(home)}; they were not read")
        return named


_HEADERS: Final = {"Accept": "application/json"}


def check_issuer(found: ApiMetadata, issuer: str) -> None:
    """Raise IssuerNotTrusted if the API says that it takes tokens of others only (RFC 9700 4.9.1, RFC 9728 7.6)."""
    if not found.issuers or issuer in found.issuers:
        return
    listed = ", ".join(foreign(name) for name in found.issuers[:MAX_SHOWN])
    more = f" and {len(found.issuers) - MAX_SHOWN} more" if len(found.issuers) > MAX_SHOWN else ""
    close = "".join(difference(name, issuer) for name in found.issuers[:MAX_SHOWN])
    raise IssuerNotTrusted(
        f"{foreign(found.resource)} trusts {listed}{more}, this client is of {issuer}{close}", issuers=found.issuers
    )


def _read(resource: str, answer: Answer) -> ApiMetadata | ClientError:
    document = _document(resource, answer)
    if isinstance(document, ClientError):
        return document
    # Letter by letter: otherwise one API could speak for another (RFC 9728 3.3).
    if document.get("resource") != resource:
        why = mismatch("resource", document.get("resource"), resource)
        return MetadataInvalid(f"the metadata are of another API, nothing of them is used: {why}")
    return _understood(resource, document)


def _read_named(url: str, address: str, answer: Answer) -> ApiMetadata | ClientError:
    """As `_read`, where nobody knows yet what the API is called: by the rules of `find`."""
    document = _document(address, answer)
    if isinstance(document, ClientError):
        return document
    resource = document.get("resource")
    if not isinstance(resource, str) or (resource != url and resource_metadata_url(resource) != address):
        return MetadataInvalid(f"the metadata at {address} are of another API: {foreign(str(resource))}")
    if not _is_below(url, resource):
        return MetadataInvalid(f"{url} is no URL of the API that its metadata are of: {foreign(resource)}")
    return _understood(resource, document)


def _is_below(url: str, resource: str) -> bool:
    """Whether the path of the URL is that of the resource, or goes on from there; the origins are compared already."""
    path, base = urlsplit(url).path or "/", urlsplit(resource).path.rstrip("/")
    return path == base or path.startswith(f"{base}/")


def _document(resource: str, answer: Answer) -> Mapping[str, Any] | ClientError:
    if answer.status == 429 or answer.status >= 500:
        return ServerUnreachable(f"metadata of {resource}: status {answer.status}", status=answer.status)
    media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status != 200 or media != "application/json":
        return MetadataInvalid(f"{resource} serves no metadata (status {answer.status}, {foreign(media) or 'no type'})")
    try:
        return strict_json.loads_object(answer.body)
    except JoseError:
        return MetadataInvalid(f"the metadata of {resource} are malformed")


def _understood(resource: str, document: Mapping[str, Any]) -> ApiMetadata | ClientError:
    try:
        issuers, scopes = (_strings(document, name) for name in ("authorization_servers", "scopes_supported"))
    except TypeError:
        return MetadataInvalid(f"the metadata of {resource} are malformed")
    known = tuple(name for name in scopes if SCOPE_TOKEN.fullmatch(name))
    return ApiMetadata(resource, issuers, known, document.get("dpop_bound_access_tokens_required") is True)


def _strings(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        raise TypeError(name)
    return tuple(value)
