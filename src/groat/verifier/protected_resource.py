"""What every adapter asks: may this request pass, and what is answered if not (RFC 6750, RFC 9728).

An adapter only says what of a request is what in its framework; who is let in, and each byte of an answer, is decided
here, so that all of them answer alike.
"""

import re
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol.access_token import AnyOf, Caller, RequiredScopes
from groat.protocol.arguments import strings
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError, MissingToken, VerificationError
from groat.protocol.grammar import SCOPE_TOKEN
from groat.protocol.resource_metadata import (
    ProofsTaken,
    resource_metadata,
    resource_metadata_path,
    resource_metadata_url,
)
from groat.verifier.answers import Answer, public_document, refusal
from groat.verifier.bearer import is_dpop, token_of
from groat.verifier.certificates import Connection, Leaf
from groat.verifier.verifier import Verifier

# Nobody: no proxy has this address, and nothing else is known.
UNKNOWN: Final = Connection("unknown")
# Where these stand somebody means more than one path, or what is no part of a path.
_PATTERN: Final = re.compile(r"[*?#{}\[\]]")
# What most requests begin with: for these nothing is asked that bound tokens alone need.
_BEARER, _BEARER_BYTES = "Bearer ", b"Bearer "
_ADMITTED: Final = "groat.admitted"
# Where the memo of a request has the DPoP-Nonce that its answer should have, if any (RFC 9449 8.2). An answer that
# caches may keep gets none: it would hand an old nonce to others.
OFFERED: Final = "groat.dpop_nonce"
READS: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What of a request decides who is let in.

    `lines`: the values of every header line of a name (in lower case), in order, none joined and none dropped; `query`:
    the raw query string. For bound tokens alone: `method`, and `target()`, the path that was asked for as it was sent
    (with whatever is mounted in front, without what a proxy took away), empty where nobody knows; `memo()`: where it is
    kept that a request was let in, if several guards ask about the same one, since a proof counts once; `connection()`:
    over what it came, for certificates.
    """

    lines: Callable[[str], Sequence[bytes | str]]
    query: bytes = b""
    method: str = ""
    target: Callable[[], str] = str
    memo: Callable[[], MutableMapping[Any, Any]] = dict
    connection: Callable[[], Connection] = lambda: UNKNOWN


class ProtectedResource:
    """One API, as its adapter sees it.

    `scopes`: what every request needs, unless `admit` is told otherwise. `exempt`: exact paths that anybody may ask
    for. `known`: further scopes of this API, for its metadata. `announce`: whether challenges name the metadata: only
    where this adapter serves them. Raises ConfigError. Not checked: finer rights than scopes.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        scopes: RequiredScopes = (),
        exempt: str | Collection[str] = (),
        known: Iterable[str] = (),
        announce: bool = True,
    ) -> None:
        self.verifier = verifier
        self._scopes = checked_scopes(scopes)
        self._exempt = _exempt_paths(exempt)
        self._known = {*named_scopes(self._scopes), *named_scopes(checked_scopes(known))}
        self._metadata_path = resource_metadata_path(verifier.audience)
        self._metadata_url: str | None = None
        self._proofs = verifier.proofs_taken
        if announce:
            self.announce()

    def announce(self) -> None:
        """From now on challenges name the metadata (RFC 9728 5.1): whoever calls this serves `public`."""
        self._metadata_url = resource_metadata_url(self.verifier.audience)

    def take_no_proofs(self) -> None:
        """From now on the metadata promise nothing to bound tokens: no request says here what a proof is for."""
        self._proofs = ProofsTaken(())

    def know(self, scopes: RequiredScopes) -> tuple[str, ...] | AnyOf:
        """Check the scopes of a route, and name them in the metadata. Raises ConfigError."""
        checked = checked_scopes(scopes)
        self._known.update(named_scopes(checked))
        return checked

    def exempts(self, path: str) -> bool:
        """Whether anybody may ask for this path, as it is inside of the application."""
        return path in self._exempt

    def public(self, method: str, *paths: str) -> Answer | None:
        """The metadata, where one of these paths (inside of the application, and as it was sent) is where they are."""
        if self._metadata_path is None or method not in READS or self._metadata_path not in paths:
            return None
        api = self.verifier
        words = resource_metadata(api.audience, api.issuers, self._known, api.description, self._proofs)
        return public_document(words)

    def carries_token(self, request: ApiRequest) -> bool:
        """Whether there is something to judge, good or not: for adapters beside which others may know the caller."""
        try:
            token_of(request.lines("authorization"), request.query)
        except VerificationError as error:
            return not isinstance(error, MissingToken)
        return True

    def admit(self, request: ApiRequest, scopes: RequiredScopes | None = None) -> Caller:
        """Who sent this request. Raises VerificationError, for `refusal`."""
        required = self._scopes if scopes is None else scopes
        lines = request.lines("authorization")
        try:
            plain = _BEARER_BYTES if lines and isinstance(lines[0], bytes) else _BEARER
            if not lines or lines[0][:7] == plain or not is_dpop(lines[0]):
                return self.verifier.verify_request(
                    lines, request.query, required, certificate=lambda: self._certificate(request)
                )
            return self._again(request, required) or self._remember(
                request,
                self.verifier.verify_request(
                    lines,
                    request.query,
                    required,
                    method=request.method,
                    url=request.target(),
                    dpop=request.lines("dpop"),
                    offer=_offer(request),
                ),
            )
        except VerificationError as error:
            error.resource_metadata = self._metadata_url
            raise

    async def aadmit(self, request: ApiRequest, scopes: RequiredScopes | None = None) -> Caller:
        """As `admit`, without blocking the event loop."""
        required = self._scopes if scopes is None else scopes
        lines = request.lines("authorization")
        try:
            plain = _BEARER_BYTES if lines and isinstance(lines[0], bytes) else _BEARER
            if not lines or lines[0][:7] == plain or not is_dpop(lines[0]):
                return await self.verifier.averify_request(
                    lines, request.query, required, certificate=lambda: self._certificate(request)
                )
            return self._again(request, required) or self._remember(
                request,
                await self.verifier.averify_request(
                    lines,
                    request.query,
                    required,
                    method=request.method,
                    url=request.target(),
                    dpop=request.lines("dpop"),
                    offer=_offer(request),
                ),
            )
        except VerificationError as error:
            error.resource_metadata = self._metadata_url
            raise

    def _certificate(self, request: ApiRequest) -> Leaf:
        """That of the caller; asked for only where a token is bound to one."""
        return self.verifier.certificates.of(request.connection())

    def _again(self, request: ApiRequest, required: RequiredScopes) -> Caller | None:
        """Who sent this request, if this verifier has proven it already: only scopes are then asked for."""
        verifier, caller = request.memo().get(_ADMITTED, (None, None))
        if verifier is not self.verifier or not isinstance(caller, Caller):
            return None
        self.verifier.require(caller, required)
        return caller

    def _remember(self, request: ApiRequest, caller: Caller) -> Caller:
        request.memo()[_ADMITTED] = self.verifier, caller
        return caller

    def challenge(self, route: tuple[str, ...] | AnyOf = ()) -> str:
        """What `admit` and `refusal` challenge with where there are no credentials; nobody is refused by asking.

        `route`: as in `refusal`.
        """
        missing = self.verifier.unasked(self._scopes)
        missing.resource_metadata = self._metadata_url
        return dict(self.refusal(missing, route).headers)["www-authenticate"]

    def permit(self, caller: Caller, scopes: RequiredScopes) -> None:
        """Whether a caller that was admitted may go on to a route. Raises InsufficientScope, for `refusal`."""
        try:
            self.verifier.require(caller, scopes)
        except VerificationError as error:
            error.resource_metadata = self._metadata_url
            raise

    def refusal(self, error: VerificationError, route: tuple[str, ...] | AnyOf = ()) -> Answer:
        """What is answered; it explains itself at a development machine (GROAT_DEV=1).

        `route`: what the route needs besides what `admit` was told; a 401 names it as well (RFC 9728 5.1).
        """
        if error.status == 401:
            error.required = tuple(sorted({*error.required, *named_scopes(route)}))
        return refusal(error, explain=self.verifier.explain)


