"""The recipes for nginx and Caddy, run by the real programs in front of real servers of ours."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from groat.keys.files import read_private_key
from groat.protocol.jwk import PrivateKey, generate_private_key
from tests.burst import Answered, Door, burst, one_by_one, worst
from tests.certificates import self_signed
from tests.key_set_server import QUIET, targets
from tests.server.builders import Party, base
from tests.tls_suites import AEAD, RECOMMENDED, agreed, speaks

from .proxies import AUDIENCE, STARTERS, TLS_STARTERS, Bench, arranged, placed, start_nginx


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An arrangement in a folder of its own."""
    with arranged(tmp_path) as made:
        yield made


@pytest.mark.rule("OPS-01", "OP-13", "FO-2")
@pytest.mark.parametrize("proxy", TLS_STARTERS)
def test_tls_ends_at_the_proxy(bench: Bench, proxy: str) -> None:
    """A token through the proxy; the server sees the caller's address and not the one that the caller made up.

    The id is the proxy's, the trace the caller's.
    """
    TLS_STARTERS[proxy](bench, "tls-termination")
    status, _, body = bench.request("GET", "/.well-known/oauth-authorization-server")
    assert (status, json.loads(body)["token_endpoint"]) == (200, f"{bench.issuer}/token")
    made_up = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-ID": "mine"}
    status, answer = bench.token(**made_up, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    assert (status, answer["token_type"]) == (200, "Bearer")
    log = (bench.folder / f"groat-{bench.server}.log").read_text()
    issued = [json.loads(line) for line in log.splitlines() if '"token.issued"' in line]
    assert [(line["source"], line["trace_id"], line["span_id"]) for line in issued] == [
        ("127.0.0.1", "ab" * 16, "cd" * 8)]  # fmt: skip
    assert re.fullmatch("[0-9a-f-]{32,36}", issued[0]["request_id"])
    assert "203.0.113.9" not in log
    assert bench.request("POST", "/token", body="x" * (65 * 1024))[0] == 413
    assert "eyJ" not in "".join(path.read_text("utf-8", "replace") for path in bench.folder.glob("*.log"))


RECIPES = [(proxy, "tls-termination") for proxy in TLS_STARTERS] + [(proxy, "forward-auth") for proxy in STARTERS]


@pytest.mark.rule("ST-16", "OPS-01")
@pytest.mark.parametrize("with_rsa", [False, True], ids=["ECDSA", "RSA"])
@pytest.mark.parametrize(("proxy", "recipe"), RECIPES)
def test_no_recipe_agrees_to_a_weak_suite(tmp_path: Path, proxy: str, recipe: str, with_rsa: bool) -> None:
    """TLS 1.3, or 1.2 with ECDHE and AEAD: no CBC, no static RSA, whatever the certificate."""
    with placed(tmp_path) as bench:
        _, both = self_signed(bench.folder, names=["localhost"], with_rsa=with_rsa)
        for name in ("tls.pem", "tls.key.pem"):
            (bench.folder / name).write_bytes(both.read_bytes())
        STARTERS[proxy](bench, recipe)
        address, kind = ("127.0.0.1", bench.public), "RSA" if with_rsa else "ECDSA"
        found = agreed(address)
        assert found & {suite for suite in RECOMMENDED if kind in suite}
        if proxy in TLS_STARTERS:
            assert found >= {suite for suite in RECOMMENDED if kind in suite}
        assert found <= (AEAD if proxy in ("caddy", "envoy") else RECOMMENDED)
        assert speaks(address, ssl.TLSVersion.TLSv1_3)
        assert not speaks(address, ssl.TLSVersion.TLSv1_1)


@pytest.mark.rule("ST-3", "ST-10", "I14")
def test_a_burst_in_a_publishers_name_through_nginx(tmp_path: Path) -> None:
    """300 forged assertions for a client whose own host is silent: through the proxy, too, the honest are served."""
    (tmp_path / "own").mkdir()
    with (
        arranged(tmp_path, GROAT_KEYS__CLIENT_NETWORKS="127.0.0.0/8") as bench,
        targets(tmp_path / "own", QUIET) as found,
    ):
        ((silent,), _) = found
        bench.groat("client", "add", "silent", "--allow", "orders=orders:read", "--jwks-uri", silent.uri)
        start_nginx(bench, "tls-termination")
        key, forger = read_private_key(tmp_path / "billing.key.json"), generate_private_key("ES256")
        door = Door(("127.0.0.1", bench.public), ssl.create_default_context(cafile=str(tmp_path / "ca.pem")))

        def body(name: str, signer: PrivateKey) -> bytes:
            asking = Party(name, signer, time.time())
            return base(asking.assertion(aud=bench.issuer), resource=AUDIENCE, scope="orders:read")

        async def beside() -> tuple[list[Answered], list[Answered], list[Answered]]:
            honest = partial(body, "billing", key)
            quiet = await one_by_one(door, honest, 20)
            forged = burst(door, [body("silent", forger) for _ in range(300)])
            return quiet, *await asyncio.gather(one_by_one(door, honest, 50), forged)

        quiet, honest, forged = asyncio.run(beside())
        assert {answer.status for answer in (*quiet, *honest)} == {200}
        assert {answer.status for answer in forged} <= {401, 429, 503}
        assert worst(honest) <= max(3 * worst(quiet), 10.0)  # the handshakes of the burst run on the same cores
        assert silent.hits <= 2
