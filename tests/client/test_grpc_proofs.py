"""gRPC calls with bound tokens: one proof for each, judged by PyJWT at the end of real channels, sync and aio."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from groat.client import MachineClient
from groat.client.grpc import call_credentials
from groat.protocol.jwk import PrivateKey
from tests.certificates import self_signed

from .conftest import CLIENT_ID
from .servers import Seen
from .test_dpop import BoundServer, judge
from .test_grpc import RESOURCE, Code, asked, asked_by_aio

Codes = Callable[[int], list[Code]]
METHOD = "/shop.Orders/unary_unary"


class BoundService:
    """Wants the token's key and, where `nonce` is one, that nonce; all proofs that came are in `proofs`."""

    def __init__(self, issuer: BoundServer) -> None:
        self.issuer, self.port, self.nonce = issuer, 0, ""
        self.proofs: set[str] = set()
        self.failures: list[Exception] = []

    def unary(self, _: Any, context: grpc.ServicerContext) -> bytes:
        shown = tuple((name, str(value)) for name, value in context.invocation_metadata())
        request = Seen("POST", METHOD, shown, b"")
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        try:
            assert scheme == "DPoP"
            proof = judge(request, f"https://127.0.0.1:{self.port}{METHOD}", self.proofs, token)
            assert proof["jwk"] == self.issuer.bound[token]
        except Exception as failure:
            self.failures.append(failure)
            raise
        if proof.get("nonce", "") != self.nonce:
            challenge = 'Bearer realm="api", DPoP realm="api", error="use_dpop_nonce"'
            context.set_trailing_metadata((("www-authenticate", challenge), ("dpop-nonce", self.nonce)))
            context.abort(Code.UNAUTHENTICATED, "refused")
        return b"one"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def issuer(key: PrivateKey) -> Iterator[BoundServer]:
    with BoundServer(CLIENT_ID, key.public) as server:
        yield server


@pytest.fixture
def service(issuer: BoundServer, tls: tuple[Path, Path]) -> Iterator[BoundService]:
    with ThreadPoolExecutor(4) as pool:
        served, server, both = BoundService(issuer), grpc.server(pool), tls[1].read_bytes()
        handlers: Any = {"unary_unary": grpc.unary_unary_rpc_method_handler(served.unary)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
        served.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(both, both)]))
        server.start()
        yield served
        server.stop(None).wait(10)
    assert served.failures == []


@pytest.fixture
def codes(
    issuer: BoundServer, service: BoundService, key: PrivateKey, request: pytest.FixtureRequest, tls: tuple[Path, Path]
) -> Iterator[Codes]:
    """How so many calls over one channel end."""
    machine = MachineClient(issuer.url, CLIENT_ID, key, dpop=True)
    credentials = call_credentials(machine, resource=RESOURCE, scopes=["orders:read"])
    secure = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(tls[0].read_bytes()), credentials)
    target = f"127.0.0.1:{service.port}"

    def by_sync(times: int) -> list[Code]:
        with grpc.secure_channel(target, secure) as channel:
            watched = grpc.intercept_channel(channel, credentials.interceptor)
            return [asked(watched, "unary_unary")[0] for _ in range(times)]

    async def by_aio(times: int) -> list[Code]:
        interceptors = credentials.aio_interceptors
        async with grpc.aio.secure_channel(target, secure, interceptors=interceptors) as channel:
            return [(await asked_by_aio(channel, "unary_unary"))[0] for _ in range(times)]

    with machine:
        yield by_sync if request.param == "sync" else lambda times: asyncio.run(by_aio(times))


@pytest.mark.rule("CL-26", "RS-DP-18")
@pytest.mark.parametrize("codes", ["sync", "aio"], indirect=True)
def test_each_call_has_a_proof_of_its_own(codes: Codes, service: BoundService) -> None:
    """For POST and the URL of the method, by the key of the token."""
    assert codes(3) == [Code.OK] * 3
    assert len(service.proofs) == 3


@pytest.mark.rule("CL-27", "RS-DP-18")
@pytest.mark.parametrize("codes", ["sync", "aio"], indirect=True)
def test_a_nonce_is_remembered(codes: Codes, service: BoundService, issuer: BoundServer) -> None:
    """The call that was refused for it is not repeated; the next one has it, with the same token."""
    service.nonce = "api-1"
    assert codes(3) == [Code.UNAUTHENTICATED, Code.OK, Code.OK]
    service.nonce = "api-2"
    assert codes(2) == [Code.UNAUTHENTICATED, Code.OK]
    assert len(issuer.bound) == 1
