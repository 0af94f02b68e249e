"""Proofs of possession over several processes: one proof, one token; nonces that all know; both values or none by a crash."""

import json
import secrets
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Final

import psycopg
import pytest

from groat.keys.files import read_private_key
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from tests.conftest import GROAT, ISSUER, Groat, Server
from tests.postgres import GivenServer, PostgresServer
from tests.proofs import PROOF_KEY, proof
from tests.protocol.federation.platforms import PLATFORMS
from tests.server.builders import Party, base
from tests.server.wire import FORM, Address, Answer, check_ec, check_ok, check_refused, encoded, post

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parent.parent.parent
TOKEN_URL: Final = f"{ISSUER.rstrip('/')}/token"
FAULTY: Final = (sys.executable, "-m", "tests.faults.entry")
LOOSE: Final = {
    "GROAT_LOG__FORMAT": "json",
    "GROAT_THROTTLE__CLIENT_FAILURES": "1000000",
    "GROAT_THROTTLE__SOURCE_FAILURES": "1000000",
}
POINTS: Final = {
    "sqlite": ("before-commit", "between-values", "committed"),
    "postgres": ("before-commit", "between-values", "statement-sent", "committed"),
}


class Installation:
    """One configuration and client, on one store; every `serve` is one more replica."""

    def __init__(self, directory: Path, url: str | None) -> None:
        self.groat, self.env, self.url = Groat(directory), dict(LOOSE), url
        if url is not None:
            file = directory / "url"
            file.write_text(url)
            file.chmod(0o600)
            self.env["GROAT_STORAGE__URL_FILE"] = str(file)
        self.run("init", "--issuer", ISSUER)
        self.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
        key = directory / "billing.json"
        self.run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", str(key))
        self.party = Party("billing", read_private_key(key))

    def run(self, *arguments: str) -> None:
        self.groat.run(*arguments, check=True, **self.env)

    def serve(self, **env: str) -> Server:
        command = FAULTY if env else (str(GROAT),)
        return self.groat.serve(1, env={**self.env, "PYTHONPATH": str(ROOT), **env}, command=command)

    def assertion(self) -> str:
        self.party.now = time.time()
        return self.party.assertion()

    def rows(self) -> set[str]:
        """By what name each used value stands in the store."""
        if self.url is not None:
            with psycopg.connect(self.url) as connection:
                return {row[0] for row in connection.execute("SELECT token_id FROM used_once")}
        with closing(sqlite3.connect(self.groat.directory / "data/groat.db")) as connection:
            return {row[0] for row in connection.execute("SELECT token_id FROM used_once")}

    def stop(self) -> None:
        for server in self.groat.servers:
            server.stop(signal.SIGKILL)


@pytest.fixture
def install(
    postgres: PostgresServer | GivenServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Installation]]:
    """Make an installation on an engine."""
    made: list[Installation] = []

    def make(engine: str) -> Installation:
        url = postgres.database() if engine == "postgres" else None
        made.append(Installation(tmp_path_factory.mktemp("bound"), url))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def ask(address: Address, assertion: str, text: str) -> Answer:
    return post(address, base(assertion), (("Content-Type", FORM), ("DPoP", text)))


@pytest.mark.rule("AS-DP-14", "I1")
def test_fifty_presentations_over_four_replicas(install: Callable[[str], Installation]) -> None:
    """Of one proof with fifty fresh assertions at once: one token, and one row of a proof."""
    shared = install("postgres")
    targets = cycle([shared.serve().address for _ in range(4)])
    for _ in range(3):
        text = proof(TOKEN_URL, time.time())
        work = [(next(targets), shared.assertion(), text) for _ in range(50)]
        with ThreadPoolExecutor(50) as pool:
            statuses = sorted(answer.status for answer in pool.map(lambda one: ask(*one), work))
        assert statuses == [200] + [400] * 49
    assert sum(row.startswith("proof of possession ") for row in shared.rows()) == 3


@pytest.mark.rule("AS-DP-15")
def test_a_nonce_of_one_replica_is_one_of_all(install: Callable[[str], Installation]) -> None:
    """Another replica takes it, and all of them after a restart; none of it is in the store."""
    shared = install("postgres")
    shared.env["GROAT_DPOP__NONCES"] = "required"
    one, two = shared.serve(), shared.serve()
    challenge = ask(one.address, shared.assertion(), proof(TOKEN_URL, time.time()))
    check_refused(challenge, "use_dpop_nonce")
    nonce = challenge.header("dpop-nonce")
    assert shared.rows() == set()
    check_ok(ask(two.address, shared.assertion(), proof(TOKEN_URL, time.time(), nonce=nonce)))
    for server in (one, two):
        assert server.stop() == 0
    check_ok(ask(shared.serve().address, shared.assertion(), proof(TOKEN_URL, time.time(), nonce=nonce)))


