"""What strangers can make a guard spend."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from groat.server.connection.descriptors import raise_limit
from tests.guard.running import Guard, environment, guarding
from tests.verifier.issuer import serving
from tests.waiting import wait_until


@pytest.mark.rule("FA-3")
def test_lines_about_checks_that_cannot_be_read_are_few(tmp_path: Path) -> None:
    """Thirty a minute of each kind, and one kind does not silence another."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as guard:
        for _ in range(60):
            assert guard.ask("/forward-auth?scopes=x").status == 500
            assert guard.ask("/nowhere").status == 404
        assert guard.ask("/forward-auth/x").status == 500
        wait_until(lambda: "envoy" in guard.told("guard.misasked")[-1]["hint"])
        lines = [(line["level"], line["hint"]) for line in guard.told("guard.misasked")]
        assert 30 <= sum("scopes" in hint for _, hint in lines) <= 33
        assert 30 <= sum(level == "warning" and "/nowhere" in hint for level, hint in lines) <= 33


def test_one_address_has_as_many_connections_as_it_needs(tmp_path: Path) -> None:
    """They are the proxy's: 1,100 that say nothing hinder neither each other nor a check."""
    raise_limit()
    with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as guard, ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", guard.port), 10)) for _ in range(1100)]
        assert guard.ask("/forward-auth", issuer.token()).status == 204
        for one in idle[:: len(idle) // 7]:
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert guard.metric("groat_connections_cut_total", reason="source") is None


def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """A silent connection ends after ten seconds, as at the server."""
    with serving() as issuer, guarding(tmp_path, environment(issuer.url)) as guard:
        with socket.create_connection(("127.0.0.1", guard.port), 20) as silent:
            silent.sendall(b"GET /forward-auth HTTP/1.1\r\nHost:")
            assert _rest(silent, guard) == b""


def _rest(connection: socket.socket, guard: Guard) -> bytes:
    assert guard.ask("/livez").status == 200
    return connection.recv(4096)
