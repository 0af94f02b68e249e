"""Real replicas on a real PostgreSQL: exactly once over all of them, and the truth while the database is away."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psycopg
import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import read_private_key
from groat.server.log.audit import Audit
from groat.server.operations.first_start import Wanted, initialise
from groat.server.settings.config import load_config
from groat.server.settings.engines import open_engine
from groat.server.store.postgres.link import Target
from groat.server.store.postgres.schema import migrate
from tests.conftest import GROAT, ISSUER, Groat, Server
from tests.postgres import GivenServer, PostgresServer
from tests.server.builders import Party, base, decoded
from tests.server.wire import Address, Answer, check_ec, check_ok, check_refused, post, send

READY_SECONDS: Final = 2.0
JSON_LOG: Final = {"GROAT_LOG__FORMAT": "json", "GROAT_THROTTLE__CLIENT_FAILURES": "1000000",
                   "GROAT_THROTTLE__SOURCE_FAILURES": "1000000"}  # fmt: skip


class Replicated:
    """One installation whose store is on PostgreSQL; every `serve` is one more replica."""

    def __init__(self, directory: Path, url: str) -> None:
        self.groat = Groat(directory)
        self.url_file = directory / "url"
        self.url_file.write_text(url)
        self.url_file.chmod(0o600)
        self.env = {**JSON_LOG, "GROAT_STORAGE__URL_FILE": str(self.url_file)}
        self.run("init", "--issuer", ISSUER)
        self.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
        self.party = self.add_client("billing")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.groat.run(*arguments, check=check, **self.env)

    def serve(self) -> Server:
        return self.groat.serve(1, env=self.env)

    def add_client(self, client_id: str) -> Party:
        path = self.groat.directory / f"{client_id}.json"
        self.run(
            "client", "add", client_id, "--allow", "orders=read", "--default-scope", "read", "--new-key", str(path)
        )
        return Party(client_id, read_private_key(path), time.time())

    def stop(self) -> None:
        for server in self.groat.servers:
            server.stop(signal.SIGKILL)


@pytest.fixture
def shared(postgres: PostgresServer | GivenServer, tmp_path: Path) -> Iterator[Replicated]:
    """An installation on the shared server."""
    made = Replicated(tmp_path, postgres.database())
    yield made
    made.stop()


@pytest.fixture
def alone(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Replicated]:
    """An installation on a server of its own."""
    made = Replicated(tmp_path, postgres_server.database())
    yield made
    made.stop()


def fresh(party: Party, **claims: object) -> str:
    party.now = time.time()
    return party.assertion(**claims)


@pytest.mark.rule("I1", "L03", "P01", "P02", "AS-CA-11")
def test_one_assertion_one_token_over_three_replicas(shared: Replicated) -> None:
    """Each of sixty assertions is presented six times at once over three replicas; the rows are the issued tokens."""
    servers = [shared.serve() for _ in range(3)]
    assertions = [fresh(shared.party) for _ in range(60)]
    targets = itertools.cycle(server.address for server in servers)
    with ThreadPoolExecutor(24) as pool:
        jobs = [
            (assertion, pool.submit(post, next(targets), base(assertion))) for assertion in assertions for _ in range(6)
        ]
        answers = [(assertion, job.result()) for assertion, job in jobs]
    won = [assertion for assertion, answer in answers if answer.status == 200]
    assert sorted(won) == sorted(assertions)
    assert {answer.status for _, answer in answers} == {200, 401}
    issued = {decoded(answer.json["access_token"])[1]["jti"] for _, answer in answers if answer.status == 200}
    with psycopg.connect(shared.url_file.read_text()) as connection:
        rows = connection.execute("SELECT token_id, client_id, kid, replica FROM used_once").fetchall()
    assert {row[0] for row in rows} == issued
    assert {row[1] for row in rows} == {"billing"}
    assert len({row[3] for row in rows}) == 3


@pytest.mark.rule("AS-CA-24", "I6", "S01", "A17")
def test_a_change_acts_on_the_next_request_of_every_replica(shared: Replicated) -> None:
    """Disable, enable, remove a key: no replica answers by what it remembers."""
    servers = [shared.serve() for _ in range(2)]

    def statuses() -> list[int]:
        return [post(server.address, base(fresh(shared.party))).status for server in servers]

    assert statuses() == [200, 200]
    for _ in range(3):
        shared.run("client", "disable", "billing")
        assert statuses() == [401, 401]
        shared.run("client", "enable", "billing")
        assert statuses() == [200, 200]
    (key,) = json.loads(shared.run("--json", "client", "key", "list", "billing").stdout)
    shared.run("--yes", "client", "key", "remove", "--force", "billing", key["kid"])
    assert statuses() == [401, 401]


@pytest.mark.rule("F03", "AS-TE-30", "I1", "I2")
def test_while_the_database_is_away(alone: Replicated, postgres_server: PostgresServer) -> None:
    """503 with Retry-After for every token request, never 401 or 500; public documents from memory; back in 5 s."""
    server = alone.serve()
    # Another version than the one at the start, seen by token requests alone: what they do not need is not read anew.
    alone.run("client", "update", "billing", "--owner", "Accounts")
    used = fresh(alone.party)
    check_ok(post(server.address, base(used)))
    postgres_server.kill()
    _until(lambda: send(server.address, "GET", "/readyz").status == 503, READY_SECONDS)
    waiting = [fresh(alone.party) for _ in range(10)]
    for assertion in (*waiting, used, fresh(alone.party, aud="x"), fresh(Party("nobody", alone.party.key))):
        began = time.monotonic()
        check_refused(post(server.address, base(assertion)), "temporarily_unavailable", 503)
        assert time.monotonic() - began < 0.6
    for document in ("jwks.json", "oauth-authorization-server"):
        assert send(server.address, "GET", f"/.well-known/{document}").status == 200
    assert send(server.address, "GET", "/livez").status == 200
    postgres_server.start()
    _until(lambda: send(server.address, "GET", "/readyz").status == 200, 5)
    check_ec(post(server.address, base(used)))
    for assertion in waiting:  # nothing was used up meanwhile
        check_ok(post(server.address, base(assertion)))
        check_ec(post(server.address, base(assertion)))
    told = [line["event"] for line in server.lines() if line["event"].startswith("store.")]
    assert told == ["store.down", "store.up"]


@pytest.mark.rule("F04", "F08", "AS-TE-30")
def test_a_hanging_database_is_noticed(alone: Replicated, postgres_server: PostgresServer) -> None:
    """Every request is answered within 0.6 s plus slack, /readyz tells the truth within 2 s, JWKS go on."""
    server = alone.serve()
    check_ok(post(server.address, base(fresh(alone.party))))
    assert postgres_server.process is not None
    frozen = [*postgres_server.backends(), postgres_server.process.pid]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda a: post(server.address, base(a)), [fresh(alone.party) for _ in range(8)]))
        assert time.monotonic() - began < 1.5
        for answer in answers:
            check_refused(answer, "temporarily_unavailable", 503)
        assert send(server.address, "GET", "/readyz").status == 503
        assert time.monotonic() - began < READY_SECONDS + 0.5
        assert send(server.address, "GET", "/.well-known/jwks.json").status == 200
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    _until(lambda: send(server.address, "GET", "/readyz").status == 200, 5)
    check_ok(post(server.address, base(fresh(alone.party))))


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.rule("OPS-06", "F03", "KEY-14")
def test_an_unreachable_database_at_the_start(shared: Replicated) -> None:
    """Exit code 5 and one line without the password, for every command that needs the store."""
    shared.url_file.write_text("postgresql://postgres:hunter2@127.0.0.1:1/groat")
    for command in (("serve", "--port", "0"), ("client", "list"), ("config", "check"), ("init", "--issuer", ISSUER)):
        done = shared.run(*command, check=False)
        assert done.returncode == 5, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "hunter2" not in done.stderr


@pytest.mark.rule("KEY-14", "OPS-03")
def test_the_password_is_nowhere(shared: Replicated) -> None:
    """Neither in the configuration, nor in a process's arguments, nor in what is printed or logged."""
    password = shared.url_file.read_text().partition("@")[0].rpartition(":")[2]
    server = shared.serve()
    check_ok(post(server.address, base(fresh(shared.party))))
    shown = shared.run("config", "show", "--origin").stdout
    assert "***" in shown
    places = [shown, server.log.read_text(), (shared.groat.directory / "groat.toml").read_text()]
    for pid in (server.process.pid, *server.workers()):
        places.append(Path(f"/proc/{pid}/cmdline").read_text())
        places.append(Path(f"/proc/{pid}/environ").read_text())
    assert not [place for place in places if password in place]


