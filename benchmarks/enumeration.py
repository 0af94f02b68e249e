"""Whether time tells which clients are registered: refusals of several kinds against refusals of unknown names.

    python -m benchmarks.enumeration [--rounds 50000] [--seconds 600] [--publishers]

A round sends one request of every kind over one keep-alive connection to `groat serve` with one worker, in an order
drawn anew each time, every assertion freshly signed and of one length. Each request comes from a source of its own
(X-Forwarded-For), so that none finds a trace of an earlier one in the throttle. Each kind is compared with the unknown
client by Welch's t over the samples below the common 90th percentile; |t| under 4.5 means that so many samples show no
difference. Not measured: TLS, a real network, and kinds of refusal that are not listed here.

With --publishers the same for clients that publish their keys. There every refusal waits (docs/decisions/0036), so four
connections send at once, and the samples are few.
"""

import argparse
import json
import math
import random
import secrets
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from benchmarks.servers import CLIENT, SCOPE, Server, groat_server, run_groat
from groat.demo.local_ca import LocalCa
from groat.outbound.published import DEADLINE
from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP, JWT_BEARER
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.server.http.waiting_room import SEATS_PER_CLIENT
from groat.server.registry.publishers import LOOK_SECONDS

LIMIT: Final = 4.5
TRIM: Final = 0.9
WARM_UP_ROUNDS: Final = 500
BLOCK: Final = 50  # rounds that are signed ahead of being sent; the connection must outlive that
SETTINGS: Final = {
    "GROAT_THROTTLE__CLIENT_FAILURES": "100000000",
    "GROAT_THROTTLE__SOURCE_FAILURES": "100000000",
    "GROAT_SERVER__TRUSTED_PROXIES": "127.0.0.1",
}
# All names have one length, so that no kind has fewer bytes to read, hash or log.
UNKNOWN: Final = "unknown"
DISABLED: Final = "dormant"
EXPIRED: Final = "retired"


@dataclass(frozen=True, slots=True)
class Forger:
    """Somebody without any client's key: knows key ids (they are public), signs with a key of his own."""

    issuer: str
    kids: Mapping[str, str]
    key: PrivateKey

    def body(self, client_id: str, kid: str | None = None, *, garbage: bool = False) -> bytes:
        """A token request in the name of this client, signed by the forger or not at all."""
        now = int(time.time())
        claims = {"iss": client_id, "sub": client_id, "aud": self.issuer, "iat": now, "exp": now + 60}
        posing = replace(self.key.public, kid=kid or self.kids.get(client_id, self.kids[CLIENT]))
        key = replace(self.key, public=posing)
        assertion = jose.sign_jwt({**claims, "jti": secrets.token_urlsafe(16)}, key, ASSERTION_TYP)
        if garbage:
            data, _, signature = assertion.rpartition(".")
            assertion = f"{data}.{base64url_encode(secrets.token_bytes(len(signature) * 3 // 4)).decode()}"
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": JWT_BEARER,
            "client_assertion": assertion,
        }
        return urlencode(form).encode()


def _unseen() -> str:
    return secrets.token_hex(4)[: len(CLIENT)]


