"""FastAPI: who may call, said in the signature of an endpoint and shown in /docs."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from groat.extras import needs_extra
from groat.protocol.access_token import AnyOf, Caller
from groat.protocol.errors import VerificationError
from groat.verifier import asgi
from groat.verifier.answers import Answer
from groat.verifier.demands import Demand, demanded, described
from groat.verifier.protected_resource import ProtectedResource
from groat.verifier.verifier import Verifier

try:
    from fastapi import FastAPI, HTTPException, Response, Security
    from fastapi.openapi.models import OAuth2, OAuthFlowClientCredentials, OAuthFlows
    from fastapi.requests import HTTPConnection
    from fastapi.security.base import SecurityBase
    from starlette.exceptions import WebSocketException
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

_HANDLERS: Final = "starlette.exception_handlers"


class Refused(HTTPException):
    """A refusal on its way out of a dependency; status and challenge are right even if nobody handles it specially."""

    def __init__(self, answer: Answer) -> None:
        kept = {name: value for name, value in answer.headers if not name.startswith("content-")}
        super().__init__(answer.status, detail=json.loads(answer.body), headers=kept)
        self.answer = answer


class _Scheme(SecurityBase):
    """The client credentials grant, as OpenAPI describes it; documentation only."""

    def __init__(self, name: str, token_url: str, scopes: Mapping[str, str]) -> None:
        flow = OAuthFlowClientCredentials(tokenUrl=token_url, scopes=dict(scopes))
        self.model = OAuth2(flows=OAuthFlows(clientCredentials=flow))
        self.scheme_name = name

    def __call__(self) -> None:
        return None


class Guard:
    """Makes the dependencies that protect endpoints.

        guard = Guard(verifier, scopes={"orders:read": "Read orders"})

        @app.get("/orders")
        async def orders(caller: Annotated[Caller, guard("orders:read")]) -> list[Order]: ...

    `scopes`: every scope of this API with a line for /docs; an endpoint that names another is a ConfigError when it is
    defined. Call `guard.install(app)` once. `token_url`: where /docs says tokens come from; ISSUER/token unless given.
    Not protected: endpoints without a guard. `FastAPI(dependencies=[guard()])` gives one to every endpoint of the
    application and its routers, WebSockets too, but not to mounted applications, to what `add_route` added, to /docs
    and /openapi.json, nor to paths that do not exist: to cover those put `groat.verifier.asgi.GroatMiddleware` around
    the whole.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        scopes: Mapping[str, str] | None = None,
        token_url: str | None = None,
        scheme_name: str = "groat",
    ) -> None:
        self._known = described(scopes)
        self._resource = ProtectedResource(verifier, known=self._known, announce=False)
        self._scheme = _Scheme(scheme_name, token_url or f"{verifier.issuers[0].rstrip('/')}/token", self._known)
        self._dependencies: dict[Demand, Callable[..., Awaitable[Caller]]] = {}

    def __call__(self, *scopes: str | AnyOf) -> Any:
        """A dependency for Annotated[Caller, ...]: all of these scopes, or `any_of(...)` as the one argument."""
        required = demanded(scopes, self._known)
        if required not in self._dependencies:
            self._dependencies[required] = self._dependency(required)
        shown = required.scopes if isinstance(required, AnyOf) else required
        return Security(self._dependencies[required], scopes=list(shown))

    def install(self, app: FastAPI) -> None:
        """Serve the API's metadata (RFC 9728) and name them in challenges.

        Also keeps `Response` objects that endpoints return themselves out of caches (RFC 6750 5.3), and writes the next
        DPoP-Nonce into answers where the verifier has nonces (RFC 9449 8.2).
        """
        self._resource.announce()
        app.add_exception_handler(Refused, _answer)
        app.add_middleware(_Installed, resource=self._resource)

    def _dependency(self, required: Demand) -> Callable[..., Awaitable[Caller]]:
        async def caller(connection: HTTPConnection, response: Response, _: None = Security(self._scheme)) -> Caller:
            response.headers.setdefault("cache-control", "no-store")
            return await self._judge(connection, required)

        return caller

    async def _judge(self, connection: HTTPConnection, required: Demand) -> Caller:
        scope = connection.scope
        try:
            caller = await self._resource.aadmit(asgi.api_request(scope), required)
        except VerificationError as error:
            if scope["type"] == "websocket":
                raise WebSocketException(asgi.close_code(error.status)) from None
            _register(scope)
            raise Refused(self._resource.refusal(error)) from None
        scope[asgi.CALLER_KEY] = caller
        return caller


def _register(scope: asgi.Scope) -> None:
    # Starlette keeps the application's handlers here for the time of a request. With ours among them nobody has to
    # install anything; without, FastAPI's own handler gives the same status and headers around another body.
    handlers = scope.get(_HANDLERS)
    if handlers is not None:
        handlers[0].setdefault(Refused, _answer)


async def _answer(_: Any, error: Exception) -> Response:
    assert isinstance(error, Refused)
    response = Response(error.answer.body, error.answer.status)
    response.raw_headers = error.answer.raw_headers
    return response


class _Installed:
    """Around the whole application: the metadata, and what goes to callers is kept out of caches."""

    def __init__(self, app: asgi.App, resource: ProtectedResource) -> None:
        self._app = app
        self._resource = resource

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if (document := asgi.public(self._resource, scope)) is not None:
            await asgi.send_answer(document, scope, receive, send)
            return
        guarded = asgi.no_store(send, scope)

        async def sending(message: asgi.Message) -> None:
            await (guarded if asgi.CALLER_KEY in scope else send)(message)

        await self._app(scope, receive, sending)


__all__ = ["Guard", "Refused"]