def _offer(request: ApiRequest) -> Callable[[str], None]:
    def keep(nonce: str) -> None:
        request.memo()[OFFERED] = nonce

    return keep


def named_scopes(scopes: tuple[str, ...] | AnyOf) -> tuple[str, ...]:
    """Every scope that is named in a demand."""
    return scopes.scopes if isinstance(scopes, AnyOf) else scopes


def checked_scopes(scopes: RequiredScopes) -> tuple[str, ...] | AnyOf:
    """Required scopes as they may stand in a challenge (RFC 6749 3.3). Raises ConfigError for a malformed one."""
    checked = scopes if isinstance(scopes, AnyOf) else strings("scopes", scopes)
    for scope in named_scopes(checked):
        if SCOPE_TOKEN.fullmatch(scope) is None:
            raise ConfigError(f"not a scope: {scope!r}")
    return checked


def _exempt_paths(exempt: str | Collection[str]) -> frozenset[str]:
    """Paths that anybody may ask for; one alone may be written as a string.

    Raises ConfigError for what no path of a request could equal.
    """
    paths = frozenset([exempt] if isinstance(exempt, str) else strings("exempt", exempt))
    for path in paths:
        if not path.startswith("/"):
            raise ConfigError(f"exempt must hold paths such as /health, not {shown(path)}")
        if _PATTERN.search(path):
            raise ConfigError(
                f"exempt must hold exact paths: {shown(path)} is a pattern or a query and would exempt nothing"
            )
    return paths


__all__ = ["OFFERED", "READS", "UNKNOWN", "ApiRequest", "ProtectedResource"]