@pytest.mark.rule("F16", "F05")
def test_a_fence_refuses_what_was_signed_before(shared: Replicated) -> None:
    """`groat store fence`: from the next request on, on every replica; 503, because nobody knows; later ones pass."""
    servers = [shared.serve() for _ in range(2)]
    for server in servers:
        check_ok(post(server.address, base(fresh(shared.party))))
    old = [fresh(shared.party) for _ in servers]
    floor = json.loads(shared.run("--json", "store", "fence").stdout)["floor"]
    for server, assertion in zip(servers, old, strict=True):
        check_refused(post(server.address, base(assertion)), "temporarily_unavailable", 503)
    _until(lambda: time.time() > floor - 9, 5)  # iat may lie ahead by ten seconds
    later = fresh(shared.party, iat=floor, exp=floor + 60)
    check_ok(post(servers[0].address, base(later)))
    check_ec(post(servers[1].address, base(later)))


# The first boot


@pytest.mark.rule("F14", "K09", "KEY-19")
def test_the_first_boot_of_many(postgres: PostgresServer | GivenServer, tmp_path: Path) -> None:
    """Eight times eight replicas initialise an empty database at once: one active key each time, which all can use."""
    for round_ in range(8):
        folders = [tmp_path / f"r{round_}-{n}" for n in range(8)]
        for folder in folders:
            folder.mkdir()
        url = postgres.database()
        kek = KeyEncryptionKey.create(tmp_path / f"kek{round_}")
        env = {"GROAT_STORAGE__URL": url, "GROAT_KEYS__ENCRYPTION_KEY_FILE": str(tmp_path / f"kek{round_}")}
        kids = asyncio.run(_boot_all(folders, env, kek))
        assert len(set(kids)) == 1
        assert len(kids) == 8


