"""What `groat revoke` does at APIs that verify offline: a real server, its real feed, and verifiers of each kind."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from groat.client import MachineClient
from groat.verifier import Clocks, Revocation, Verifier
from tests.guard.running import environment, guarding
from tests.ports import free_port
from tests.postgres import GivenServer, PostgresServer
from tests.verifier.issuer import eventually, outcome
from tests.verifier.tokens import AUD

from .running import Home

READ: Final = "orders:read"


@dataclass(frozen=True)
class Place:
    """A server at an issuer of its own, with a client."""

    home: Home
    issuer: str

    def token(self) -> str:
        key = self.home.directory / "billing.key.json"
        with MachineClient(self.issuer, "billing", key) as client:
            return client.token(resource=AUD, scopes=[READ]).value

    def verifiers(self) -> dict[str, Verifier]:
        """By how each hears; with and without a memory of proven tokens."""
        key = self.home.directory / "api.key.json"
        asking = Revocation("introspection", api="orders", key_file=key, cache_seconds=0)
        return {
            "list": Verifier(self.issuer, AUD, revocation=Revocation("list", required=True), clocks=hasty()),
            "list, remembered": Verifier(self.issuer, AUD, revocation="list", cache_size=10, clocks=hasty()),
            "feed": Verifier(self.issuer, AUD, revocation="feed"),
            "feed, remembered": Verifier(self.issuer, AUD, revocation="feed", cache_size=10),
            "introspection": Verifier(self.issuer, AUD, revocation=asking),
            "introspection, remembered": Verifier(self.issuer, AUD, revocation=asking, cache_size=10),
        }


def hasty() -> Clocks:
    """A clock by which each look at a list comes a `ttl` after the last one."""
    ahead = count(0, 30)
    return Clocks(monotonic=lambda: time.monotonic() + next(ahead))


@contextmanager
def installed(directory: Path, **env: str) -> Iterator[Place]:
    """An installation with a running server."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    directory.mkdir(exist_ok=True)
    home = Home(directory, {"GROAT_SERVER__PORT": str(port), **env})
    home.ok("init", "--issuer", issuer)
    home.ok("api", "add", "orders", "--audience", AUD, "--scope", READ)
    home.ok("api", "update", "orders", "--status", "list")
    home.ok("api", "key", "add", "orders", "--new-key", "api.key.json")
    home.ok("client", "add", "billing", "--allow", f"orders={READ}", "--new-key", "billing.key.json")
    with home.serving(port=port):
        yield Place(home, issuer)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer | GivenServer
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("heard")
    env = {"GROAT_STORAGE__URL": postgres.database()} if request.param == "postgres" else {}
    with installed(directory, **env) as made:
        yield made
    shutil.rmtree(directory, ignore_errors=True)


COMMANDS: Final = (
    ("revoke", "token", "token.txt"),
    ("revoke", "client", "billing"),
    ("revoke", "api", "orders"),
    ("revoke", "--all", "--yes"),
    ("client", "disable", "billing"),
)


@pytest.mark.rule("AS-RV-08", "RS-SL-06", "RS-27", "AS-RV-06")
def test_each_command_is_heard(place: Place) -> None:
    """Whoever asks hears of it with the next question, the feed's readers soon; the next token is good at once."""
    verifiers = place.verifiers()
    for command in COMMANDS:
        token, reason = place.token(), "suspended" if "disable" in command else "revoked"
        assert set(verdicts(verifiers, token).values()) == {"accepted"}, command
        place.home.file("token.txt", token)
        place.home.ok(*command)
        asking = {name: one for name, one in verifiers.items() if name.startswith("introspection")}
        assert set(verdicts(asking, token).values()) == {"revoked"}, command
        hearing = {name: one for name, one in verifiers.items() if name not in asking}
        eventually(lambda: set(verdicts(hearing, token).values()) == {reason})  # noqa: B023
        if reason == "suspended":
            place.home.ok("client", "enable", "billing")
            eventually(lambda: set(verdicts(verifiers, token).values()) == {"accepted"})  # noqa: B023
    for verifier in verifiers.values():
        verifier.close()


def verdicts(verifiers: dict[str, Verifier], token: str) -> dict[str, str]:
    return {name: outcome(lambda: one.verify(token, [READ])) for name, one in verifiers.items()}  # noqa: B023


@pytest.mark.rule("RS-SL-06")
def test_the_guard_hears_of_it(tmp_path: Path) -> None:
    """By GROAT_REVOCATION: 204 before, 401 after; its metrics say how current it is."""
    with installed(tmp_path / "home") as place:
        token = place.token()
        with guarding(tmp_path, environment(place.issuer, GROAT_REVOCATION="feed")) as guard:
            assert guard.ask(f"/forward-auth?scope={READ}", token).status == 204
            assert guard.metric("groat_verify_status_refresh_total", result="ok") == 1.0
            place.home.ok("revoke", "client", "billing")
            eventually(lambda: guard.ask("/forward-auth", token).status == 401)
            assert guard.metric("groat_verify_total", reason="revoked", result="refused") == 1.0
            assert (guard.metric("groat_verify_status_age_seconds") or 99) < 30
            assert guard.metric("groat_verify_status_unknown_total") == 0.0
            assert guard.ask("/forward-auth", place.token()).status == 204
