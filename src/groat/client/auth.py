"""The token on its way to an API: one object for Client and AsyncClient of httpx2 and of httpx.

Imported at the first `MachineClient.auth()`, because its base classes come from the libraries that are installed:
httpx2 refuses auth objects of httpx and the other way round.
"""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from groat.client.challenge import is_token_refused
from groat.client.errors import OriginNotAllowed
from groat.client.origin import DEFAULT_PORTS, Origin, show_origin
from groat.client.token import Token, Wish
from groat.client.token_cache import TokenCache

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Auth(httpx.Auth, httpx2.Auth):
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]: ...
        def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]: ...
else:
    from groat.client.default_client import installed_libraries

    _Auth = type("_Auth", tuple(library.Auth for library in installed_libraries()), {})


class MachineAuth(_Auth):
    """Puts the token into the Authorization header, and only there, for the allowed origins alone (RFC 6750 2.1).

    A 401 invalid_token drops that token and repeats the request once with a new one, if its body is at hand to be
    sent again. Every other answer is passed on as it is. Not handled here: 403, see `raise_for_scope`.
    """

    def __init__(self, cache: TokenCache, wish: Wish, origins: frozenset[Origin]) -> None:
        self._cache = cache
        self._wish = wish
        self._origins = origins

    def __repr__(self) -> str:
        return f"MachineAuth({self._wish})"

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The flow for a Client; waits for tokens in this thread. Raises ClientError."""
        self._check_origin(request)
        token = self._cache.get(self._wish)
        response = yield _with_token(request, token)
        if self._is_refused(response, token) and _can_repeat(request):
            yield _with_token(request, self._cache.get(self._wish))

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The same for an AsyncClient on asyncio."""
        self._check_origin(request)
        token = await self._cache.aget(self._wish)
        response = yield _with_token(request, token)
        if self._is_refused(response, token) and _can_repeat(request):
            yield _with_token(request, await self._cache.aget(self._wish))

    def _check_origin(self, request: Any) -> None:
        if _origin(request.url) not in self._origins:
            allowed = ", ".join(sorted(show_origin(origin) for origin in self._origins))
            raise OriginNotAllowed(
                f"a request to {show_origin(_origin(request.url))} must not carry this token, which is for {allowed}",
                hint="pass origins=[...] to auth() if the API has several",
            )

    def _is_refused(self, response: Any, token: Token) -> bool:
        """Whether the API itself refused the token; then it is dropped. A redirect's target has no say."""
        refused = is_token_refused(response) and _origin(response.request.url) in self._origins
        if refused:
            self._cache.drop(self._wish, token)
        return refused


def _with_token(request: Any, token: Token) -> Any:
    request.headers["Authorization"] = f"Bearer {token.value}"
    return request


def _origin(url: Any) -> Origin:
    """The origin that the library will connect to, from its own parsed URL."""
    return (url.scheme, url.raw_host.decode("ascii").lower(), url.port or DEFAULT_PORTS.get(url.scheme, 0))


def _can_repeat(request: Any) -> bool:
    """Whether the whole body is in memory; a stream was consumed by the first sending."""
    try:
        _ = request.content
    except RuntimeError:  # RequestNotRead of either library
        return False
    return True
