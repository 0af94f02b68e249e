"""Starting and refusing to start: issuers, key files, defaults that must not exist (OPS, AS-TE-02, K08)."""

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from groat.app import create_app
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import private_key_bytes
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PRIVATE_MEMBERS
from groat.server.log.audit import Audit
from groat.server.operations.first_start import Wanted, initialise
from groat.server.settings.config import load_config
from groat.server.store import StoreUnavailable
from groat.server.store.sqlite.store import SqliteStore
from groat.serving.preflight import check_ready
from tests.server.builders import base
from tests.server.lab import Lab, prepare
from tests.server.wire import check_ec, post, raw

if TYPE_CHECKING:
    from tests.conftest import Groat


@pytest.fixture(scope="module")
def groat(make_groat: "Callable[[str], Groat]") -> "Groat":
    """A fresh installation, as `groat init` leaves it."""
    return make_groat("startup")


@pytest.mark.rule("OPS-01", "AS-TE-02", "DEMO-25", "AS-MD-03")
@pytest.mark.parametrize(
    ("issuer", "good"),
    [
        ("https://as.example", True), ("https://as.example:8443/tenant", True), ("http://localhost:3001", True),
        ("http://127.0.0.1:3001", True), ("http://[::1]:3001", True), ("http://as.example", False),
        ("http://127.0.0.1.evil.example", False), ("http://localhost.evil.example", False), ("ftp://as.example", False),
        ("as.example", False), ("https://as.example?x=1", False), ("https://as.example#f", False), ("https://", False),
        ("https://u:p@as.example", False), ("https://as.example/ x", False), ("HTTP://as.example", False), ("//as", False),
    ],
)  # fmt: skip
def test_issuers(tmp_path: Path, issuer: str, good: bool) -> None:
    """https everywhere, plain http on loopback alone; no query, fragment or user name."""
    (tmp_path / "groat.toml").write_text(f"issuer = {json.dumps(issuer)}\n")
    if good:
        assert load_config(tmp_path / "groat.toml", {}).policy.issuer == issuer
    else:
        with pytest.raises(ConfigError):
            load_config(tmp_path / "groat.toml", {})


@pytest.mark.rule("OPS-01", "AS-TE-02")
def test_a_plain_http_issuer_does_not_start(groat: "Groat", tmp_path: Path) -> None:
    """`serve` refuses it with the code for input, naming file and line; an allow-listed host starts with a warning."""
    refused = groat.run("serve", "--port", "0", check=False, GROAT_ISSUER="http://as.example")
    assert refused.returncode == 3
    assert "https" in refused.stderr
    file = tmp_path / "groat.toml"
    file.write_text('\nissuer = "http://as.example"\n')
    located = groat.run("--config", str(file), "serve", "--port", "0", check=False)
    assert located.returncode == 3
    assert f"{file}:2" in located.stderr
    allowed = {"GROAT_ISSUER": "http://as.example", "GROAT_DEVELOPMENT__ALLOW_HTTP_HOSTS": "as.example"}
    server = groat.serve(1, env=allowed)
    warnings = [line for line in server.lines() if line["event"] == "server.plain_http"]
    assert len(warnings) == 1
    assert warnings[0]["level"] == "warning"
    server.stop()


@pytest.mark.rule("OPS-07", "DEMO-32")
def test_there_are_no_defaults(groat: "Groat") -> None:
    """After init: one key of this installation, no client, and no API but that of operators; nobody can get a token."""
    assert json.loads(groat.run("--json", "client", "list").stdout) == []
    assert groat.run("-q", "api", "list").stdout == "groat-admin\n"
    server = groat.serve(1)
    check_ec(post(server.address, base("a.b.c")))
    server.stop()


@pytest.mark.rule("OPS-07")
def test_nothing_starts_without_init(tmp_path: Path, groat: "Groat") -> None:
    """Without configuration, store, key-encryption key or signing key, `serve` says what to do and stops."""
    for env in ({}, {"GROAT_ISSUER": "https://as.example"}):
        missing = groat.run("--config", str(tmp_path / "none.toml"), "serve", check=False, **env)
        assert (missing.returncode, "none.toml does not exist" in missing.stderr) == (3, True)
    lab = prepare(tmp_path, algorithm=None)
    lab.stream.close()
    empty = groat.run("--config", str(tmp_path / "groat.toml"), "serve", "--port", "0", check=False)
    assert (empty.returncode, "groat key rotate" in empty.stderr) == (5, True)
    lab.config.key_files.encryption_key_file.unlink()
    assert groat.run("--config", str(tmp_path / "groat.toml"), "serve", "--port", "0", check=False).returncode == 3
    lab.database.unlink()
    with pytest.raises((ConfigError, StoreUnavailable)):
        create_app(lab.config)


