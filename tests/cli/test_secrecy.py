"""No key material on any stream, in any argument or environment of a process, or in any file but its own."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from groat.keys import files
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.protocol.jwk import import_private_jwk
from groat.server.settings.config import load_config
from groat.server.store.sqlite.store import SqliteStore
from tests.ports import free_port

from .conftest import Live
from .running import ISSUER, Home, Outcome

GET = ("token", "get", "--local", "--client-id", "billing", "--key", "billing.key.json", "--scope", "orders:read")


def secrets_in(home: Home) -> dict[str, str]:
    """Every secret of an installation, by what it is."""
    config = load_config(home.directory / "groat.toml", {})
    kek = KeyEncryptionKey.load(config.key_files.encryption_key_file)
    store = SqliteStore.open(config.database)
    signing = asyncio.run(store.signing_keys())
    asyncio.run(store.close())
    found = {"kek": (home.directory / "data" / "key-encryption.key").read_text().strip()}
    for key in signing:
        found[f"signing {key.kid}"] = str(kek.unseal(key.sealed, key.kid).private_jwk()["d"])
    for path in home.directory.glob("*.key.json"):
        found[path.name] = str(json.loads(path.read_bytes())["d"])
    return found


def leaks(secrets: dict[str, str], text: str) -> list[str]:
    """Which secrets a text shows, and whether it shows any PEM of a private key."""
    return [name for name, value in secrets.items() if value in text] + (["PEM"] if "PRIVATE KEY" in text else [])


@pytest.mark.rule("KEY-14", "OPS-03", "DEMO-22")
def test_no_command_shows_a_secret(live: Live) -> None:
    """Neither with -v nor with --debug, neither in success nor in failure."""
    home = live.home
    key = import_private_jwk(home.document("billing.key.json"))
    home.file("private.pem", files.private_key_bytes(key, pem=True))
    home.file("broken.json", json.dumps(key.private_jwk())[:-1])
    home.file("wide.json", json.dumps(key.private_jwk()), 0o644)
    commands: list[tuple[str, ...]] = [
        ("init", "--issuer", "https://auth.example.com"),
        ("client", "add", "second", "--allow", "orders=orders:read", "--new-key", "second.key.json"),
        ("client", "show", "billing"),
        ("client", "key", "list", "billing"),
        ("client", "key", "add", "billing", "billing.key.json"),
        ("client", "key", "add", "billing", "private.pem"),
        ("client", "key", "add", "billing", "broken.json"),
        ("client", "assertion", "billing", "--key", "broken.json"),
        ("client", "assertion", "billing", "--key", "wide.json"),
        ("client", "assertion", "billing", "--key", "private.pem"),
        ("key", "list"),
        ("key", "export"),
        ("key", "export", "--format", "pem"),
        ("key", "rotate"),
        ("key", "rotate"),
        ("config", "show"),
        ("config", "show", "--origin"),
        ("config", "check"),
        GET,
        (*GET, "--resource", "https://none.example"),
        ("token", "get", "--local", "--client-id", "nobody", "--key", "billing.key.json"),
    ]
    shown: list[Outcome] = [
        home(*flags, "-v", "--debug", *command) for command in commands for flags in ((), ("--json",))
    ]
    secrets = secrets_in(home)
    assert len(secrets) >= 5
    for outcome in shown:
        assert leaks(secrets, outcome.out + outcome.err) == []
    assert leaks(secrets, live.server.log.read_text()) == []
    assert "eyJ" not in live.server.log.read_text()


@pytest.mark.rule("KEY-14", "KEY-01", "CL-23")
def test_no_process_carries_a_secret(home: Home) -> None:
    """`ps` and /proc show neither arguments nor variables with key material, workers included."""
    secrets = secrets_in(home)
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving("--workers", "2", port=port) as server:
        ids = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(server.process.pid)],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.split()
        assert len(ids) >= 2
        for pid in (str(server.process.pid), *ids):
            for name in ("cmdline", "environ"):
                text = Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")
                assert leaks(secrets, text) == []


@pytest.mark.rule("KEY-01", "KEY-12", "DEMO-01", "DEMO-24")
def test_every_file_holds_its_own_secret_only(home: Home) -> None:
    """The server has no private key of a client, the client none of the server; three pairs, three thumbprints."""
    home.ok("client", "add", "second", "--allow", "orders=orders:read", "--new-key", "second.key.json")
    owners = {"kek": "data/key-encryption.key", "billing.key.json": "billing.key.json"}
    owners["second.key.json"] = "second.key.json"
    secrets = secrets_in(home)
    for path, (content, _, _) in home.snapshot().items():
        for name, value in secrets.items():
            assert (value.encode() in content) == (owners.get(name) == path), (name, path)
    public = [key["jwk"]["kid"] for key in home.ok("--json", "key", "list").json]
    for client in ("billing", "second"):
        public += [key["thumbprint"] for key in home.ok("--json", "client", "key", "list", client).json]
    assert len(set(public)) == len(public) == 3


@pytest.mark.rule("KEY-14")
@pytest.mark.parametrize(
    "command",
    [
        ("client", "assertion", "billing", "--key"),
        ("token", "get", "--local", "--client-id", "billing", "--key"),
    ],
    ids=["assertion", "get"],
)
def test_a_key_as_an_argument_is_not_repeated(home: Home, command: tuple[str, ...]) -> None:
    """Who pastes a key instead of a file name finds it in no error message."""
    text = (home.directory / "billing.key.json").read_text()
    done = home(*command, text)
    assert done.code == 3
    assert str(json.loads(text)["d"]) not in done.out + done.err


@pytest.mark.rule("KEY-14", "OPS-03")
def test_a_debug_traceback_shows_no_secret(home: Home) -> None:
    """Not even with a store that is damaged while keys are made and sealed."""
    secrets = secrets_in(home)
    (home.directory / "data" / "groat.db").write_bytes(os.urandom(10_000))
    done = home("--debug", "-v", "key", "rotate")
    assert done.code != 0
    assert leaks(secrets, done.out + done.err) == []


AWKWARD = (
    "s3c@r3t9",
    "s3c/r3t9",
    "s3c?r3t9",
    "s3c%zzr3t9",
    "s3c r3t9",
    "s3c\nr3t9",
    "/s3cr3t9",
    "s3cr3t9@",
    "@s3c/r3t9?x=y4z",
)
LOST = "groat:s3cr3t9/groat"  # a password, and no host behind it


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("form", ["variable", "file"])
@pytest.mark.parametrize("rest", [*(f"groat:{word}@127.0.0.1:1/groat" for word in AWKWARD), LOST])
def test_no_piece_of_a_database_password_is_shown(home: Home, form: str, rest: str) -> None:
    """An unencoded @ or / would make a host or a port of it, which every error names."""
    url = f"postgresql://{rest}"
    env = {"GROAT_STORAGE__URL": url}
    if form == "file":
        env = {"GROAT_STORAGE__URL_FILE": str(home.file("url", url))}
    commands = [
        ("client", "list"),
        ("config", "check"),
        ("config", "show"),
        ("config", "show", "--origin"),
        ("store", "show"),
    ]
    shown = [home("-v", "--debug", *command, **env) for command in commands]
    home.env |= env
    shown.append(home.script("serve"))
    shown.append(home("--yes", "store", "copy", "sqlite:///data/groat.db", str(home.file("target", url))))
    for done in shown:
        assert done.code == 3
        assert "PGPASSWORD" in done.err
        _check_unsaid(done)


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("rest", [*(f"groat:{word}@127.0.0.1:1/groat" for word in AWKWARD), LOST])
def test_init_repeats_no_database_password(home: Home, empty: Home, rest: str) -> None:
    """Neither at the first time nor where the configuration says something else."""
    for directory in (empty, home):
        for env in ({}, {"GROAT_STORAGE__URL": f"postgresql://{rest}"}):
            done = directory("--debug", "init", "--issuer", ISSUER, "--database", f"postgresql://{rest}", **env)
            assert done.code == 3
            _check_unsaid(done)


def _check_unsaid(done: Outcome) -> None:
    for piece in ("s3c", "r3t", "3t9", "zzr", "y4z"):
        assert piece not in done.out + done.err
