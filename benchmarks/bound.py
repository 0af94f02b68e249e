"""What it costs that a token is bound to a key (DPoP), as ratios to the bare signatures that it takes, in one run.

    python -m benchmarks.bound [--rounds 5] [--tokens 3000] [--calls 4000] [--connections 16]

At the API: `verify_request` with a token and a proof, neither seen before, against two bare verifications; and the same
where the token is remembered (`cache_size`), but never the proof. At the server: CPU time of `groat serve` for each
bound token against two verifications and a signature, and for each plain one against one of either, the same server
loaded with both in turn. All is ES256. Needs wrk.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.load.driver import raw_sign_cost, raw_verification, raw_verify_cost
from benchmarks.servers import groat_server
from benchmarks.token_endpoint import CONNECTIONS, WARM_UP_TOKENS, load
from groat.client.possession import Possession
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.testing import FakeIssuer
from groat.verifier import Verifier

BLOCK: Final = 10  # calls between two looks at the clock, so that a noisy neighbour hits both sides alike
SIBLINGS: Final = 50  # calls with one token, where tokens are remembered


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of one call and of the signatures in it: the medians, and the least of each."""

    whole: float
    raw: float
    least_whole: float
    least_raw: float

    def line(self, name: str) -> str:
        """One line of the Markdown table."""
        seconds = " | ".join(f"{value * 1e6:.0f} us" for value in (self.whole, self.raw))
        return f"| {name} | {seconds} | {self.whole / self.raw:.2f} | {self.least_whole / self.least_raw:.2f} |"


def _proofs(key: PrivateKey) -> Possession:
    return Possession(lambda: key, time.time)


def requests(issuer: FakeIssuer, number: int, calls_of_a_token: int) -> Iterator[dict[str, Any]]:
    """What an adapter hands over for so many calls, as our own client makes them."""
    key = generate_private_key("ES256")
    mine, url = _proofs(key), f"{issuer.audience}/orders"
    for count in range(number):
        if count % calls_of_a_token == 0:
            token = issuer.token(scopes=["orders:read"], cnf={"jkt": key.public.thumbprint})
        headers = {"authorization": [f"DPoP {token}"], "dpop": [mine.proof("GET", url, token)]}
        yield {**headers, "method": "GET", "url": "/orders", "scopes": ("orders:read",)}


def call_cost(calls: int, calls_of_a_token: int = 1) -> Cost:
    """Of a bound call at a verifier; it remembers tokens if one comes more than once."""
    remembered = calls_of_a_token > 1
    bare = raw_verification("ES256")
    with FakeIssuer().installed() as issuer:
        verifier = Verifier(issuer.url, issuer.audience, cache_size=1000 if remembered else 0)
        asked = list(requests(issuer, calls + BLOCK, calls_of_a_token))
        _spent([partial(verifier.verify_request, **one) for one in asked[:BLOCK]])
        whole, raw = [], []
        for at in range(BLOCK, len(asked), BLOCK):
            block = [partial(verifier.verify_request, **one) for one in asked[at : at + BLOCK]]
            whole.append(_spent(block))
            raw.append(2 * _spent([bare] * BLOCK))
    return Cost(statistics.median(whole), statistics.median(raw), min(whole), min(raw))


def _spent(calls: Sequence[Callable[[], object]]) -> float:
    begun = time.process_time()
    for call in calls:
        call()
    return (time.process_time() - begun) / len(calls)


def token_costs(rounds: int, tokens: int, connections: int) -> tuple[Cost, Cost]:
    """Of a plain token and of a bound one at one server, loaded with either in turn."""
    plain, bound, floors = [], [], []
    with groat_server("ES256") as server:
        mine = _proofs(generate_private_key("ES256"))

        def sign(path: Path, number: int) -> None:
            path.write_text("".join(f"{mine.proof('POST', server.token_url)}\n" for _ in range(number)))

        for proofs in (None, sign):
            load(server, WARM_UP_TOKENS, connections, proofs)
        for _ in range(rounds):
            verify, signature = raw_verify_cost("ES256"), raw_sign_cost("ES256")
            floors.append((verify + signature, 2 * verify + signature))
            plain.append(load(server, tokens, connections)[1])
            bound.append(load(server, tokens, connections, sign)[1])
    return _cost(plain, [one for one, _ in floors]), _cost(bound, [two for _, two in floors])


def _cost(whole: Sequence[float], raw: Sequence[float]) -> Cost:
    return Cost(statistics.median(whole), statistics.median(raw), min(whole), min(raw))


HEADER: Final = "| what | CPU | bare signatures | ratio of medians | ratio of the least |\n|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    options = parser.parse_args(arguments)
    print(HEADER)
    print(call_cost(options.calls).line("a bound call, its token new"), flush=True)
    print(call_cost(options.calls, SIBLINGS).line("a bound call, its token remembered"), flush=True)
    plain, bound = token_costs(options.rounds, options.tokens, options.connections)
    print(plain.line("a plain token at the server"))
    print(bound.line("a bound token at the server"))


if __name__ == "__main__":
    main()
