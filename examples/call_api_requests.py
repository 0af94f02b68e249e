"""Call a protected API with requests, as a machine: no shared secret, no token handling in your code.

    export GROAT_ISSUER=https://auth.example.com GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json
    export API=https://orders.example.com SCOPE=orders:read
    python examples/call_api_requests.py

Needs: pip install ".[client,requests]" in a clone
"""

import logging
import os
import sys

import requests

from groat.client import ClientError, InsufficientScope, MachineClient, raise_for_scope
from groat.client.requests import MachineAuth

API = os.environ.get("API", "https://orders.example.com")
SCOPES = os.environ.get("SCOPE", "orders:read").split()


def call(client: MachineClient) -> None:
    """The token is fetched at the first request, kept, and renewed before it expires."""
    with requests.Session() as session:
        session.auth = MachineAuth(client, resource=API, scopes=SCOPES)
        for _ in range(3):
            response = session.get(f"{API}/protected", timeout=10)
            raise_for_scope(response)
            print(response.status_code, response.json())


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with MachineClient.from_env() as client:
        try:
            call(client)
        except InsufficientScope as error:
            print("ask the operator for:", *error.required, file=sys.stderr)
            return 4
        except ClientError as error:
            print(error, file=sys.stderr)
            return 5 if error.transient else 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