@pytest.mark.rule("KEY-09", "T7")
def test_an_open_key_encryption_key_stops_the_start(groat: "Groat") -> None:
    """A key-encryption key that others can read is refused; the message names the file and none of its content."""
    file = groat.directory / "data" / "key-encryption.key"
    file.chmod(0o644)
    try:
        done = groat.run("serve", "--port", "0", check=False)
    finally:
        file.chmod(0o600)
    assert done.returncode == 3
    assert "key-encryption.key" in done.stderr
    assert file.read_text().strip() not in done.stderr + done.stdout


@pytest.mark.rule("T7", "OPS-06", "KEY-14")
def test_the_wrong_key_encryption_key_stops_the_start(groat: "Groat", tmp_path: Path) -> None:
    """Before anything listens, `serve` finds out that it cannot unseal its signing key."""
    KeyEncryptionKey.create(tmp_path / "other.key")
    done = groat.run("serve", "--port", "0", check=False, GROAT_KEYS__ENCRYPTION_KEY_FILE=str(tmp_path / "other.key"))
    assert done.returncode in (3, 5)
    assert "unsealed" in done.stderr


def _umask_run(groat: "Groat", directory: Path, *arguments: str) -> None:
    subprocess.run(
        ["sh", "-c", 'umask 000; exec "$0" "$@"', str(Path(sys.executable).with_name("groat")), *arguments],
        cwd=directory, check=True, capture_output=True, timeout=60,
    )  # fmt: skip


@pytest.mark.rule("K08", "KEY-07", "DEMO-23")
def test_private_files_are_private_from_the_first_byte(groat: "Groat", tmp_path: Path) -> None:
    """With umask 000, everything private that init, add and a running server leave is for its owner alone."""
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    _umask_run(groat, home, "init", "--issuer", "https://as.example")
    _umask_run(groat, home, "api", "add", "a", "--audience", "https://a.example", "--scope", "s")
    _umask_run(groat, home, "client", "add", "c", "--allow", "a=s", "--new-key", "c.json")
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
    private = [home / "c.json", *(home / "data").iterdir()]
    assert {file.name: stat.S_IMODE(file.stat().st_mode) & 0o077 for file in private} == {f.name: 0 for f in private}


@pytest.mark.rule("K08", "KEY-08", "DEMO-19")
def test_init_is_safe_to_repeat(groat: "Groat") -> None:
    """A second init changes no byte of what matters; another issuer is refused."""
    files = [groat.directory / "groat.toml", groat.directory / "data" / "key-encryption.key"]
    before = [file.read_bytes() for file in files]
    keys = json.loads(groat.run("--json", "key", "list").stdout)
    again = groat.run("--json", "init", "--issuer", "https://as.example")
    assert {step["outcome"] for step in json.loads(again.stdout)} == {"unchanged"}
    assert groat.run("init", "--issuer", "https://other.example", check=False).returncode == 3
    assert [file.read_bytes() for file in files] == before
    assert json.loads(groat.run("--json", "key", "list").stdout) == keys


@pytest.mark.rule("K08", "KEY-08")
def test_a_lost_key_encryption_key_is_not_replaced(groat: "Groat") -> None:
    """If the store is there and its key is not, init refuses: a new one could not open the signing keys."""
    file = groat.directory / "data" / "key-encryption.key"
    saved = file.with_name("saved")
    file.rename(saved)
    try:
        done = groat.run("init", "--issuer", "https://as.example", check=False)
        assert done.returncode == 3
        assert not file.exists()
    finally:
        saved.rename(file)


def _init(directory: Path) -> list[str]:
    _, steps = asyncio.run(
        initialise(directory / "groat.toml", Wanted("https://as.example", "ES256", STORAGE), {}, Audit())
    )
    return [step.outcome for step in steps]


STORAGE = "sqlite:///data/groat.db"
CUTS: dict[str, list[str]] = {
    "configuration": ["data/key-encryption.key", "data/groat.db", "data/groat.db.lock"],
    "key-encryption key": ["data/groat.db", "data/groat.db.lock"],
}


