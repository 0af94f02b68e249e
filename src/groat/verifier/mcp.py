"""MCP: the token verifier of the Python SDK's servers."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from groat.extras import needs_extra
from groat.protocol.access_token import Caller
from groat.protocol.arguments import strings
from groat.protocol.errors import ConfigError, KeysUnavailable, VerificationError
from groat.verifier import asgi
from groat.verifier.certificates import Connection
from groat.verifier.protected_resource import UNKNOWN, ApiRequest, ProtectedResource
from groat.verifier.verifier import Verifier

try:
    from mcp.server.auth.middleware.auth_context import get_access_token
    from mcp.server.auth.provider import AccessToken, TokenVerifier
    from mcp.server.auth.settings import AuthSettings
    from pydantic import PrivateAttr
except ModuleNotFoundError as error:
    raise needs_extra(__name__, error) from None

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.applications import Starlette


class McpTokenVerifier(TokenVerifier):
    """Says to an MCPServer whose a token is.

        tokens = McpTokenVerifier(verifier)
        mcp = MCPServer("orders", token_verifier=tokens, auth=tokens.settings(["orders:read"]))
        app = tokens.install(mcp.streamable_http_app())

    The audience of `verifier` is the URL of the server, with its path: https://orders.example.com/mcp.

    The SDK itself reads the Authorization header, asks for scopes, writes each answer, and serves the metadata of RFC
    9728. So these are its own: a 401 has the error invalid_token where no token was sent as well, of two Authorization
    headers the first counts, and one that is malformed is like none. Tokens that are bound to a certificate need
    `install`: the SDK hands on no request. Raises ConfigError for a verifier that takes tokens with proofs alone,
    of which the SDK hands on none. Not checked: finer rights than scopes.
    """

    def __init__(self, verifier: Verifier) -> None:
        if verifier.proofs_taken.required:
            raise ConfigError(
                'Dpop(required=True), or require_binding="dpop", would refuse every token here, since the MCP SDK hands'
                " on no proofs: leave it out, or put GroatMiddleware of groat.verifier.asgi around the server instead"
            )
        self._verifier = verifier
        self._resource = ProtectedResource(verifier)

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the SDK asks of each request; None is its 401. It hands over the token alone, so none may need a proof.

        Raises KeysUnavailable, because nothing is wrong with a token that cannot be judged; see `install`.
        """
        try:
            connection = _connection.get()
            found = await self._resource.aadmit(ApiRequest(lambda _: [f"Bearer {token}"], connection=connection))
        except KeysUnavailable:
            raise
        except VerificationError:
            return None
        return _CallerToken.of(found, token, self._verifier.audience)

    def settings(self, required_scopes: "Iterable[str]" = ()) -> AuthSettings:
        """The SDK's settings for this verifier: its issuer, its audience as the server's URL, what every call needs.

        Raises ConfigError, and pydantic.ValidationError where the audience is no URL.
        """
        urls: dict[str, Any] = {"issuer_url": self._verifier.issuers[0], "resource_server_url": self._verifier.audience}
        scopes = list(strings("required_scopes", required_scopes))
        return AuthSettings(**urls, required_scopes=scopes or None, validate_token_resource=True)

    def install(self, app: "Starlette") -> "Starlette":
        """Answer 503 and Retry-After while the issuer's keys cannot be had, and take tokens that are bound to a
        certificate; returns the same application.

        The SDK knows None (401) and exceptions (500) only: without this, and so under `MCPServer.run`, it is a 500.
        """
        app.add_middleware(_Around, resource=self._resource)
        return app


def caller() -> Caller:
    """Who called the tool, prompt or resource that is running. Raises LookupError where nobody was let in."""
    token = get_access_token()
    if not isinstance(token, _CallerToken):
        raise LookupError("nobody has been let in here: this is no call to a server with a McpTokenVerifier")
    return token.caller


class _CallerToken(AccessToken):
    """What the SDK keeps of a token, with the caller whom it proves."""

    _caller: Caller = PrivateAttr()

    @classmethod
    def of(cls, found: Caller, token: str, audience: str) -> "_CallerToken":
        made = cls(
            token=token,
            client_id=found.client_id,
            scopes=sorted(found.scopes),
            expires_at=int(found.expires_at),
            resource=audience,
            subject=found.subject,
            claims=dict(found.claims),
        )
        made._caller = found
        return made

    @property
    def caller(self) -> Caller:
        return self._caller


# Over what the request came that is being served: the SDK asks about its token in the same task.
_connection: Final[ContextVar[Callable[[], Connection]]] = ContextVar("groat_connection", default=lambda: UNKNOWN)


class _Around:
    """Around the whole application, because the SDK asks for tokens in a middleware of its own."""

    def __init__(self, app: asgi.App, resource: ProtectedResource) -> None:
        self._app = app
        self._resource = resource

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "http":
            _connection.set(asgi.api_request(scope).connection)
        try:
            await self._app(scope, receive, send)
        except KeysUnavailable as error:
            await asgi.send_answer(self._resource.refusal(error), scope, receive, send)


__all__ = ["McpTokenVerifier", "caller"]
