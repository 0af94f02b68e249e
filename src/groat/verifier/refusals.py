"""What becomes of a refusal before it leaves the verifier: its challenge, a count, and a line for the operator."""

import logging
from dataclasses import dataclass, field
from typing import Final

from groat.outbound.clocks import Clocks
from groat.protocol import jose
from groat.protocol.access_token import Caller, RequiredScopes, scope_names
from groat.protocol.errors import KeysUnavailable, VerificationError
from groat.protocol.jwk import printable
from groat.verifier.notices import Notices
from groat.verifier.observer import Observer
from groat.verifier.possession import Possession

logger: Final = logging.getLogger("groat.verifier")


@dataclass(frozen=True, slots=True)
class Refusals:
    """Those of one verifier."""

    realm: str
    possession: Possession
    clocks: Clocks
    observer: Observer | None
    notices: Notices = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "notices", Notices(self.clocks.monotonic))

    def refused(
        self,
        error: VerificationError,
        jwt: jose.UnverifiedJwt | None,
        caller: Caller | None,
        scopes: RequiredScopes,
        dpop: bool,
    ) -> None:
        """Say in its challenge what is wanted, and log why. The client is named only once its token is proven."""
        self.offer(error, scopes, dpop)
        kid = printable(jwt.header.kid) if jwt is not None and jwt.header.kid else None
        client = None if caller is None else printable(caller.client_id)
        self.turned_away(error, kid, client)

    def offer(self, error: VerificationError, scopes: RequiredScopes, dpop: bool) -> None:
        """Write into a refusal what its challenge says."""
        error.realm = self.realm
        self.possession.challenge(error, dpop, self.clocks.now)
        if error.status == 401:  # whoever has no good token may ask for one that fits (RFC 9728 5.1)
            error.required = tuple(sorted(scope_names(scopes)))

    def turned_away(self, error: VerificationError, kid: str | None, client: str | None) -> None:
        """Count and log a refusal, as a warning where `Notices` allows.

        Python shows warnings of a logger that nobody has configured, as under uvicorn.
        """
        if self.observer is not None:
            self.observer.verified("unavailable" if isinstance(error, KeysUnavailable) else "refused", error.reason)
        held = self.notices.due(error.reason)
        more = f" (and {held} more for this reason since the last warning)" if held else ""
        level = logging.INFO if held is None else logging.WARNING
        words = "refused: reason=%s kid=%s client=%s hint=%s%s"
        logger.log(level, words, error.reason, kid, client, error.hint, more)
