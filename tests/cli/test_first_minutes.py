"""The first five minutes: the commands of the introduction, as typed, and what a repetition or a slip does."""

import json
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from tests.ports import free_port

from .running import AUDIENCE, GROAT, ISSUER, Home, environment

GET = ("token", "get", "--local", "--client-id", "billing", "--key", "billing.key.json", "--resource", AUDIENCE)


def permissions(path: Path) -> int:
    """The permission bits of a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.rule("KEY-01", "KEY-07", "KEY-22")
def test_the_commands_of_the_introduction(empty: Home) -> None:
    """Set up, register, serve, get a token: each as a process of its own, with the port as the only difference."""
    port = free_port()
    empty.env["GROAT_SERVER__PORT"] = str(port)
    init = empty.script("init", "--issuer", ISSUER)
    assert (init.code, init.out.count("created")) == (0, 5)
    add = "api add orders --audience https://orders.example.com --scope orders:read --scope orders:write"
    assert empty.script(*add.split()).code == 0
    client = empty.script(
        *["client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "billing.key.json"]
    )
    assert client.code == 0
    assert "never sees it" in client.err
    with empty.serving(port=port):
        got = empty.script(*GET, "--scope", "orders:read")
        assert (got.code, "orders:read" in got.out, AUDIENCE in got.out) == (0, True, True)
    assert permissions(empty.directory / "billing.key.json") == 0o600
    assert permissions(empty.directory / "data") == 0o700


@pytest.mark.rule("KEY-07", "K08", "DEMO-23")
def test_with_umask_000_nothing_private_is_open(empty: Home) -> None:
    """Every file of data/ and the client's key are for their owner alone."""
    script = 'umask 000; exec "$0" init --issuer https://as.example --database sqlite:///data/deep/groat.db'
    subprocess.run(["sh", "-c", script, str(GROAT)], cwd=empty.directory, env=environment(), check=True, timeout=30)
    private = [path for path in (empty.directory / "data").rglob("*") if path.is_file()]
    assert len(private) >= 2
    assert {permissions(path) for path in private} == {0o600}
    assert permissions(empty.directory / "data" / "deep") == 0o700
    assert permissions(empty.directory / "data") & 0o022 == 0
    assert permissions(empty.directory / "groat.toml") & 0o022 == 0


@pytest.mark.rule("KEY-08", "DEMO-19")
def test_a_second_init_changes_no_byte(home: Home) -> None:
    """It says so for every part, and every file keeps its content, mode and time."""
    before = home.snapshot()
    again = home.script("init", "--issuer", ISSUER)
    assert (again.code, again.out.count("unchanged"), again.out.count("created")) == (0, 5, 0)
    assert home.snapshot() == before
    assert "next:" not in again.err


@pytest.mark.rule("KEY-08")
def test_init_as_json(empty: Home) -> None:
    """What was made, as an array of objects; then the same with `unchanged`."""
    first, second = (empty.ok("--json", "init", "--issuer", ISSUER).json for _ in range(2))
    assert [step["what"] for step in first] == [
        "configuration",
        "key-encryption key",
        "store",
        "signing key",
        "admin API",
    ]
    assert {step["outcome"] for step in first} == {"created"}
    assert second == [{**step, "outcome": "unchanged"} for step in first]


@pytest.mark.rule("KEY-08")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--issuer", "https://other.example"), f"issuer {ISSUER}"),
        (("--issuer", f"{ISSUER}/"), f"issuer {ISSUER}"),
        (("--issuer", ISSUER, "--algorithm", "RS256"), "ES256"),
        (("--issuer", ISSUER, "--database", "sqlite:///data/other.db"), "data/groat.db"),
    ],
)
def test_init_does_not_change_what_is_there(home: Home, arguments: tuple[str, ...], said: str) -> None:
    """Another issuer, algorithm or store than the file has is a contradiction, not something to pass over."""
    before = home.snapshot()
    done = home("init", *arguments)
    assert done.code == 3
    assert said in done.err
    assert "groat.toml" in done.err
    assert home.snapshot() == before


def test_init_with_a_database(empty: Home) -> None:
    """The store is where it was asked for, and the file says so."""
    empty.ok("init", "--issuer", ISSUER, "--database", "sqlite:///elsewhere/g.db")
    assert (empty.directory / "elsewhere" / "g.db").is_file()
    assert 'url = "sqlite:///elsewhere/g.db"' in (empty.directory / "groat.toml").read_text()
    assert empty.ok("--json", "key", "list").json[0]["state"] == "active"


@pytest.mark.rule("KEY-02", "KEY-03", "KEY-04")
@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "Ed25519", "PS256", "RS256"])
def test_init_with_an_algorithm(empty: Home, algorithm: str) -> None:
    """The first signing key has it, and so has the file for the next one."""
    empty.ok("init", "--issuer", ISSUER, "--algorithm", algorithm)
    (key,) = empty.ok("--json", "key", "list").json
    assert (key["algorithm"], key["jwk"]["alg"], key["state"]) == (algorithm, algorithm, "active")
    assert empty.ok("--json", "config", "show").json["keys.algorithm"] == algorithm


