"""Cost of a whole access-token verification as a ratio to the bare signature check, in one run."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import chain

from benchmarks.load.driver import raw_verification, raw_verify_cost
from groat.protocol import access_token, jose
from groat.protocol.jwk import PrivateKey, PublicKey, generate_private_key
from groat.testing import FakeIssuer

ISSUER, AUDIENCE = "https://auth.example.com", "https://orders.example.com"
CALLS, ROUNDS = 2000, 7
# Against 1,000 tokens that were taken back.
_WAYS = {"none": "none", "feed": "feed", "list": "list"}


def token(key: PrivateKey, now: int) -> str:
    """An access token as the server writes it."""
    claims = {
        "iss": ISSUER,
        "sub": "billing",
        "aud": AUDIENCE,
        "client_id": "billing",
        "iat": now,
        "exp": now + 600,
        "jti": "Zr1Q0m6m3aY9kq0c2Xb7Lw",
        "scope": "orders:read",
    }
    return jose.sign_jwt(claims, key, access_token.TYP)


def verification_cost(value: str, key: PublicKey, now: int) -> float:
    """CPU seconds of parse, key selection, signature, claims and scope of one token; median of several rounds."""
    expected = access_token.Expectations(ISSUER, AUDIENCE)
    costs = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(CALLS):
            jwt = access_token.parse_access_token(value, expected)
            caller = access_token.check_access_token(jwt, jose.select_key(jwt.header, (key,)), expected, now)
            access_token.require_scopes(caller, ("orders:read",))
        costs.append((time.process_time() - begun) / CALLS)
    return statistics.median(costs)


def overhead(algorithm: str) -> float:
    """Seconds of a whole verification above its bare signature: the least of each, measured in turn."""
    key, now = generate_private_key(algorithm), int(time.time())
    value, expected = token(key, now), access_token.Expectations(ISSUER, AUDIENCE)
    bare = raw_verification(algorithm)

    def whole() -> None:
        jwt = access_token.parse_access_token(value, expected)
        caller = access_token.check_access_token(jwt, jose.select_key(jwt.header, (key.public,)), expected, now)
        access_token.require_scopes(caller, ("orders:read",))

    costs = [(_repeated(whole), _repeated(bare)) for _ in range(1500)]
    return min(cost for cost, _ in costs) - min(cost for _, cost in costs)


def parts(algorithm: str) -> dict[str, float]:
    """The least CPU seconds of each step, repeated by itself so that its caches are warm."""
    key, now = generate_private_key(algorithm), int(time.time())
    value, expected = token(key, now), access_token.Expectations(ISSUER, AUDIENCE)
    jwt = access_token.parse_access_token(value, expected)
    caller = access_token.check_access_token(jwt, key.public, expected, now)
    steps: dict[str, Callable[[], object]] = {
        "parse": lambda: access_token.parse_access_token(value, expected),
        "key": lambda: jose.select_key(jwt.header, (key.public,)),
        "signature": lambda: jose.verify_signature(jwt, key.public),
        "signature and claims": lambda: access_token.check_access_token(jwt, key.public, expected, now),
        "scopes": lambda: access_token.require_scopes(caller, ("orders:read",)),
    }
    return {name: min(_repeated(step) for _ in range(100)) for name, step in steps.items()}


def status_costs(rounds: int = 300) -> dict[str, tuple[float, float]]:
    """The least seconds of `Verifier.verify` by how it hears of revocations: proven anew, and remembered; in turn."""
    issuer = FakeIssuer(ISSUER, audience=AUDIENCE, lists=True)
    tokens = {name: issuer.token("billing", ["orders:read"]) for name in _WAYS}
    verifiers = {name: [issuer.verifier(revocation=way, cache_size=n) for n in (0, 10)] for name, way in _WAYS.items()}
    for _ in range(1000):
        issuer.revoke(issuer.token())
    least = {name: [float("inf")] * 2 for name in _WAYS}
    for _ in range(rounds):
        for name, pair in verifiers.items():
            for at, verifier in enumerate(pair):
                cost = _repeated(partial(verifier.verify, tokens[name], ("orders:read",)))
                least[name][at] = min(least[name][at], cost)
    for verifier in chain.from_iterable(verifiers.values()):
        verifier.close()
    return {name: (costs[0], costs[1]) for name, costs in least.items()}


def _repeated(step: Callable[[], object], times: int = 20) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - begun) / times


def main() -> None:
    print("| algorithm | whole verification | bare signature | ratio |\n|---|---|---|---|")
    for algorithm in ("ES256", "RS256", "Ed25519"):
        key = generate_private_key(algorithm)
        now = int(time.time())
        samples = []
        for _ in range(3):
            whole, bare = verification_cost(token(key, now), key.public, now), raw_verify_cost(algorithm)
            samples.append((whole / bare, whole, bare))
        ratio, whole, bare = sorted(samples)[1]
        print(f"| {algorithm} | {whole * 1e6:.0f} us | {bare * 1e6:.0f} us | {ratio:.2f} |", flush=True)
    print("\nES256, each step by itself with warm caches: ", end="")
    print(", ".join(f"{name} {cost * 1e6:.1f} us" for name, cost in parts("ES256").items()))
    print(f"above the bare signature: {overhead('ES256') * 1e6:.1f} us, the least of each, in turn")

    print("\n| revocation | proven anew | ratio | remembered | ratio |\n|---|---|---|---|---|")
    costs = status_costs()
    for name, (anew, remembered) in costs.items():
        ratios = anew / costs["none"][0], remembered / costs["none"][1]
        print(f"| {name} | {anew * 1e6:.1f} us | {ratios[0]:.3f} | {remembered * 1e6:.1f} us | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
