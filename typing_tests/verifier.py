"""What type checkers know of groat.verifier; nothing here is run."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, assert_type

import grpc
import grpc.aio
from aiohttp import web
from fastapi import FastAPI
from mcp.server import MCPServer
from rest_framework.views import APIView
from starlette.applications import Starlette

from groat.verifier import (
    Answer,
    AnyOf,
    Caller,
    Clocks,
    Confirmation,
    InsufficientScope,
    KeysUnavailable,
    Observer,
    Response,
    Revocation,
    TrustedIssuer,
    VerificationError,
    Verifier,
    any_of,
    bearer_token,
    django,
    drf,
    flask,
    presets,
    refusal,
)
from groat.verifier.aiohttp import CALLER, middleware
from groat.verifier.asgi import GroatMiddleware
from groat.verifier.fastapi import Guard
from groat.verifier.grpc import AioInterceptor, Interceptor
from groat.verifier.grpc import caller as calling
from groat.verifier.mcp import McpTokenVerifier
from groat.verifier.mcp import caller as calling_a_tool

ISSUER, AUDIENCE = "https://auth.example.com", "https://orders.example.com"

verifier = Verifier(issuer=ISSUER, audience=AUDIENCE)
assert_type(verifier, Verifier)
assert_type(Verifier.from_env(cache_size=100), Verifier)
assert_type(Verifier.keycloak("https://sso.example.com", "acme", AUDIENCE, realm="orders"), Verifier)
assert_type(Verifier.cognito("eu-west-1", "pool", client_id="c", algorithms=["RS256"]), Verifier)
assert_type(presets.auth0("acme.eu.auth0.com"), TrustedIssuer)
Verifier(issuers=[presets.entra("8f5e"), ISSUER], audience=AUDIENCE, clocks=Clocks(now=lambda: 0.0))

caller = verifier.verify("token", scopes=["orders:read"])
assert_type(caller, Caller)
assert_type(caller.client_id, str)
assert_type(caller.scopes, frozenset[str])
assert_type(caller.expires_at, float)
assert_type(caller.token_id, str | None)
assert_type(caller.claims, Mapping[str, Any])
assert_type(caller.is_client, bool)
assert_type(any_of("a", "b"), AnyOf)
assert_type(verifier.verify(b"token", any_of("a", "b")), Caller)
assert_type(verifier.verify_request([b"Bearer x"], b"a=b"), Caller)
assert_type(verifier.verify_request(["DPoP x"], method="GET", url="/", dpop=["y"]).confirmation, Confirmation | None)
assert_type(verifier.jwks_age(), float | None)
assert_type(bearer_token(["Bearer x"]), str)


async def on_an_event_loop() -> None:
    assert_type(await verifier.averify("token"), Caller)
    assert_type(await verifier.averify_request([b"Bearer x"]), Caller)
    assert_type(await verifier.warm(), None)


def answer(error: VerificationError) -> Answer:
    assert_type(error.status, int)
    assert_type(error.reason, str)
    if isinstance(error, KeysUnavailable):
        assert_type(error.retry_after, int)
    if isinstance(error, InsufficientScope):
        assert_type(error.required, tuple[str, ...])
    return refusal(error)


def through_a_proxy(url: str, headers: Mapping[str, str]) -> Response:
    return Response(200, headers, url.encode())


class Figures(Observer):
    def verified(self, result: str, reason: str) -> None:
        print(result, reason)


Verifier(ISSUER, AUDIENCE, http=through_a_proxy, observer=Figures())

guard = Guard(verifier, scopes={"orders:read": "Read orders"})
app = FastAPI()


@app.get("/orders")
async def orders(caller: Annotated[Caller, guard("orders:read")]) -> list[str]:
    return [caller.client_id]


GroatMiddleware(app, verifier, scopes=any_of("a", "b"), exempt=["/health"])

web.Application(middlewares=[middleware(verifier, scopes=["orders:read"], exempt=["/health"])])


async def asked_of_aiohttp(request: web.Request) -> None:
    assert_type(request[CALLER], Caller)


grpc.server(ThreadPoolExecutor(), interceptors=[Interceptor(verifier, {"/shop.Orders/Get": ["orders:read"]})])
grpc.aio.server(interceptors=[AioInterceptor(verifier, {"/a.B/C": any_of("a", "b")}, exempt=["/a.B/D"])])
assert_type(calling(), Caller)
flask_guard = flask.Guard(verifier, scopes={"orders:read": "Read orders"})


@flask_guard("orders:read")
def flask_view(number: int) -> str:
    return str(number)


@flask_guard(any_of("orders:read", "orders:write"))
async def flask_async_view() -> str:
    return ""


assert_type(flask_view(7), str)


@django.require("orders:read")
async def django_view(request: django.GroatRequest, number: int) -> str:
    assert_type(request.caller, Caller)
    return str(number)


@django.require(any_of("orders:read", "orders:write"))
def django_sync_view(request: django.GroatRequest) -> int:
    return 7


assert_type(django_sync_view(django.GroatRequest()), int)


class DrfView(APIView):
    authentication_classes = [drf.GroatAuthentication]
    permission_classes = [drf.HasScopes("orders:read")]

    def get(self, request: drf.GroatRequest) -> None:
        assert_type(request.caller, Caller)
        assert_type(request.auth, Caller)
        assert_type(request.user, drf.Principal)


class DrfViewOfSeveral(APIView):
    permission_classes = [drf.HasScopes(any_of("a", "b")) & drf.HasScopes("c"), ~drf.HasScopes()]


tokens = McpTokenVerifier(verifier)
mcp = MCPServer("orders", token_verifier=tokens, auth=tokens.settings(["orders:read"]))
assert_type(tokens.install(mcp.streamable_http_app()), Starlette)
assert_type(calling_a_tool(), Caller)
assert_type(Verifier(ISSUER, AUDIENCE, revocation="feed", on_status_unknown="accept").status_age(), float | None)
asking = Revocation("introspection", api="orders", key_file="key.json", cache_seconds=0, token=None)
assert_type(Verifier.from_env(revocation=asking), Verifier)

# What must not pass: each of these lines is an error, and it would be one if it were none.
Verifier(issuer=ISSUER, audience=[AUDIENCE])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier(issuer=ISSUER, audience=AUDIENCE, clock_tolerance="10s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier(issuer=ISSUER, audience=AUDIENCE, max_stall=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Verifier.from_env(max_stale="1d")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier(ISSUER, AUDIENCE, revocation=["feed"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier(ISSUER, AUDIENCE, on_status_unknown=False)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Revocation("introspection", token="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier.auth0("acme.eu.auth0.com")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
verifier.verify(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
verifier.verify("token", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
caller.client_id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
caller.claims["sub"] = "other"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
any_of(["a", "b"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
flask_view("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
drf.HasScopes(["orders:read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
django.require(["orders:read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
flask_guard(["orders:read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Guard(verifier, scopes=["orders:read"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Verifier(ISSUER, AUDIENCE, http=lambda url: None)  # type: ignore[arg-type,misc]  # pyright: ignore
middleware(verifier, scopes=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Interceptor(verifier, ["/shop.Orders/Get"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
AioInterceptor(verifier, {"/a.B/C": 7})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
McpTokenVerifier("https://auth.example.com")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