@pytest.mark.rule("AS-TE-02")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--issuer", "http://as.example"), "must use https"),
        (("--issuer", "as.example"), "absolute URL"),
        (("--issuer", ISSUER, "--database", "postgresql://u:hunter2@db/groat"), "GROAT_STORAGE__URL_FILE"),
        (("--issuer", ISSUER, "--database", "mysql://u:hunter2@db/groat"), "sqlite:///PATH"),
        (("--issuer", ISSUER, "--database", "groat.db"), "sqlite:///PATH"),
    ],
)
def test_an_init_that_is_refused_leaves_nothing(empty: Home, arguments: tuple[str, ...], said: str) -> None:
    """One line, exit code 3, and a directory in which the next attempt finds no obstacle."""
    done = empty("init", *arguments)
    assert (done.code, done.out) == (3, "")
    assert said in done.err
    assert "hunter2" not in done.err
    assert empty.snapshot() == {}
    assert empty("init", "--issuer", ISSUER).code == 0


@pytest.mark.rule("AS-TE-02")
def test_a_loopback_issuer_is_made_with_a_warning(empty: Home) -> None:
    """For development, and said so on standard error."""
    done = empty.ok("init", "--issuer", "http://localhost:3001")
    assert "warning" in done.err
    assert "development only" in done.err


@pytest.mark.rule("AS-TE-02")
def test_an_http_host_of_the_operators_list_can_be_made(empty: Home) -> None:
    """The list may come from the environment, as every setting may."""
    done = empty("init", "--issuer", "http://as.internal", GROAT_DEVELOPMENT__ALLOW_HTTP_HOSTS="as.internal")
    assert done.code == 0, done.err
    assert "as.internal is allow-listed" in done.err


def test_a_contradiction_with_the_environment_writes_nothing(empty: Home) -> None:
    """Where the environment names another issuer, the file is not written and then called existing."""
    done = empty("init", "--issuer", ISSUER, GROAT_ISSUER="https://other.example")
    assert done.code == 3
    assert empty.snapshot() == {}


@pytest.mark.rule("K08", "T7")
def test_a_lost_key_encryption_key_is_not_replaced(home: Home) -> None:
    """A new one could not open the signing keys that the store holds; nothing is changed."""
    (home.directory / "data" / "key-encryption.key").unlink()
    before = home.snapshot()
    done = home("init", "--issuer", ISSUER)
    assert done.code == 3
    assert "key-encryption.key is missing" in done.err
    assert "backup" in done.err
    assert home.snapshot() == before


@pytest.mark.rule("T7")
def test_a_wrong_key_encryption_key_is_noticed(home: Home) -> None:
    """Another key of the right form shows at init, at rotation and at the start, not at the first token."""
    home.file("data/key-encryption.key", "A" * 43 + "\n")
    for command in (("init", "--issuer", ISSUER), ("key", "rotate"), ("config", "check"), ("serve", "--port", "0")):
        done = home.script(*command) if command[0] == "serve" else home(*command)
        assert (done.code, done.out) in ((3, ""), (5, "")), command
        assert "cannot be unsealed" in done.err


@pytest.mark.rule("K08")
def test_an_init_that_was_cut_short_can_be_finished(empty: Home) -> None:
    """After each part alone, the next run makes what is missing."""
    empty.ok("init", "--issuer", ISSUER)
    database = empty.directory / "data" / "groat.db"
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM signing_keys")
    connection.close()
    assert [step["outcome"] for step in empty.ok("--json", "init", "--issuer", ISSUER).json] == [
        "unchanged",
        "unchanged",
        "unchanged",
        "created",
        "unchanged",
    ]
    for path in (empty.directory / "data").iterdir():
        path.unlink()
    assert empty.ok("--json", "init", "--issuer", ISSUER).json[1]["outcome"] == "created"


@pytest.mark.rule("K08")
@pytest.mark.parametrize("database", ["sqlite:///groat.toml/x.db", "sqlite:///data/key-encryption.key"])
def test_an_impossible_place_for_the_store_is_said(empty: Home, database: str) -> None:
    """A file where a directory should be, or another file in its place: no bug, but one line."""
    done = empty("init", "--issuer", ISSUER, "--database", database)
    assert done.code in (3, 5)
    assert "bug" not in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.rule("K09")
def test_many_inits_at_once_make_one_installation(empty: Home) -> None:
    """Whoever loses the race succeeds too or says why; afterwards there is exactly one key, and it is active."""
    pipe = subprocess.PIPE
    racers = [empty.start("init", "--issuer", ISSUER, stdout=pipe, stderr=pipe) for _ in range(4)]
    ends = [(racer.communicate(timeout=60), racer.returncode) for racer in racers]
    for (_, err), code in ends:
        assert code in (0, 3), err
    assert 0 in [code for _, code in ends]
    again = empty.ok("--json", "init", "--issuer", ISSUER).json
    assert {step["outcome"] for step in again} == {"unchanged"}
    assert [key["state"] for key in json.loads(empty.ok("--json", "key", "list").out)] == ["active"]
