"""Tokens on disk: only where asked for, private, whole, for one wish only; whatever is odd is a miss."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from groat.client import MachineClient, Token

from .clocks import Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import Api, AuthorizationServer, Reply

RESOURCE = "https://orders.example"
Open = Callable[..., MachineClient]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the tokens go; not made yet."""
    return tmp_path / "cache" / "groat"


@pytest.fixture
def again(make: MakeMachine, clock: Clock, folder: Path) -> Open:
    """Makes another client with the same cache directory, as the next run of a program would."""
    return lambda **options: make(**{**clock.options, "token_cache": folder, **options})


def wanted(machine: MachineClient, *scopes: str, resource: str | None = RESOURCE) -> Token:
    return machine.token(resource=resource, scopes=scopes or ("a",))


def only_file(folder: Path) -> Path:
    """The one file of the cache."""
    (path,) = folder.iterdir()
    return path


def changed(path: Path, **members: Any) -> None:
    """Change some members of a cached token, as an attacker or a bug would."""
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **members}))


@pytest.mark.rule("CL-22")
def test_nothing_is_written_unless_asked_for(
    make: MakeMachine, issuer: AuthorizationServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a token lives in memory alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        wanted(make())
    assert len(issuer.token_requests) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.rule("CL-22")
def test_the_next_run_uses_the_token_again(again: Open, issuer: AuthorizationServer, clock: Clock) -> None:
    """The same token with the same end of life, until it is about to be renewed anyway."""
    first = wanted(again())
    clock.advance(60)
    assert wanted(again()) == first
    assert len(issuer.token_requests) == 1
    clock.advance(0.8 * 600)
    assert wanted(again()).value != first.value
    assert len(issuer.token_requests) == 2


@pytest.mark.rule("CL-22", "KEY-07")
def test_files_are_private_whatever_the_umask(again: Open, folder: Path) -> None:
    """Mode 0600 in a directory of mode 0700, also when a token is replaced; no temporary file is left."""
    umask = os.umask(0)
    try:
        wanted(again())
        only_file(folder).write_bytes(b"")
        wanted(again())
    finally:
        os.umask(umask)
    assert only_file(folder).stat().st_mode & 0o7777 == 0o600
    assert folder.stat().st_mode & 0o7777 == 0o700


@pytest.mark.rule("CL-22", "CL-12")
@pytest.mark.parametrize(
    "other",
    [
        lambda open_, _: wanted(open_(), "a", "b"),
        lambda open_, _: wanted(open_(), resource="https://stock.example"),
        lambda open_, _: wanted(open_(), resource=None),
        lambda open_, issuer: wanted(open_(token_endpoint=issuer.url + "/token")),
    ],
    ids=["scopes", "resource", "no resource", "endpoint"],
)
def test_tokens_never_cross(
    again: Open, issuer: AuthorizationServer, folder: Path, other: Callable[[Open, AuthorizationServer], Token]
) -> None:
    """Another wish is another file, and another token."""
    first = wanted(again())
    assert other(again, issuer).value != first.value
    assert len(list(folder.iterdir())) == 2
    assert wanted(again()) == first


@pytest.mark.rule("CL-22", "CL-12")
def test_a_file_under_the_name_of_another_wish_is_a_miss(again: Open, folder: Path) -> None:
    """The name is a digest, but what counts is what the file says."""
    first = wanted(again(), "a")
    path = only_file(folder)
    wanted(again(), "b")
    (other,) = set(folder.iterdir()) - {path}
    os.replace(path, other)
    assert wanted(again(), "b").value != first.value


@pytest.mark.rule("CL-22")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[]"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.chmod(0o644),
        lambda path: path.parent.chmod(0o777),
        lambda path: changed(path, token=""),
        lambda path: changed(path, token="a b\r\nX: y"),
        lambda path: changed(path, token=5),
        lambda path: changed(path, lifetime=True),
        lambda path: changed(path, lifetime="600"),
        lambda path: changed(path, lifetime=-1),
        lambda path: changed(path, expires_at=None),
        lambda path: changed(path, expires_at=9e18),
        lambda path: changed(path, scopes="a"),
        lambda path: changed(path, scopes=[]),
        lambda path: changed(path, wish=None),
    ],
)
def test_whatever_is_wrong_is_a_miss(again: Open, folder: Path, spoil: Callable[[Path], None]) -> None:
    """A truncated, foreign, shared or impossible file costs one request, never an error."""
    first = wanted(again())
    spoil(only_file(folder))
    assert wanted(again()).value != first.value


@pytest.mark.rule("CL-22", "CL-15")
def test_a_token_that_the_api_refuses_leaves_the_disk(again: Open, api: Api, folder: Path) -> None:
    """Otherwise the retry would find it again."""
    machine = again()
    scopes = ["orders:read"]
    first = machine.token(resource=api.url, scopes=scopes)
    challenge = {"WWW-Authenticate": 'Bearer realm="api", error="invalid_token"'}
    api.script.append(Reply(401, b"", challenge))
    with httpx2.Client(auth=machine.auth(resource=api.url, scopes=scopes)) as caller:
        assert caller.get(api.url).status_code == 200
    kept = json.loads(only_file(folder).read_bytes())["token"]
    assert kept != first.value
    assert again().token(resource=api.url, scopes=scopes).value == kept


@pytest.mark.rule("CL-22")
def test_a_disk_that_takes_nothing_costs_no_token(
    again: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is handed out all the same, and a warning says why it is not kept."""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    assert wanted(again(token_cache=blocked / "below")).value
    assert "not kept on disk" in caplog.text


@pytest.mark.rule("CL-22")
def test_the_environment_may_name_the_directory(issuer: AuthorizationServer, key_file: Path, folder: Path) -> None:
    """GROAT_TOKEN_CACHE, beside the other variables of from_env."""
    env = {"GROAT_ISSUER": issuer.url, "GROAT_CLIENT_ID": CLIENT_ID, "GROAT_KEY_FILE": str(key_file)}
    with MachineClient.from_env({**env, "GROAT_TOKEN_CACHE": str(folder)}) as machine:
        first = wanted(machine)
    with MachineClient.from_env({**env, "GROAT_TOKEN_CACHE": str(folder)}) as machine:
        assert wanted(machine) == first
