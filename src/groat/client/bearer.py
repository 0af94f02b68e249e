"""The tokens for one API: where they may go, and what is done when one is refused. Every auth object asks here."""

from dataclasses import dataclass

from groat.client.challenge import ApiResponse, is_token_refused
from groat.client.errors import OriginNotAllowed
from groat.client.origin import Origin, show_origin
from groat.client.token import Token, Wish
from groat.client.token_cache import TokenCache


@dataclass(frozen=True, slots=True)
class Bearer:
    """Tokens of one wish, for these origins alone (RFC 6750 2.1, 5.3).

    The flow of every auth object: `check` the origin, `get` a token, send; if the answer `is_refused` and the body is
    at hand to be sent again, `get` another and send once more. Every other answer is passed on as it is, 403 too.
    """

    cache: TokenCache
    wish: Wish
    origins: frozenset[Origin]

    def get(self) -> Token:
        """A token; blocks when one must be fetched. Raises ClientError."""
        return self.cache.get(self.wish)

    async def aget(self) -> Token:
        """The same on an asyncio event loop."""
        return await self.cache.aget(self.wish)

    def check(self, origin: Origin) -> None:
        """Raises OriginNotAllowed for a place that must not see the token; nothing was sent then."""
        if origin not in self.origins:
            allowed = ", ".join(sorted(show_origin(one) for one in self.origins))
            raise OriginNotAllowed(
                f"a request to {show_origin(origin)} must not carry this token, which is for {allowed}",
                hint="pass origins=[...] with the auth object if the API has several",
            )

    def is_refused(self, response: ApiResponse, origin: Origin, token: Token) -> bool:
        """Whether the API itself refused this token; then it, and only it, is dropped.

        `origin`: who answered. A redirect's target has no say.
        """
        refused = is_token_refused(response) and origin in self.origins
        if refused:
            self.cache.drop(self.wish, token)
        return refused
