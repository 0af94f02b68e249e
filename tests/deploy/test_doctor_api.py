"""`groat doctor api` on an API behind nginx, which takes a prefix away and passes the metadata on, or does not."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.verifier.issuer import Issuer, serving

from .plain_proxies import PREFIX, nginx
from .proxies import BIN, Bench, placed, process

pytestmark = pytest.mark.slow

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PASSED_ON = f"location {WELL_KNOWN} {{ proxy_pass http://127.0.0.1:PORT; }}"


def examined(bench: Bench, env: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    done = subprocess.run(
        [BIN / "groat", "--json", "doctor", "api"], env=bench.env(env), cwd=bench.folder, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    rows = json.loads(done.stdout)
    return done.returncode, {row["check"]: f"{row['outcome']}: {row['detail']}" for row in rows}


def settings(bench: Bench, issuer: Issuer) -> dict[str, Any]:
    url = f"https://localhost:{bench.public}{PREFIX}"
    return {"GROAT_ISSUER": issuer.url, "GROAT_AUDIENCE": url, "GROAT_PUBLIC_URL": url}


@pytest.mark.parametrize("passed_on", [True, False])
def test_behind_a_proxy(tmp_path: Path, passed_on: bool) -> None:
    """All is well; or the metadata that the challenge names stay behind the proxy; or the API is not there at all."""
    with serving() as issuer, placed(tmp_path) as bench:
        env = settings(bench, issuer)
        nginx(bench, PASSED_ON.replace("PORT", str(bench.api)) if passed_on else "")
        api = (str(BIN / "python"), "-m", "groat.demo.example_api")
        with process(tmp_path, bench.api, api, bench.env({**env, "PORT": str(bench.api)})):
            code, found = examined(bench, env)
        assert code == (0 if passed_on else 7), found
        assert found["tls"].startswith("ok: ")
        assert "certificate until 2" in found["tls"]
        assert found["public_url"].startswith(f"ok: {env['GROAT_PUBLIC_URL']}/ asks for a token"), found
        assert found["proofs"].startswith(f"ok: must name URLs below {env['GROAT_PUBLIC_URL']}. ")
        assert found["resource"].startswith("ok: " if passed_on else "failed: "), found
        if not passed_on:
            assert "let the proxy pass that path on" in found["resource"]
            code, found = examined(bench, env)
            assert (code, "answers 502" in found["public_url"]) == (7, True), found
            code, found = examined(bench, env | {"SSL_CERT_FILE": ""})
            assert found["tls"].startswith("failed: "), found
            assert "not trusted" in found["tls"]