@pytest.mark.rule("AS-DP-14", "I1")
@pytest.mark.parametrize(("engine", "point"), [(engine, point) for engine in POINTS for point in POINTS[engine]])
def test_a_crash_leaves_both_values_or_none(install: Callable[[str], Installation], engine: str, point: str) -> None:
    """A server that ends between any two steps: what was shown works as a whole afterwards, or is used up as a whole."""
    shared = install(engine)
    faulty = shared.serve(GROAT_TEST_FAULT=f"kill:{engine}/{point}", GROAT_TEST_KILL_AT="3")
    shown: list[tuple[str, str]] = []
    with pytest.raises(OSError):
        for _ in range(5):
            shown.append((shared.assertion(), proof(TOKEN_URL, time.time())))
            check_ok(ask(faulty.address, *shown[-1]))
    assert faulty.process.wait(10) == -signal.SIGKILL
    assert len(shown) == 3
    rows = shared.rows()
    tokens = {row for row in rows if not row.startswith("proof of possession ")}
    assert rows - tokens == {f"proof of possession {row}" for row in tokens}
    assert len(tokens) in (2, 3)
    healthy = shared.serve().address
    assertion, text = shown[-1]
    if len(tokens) == 3:
        check_ec(ask(healthy, assertion, proof(TOKEN_URL, time.time())))
        check_refused(ask(healthy, shared.assertion(), text), "invalid_dpop_proof")
    else:
        check_ok(ask(healthy, assertion, text))


class Pods:
    """A cluster that an installation trusts, whose pods are a client; it binds each token to a key."""

    def __init__(self, shared: Installation) -> None:
        self.cluster, directory = PLATFORMS["kubernetes"], shared.groat.directory
        (directory / "cluster.json").write_text(json.dumps(public_key_set([self.cluster.key.public])))
        issuer = self.cluster.trust.issuer
        of = ("--preset", "kubernetes", "--issuer", issuer, "--jwks", str(directory / "cluster.json"))
        shared.run("trust", "add", "prod", *of, "--replay", "bind")
        shared.run("client", "add", "pods", "--allow", "orders=read", "--default-scope", "read", "--no-key")
        shared.run("client", "trust", "add", "pods", "prod", "--match", f"sub={self.cluster.claims['sub']}")

    def token(self) -> str:
        now = int(time.time())
        return self.cluster.token(aud=[ISSUER], iat=now - 5, nbf=now - 5, exp=now + 600, jti=secrets.token_hex(8))


def show(address: Address, token: str, key: PrivateKey | None) -> Answer:
    """A pod's token as a grant, with a new proof by this key."""
    fields = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", token)]
    shown = () if key is None else (("DPoP", proof(TOKEN_URL, time.time(), key)),)
    return post(address, encoded(fields), (("Content-Type", FORM), *shown))


def settled(address: Address, token: str, key: PrivateKey | None) -> Answer:
    """The first answer that is one; a machine that is short of time says 503, and then nothing was decided."""
    deadline = time.monotonic() + 60
    while (answer := show(address, token, key)).status == 503:
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


@pytest.mark.rule("AS-JB-11")
@pytest.mark.parametrize(("engine", "replicas"), [("postgres", 4), ("sqlite", 2)])
def test_one_of_two_keys_owns_a_token_over_all_replicas(
    install: Callable[[str], Installation], engine: str, replicas: int
) -> None:
    """Of many presentations of one token at once, by two keys in turn: all of one key are good, none of the other."""
    shared = install(engine)
    pods, keys = Pods(shared), (PROOF_KEY, generate_private_key("ES256"))
    addresses = [shared.serve().address for _ in range(replicas)]
    for _ in range(3):
        token = pods.token()
        work = [(addresses[n % replicas], token, keys[n // replicas % 2]) for n in range(32)]
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda one: settled(*one), work))
        statuses = {key.kid: {a.status for a, one in zip(answers, work, strict=True) if one[2] is key} for key in keys}
        assert sorted(statuses.values(), key=min) == [{200}, {400}]
    for unproven in (pods.token(), token):
        check_refused(settled(addresses[0], unproven, None), "invalid_grant", 400)
    owners = {row for row in shared.rows() if row.startswith("owned token ")}
    assert owners <= {f"owned token dpop {key.public.thumbprint}" for key in keys}
    assert owners
