"""Call a protected API from a pod or a CI job that has no key: the platform's own token says who it is.

In a pod, with the volume of docs/guides/workloads.md at /var/run/secrets/groat:

    export GROAT_ISSUER=https://auth.example.com GROAT_WORKLOAD=kubernetes
    python examples/workload.py /orders

In a job of GitHub Actions, with `permissions: {id-token: write}`: GROAT_WORKLOAD=github. Nothing else differs.
API and SCOPE name what is called; without a path it only gets the token. Needs: pip install ".[client]" in a clone
"""

import os
import sys

import httpx2

from groat.client import ClientError, KeyUnusable, MachineClient

API = os.environ.get("API", "https://orders.example.com")
SCOPES = os.environ.get("SCOPE", "orders:read").split()


def main() -> int:
    with MachineClient.from_env() as client:
        try:
            print(client.token(resource=API, scopes=SCOPES))  # masked; calls of the API use the same token
            if len(sys.argv) > 1:
                with httpx2.Client(base_url=API, auth=client.auth(resource=API, scopes=SCOPES)) as api:
                    print(api.get(sys.argv[1]).text)
        except KeyUnusable as error:
            print("the platform gives no token:", error, file=sys.stderr)
            return 5 if error.transient else 4
        except ClientError as error:
            print(error, file=sys.stderr)
            return 5 if error.transient else 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
