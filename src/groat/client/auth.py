"""The token on its way to an API: one object for Client and AsyncClient of httpx2 and of httpx.

Imported at the first `MachineClient.auth()`, because its base classes come from the libraries that are installed:
httpx2 refuses auth objects of httpx and the other way round.
"""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from groat.client.bearer import Bearer
from groat.client.origin import DEFAULT_PORTS, Origin
from groat.client.token import Token

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

    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer

    def __repr__(self) -> str:
        return f"MachineAuth({self._bearer.wish})"

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The flow for a Client; waits for tokens in this thread. Raises ClientError, KeyUnusable among them."""
        self._bearer.check(_origin(request.url))
        token = self._bearer.get()
        response = yield self._with(request, token)
        if self._is_refused(response, token) and _can_repeat(request):
            self._heed((yield self._with(request, self._bearer.get())))

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """The same for an AsyncClient on asyncio."""
        self._bearer.check(_origin(request.url))
        token = await self._bearer.aget()
        response = yield self._with(request, token)
        if self._is_refused(response, token) and _can_repeat(request):
            self._heed((yield self._with(request, await self._bearer.aget())))

    def _is_refused(self, response: Any, token: Token) -> bool:
        url = response.request.url
        return self._bearer.is_refused(response, _origin(url), token, str(url))

    def _heed(self, response: Any) -> None:
        url = response.request.url
        self._bearer.heed(response, _origin(url), str(url))

    def _with(self, request: Any, token: Token) -> Any:
        request.headers.update(self._bearer.headers(token, request.method, str(request.url)))
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
