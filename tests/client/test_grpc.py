"""Call credentials for gRPC, over real channels to a real server, sync and aio, for each kind of call."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest

from groat.client import MachineClient
from groat.client.grpc import call_credentials
from groat.protocol.errors import ConfigError

from .conftest import MakeMachine
from .servers import AuthorizationServer, Reply

RESOURCE = "https://orders.example.com"
Code = grpc.StatusCode
INVALID = (("www-authenticate", 'Bearer realm="api", error="invalid_token"'),)


class Service:
    """Takes the tokens that `issuer` made, but for those in `revoked`, and remembers what came."""

    def __init__(self, issuer: AuthorizationServer) -> None:
        self.issuer = issuer
        self.revoked: set[str] = set()
        self.tokens: list[str | None] = []
        self.refusal: tuple[Code, tuple[tuple[str, str], ...]] = (Code.UNAUTHENTICATED, INVALID)
        self.gate: threading.Event | None = None
        self.port = 0

    def judge(self, context: grpc.ServicerContext) -> None:
        values = [str(value) for name, value in context.invocation_metadata() if name == "authorization"]
        assert len(values) <= 1
        token = values[0].removeprefix("Bearer ") if values else None
        self.tokens.append(token)
        if self.gate is not None:
            assert self.gate.wait(20)
        if token not in self.issuer.issued or token in self.revoked:
            code, trailing = self.refusal
            context.set_trailing_metadata(trailing)
            context.abort(code, "refused")

    def unary(self, _: Any, context: grpc.ServicerContext) -> bytes:
        self.judge(context)
        return b"one"

    def stream(self, _: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.judge(context)
        yield from (b"one", b"two")

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "shop.Orders",
            {
                "unary_unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "unary_stream": grpc.unary_stream_rpc_method_handler(self.stream),
                "stream_unary": grpc.stream_unary_rpc_method_handler(self.unary),
                "stream_stream": grpc.stream_stream_rpc_method_handler(self.stream),
            },
        )


@pytest.fixture
def service(issuer: AuthorizationServer) -> Iterator[Service]:
    with ThreadPoolExecutor(20) as pool:
        served, server = Service(issuer), grpc.server(pool)
        server.add_generic_rpc_handlers((served.handlers,))
        served.port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials())
        server.start()
        yield served
        server.stop(None).wait(10)


KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
Ask = Callable[[str], tuple[Code, str]]


def composed(credentials: grpc.CallCredentials) -> grpc.ChannelCredentials:
    return grpc.composite_channel_credentials(grpc.local_channel_credentials(), credentials)


def asked(channel: grpc.Channel, kind: str, **options: Any) -> tuple[Code, str]:
    """How one call ends: its status and details."""
    call: Any = getattr(channel, kind)(f"/shop.Orders/{kind}")
    request: Any = iter([b"x"]) if kind.startswith("stream") else b"x"
    try:
        answer = call(request, timeout=20, **options)
        assert (list(answer) if kind.endswith("stream") else [answer])[0] == b"one"
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    return Code.OK, ""


async def one(part: bytes) -> AsyncIterator[bytes]:
    yield part


async def asked_by_aio(channel: grpc.aio.Channel, kind: str) -> tuple[Code, str]:
    call: Any = getattr(channel, kind)(f"/shop.Orders/{kind}")
    request: Any = one(b"x") if kind.startswith("stream") else b"x"
    try:
        answer = call(request, timeout=20)
        assert ([part async for part in answer] if kind.endswith("stream") else [await answer])[0] == b"one"
    except grpc.aio.AioRpcError as error:
        # A request stream that a refusal cuts short is INTERNAL to grpc.aio when its next write fails first.
        if kind.startswith("stream") and error.code() is Code.INTERNAL:
            return Code.UNAUTHENTICATED, "refused"
        return error.code(), str(error.details())
    return Code.OK, ""


@pytest.fixture(params=["sync", "aio"])
def ask(request: pytest.FixtureRequest, machine: MachineClient, service: Service) -> Iterator[Ask]:
    """Calls over one channel with the credentials and their interceptors."""
    credentials = call_credentials(machine, resource=RESOURCE, scopes=["orders:read"])
    target = f"127.0.0.1:{service.port}"
    if request.param == "sync":
        with grpc.secure_channel(target, composed(credentials)) as channel:
            watched = grpc.intercept_channel(channel, credentials.interceptor)
            yield lambda kind: asked(watched, kind)
        return
    with asyncio.Runner() as runner:

        async def opened() -> grpc.aio.Channel:
            return grpc.aio.secure_channel(target, composed(credentials), interceptors=credentials.aio_interceptors)

        aio_channel = runner.run(opened())
        yield lambda kind: runner.run(asked_by_aio(aio_channel, kind))
        runner.run(aio_channel.close())


@pytest.mark.rule("CL-19")
@pytest.mark.parametrize("kind", KINDS)
def test_the_token_goes_along(ask: Ask, service: Service, issuer: AuthorizationServer, kind: str) -> None:
    """One token for many calls, asked for with resource and scopes."""
    assert [ask(kind) for _ in range(3)] == [(Code.OK, "")] * 3
    (token,) = issuer.issued
    assert service.tokens == [token] * 3
    assert issuer.issued[token] == {"scope": "orders:read", "resource": RESOURCE}


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_token_is_dropped(ask: Ask, service: Service, issuer: AuthorizationServer, kind: str) -> None:
    """The call that is refused fails, the next one has a new token, and it is the only new one."""
    assert ask(kind)[0] is Code.OK
    service.revoked |= issuer.issued.keys()
    assert ask(kind) == (Code.UNAUTHENTICATED, "refused")
    assert [ask(kind)[0] for _ in range(2)] == [Code.OK] * 2
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_call_may_come_at_once(
    machine: MachineClient, service: Service, issuer: AuthorizationServer, kind: str
) -> None:
    """In the same step of an event loop in which a call is known to be refused, its token is gone."""
    credentials = call_credentials(machine, resource=RESOURCE)

    async def scene() -> list[Code]:
        target = f"127.0.0.1:{service.port}"
        watching = credentials.aio_interceptors
        async with grpc.aio.secure_channel(target, composed(credentials), interceptors=watching) as channel:
            seen = [(await asked_by_aio(channel, kind))[0]]
            for _ in range(5):
                service.revoked |= issuer.issued.keys()
                seen += [(await asked_by_aio(channel, kind))[0] for _ in range(2)]
            return seen

    assert asyncio.run(scene()) == [Code.OK] + [Code.UNAUTHENTICATED, Code.OK] * 5


@pytest.mark.rule("CL-15")
@pytest.mark.parametrize(
    ("code", "trailing", "tokens"),
    [
        (Code.UNAUTHENTICATED, INVALID, 2),
        (Code.UNAUTHENTICATED, (), 2),
        (Code.UNAUTHENTICATED, (("www-authenticate", 'Bearer realm="api"'),), 1),
        (Code.UNAUTHENTICATED, (("www-authenticate", 'Basic error="invalid_token"'),), 1),
        (Code.PERMISSION_DENIED, INVALID, 1),
        (Code.PERMISSION_DENIED, (), 1),
        (Code.UNAVAILABLE, (), 1),
        (Code.INVALID_ARGUMENT, INVALID, 1),
    ],
)
def test_what_drops_a_token(
    ask: Ask, service: Service, issuer: AuthorizationServer, code: Code, trailing: Any, tokens: int
) -> None:
    """What is no refusal of the token costs none; UNAUTHENTICATED without a challenge is taken for one."""
    assert ask("unary_unary")[0] is Code.OK
    service.revoked |= issuer.issued.keys()
    service.refusal = (code, trailing)
    assert ask("unary_unary")[0] is code
    service.revoked.clear()
    assert ask("unary_unary")[0] is Code.OK
    assert len(issuer.token_requests) == tokens


@pytest.mark.rule("CL-15")
def test_the_very_first_token_is_refused(ask: Ask, service: Service, issuer: AuthorizationServer) -> None:
    """It goes as well, though none was given away before it."""
    issuer.members["access_token"] = "strange"
    assert ask("unary_unary")[0] is Code.UNAUTHENTICATED
    del issuer.members["access_token"]
    assert ask("unary_unary")[0] is Code.OK


@pytest.mark.rule("CL-15")
def test_many_calls_with_one_refused_token(make: MakeMachine, service: Service, issuer: AuthorizationServer) -> None:
    """Ten calls that are on their way with an old token cost one new token, whenever each of them is refused."""
    credentials = call_credentials(make(), resource=RESOURCE)
    with grpc.secure_channel(f"127.0.0.1:{service.port}", composed(credentials)) as channel:
        watched = grpc.intercept_channel(channel, credentials.interceptor)
        assert asked(watched, "unary_unary")[0] is Code.OK
        service.revoked |= issuer.issued.keys()
        service.gate = threading.Event()
        with ThreadPoolExecutor(10) as pool:
            calls = [pool.submit(asked, watched, "unary_unary") for _ in range(10)]
            deadline = time.monotonic() + 10
            while len(service.tokens) < 11:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            held, service.gate = service.gate, None
            # One is refused, and another call has a new token already, while nine are still on their way.
            assert [asked(watched, "unary_unary")[0] for _ in range(2)] == [Code.UNAUTHENTICATED, Code.OK]
            held.set()
            assert {call.result()[0] for call in calls} == {Code.UNAUTHENTICATED}
        assert asked(watched, "unary_unary")[0] is Code.OK
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-17")
@pytest.mark.parametrize("kind", KINDS)
def test_no_token_can_be_had(ask: Ask, service: Service, issuer: AuthorizationServer, kind: str) -> None:
    """UNAVAILABLE, with what is wrong in words; the API sees nothing, and nothing stays broken."""
    issuer.script.append(Reply(401, {"error": "invalid_client"}, {"X-Request-Id": "r7"}))
    code, details = ask(kind)
    assert code is Code.UNAVAILABLE
    assert "invalid_client" in details
    assert "r7" in details
    assert service.tokens == []
    assert ask(kind)[0] is Code.OK


@pytest.mark.rule("CL-14")
def test_an_event_loop_goes_on_while_a_token_is_fetched(
    make: MakeMachine, service: Service, issuer: AuthorizationServer
) -> None:
    """The wait is in a thread of gRPC's."""
    credentials = call_credentials(make(), resource=RESOURCE)
    issuer.gate = gate = threading.Event()

    async def scene() -> Code:
        async with grpc.aio.secure_channel(f"127.0.0.1:{service.port}", composed(credentials)) as channel:
            call = asyncio.create_task(asked_by_aio(channel, "unary_unary"))
            while len(issuer.token_requests) < 1:  # only a running loop gets here
                await asyncio.sleep(0.005)
            gate.set()
            return (await call)[0]

    assert asyncio.run(scene()) is Code.OK


