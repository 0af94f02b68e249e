"""A server that can issue no token, seen by its operator: the start, the checks and the doctor name the reason and the way out."""

import json

import pytest

from tests.ports import free_port

from .running import Home


def _moved(home: Home) -> None:
    home.ok("--yes", "store", "copy", "sqlite:///data/groat.db", "sqlite:///data/new.db")


@pytest.mark.rule("OP-2", "I15")
def test_a_store_that_moved_serves_no_more(home: Home) -> None:
    """Neither a check nor a start with the settings of before; both say what to set, and it helps."""
    _moved(home)
    for command in (("config", "check"), ("serve",)):
        done = home.script(*command)
        assert (done.code, done.out) == (5, ""), done.err
        assert len(done.err.splitlines()) == 1
        assert "storage.url" in done.err
        assert "groat store reopen" in done.err
    home.ok("config", "check", GROAT_STORAGE__URL="sqlite:///data/new.db")


@pytest.mark.rule("OP-2", "OP-15", "I15")
def test_a_store_that_moves_underneath(home: Home) -> None:
    """A running server tells it once, is not ready, and recovers; health and doctor name the reason."""
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving(port=port) as server:
        _moved(home)
        for _ in range(2):
            asked = home("--json", "health")
            assert (asked.code, asked.json["reason"]) == (7, "store_closed")
        done = home("--json", "doctor", "server", "--url", server.url)
        found = {row["check"]: row["detail"] for row in json.loads(done.out) if row["outcome"] == "failed"}
        assert (done.code, list(found)) == (7, ["readiness", "store"])
        assert "store_closed" in found["readiness"]
        assert "groat store reopen" in found["store"]
        home.ok("--yes", "store", "reopen")
        home.ok("health")
        told = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert [line["event"] for line in told if line["event"].startswith("server.")][-2:] == [
            "server.unready", "server.ready"]  # fmt: skip
        (unready,) = [line for line in told if line["event"] == "server.unready"]
        assert "storage.url" in unready["hint"]