KINDS: Final[Mapping[str, Callable[[Forger], bytes]]] = {
    "unknown client": lambda forger: forger.body(UNKNOWN),
    "known client, bad signature": lambda forger: forger.body(CLIENT, garbage=True),
    "known client, wrong key": lambda forger: forger.body(CLIENT),
    "known client, unknown kid": lambda forger: forger.body(CLIENT, forger.key.kid),
    "disabled client, wrong key": lambda forger: forger.body(DISABLED),
    "known client, expired key": lambda forger: forger.body(EXPIRED),
    "unknown client, another name each time": lambda forger: forger.body(_unseen()),
}
REFERENCE: Final = "unknown client"
# As many at once as may wait in the name of one client.
LANES: Final = SEATS_PER_CLIENT
SILENT: Final = "silence"
LIVELY: Final = "publish"
PUBLISHERS: Final[Mapping[str, Callable[[Forger], bytes]]] = {
    "unknown client": lambda forger: forger.body(UNKNOWN),
    "known client, wrong key": lambda forger: forger.body(CLIENT),
    "publisher, host silent": lambda forger: forger.body(SILENT),
    "publisher, wrong key": lambda forger: forger.body(LIVELY),
    "publisher, unknown kid": lambda forger: forger.body(LIVELY, forger.key.kid),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One kind against the unknown client. `effect`: mean difference of the trimmed samples in microseconds."""

    kind: str
    samples: int
    median: float
    effect: float
    t: float

    @property
    def passed(self) -> bool:
        return abs(self.t) < LIMIT


class Connection:
    """One keep-alive connection that times requests; knows just enough HTTP to find the end of an answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def time_refusal(self, body: bytes) -> float:
        """Microseconds from the first byte sent to the last one received. Raises RuntimeError unless answered 401."""
        request = (
            b"POST /token HTTP/1.1\r\nHost: groat\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"X-Forwarded-For: 10.%d.%d.%d\r\nContent-Length: %d\r\n\r\n" % (*secrets.token_bytes(3), len(body))
        ) + body
        begun = time.perf_counter_ns()
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        while answer and not answer.endswith(b"}"):
            answer += self._socket.recv(65536)
        took = time.perf_counter_ns() - begun
        if not answer.startswith(b"HTTP/1.1 401 "):
            raise RuntimeError(f"not a plain refusal: {answer[:200]!r}")
        return took / 1000

    def close(self) -> None:
        self._socket.close()


Kinds = Mapping[str, Callable[[Forger], bytes]]


def sample(
    connection: Connection, forger: Forger, rounds: int, seconds: float, kinds: Kinds = KINDS
) -> dict[str, list[float]]:
    """At most so many rounds in at most so many seconds; every kind gets equally many samples."""
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    deadline = time.monotonic() + seconds
    for start in range(0, rounds, BLOCK):
        if time.monotonic() > deadline:
            break
        block = [_shuffled(forger, kinds) for _ in range(min(BLOCK, rounds - start))]
        for kind, body in (request for round_ in block for request in round_):
            taken[kind].append(connection.time_refusal(body))
    return taken


def _shuffled(forger: Forger, kinds: Kinds) -> list[tuple[str, bytes]]:
    requests = [(kind, make(forger)) for kind, make in kinds.items()]
    random.shuffle(requests)
    return requests


def compare(taken: Mapping[str, Sequence[float]]) -> list[Row]:
    """Each kind against the unknown client. Needs at least some twenty samples of each to mean anything."""
    bound = statistics.quantiles([value for values in taken.values() for value in values], n=100)[int(TRIM * 100) - 1]
    kept = {kind: [value for value in values if value <= bound] for kind, values in taken.items()}
    reference = kept[REFERENCE]
    return [
        Row(kind, len(taken[kind]), statistics.median(values), *_welch(values, reference))
        for kind, values in kept.items()
    ]


def _welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    effect = statistics.fmean(one) - statistics.fmean(other)
    error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
    return effect, effect / error if error else 0.0


@contextmanager
def forged(server: Server) -> Iterator[tuple[Connection, Forger]]:
    """A connection to the server and a forger who knows the ids of its registered keys."""
    kids = {CLIENT: server.client_key.kid}
    for name in (DISABLED, EXPIRED):
        add = ["client", "add", name, "--allow", f"orders={SCOPE}", "--new-key", f"{name}.key.json"]
        run_groat(server.directory, *add, "--alg", server.algorithm)
        kids[name] = str(json.loads(run_groat(server.directory, "--json", "client", "key", "list", name))[0]["kid"])
    run_groat(server.directory, "client", "disable", DISABLED)
    run_groat(server.directory, "client", "key", "update", EXPIRED, kids[EXPIRED], "--expires", "0s", "--force")
    address = urlsplit(server.token_url)
    connection = Connection((str(address.hostname), int(address.port or 80)))
    try:
        yield connection, Forger(server.issuer, kids, generate_private_key(server.algorithm))
    finally:
        connection.close()


def measure(rounds: int, seconds: float, algorithm: str = "ES256") -> list[Row]:
    """The whole experiment on a server of its own."""
    with groat_server(algorithm, env=SETTINGS) as server, forged(server) as (connection, forger):
        sample(connection, forger, min(WARM_UP_ROUNDS, rounds), seconds)
        return compare(sample(connection, forger, rounds, seconds))


def measure_publishers(rounds: int, seconds: float, algorithm: str = "ES256") -> list[Row]:
    """The same for clients that publish their keys, one at a host that answers and one at a silent one."""
    with tempfile.TemporaryDirectory() as folder, key_set_hosts(Path(folder), algorithm) as (silent, lively, kid):
        trust = {"SSL_CERT_FILE": f"{folder}/ca.pem", "GROAT_KEYS__CLIENT_NETWORKS": "127.0.0.0/8"}
        with groat_server(algorithm, env={**SETTINGS, **trust}) as server:
            for name, uri in ((SILENT, silent), (LIVELY, lively)):
                run_groat(server.directory, "client", "add", name, "--allow", f"orders={SCOPE}", "--jwks-uri", uri)
            time.sleep(LOOK_SECONDS + DEADLINE)  # by then both were asked for their keys
            kids = {CLIENT: server.client_key.kid, LIVELY: kid}
            forger = Forger(server.issuer, kids, generate_private_key(algorithm))
            return compare(_in_lanes(server, forger, rounds, seconds))


def _in_lanes(server: Server, forger: Forger, rounds: int, seconds: float) -> dict[str, list[float]]:
    address = urlsplit(server.token_url)

    def lane(_: int) -> dict[str, list[float]]:
        connection = Connection((str(address.hostname), int(address.port or 80)))
        try:
            return sample(connection, forger, rounds // LANES, seconds, PUBLISHERS)
        finally:
            connection.close()

    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(lane, range(LANES)))
    return {kind: [value for one in lanes for value in one[kind]] for kind in PUBLISHERS}


@contextmanager
def key_set_hosts(folder: Path, algorithm: str) -> Iterator[tuple[str, str, str]]:
    """Addresses of key sets, at a silent host and at one that answers, and the kid there; ca.pem in the folder."""
    key = generate_private_key(algorithm)
    body = json.dumps(public_key_set([key.public])).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    now = datetime.now(UTC)
    ca, _ = LocalCa.ensure(folder / "ca.pem", folder / "ca.key.pem", ["localhost"], now)
    ca.ensure_server(folder, ["localhost"], now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key.pem")
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as lively:
        threading.Thread(target=_serve_keys, args=(lively, context, answer), daemon=True).start()
        first, second = (f"https://localhost:{one.getsockname()[1]}/keys" for one in (silent, lively))
        yield first, second, key.public.kid


def _serve_keys(listener: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    """Answer every connection alike, until the listener is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as stream:
                stream.recv(4096)
                stream.sendall(answer)


HEADER: Final = "| refusal | samples | median | difference of means | Welch t |\n|---|---|---|---|---|"


def line(row: Row) -> str:
    """One line of the Markdown table."""
    return f"| {row.kind} | {row.samples:,} | {row.median:.1f} us | {row.effect:+.2f} us | {row.t:+.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="stop earlier after this long")
    parser.add_argument("--algorithm", default="ES256", help="of the clients' keys and the forger's")
    parser.add_argument("--publishers", action="store_true", help="refusals where clients publish their keys")
    options = parser.parse_args(arguments)
    chosen = measure_publishers if options.publishers else measure
    rows = chosen(options.rounds, options.seconds, options.algorithm)
    print(HEADER, *map(line, rows), sep="\n")
    return 0 if all(row.passed for row in rows) else 7


if __name__ == "__main__":
    raise SystemExit(main())