async def _boot_all(folders: list[Path], env: dict[str, str], kek: KeyEncryptionKey) -> list[str]:
    done = await asyncio.gather(
        *(initialise(folder / "groat.toml", Wanted(ISSUER), env, Audit()) for folder in folders)
    )
    assert sum(step.made for _, steps in done for step in steps if step.what == "signing key") == 1
    kids = []
    for config, _ in done:
        store = open_engine(config)
        (key,) = await store.signing_keys()
        kek.unseal(key.sealed, key.kid)
        kids.append(key.kid)
        await store.close()
    return kids


@pytest.mark.rule("F14", "K09")
def test_real_processes_boot_at_once(postgres: PostgresServer | GivenServer, tmp_path: Path) -> None:
    """Four `groat init` as processes, then one more: all succeed, and there is one key."""
    url = postgres.database()
    KeyEncryptionKey.create(tmp_path / "kek")
    env = {
        "PATH": os.environ["PATH"],
        "GROAT_STORAGE__URL": url,
        "GROAT_KEYS__ENCRYPTION_KEY_FILE": str(tmp_path / "kek"),
    }
    folders = [tmp_path / f"p{n}" for n in range(5)]
    for folder in folders:
        folder.mkdir()
    command = [str(GROAT), "--json", "init", "--issuer", ISSUER]
    started = [
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for folder in folders[:4]
    ]
    outputs = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    last = subprocess.run(command, cwd=folders[4], env=env, capture_output=True, text=True, timeout=60, check=True)
    keys = [
        step
        for out in (*(out for out, _ in outputs), last.stdout)
        for step in json.loads(out)
        if step["what"] == "signing key"
    ]
    assert len({step["where"] for step in keys}) == 1
    assert [step["outcome"] for step in keys].count("created") == 1


# Moving


