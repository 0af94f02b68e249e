"""What trusts and their rules cost: others' tokens nothing, and a workload's own little more than a client's.

    python -m benchmarks.federation [--rules 100000] [--trusts 1000] [--clients 1000000] [--tokens 600] [--rounds 9]

Two installations of one process, with SQLite and no write (`benchmarks.phases`): a small one, and one with so many
rules, of so many trusts, and so many clients. Plain tokens of both and federated ones of the large one take turns, so
that a noisy neighbour hits all alike; what counts are the medians of the ratios within a round. ES256 everywhere.
"""

import argparse
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import uvloop
from starlette.types import ASGIApp

from benchmarks.crowd import Crowd
from benchmarks.load.driver import presign_bodies
from benchmarks.phases import ISSUER, Instant, request
from benchmarks.servers import CLIENT, RESOURCE, SCOPE, run_groat
from groat.app import create_app
from groat.keys.files import read_private_key
from groat.protocol import jose, strict_json
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.server.log.event_log import EventLog
from groat.server.settings.config import load_config

CI = "https://ci.example.com"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SUBJECT = "repo:worker"


def furnish(directory: Path, key: PrivateKey) -> PrivateKey:
    """One API, one client with a key, one trust whose workload is a client; returns the client's key."""
    (directory / "ci.json").write_text(json.dumps(public_key_set([key.public])))
    trust = ("--jwks", "ci.json", "--alg", "ES256", "--replay", "reuse")
    for line in (
        ("init", "--issuer", ISSUER),
        ("api", "add", "orders", "--audience", RESOURCE, "--scope", SCOPE),
        ("client", "add", CLIENT, "--allow", f"orders={SCOPE}", "--new-key", "key.json"),
        ("trust", "add", "ci", "--issuer", CI, *trust),
        ("client", "add", "worker", "--allow", f"orders={SCOPE}", "--no-key"),
        ("client", "trust", "add", "worker", "ci", "--match", f"sub={SUBJECT}"),
    ):
        run_groat(directory, *line)
    return read_private_key(directory / "key.json")


def grow(database: Path, rules: int, trusts: int, clients: int) -> None:
    """By SQL, as `groat` would have written it: rules of so many trusts, of which one is asked."""
    Crowd(f"sqlite:///{database}", clients=4).grow_clients(clients)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        (document, at) = connection.execute("SELECT document, created_at FROM trusts").fetchone()
        (rule,) = connection.execute("SELECT document FROM trust_rules").fetchone()
        names = ["ci", *(f"other-{number}" for number in range(1, trusts))]
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO trusts (name, of_issuer, issuer, document, enabled, created_at) VALUES (?, '', ?, ?, 1, ?)",
            [(name, f"https://{name}.example.com", document, at) for name in names[1:]],
        )
        connection.executemany(
            "INSERT INTO trust_rules (rule_id, of_issuer, trust, client_id, found_by, document, created_at) "
            "VALUES (?, '', ?, 'worker', ?, ?, ?)",
            (
                (f"r-{n}", names[n % trusts], f"sub=repo:other-{n}", rule.replace(SUBJECT, f"repo:other-{n}"), at)
                for n in range(rules)
            ),
        )
        connection.execute("UPDATE registry SET version = version + 1")
        connection.execute("COMMIT")


def open_app(directory: Path) -> ASGIApp:
    config = load_config(directory / "groat.toml", {})
    return create_app(config, Instant.open(config.database), log=EventLog((directory / "log").open("w"), "info", False))


def federated(key: PrivateKey, count: int) -> list[bytes]:
    """So many distinct tokens of the workload, as grants."""
    now, bodies = int(time.time()), []
    for number in range(count):
        claims = {
            "iss": CI, "sub": SUBJECT, "aud": ISSUER, "iat": now, "exp": now + 3000, "jti": f"j-{number}",
            "repository_id": "74", "ref": "refs/heads/main", "actor": "octocat", "workflow": "deploy",
        }  # fmt: skip
        data = jose.signing_input(jose.encode_header("ES256", key.kid, "JWT"), strict_json.dumps(claims))
        token = (data + b"." + base64url_encode(jose.sign(data, key))).decode()
        bodies.append(urlencode({"grant_type": GRANT, "assertion": token, "scope": SCOPE}).encode())
    return bodies


def plain(directory: Path, key: PrivateKey, count: int) -> list[bytes]:
    presign_bodies(
        directory / "bodies", count, client_id=CLIENT, private_jwk=key.private_jwk(), alg="ES256", issuer=ISSUER,
        resource=RESOURCE, scope=SCOPE,
    )  # fmt: skip
    return (directory / "bodies").read_bytes().splitlines()


async def spent(app: ASGIApp, bodies: Sequence[bytes]) -> float:
    """CPU seconds per token."""
    begun = time.process_time()
    for body in bodies:
        await request(app, body)
    return (time.process_time() - begun) / len(bodies)


async def compare(runs: Sequence[tuple[ASGIApp, Sequence[bytes]]], rounds: int) -> list[list[float]]:
    """What each cost in each round, in turn; a first round warms all of them and does not count."""
    found = [[await spent(app, bodies) for app, bodies in runs] for _ in range(rounds + 1)]
    return found[1:]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--trusts", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        small, large, workload = Path(name) / "small", Path(name) / "large", generate_private_key("ES256")
        small.mkdir()
        key = furnish(small, workload)
        shutil.copytree(small, large)
        grow(load_config(large / "groat.toml", {}).database, options.rules, options.trusts, options.clients)
        bodies = plain(small, key, options.tokens)
        grown = open_app(large)
        runs = [(open_app(small), bodies), (grown, bodies), (grown, federated(workload, options.tokens))]
        rounds = uvloop.run(compare(runs, options.rounds))
    crowd = f"{options.rules} rules of {options.trusts} trusts, {options.clients} clients"
    print("| what | CPU per token | to the plain one, small | to the plain one, there |\n|---|---|---|---|")
    for at, what in enumerate(("plain, small", f"plain, {crowd}", "federated, there")):
        cost = statistics.median(row[at] for row in rounds)
        small_ratio, ratio = (statistics.median(row[at] / row[plain] for row in rounds) for plain in (0, 1))
        print(f"| {what} | {cost * 1e6:.0f} us | {small_ratio:.3f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
