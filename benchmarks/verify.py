"""Cost of a whole access-token verification as a ratio to the bare signature check, in one run."""

import statistics
import time

from benchmarks.load.driver import raw_verify_cost
from groat.protocol import access_token, jose
from groat.protocol.jwk import PrivateKey, PublicKey, generate_private_key

ISSUER, AUDIENCE = "https://auth.example.com", "https://orders.example.com"
CALLS, ROUNDS = 2000, 7


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


if __name__ == "__main__":
    main()
