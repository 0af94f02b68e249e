"""A machine that calls an API: once, or again and again with a new token each time. Copy it and put your own calls in.

    export GROAT_ISSUER=https://auth.example.com GROAT_CLIENT_ID=billing GROAT_KEY_FILE=billing.key.json
    export API=https://orders.example.com SCOPE=orders:read
    python example_client.py

It needs groat[client]. SSL_CERT_FILE names a private authority. ROUNDS (1) says how often, PAUSE (0 s) how long to
wait in between. Exit code 0 only if every round came out well.
"""

import logging
import os
import sys
import time

import httpx2

from groat.client import ClientError, MachineClient, raise_for_scope


def call(resource: str, scopes: list[str]) -> str:
    """Get a token and call the API. Raises ClientError, httpx2.HTTPError."""
    # A real program keeps its MachineClient, and so its token; this one shows the whole flow each time.
    with MachineClient.from_env() as machine, httpx2.Client(auth=machine.auth(resource, scopes), timeout=5.0) as api:
        started = time.perf_counter()
        token = machine.token(resource, scopes)
        fetched = time.perf_counter()
        response = api.get(f"{resource}/protected")
        raise_for_scope(response)
        response.raise_for_status()
        lifetime = round(token.expires_at - time.time(), -1)
        return (
            f"token  scope={' '.join(sorted(token.scopes))}  {lifetime:.0f} s   {(fetched - started) * 1000:.0f} ms\n"
            f"GET {resource}/protected  {response.status_code}  {response.text}"
        )


def main() -> int:
    """Call as often as ROUNDS says and sum up; one line for each failure."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    resource, scopes = os.environ["API"], os.environ.get("SCOPE", "").split()
    rounds, pause = int(os.environ.get("ROUNDS", "1")), float(os.environ.get("PAUSE", "0"))
    slowest, failures = 0.0, 0
    for number in range(1, rounds + 1):
        started = time.perf_counter()
        try:
            line = call(resource, scopes)
        except (ClientError, httpx2.HTTPError) as error:
            failures += 1
            print(f"round {number}: {type(error).__name__}: {error}", flush=True)
        else:
            if number == 1:
                print(line, flush=True)
        slowest = max(slowest, time.perf_counter() - started)
        time.sleep(pause if number < rounds else 0)
    if rounds > 1:
        print(f"{rounds} rounds, {failures} failed, slowest {slowest:.2f} s", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