@pytest.mark.rule("K08", "F14")
@pytest.mark.parametrize("last", [*CUTS, "empty store", "store without key"])
def test_an_init_that_died_can_be_repeated(tmp_path: Path, last: str) -> None:
    """Whatever step was its last, running init again makes the rest, and the result can serve."""
    assert _init(tmp_path) == ["created"] * 5
    database = tmp_path / "data" / "groat.db"
    if last == "empty store":
        database.unlink()
        database.touch(0o600)
    elif last == "store without key":
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("DELETE FROM signing_keys")
            connection.commit()
    for name in CUTS.get(last, []):
        (tmp_path / name).unlink(missing_ok=True)
    assert "created" in _init(tmp_path)
    assert _init(tmp_path) == ["unchanged"] * 5
    asyncio.run(check_ready(load_config(tmp_path / "groat.toml", {})))


@pytest.mark.rule("K08", "K09", "F14")
def test_inits_at_once_make_one_key(tmp_path: Path) -> None:
    """Four inits of one directory at the same time: every one that reports success agrees on one signing key."""
    command = [str(Path(sys.executable).with_name("groat")), "--json", "init", "--issuer", "https://as.example"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)
    ]
    outcomes = [process.communicate(timeout=60) for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes, outcomes
    assert set(codes) <= {0, 3, 5}, outcomes
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode == 0

    async def active() -> int:
        store = SqliteStore.open(tmp_path / "data" / "groat.db")
        keys = await store.signing_keys()
        await store.close()
        return len(keys)

    assert asyncio.run(active()) == 1


@pytest.mark.rule("K08", "KEY-14", "T7", "KEY-12")
def test_no_private_value_outside_its_file(groat: "Groat") -> None:
    """Signing keys are sealed in the store; no output of any command shows a private member."""
    outputs = [
        groat.run("--json", *command).stdout for command in (["key", "list"], ["key", "export"], ["config", "show"])
    ]
    for output in outputs:
        assert not PRIVATE_MEMBERS & _names(json.loads(output))
    kek = KeyEncryptionKey.load(groat.directory / "data" / "key-encryption.key")

    async def secrets() -> list[bytes]:
        store = SqliteStore.open(groat.directory / "data" / "groat.db")
        keys = [kek.unseal(key.sealed, key.kid) for key in await store.signing_keys()]
        await store.close()
        return [value for key in keys for value in (str(key.private_jwk()["d"]).encode(), private_key_bytes(key)[:80])]

    for file in (groat.directory / "data").iterdir():
        content = file.read_bytes()
        assert not any(secret in content for secret in asyncio.run(secrets()))


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in _names(item)}
    return {name for item in value for name in _names(item)} if isinstance(value, list) else set()


@pytest.mark.rule("OPS-02", "AS-TE-32")
def test_the_server_does_not_name_itself(lab: Lab) -> None:
    """No Server header, no debug page, and nothing of the framework, in any answer."""
    for request in (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"POST /token HTTP/1.0\r\n\r\n"):
        received = raw(lab.address, request).lower()
        assert b"\r\nserver:" not in received
        assert b"uvicorn" not in received
        assert b"starlette" not in received
        assert b"<html" not in received


@pytest.mark.rule("AT-08", "OPS-07", "JOSE-20", "AT-10")
@pytest.mark.parametrize(
    "setting",
    ['tokens.lifetime = "2h"', 'tokens.lifetime = "59s"', 'tokens.extra_claims = { iss = "x" }',
     "tokens.extra_claims = { exp = 1 }", 'assertions.clock_tolerance = "61s"', 'assertions.clock_tolerance = "9s"',
     'assertions.max_lifetime = "2h"', 'profile = "none"', 'keys.algorithm = "HS256"', 'keys.algorithm = "none"',
     'storage.url = "memory://"', "server.debug = true", 'server.trusted_proxies = ["everybody"]', "server.workers = 0"],
)  # fmt: skip
def test_settings_outside_the_caps(tmp_path: Path, setting: str) -> None:
    """What the standards cap, and what does not exist, is a configuration error that names the file."""
    (tmp_path / "groat.toml").write_text(f'issuer = "https://as.example"\n{setting}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "groat.toml", {})
    assert all(finding.message for finding in caught.value.findings)
