"""Installations whose signing keys live elsewhere: from `init` to a verified token, and a move between custodians."""

import json
import os
import subprocess

import pytest

from tests.missing import require_softhsm
from tests.ports import free_port

from .running import AUDIENCE, ISSUER, Home
from .test_signing_keys import keys


def softhsm(home: Home) -> dict[str, str]:
    """A token of its own for this installation; returns the settings."""
    require_softhsm()
    (home.directory / "tokens").mkdir()
    configuration = home.file("softhsm2.conf", f"directories.tokendir = {home.directory}/tokens\nlog.level = ERROR\n")
    home.file("pin", "864213\n")
    words = ["softhsm2-util", "--init-token", "--free", "--label", "groat", "--pin", "864213", "--so-pin", "864213"]
    env = {**os.environ, "SOFTHSM2_CONF": str(configuration)}
    subprocess.run(words, check=True, capture_output=True, timeout=30, env=env)
    return {
        "SOFTHSM2_CONF": str(configuration),
        "GROAT_KEYS__CUSTODY": "pkcs11",
        "GROAT_KEYS__PKCS11_PIN_FILE": "pin",
    }


def files(home: Home) -> dict[str, str]:
    """A passphrase for encrypted PEM files; returns the settings."""
    home.file("passphrase", "correct horse battery staple\n")
    return {"GROAT_KEYS__CUSTODY": "files", "GROAT_KEYS__PASSPHRASE_FILE": "passphrase"}


@pytest.mark.rule("T7", "KEY-13", "KEY-22")
@pytest.mark.parametrize("custody", [files, softhsm], ids=["files", "pkcs11"])
def test_a_server_signs_with_keys_that_it_does_not_hold(empty: Home, custody: object) -> None:
    """Init, register, serve with two workers, ask, verify; the next key is made there too."""
    assert callable(custody)
    empty.env |= custody(empty)
    # A module of PKCS#11 reads its settings once per process, so these commands are processes of their own.
    run = empty.script
    assert run("init", "--issuer", ISSUER).code == 0
    assert run("api", "add", "orders", "--audience", AUDIENCE, "--scope", "read").code == 0
    added = run("client", "add", "billing", "--allow", "orders=read", "--default-scope", "read", "--new-key", "k.json")
    assert added.code == 0
    port = free_port()
    empty.env |= {"GROAT_SERVER__PORT": str(port), "GROAT_ISSUER": f"http://127.0.0.1:{port}"}
    with empty.serving("--workers", "2", port=port) as server:
        words = ("token", "get", "--print-token", "--issuer", server.url, "--client-id", "billing", "--key", "k.json")
        tokens = [run(*words, "--resource", AUDIENCE) for _ in range(2)]
        assert [token.code for token in tokens] == [0] * 2, tokens[0].err + server.log.read_text()
        token = tokens[0].out.encode()
        checked = run("token", "verify", "-", "--issuer", server.url, "--audience", AUDIENCE, stdin=token)
        assert checked.code == 0, checked.err
    assert [record["state"] for record in keys(empty)] == ["active", "pending"]


@pytest.mark.rule("T7", "KEY-22")
def test_custody_moves_with_a_rotation(home: Home) -> None:
    """The old key signs on from the store, the next one is a file; without a passphrase the checks say so."""
    settings = files(home)
    home.ok("config", "check", **settings)
    home.ok("key", "rotate", **settings)
    assert len(list((home.directory / "data" / "keys").iterdir())) == 1
    home.ok("config", "check", **settings)
    home.file("passphrase", "another passphrase, quite long\n")
    done = home("key", "prepare", **settings)
    assert (done.code, "wrong passphrase" in done.err) == (3, True)


@pytest.mark.rule("T7", "KEY-22")
def test_custody_moves_though_the_next_key_is_published(home: Home) -> None:
    """As docs/guides/custody.md says: the new custodian's key takes over, and no key of the old one after it."""
    home.ok("key", "rotate")
    (old,) = (key["kid"] for key in keys(home) if key["state"] == "pending")
    home.env |= files(home)
    new = home.ok("-q", "key", "prepare").out.strip()
    home.ok("key", "activate", new)
    home.ok("--yes", "key", "revoke", old)
    assert {key["kid"]: key["state"] for key in keys(home)}[new] == "pending"
    assert [key["kid"] for key in keys(home) if key["state"] == "pending"] == [new]
    assert [file.stem for file in (home.directory / "data" / "keys").iterdir()] == [new]
    home.ok("config", "check")


@pytest.mark.rule("T7", "KEY-22")
@pytest.mark.parametrize("damage", ["passphrase gone", "passphrase changed", "key gone"])
def test_a_key_that_is_to_take_over_and_cannot_be_opened(home: Home, damage: str) -> None:
    """A check fails; a start warns and serves with the key that signs now."""
    home.env |= files(home)
    home.ok("key", "rotate")
    (pending,) = (key["kid"] for key in keys(home) if key["state"] == "pending")
    home.ok("config", "check")
    passphrase = home.directory / "passphrase"
    if damage == "passphrase gone":
        passphrase.unlink()
    elif damage == "passphrase changed":
        home.file("passphrase", "another passphrase, quite long\n")
    else:
        next((home.directory / "data" / "keys").iterdir()).unlink()
    done = home("config", "check")
    assert (done.code, done.out) == (3, "")
    assert f"signing key {pending} is to take over and cannot be opened: " in done.err
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving(port=port) as server:
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        (warning,) = [line for line in lines if line["event"] == "key.unusable"]
        assert warning["level"] == "warning"
        assert pending in warning["hint"]
        assert home("health").code == 0


@pytest.mark.rule("T7", "KEY-22")
def test_a_signing_key_that_cannot_be_opened_now(empty: Home) -> None:
    """Neither a check nor a start gets past it."""
    empty.env |= files(empty)
    empty.ok("init", "--issuer", ISSUER)
    (empty.directory / "passphrase").unlink()
    for command in (("config", "check"), ("serve",)):
        done = empty.script(*command)
        assert (done.code, done.out) == (5, "")
        assert "cannot read" in done.err