def _fire(address: Address, assertions: Iterator[str], results: dict[str, Answer], stop: threading.Event) -> None:
    for assertion in assertions:
        if stop.is_set():
            return
        with contextlib.suppress(OSError):
            results[assertion] = post(address, base(assertion))


@pytest.mark.rule("F15", "I1", "T15")
@pytest.mark.parametrize("direction", ["to-postgres", "to-sqlite"])
def test_moving_under_fire_opens_no_window(
    direction: str, shared: Replicated, postgres: PostgresServer | GivenServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """While clients fire, the store moves: no assertion buys a token on both sides, and the new side knows everything."""
    directory = shared.groat.directory
    other = tmp_path_factory.mktemp("target")
    (other / "url").write_text(postgres.database() if direction == "to-postgres" else f"sqlite:///{other}/new.db")
    source = shared
    if direction == "to-postgres":  # the source is SQLite then: move there first, by the same command
        shared.run("--yes", "store", "copy", str(shared.url_file), f"sqlite:///{directory}/old.db")
        shared.url_file.write_text(f"sqlite:///{directory}/old.db")
    server = source.serve()
    before = [fresh(shared.party) for _ in range(10)]
    for assertion in before:
        check_ok(post(server.address, base(assertion)))
    results: dict[str, Answer] = {}
    stop = threading.Event()
    shots = [
        threading.Thread(
            target=_fire, args=(server.address, iter([fresh(shared.party) for _ in range(3000)]), results, stop)
        )
        for _ in range(4)
    ]
    for shot in shots:
        shot.start()
    time.sleep(0.3)
    copied = json.loads(shared.run("--json", "--yes", "store", "copy", str(shared.url_file), str(other / "url")).stdout)
    time.sleep(0.3)
    stop.set()
    for shot in shots:
        shot.join()
    assert {answer.status for answer in results.values()} == {200, 503}
    won = [assertion for assertion, answer in results.items() if answer.status == 200]
    assert copied["used_once"] == len(won) + len(before)
    check_refused(post(server.address, base(fresh(shared.party))), "temporarily_unavailable", 503)
    assert send(server.address, "GET", "/readyz").status == 503
    shared.url_file.write_text((other / "url").read_text())
    moved = source.serve()
    for assertion in (*before, *won):
        check_ec(post(moved.address, base(assertion)))
    check_ok(post(moved.address, base(fresh(shared.party))))
    check_refused(post(server.address, base(fresh(shared.party))), "temporarily_unavailable", 503)


@pytest.mark.rule("F15", "OPS-06")
def test_a_move_that_cannot_be(shared: Replicated, postgres: PostgresServer | GivenServer, tmp_path: Path) -> None:
    """Onto itself, onto a store in use, or with a password in the arguments: refused, and the source stays open."""
    url = shared.url_file.read_text()
    asyncio.run(migrate(Target(postgres.database())))
    for arguments in (
        (str(shared.url_file), str(shared.url_file)),
        (url, "sqlite:///x.db"),
        (str(shared.url_file), "nothing"),
    ):
        done = shared.run("--yes", "store", "copy", *arguments, check=False)
        assert done.returncode == 3, done.stderr
        assert url not in done.stderr
    assert json.loads(shared.run("--json", "store", "show").stdout)["closed_at"] is None


@pytest.mark.rule("F15", "F16")
def test_a_closed_store_can_be_taken_up_again(shared: Replicated, tmp_path: Path) -> None:
    """`groat store reopen` fences it: what was signed before is refused, in case the copy was used meanwhile."""
    old = fresh(shared.party)
    shared.run("--yes", "store", "copy", str(shared.url_file), f"sqlite:///{tmp_path}/copy.db")
    assert json.loads(shared.run("--json", "store", "show").stdout)["closed_at"] is not None
    assert shared.run("client", "disable", "billing", check=False).returncode == 5
    floor = json.loads(shared.run("--json", "--yes", "store", "reopen").stdout)["floor"]
    server = shared.serve()
    check_refused(post(server.address, base(old)), "temporarily_unavailable", 503)
    _until(lambda: time.time() > floor - 9, 5)
    check_ok(post(server.address, base(fresh(shared.party, iat=floor, exp=floor + 60))))


@pytest.mark.rule("AS-TE-30", "L05", "KEY-21")
def test_a_key_revoked_in_this_moment_signs_nothing(shared: Replicated) -> None:
    """The record names the key before it signs: if that key is gone the answer is 503, and the next is by the new key."""
    server = shared.serve()
    for _ in range(5):  # the server may look at its keys by itself just after the command, and then it knows
        kid = decoded(check_ok(post(server.address, base(fresh(shared.party))))["access_token"])[0]["kid"]
        shared.run("--yes", "key", "revoke", kid)
        answers = [post(server.address, base(fresh(shared.party))) for _ in range(3)]
        for answer in [answer for answer in answers[:1] if answer.status == 200] + answers[1:]:
            assert decoded(check_ok(answer)["access_token"])[0]["kid"] != kid
        if answers[0].status != 200:
            break
    check_refused(answers[0], "temporarily_unavailable", 503)
    config = load_config(shared.groat.directory / "groat.toml", shared.env)
    assert config.storage.on_postgres


@pytest.mark.rule("KEY-23", "AS-CA-24", "F15", "I6")
def test_the_life_of_a_client_key_on_replicas_and_in_a_copy(shared: Replicated, tmp_path: Path) -> None:
    """An expiry acts on every replica at once, each writes down its uses when it ends, and a copy has it all."""
    servers = [shared.serve() for _ in range(3)]

    def key() -> dict[str, object]:
        (listed,) = json.loads(shared.run("--json", "client", "key", "list", "billing").stdout)
        return dict(listed)

    def statuses() -> list[int]:
        return [post(server.address, base(fresh(shared.party))).status for server in servers]

    assert statuses() == [200] * 3
    kid, used = str(key()["kid"]), time.time()
    shared.run("client", "key", "update", "billing", kid, "--expires", "0s", "--force")
    assert statuses() == [401] * 3
    reasons = [line["reason"] for server in servers for line in server.lines() if line["event"] == "token.refused"]
    assert reasons == ["key_expired"] * 3
    shared.run("client", "key", "update", "billing", kid, "--expires", "30d", "--not-before", "2026-01-01T00:00Z")
    assert statuses() == [200] * 3
    assert [server.stop() for server in servers] == [0] * 3
    told = key()
    assert isinstance(told["last_used_at"], int)
    assert int(used) <= told["last_used_at"] <= time.time()
    assert told["state"] == "valid"
    shared.run("--yes", "store", "copy", str(shared.url_file), f"sqlite:///{tmp_path}/copy.db")
    shared.url_file.write_text(f"sqlite:///{tmp_path}/copy.db")
    assert key() == told


@pytest.mark.rule("KEY-23", "F15")
def test_a_copy_to_postgresql_keeps_the_life_of_keys(
    shared: Replicated, postgres: PostgresServer | GivenServer, tmp_path: Path
) -> None:
    """The way there, with a key that has every instant and one that has none."""
    shared.run("--yes", "store", "copy", str(shared.url_file), f"sqlite:///{tmp_path}/old.db")
    shared.url_file.write_text(f"sqlite:///{tmp_path}/old.db")
    shared.add_client("plain")
    (key,) = json.loads(shared.run("--json", "client", "key", "list", "billing").stdout)
    server = shared.serve()
    check_ok(post(server.address, base(fresh(shared.party))))
    assert server.stop() == 0
    words = ("--expires", "90d", "--not-before", "2026-01-01T00:00Z")
    shared.run("client", "key", "update", "billing", key["kid"], *words)
    before = json.loads(shared.run("--json", "client", "key", "list", "--all").stdout)
    assert [all(key[name] for name in ("not_before", "expires_at", "last_used_at")) for key in before] == [True, False]
    (tmp_path / "new").write_text(postgres.database())
    shared.run("--yes", "store", "copy", str(shared.url_file), str(tmp_path / "new"))
    shared.url_file.write_text((tmp_path / "new").read_text())
    assert json.loads(shared.run("--json", "client", "key", "list", "--all").stdout) == before
