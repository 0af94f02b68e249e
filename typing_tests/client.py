"""What type checkers know of groat.client; nothing here is run."""

import asyncio
from typing import assert_type

import grpc
import grpc.aio
import httpx
import httpx2
import requests

from groat.client import (
    ApiMetadata,
    ClientError,
    Clocks,
    KeyFile,
    MachineClient,
    RefreshPolicy,
    RetryPolicy,
    Token,
    TokenRequestRefused,
    WorkloadIdentity,
    private_key_from_text,
    raise_for_scope,
)
from groat.client.grpc import call_credentials
from groat.client.requests import MachineAuth
from groat.protocol.jwk import PrivateKey

ISSUER, RESOURCE = "https://auth.example.com", "https://orders.example.com"

machine = MachineClient(issuer=ISSUER, client_id="billing", key="billing.key.json")
assert_type(machine, MachineClient)
assert_type(MachineClient.from_env(timeout=2.0), MachineClient)
assert_type(machine.token(resource=RESOURCE, scopes=["orders:read"]), Token)
assert_type(machine.token().expires_at, float)
assert_type(machine.token().scopes, tuple[str, ...])
assert_type(machine.check_api(RESOURCE, httpx.Response(401)), ApiMetadata)
assert_type(machine.check_api(RESOURCE, httpx2.Response(401)).issuers, tuple[str, ...])
assert_type(asyncio.run(machine.atoken(RESOURCE, "orders:read")), Token)


class InAKms:
    """A key that lives elsewhere is whatever has these three."""

    kid = "k1"
    algorithm = "ES256"

    def sign(self, data: bytes, /) -> bytes:
        return data


MachineClient(ISSUER, "billing", InAKms())
MachineClient(ISSUER, "billing", WorkloadIdentity("/var/run/token"))
MachineClient(ISSUER, key=WorkloadIdentity.kubernetes())
assert_type(WorkloadIdentity.github(audience=ISSUER, as_grant=True), WorkloadIdentity)
MachineClient(ISSUER, "billing", KeyFile("billing.pem", algorithm="PS256", allow_shared=True))
assert_type(private_key_from_text("{}"), PrivateKey)
MachineClient(ISSUER, "billing", private_key_from_text("{}"), refresh=RefreshPolicy(soft=0.5), retry=RetryPolicy(1))
MachineClient(ISSUER, "billing", "key.json", http=httpx2.Client, clocks=Clocks(sleep=lambda _: None))

auth = machine.auth(resource=RESOURCE, scopes=["orders:read"])
httpx2.Client(auth=auth)
httpx2.AsyncClient(auth=auth)
httpx.Client(auth=auth)
httpx.AsyncClient(auth=auth)
requests.get(RESOURCE, auth=MachineAuth(machine, resource=RESOURCE, scopes=["orders:read"]), timeout=5)
requests.Session().auth = MachineAuth(machine, "urn:orders", origins=[RESOURCE])
machine.drop(machine.token(RESOURCE), RESOURCE)

credentials = call_credentials(machine, resource=RESOURCE, scopes=["orders:read"])
secure = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), credentials)
grpc.intercept_channel(grpc.secure_channel("orders.example.com:443", secure), credentials.interceptor)
grpc.aio.secure_channel("orders.example.com:443", secure, interceptors=credentials.aio_interceptors)


def call(api: httpx2.Client) -> int:
    try:
        response = api.get("/orders")
        raise_for_scope(response)
    except TokenRequestRefused as error:
        assert_type(error.code, str)
        return error.status
    except ClientError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.request_id, str | None)
        return 0
    return response.status_code


with MachineClient(ISSUER, "billing", "key.json") as inside:
    assert_type(inside, MachineClient)

# What must not pass: each of these lines is an error, and it would be one if it were none.
WorkloadIdentity.github(audience=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkloadIdentity.spiffe(socket=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
MachineClient(ISSUER, "billing", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
MachineClient(ISSUER, "billing", "key.json", algorithm="PS256")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
MachineClient(ISSUER, "billing", "key.json", None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
machine.token(scopes=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
machine.token().value = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
KeyFile("key.json", "PS256")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
MachineAuth("billing", resource=RESOURCE)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
machine.drop("token")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
call_credentials(machine, resource=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
