"""How long a token that was taken back is still let in: from the command's return to the last acceptance anywhere.

    python -m benchmarks.revocation [--modes feed list introspection] [--rounds 5] [--verifiers 20] [--rate 2000]
                                    [--away 8]

A real `groat serve`, verifiers in four processes that ask all the time, `groat revoke client`. Then the same with the
server cut off from before the command until so many seconds behind it: what counts is the time from its return on
the network. Introspection asks about each request, so its rate is 200. Loopback only; a round takes some 10 s.
"""

import argparse
import logging
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.servers import CLIENT, RESOURCE, SCOPE, Server, free_port, groat_server, run_groat
from groat.client import MachineClient
from groat.verifier import Revocation, VerificationError, Verifier

PROCESSES: Final = 4
SLOW_RATE: Final = 200
SETTLED: Final = 1.0  # seconds without an acceptance, after which none comes
API: Final = "orders"


@dataclass(slots=True)
class Relay:
    """The network between verifiers and server, which can be cut."""

    port: int
    target: int
    listener: socket.socket = field(init=False)
    open_now: bool = True
    _pairs: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """End what is open and refuse what comes."""
        self.open_now = False
        for one in list(self._pairs):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.open_now = True

    def _serve(self) -> None:
        while True:
            near, _ = self.listener.accept()
            if not self.open_now:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.target))
            for one, other in ((near, far), (far, near)):
                self._pairs.add(one)
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
        self._pairs.discard(one)
        one.close()


@dataclass(frozen=True, slots=True)
class Work:
    """What one process does: so many verifiers of this kind, so many requests a second in all."""

    issuer: str
    mode: str
    key_file: str
    verifiers: int
    rate: float

    def verifier(self) -> Verifier:
        chosen: str | Revocation = self.mode
        if self.mode == "introspection":
            chosen = Revocation("introspection", api=API, key_file=self.key_file, cache_seconds=0)
        return Verifier(self.issuer, RESOURCE, revocation=chosen)


def verify_on(work: Work, tokens: "Queue[str]", heard: "Queue[Any]") -> None:
    """A process: ask with the newest token, verifier by verifier; tell when each token was let in for the last time."""
    logging.disable()
    verifiers, token, accepted, asked = [work.verifier() for _ in range(work.verifiers)], "", 0.0, 0
    while True:
        with suppress(Exception):  # nothing new
            newer = tokens.get_nowait()
            if newer == "":
                heard.put((accepted, asked))
                continue
            token, accepted, asked = newer, 0.0, 0
        begun = time.monotonic()
        for verifier in verifiers if token else ():
            asked += 1
            with suppress(VerificationError):
                verifier.verify(token, [SCOPE])
                accepted = time.monotonic()
        time.sleep(max(0.001, len(verifiers) / work.rate - (time.monotonic() - begun)))


@dataclass(frozen=True, slots=True)
class Crowd:
    """Verifiers at work."""

    tokens: Sequence["Queue[str]"]
    heard: "Queue[Any]"

    def show(self, token: str) -> None:
        for queue in self.tokens:
            queue.put(token)

    def last(self) -> tuple[float, int]:
        """When the token was let in for the last time, and how often it was shown."""
        self.show("")
        told = [self.heard.get(timeout=30) for _ in self.tokens]
        return max(when for when, _ in told), sum(asked for _, asked in told)


@contextmanager
def crowd(work: Work) -> Iterator[Crowd]:
    spawn = multiprocessing.get_context("spawn")
    heard: Queue[Any] = spawn.Queue()
    queues: list[Queue[str]] = [spawn.Queue() for _ in range(PROCESSES)]
    processes = [spawn.Process(target=verify_on, args=(work, queue, heard), daemon=True) for queue in queues]
    for process in processes:
        process.start()
    try:
        yield Crowd(queues, heard)
    finally:
        for process in processes:
            process.terminate()
            process.join(10)


def one_round(server: Server, relay: Relay, verifiers: Crowd, away: float) -> tuple[float, float, int]:
    """Seconds from the command's return, and from the network's, to the last acceptance; and requests a second."""
    with MachineClient(server.issuer, CLIENT, server.client_key, token_endpoint=server.token_url) as client:
        verifiers.show(client.token(resource=RESOURCE, scopes=[SCOPE]).value)
    begun = time.monotonic()
    time.sleep(3)
    if away:
        relay.cut()
        time.sleep(1)
    run_groat(server.directory, "revoke", "client", CLIENT)
    returned = back = time.monotonic()
    if away:
        time.sleep(away)
        relay.mend()
        back = time.monotonic()
    accepted, asked = verifiers.last()
    while time.monotonic() - accepted < SETTLED or time.monotonic() - back < SETTLED:
        time.sleep(0.2)
        accepted, asked = verifiers.last()
    return max(0.0, accepted - returned), max(0.0, accepted - back), int(asked / (time.monotonic() - begun))


@contextmanager
def relayed() -> Iterator[tuple[Server, Relay]]:
    """A server that calls itself by the address of a relay in front of it."""
    port = free_port()
    with groat_server("ES256", issuer=f"http://127.0.0.1:{port}") as server:
        yield server, Relay(port, urlsplit(server.token_url).port or 0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=["feed", "list", "introspection"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verifiers", type=int, default=20)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--away", type=float, default=8.0)
    options = parser.parse_args(arguments)
    print("| revocation | server | requests/s | last acceptance: median | most |\n|---|---|---|---|---|")
    for mode in options.modes:
        rate = min(options.rate, SLOW_RATE) if mode == "introspection" else options.rate
        measure(mode, options.rounds, options.verifiers, rate, options.away)


def measure(mode: str, rounds: int, verifiers: int, rate: int, away: float) -> None:
    """Two lines of the table."""
    with relayed() as (server, relay):
        run_groat(server.directory, "api", "key", "add", API, "--new-key", "api.key.json")
        if mode == "list":
            run_groat(server.directory, "api", "update", API, "--status", "list")
        key_file = str(server.directory / "api.key.json")
        work = Work(server.issuer, mode, key_file, verifiers // PROCESSES, rate / PROCESSES)
        with crowd(work) as asking:
            for gone in (0.0, away):
                found = [one_round(server, relay, asking, gone) for _ in range(rounds)]
                times = [since_back if gone else since for since, since_back, _ in found]
                where = f"cut off for {gone:.0f} s, from its return" if gone else "there"
                per_second = min(count for _, _, count in found)
                print(
                    f"| {mode} | {where} | {per_second} | {statistics.median(times):.2f} s | {max(times):.2f} s |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
