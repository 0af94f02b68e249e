"""What a reload changes: one value, which a request keeps from its beginning to its end."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from groat.app import Clockwork, create_app
from groat.server.chores.reloading import in_force
from groat.server.connection.guarded import GuardedEntrance
from groat.server.settings.config import load_config
from groat.server.settings.table import RELOADED
from groat.server.store.sqlite.store import SqliteStore
from tests.server.builders import base
from tests.server.lab import prepare


def test_a_request_ends_under_what_it_began_with(tmp_path: Path) -> None:
    """Settings that come into force while its body is read count for the next one."""
    lab = prepare(tmp_path)

    async def lifetime(app: GuardedEntrance, reloaded: int) -> int:
        """Seconds that a token lives, after a reload between head and body of its request."""
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            now = app.current.now
            app.current.now = replace(now, policy=replace(now.policy, token_lifetime=reloaded))
            return {"type": "http.request", "body": base(lab.party.assertion()), "more_body": False}

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/token", "query_string": b"", "client": ("127.0.0.1", 1),
                 "headers": [(b"content-type", b"application/x-www-form-urlencoded")]}  # fmt: skip
        await app(scope, receive, send)
        return (
            60
            if b'"expires_in":60,' in answers[1]["body"]
            else 600
            if b'"expires_in":600,' in answers[1]["body"]
            else 0
        )

    async def work() -> list[int]:
        store = SqliteStore.open(lab.database)
        app = create_app(lab.config, store, Clockwork(lab.clock, lab.clock), lab.audit.log)
        assert isinstance(app, GuardedEntrance)
        seen = [await lifetime(app, reloaded) for reloaded in (60, 600, 60)]
        await store.close()
        return seen

    assert asyncio.run(work()) == [600, 60, 600]
    lab.stream.close()


OTHERWISE = {
    "tokens.lifetime": '[tokens]\nlifetime = "5m"',
    "tokens.extra_claims": '[tokens]\nextra_claims = {env = "test"}',
    "metadata.compatible": "[metadata]\ncompatible = false",
    "metadata.protected_resources": "[metadata]\nprotected_resources = true",
    "assertions.max_lifetime": '[assertions]\nmax_lifetime = "1m"',
    "assertions.clock_tolerance": '[assertions]\nclock_tolerance = "30s"',
    "dpop.nonces": '[dpop]\nnonces = "off"',
    "dpop.algorithms": '[dpop]\nalgorithms = ["ES256"]',
    "server.connections": "[server]\nconnections = 20",
    "server.source_connections": "[server]\nsource_connections = 20",
    "server.proxy": '[[server.proxy]]\nnetwork = "10.0.0.0/8"\ncertificate = "envoy"',
    "tls.certificate_url": '[tls]\ncertificate_url = "https://mtls.as.example"',
    "tls.client_crl_file": '[tls]\nclient_crl_file = "lists.pem"',
    "server.trusted_proxies": '[server]\ntrusted_proxies = ["10.0.0.0/8"]',
    "throttle.client_failures": "[throttle]\nclient_failures = 7",
    "throttle.source_failures": "[throttle]\nsource_failures = 7",
    "throttle.failure_share": "[throttle]\nfailure_share = 7",
}


def test_every_reloaded_setting_is_in_it(tmp_path: Path) -> None:
    """Each of RELOADED changes the value, but for those of the log; the policy is told by its parts, as it equals nothing."""
    assert OTHERWISE.keys() == RELOADED - {"log.level", "log.format"}
    file = tmp_path / "groat.toml"
    shown = set()
    for text in ("", *OTHERWISE.values()):
        file.write_text(f'issuer = "https://as.example"\n{text}\n')
        found = in_force(load_config(file, {}))
        shown.add(repr(found))
    assert len(shown) == 1 + len(OTHERWISE)
