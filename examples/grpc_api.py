"""An API over gRPC and its caller, without generated code: messages are JSON here.

    export GROAT_ISSUER=https://auth.example.com
    GROAT_AUDIENCE=https://orders.example.com python examples/grpc_api.py serve
    GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json python examples/grpc_api.py call

Needs: pip install ".[client,grpc]" in a clone

Both run on one machine, where gRPC takes "local" credentials. Over a network say grpc.ssl_server_credentials(...) and
grpc.ssl_channel_credentials(...) instead: gRPC gives no token away over a channel without TLS.
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from groat.client import MachineClient
from groat.client.grpc import call_credentials
from groat.verifier import Verifier
from groat.verifier.grpc import Interceptor, caller

API = os.environ.get("API", "https://orders.example.com")
ADDRESS = os.environ.get("ADDRESS", "127.0.0.1:50051")
# What each method needs. One that does not stand here is open to nobody.
METHODS = {"/shop.Orders/List": ["orders:read"], "/shop.Orders/Add": ["orders:write"], "/shop.Orders/WhoAmI": []}
orders: list[str] = ["1 sack of groats"]


def dumps(message: Any) -> bytes:
    """A message as bytes; generated code would have this."""
    return json.dumps(message).encode()


def list_orders(request: Any, context: grpc.ServicerContext) -> Any:
    """Needs `orders:read`."""
    return orders


def add_order(request: Any, context: grpc.ServicerContext) -> Any:
    """Needs `orders:write`."""
    orders.append(request["order"])
    return {"order": request["order"], "by": caller().client_id}


def who_am_i(request: Any, context: grpc.ServicerContext) -> Any:
    """Any client with a token for this API may ask."""
    return {"message": f"Hello, {caller().client_id}", "client": caller().client_id}


def create_server(verifier: Verifier) -> grpc.Server:
    """The API; with grpc.aio it is the same with AioInterceptor."""
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[Interceptor(verifier, METHODS)])
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(handler, json.loads, dumps)
        for name, handler in {"List": list_orders, "Add": add_order, "WhoAmI": who_am_i}.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    return server


def call(machine: MachineClient, address: str) -> list[Any]:
    """Ask twice. The token is fetched at the first call, kept, and renewed before it expires."""
    token = call_credentials(machine, resource=API, scopes=["orders:read"])
    secure = grpc.composite_channel_credentials(grpc.local_channel_credentials(), token)
    with grpc.secure_channel(address, secure) as channel:
        watched = grpc.intercept_channel(channel, token.interceptor)  # drops a token that the API refuses
        methods = ["/shop.Orders/WhoAmI", "/shop.Orders/List"]
        return [watched.unary_unary(method, dumps, json.loads)({}, timeout=10) for method in methods]


def main() -> int:
    if sys.argv[1:] == ["serve"]:
        server = create_server(Verifier.from_env())
        server.add_secure_port(ADDRESS, grpc.local_server_credentials())
        server.start()
        server.wait_for_termination()
        return 0
    with MachineClient.from_env() as machine:
        try:
            print(*call(machine, ADDRESS), sep="\n")
        except grpc.RpcError as error:
            print(error.code().name, error.details(), file=sys.stderr)
            return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