def test_a_call_does_not_wait_longer_than_it_would(
    make: MakeMachine, service: Service, issuer: AuthorizationServer
) -> None:
    """Its own deadline counts while a token is fetched."""
    credentials = call_credentials(make(), resource=RESOURCE)
    issuer.gate = threading.Event()
    with grpc.secure_channel(f"127.0.0.1:{service.port}", composed(credentials)) as channel:
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as failed:
            call: Any = channel.unary_unary("/shop.Orders/unary_unary")
            call(b"", timeout=0.3)
        issuer.gate.set()
    assert failed.value.code() is Code.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 5


@pytest.mark.rule("CL-19")
def test_no_token_without_tls(machine: MachineClient, service: Service, issuer: AuthorizationServer) -> None:
    """gRPC itself refuses to send credentials in the clear."""
    credentials = call_credentials(machine, resource=RESOURCE)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        code, _ = asked(channel, "unary_unary", credentials=credentials)
    assert code is not Code.OK
    assert service.tokens == []


def test_for_one_call(machine: MachineClient, service: Service) -> None:
    """Credentials of a single call, over a channel that has none."""
    credentials = call_credentials(machine, resource=RESOURCE)
    with grpc.secure_channel(f"127.0.0.1:{service.port}", grpc.local_channel_credentials()) as channel:
        assert asked(channel, "unary_unary", credentials=credentials)[0] is Code.OK
        assert asked(channel, "unary_unary")[0] is Code.UNAUTHENTICATED


def test_mistakes_are_found_when_they_are_made(machine: MachineClient) -> None:
    """Not at the first call."""
    with pytest.raises(ConfigError, match="not a scope"):
        call_credentials(machine, resource=RESOURCE, scopes=['"'])
    with pytest.raises(ConfigError, match="resource must be one string"):
        call_credentials(machine, resource=[RESOURCE])  # type: ignore[arg-type]
