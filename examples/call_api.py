"""Call a protected API as a machine: no shared secret, no token handling in your code.

    export GROAT_ISSUER=https://auth.example.com GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json
    export API=https://orders.example.com SCOPE=orders:read
    python examples/call_api.py

Needs: pip install ".[client]" in a clone
"""

import asyncio
import logging
import os
import sys

import httpx2

from groat.client import ClientError, InsufficientScope, MachineClient, raise_for_scope

API = os.environ.get("API", "https://orders.example.com")
SCOPES = os.environ.get("SCOPE", "orders:read").split()


def call(client: MachineClient) -> None:
    """With a Client: the token is fetched at the first request, kept, and renewed before it expires."""
    with httpx2.Client(base_url=API, auth=client.auth(resource=API, scopes=SCOPES)) as api:
        response = api.get("/protected")
        raise_for_scope(response)
        print(response.status_code, response.json())


async def call_many(client: MachineClient) -> None:
    """With an AsyncClient: ten requests at once, still the same one token."""
    async with httpx2.AsyncClient(base_url=API, auth=client.auth(resource=API, scopes=SCOPES)) as api:
        responses = await asyncio.gather(*(api.get("/protected") for _ in range(10)))
    print([response.status_code for response in responses])


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with MachineClient.from_env() as client:
        try:
            call(client)
            asyncio.run(call_many(client))
            print(client.token(resource=API, scopes=SCOPES))  # masked; the secret itself is token.value
        except InsufficientScope as error:
            print("ask the operator for:", *error.required, file=sys.stderr)
            return 4
        except ClientError as error:
            print(error, file=sys.stderr)
            return 5 if error.transient else 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
