"""The tokens for one API: where they may go, and what is done when one is refused. Every auth object asks here."""

from collections.abc import Callable
from dataclasses import dataclass

from groat.client.challenge import ApiResponse, is_token_refused, wants_nonce
from groat.client.errors import OriginNotAllowed
from groat.client.origin import Origin, show_origin
from groat.client.possession import Possession
from groat.client.token import Token, Wish
from groat.client.token_cache import TokenCache


@dataclass(frozen=True, slots=True)
class Bearer:
    """Tokens of one wish, for these origins alone (RFC 6750 2.1, 5.3).

    The flow of every auth object: `check` the origin, `get` a token, send with `headers`; if the answer `is_refused`
    and the body is at hand to be sent again, `get` one, make its `headers` anew and send once more. Every other answer
    is passed on as it is, 403 too. `possession`: who makes proofs for bound tokens. `certified`: the wish as it
    is by the certificate that is shown now.
    """

    cache: TokenCache
    wish: Wish
    origins: frozenset[Origin]
    possession: Possession | None = None
    certified: Callable[[Wish], Wish] | None = None

    @property
    def _wanted(self) -> Wish:
        return self.wish if self.certified is None else self.certified(self.wish)

    def get(self) -> Token:
        """A token; blocks when one must be fetched. Raises ClientError."""
        return self.cache.get(self._wanted)

    async def aget(self) -> Token:
        """The same on an asyncio event loop."""
        return await self.cache.aget(self._wanted)

    def headers(self, token: Token, method: str, url: str) -> dict[str, str]:
        """What a request carries: the token, and for a bound one a proof for this request alone (RFC 9449 7.1).

        Raises KeyUnusable where the key of the proofs was not read before, and cannot be.
        """
        if self.possession is None:
            return {"Authorization": f"Bearer {token.value}"}
        return {
            "Authorization": f"{token.type} {token.value}",
            "DPoP": self.possession.proof(method, url, token.value),
        }

    def check(self, origin: Origin) -> None:
        """Raises OriginNotAllowed for a place that must not see the token; nothing was sent then."""
        if origin not in self.origins:
            allowed = ", ".join(sorted(show_origin(one) for one in self.origins))
            raise OriginNotAllowed(
                f"a request to {show_origin(origin)} must not carry this token, which is for {allowed}",
                hint="pass origins=[...] with the auth object if the API has several",
            )

    def is_refused(self, response: ApiResponse, origin: Origin, token: Token, url: str) -> bool:
        """Whether the API itself refused this token; then it, and only it, is dropped. Or whether it wants a nonce.

        `origin`: who answered, at `url`. A redirect's target has no say.
        """
        if origin not in self.origins:
            return False
        if self.heed(response, origin, url) and wants_nonce(response):
            return True
        refused = is_token_refused(response)
        if refused:
            self.cache.drop(self._wanted, token)
        return refused

    def heed(self, response: ApiResponse, origin: Origin, url: str) -> bool:
        """Remember the nonce in an answer of the API, good or bad (RFC 9449 8.2); whether it is another than before.

        `is_refused` does; this is for the answers that it is not asked about, those to a second sending above all.
        """
        return self.possession is not None and origin in self.origins and self.possession.heed(url, response.headers)
