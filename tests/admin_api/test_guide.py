"""The guide's lines, typed into a shell beside a real server, one after the other."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guide_pages import blocks
from tests.ports import free_port
from tests.test_readme import BIN

PAGE = "admin-api.md"


@contextmanager
def installed(directory: Path, port: str) -> Iterator[dict[str, str]]:
    """An installation with the guide's section [admin], and its server; the environment of whoever types there."""
    public = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("GROAT_")}
    env |= {"PATH": f"{BIN}:{os.environ['PATH']}", "NO_PROXY": "*", "GROAT_SERVER__PORT": str(public)}
    subprocess.run(
        ["groat", "init", "--issuer", f"http://127.0.0.1:{public}"],
        cwd=directory, env=env, check=True, capture_output=True,
    )  # fmt: skip
    (section,) = blocks(PAGE, "toml")
    settings = directory / "groat.toml"
    written = settings.read_text().replace("[admin]", "[was_admin]")
    kept = written.partition("[was_admin]")
    rest = kept[2].partition("\n[")
    settings.write_text(kept[0] + section.replace("9464", port) + rest[1] + rest[2])
    server = subprocess.Popen(["groat", "serve"], cwd=directory, env=env, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (directory / "data" / "admin.sock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield env
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(15)


def test_the_lines_of_the_guide(tmp_path: Path) -> None:
    """They all work as they stand, and what they print is what the guide says of it."""
    port = str(free_port())
    with installed(tmp_path, port) as env:
        issuer = f"http://127.0.0.1:{env['GROAT_SERVER__PORT']}"
        script = "\n".join(["set -eu", *(f"{block}\necho" for block in blocks(PAGE, "sh"))])
        script = (
            script.replace("https://auth.example.com", issuer)
            .replace("127.0.0.1:9464", f"127.0.0.1:{port}")
            .replace('"$@"; }', '"$@"; echo; }')
        )
        done = subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    documents = [json.loads(part) for part in done.stdout.replace("}{", "}\n{").splitlines() if part.startswith("{")]
    assert [document["dry_run"] for document in documents if "dry_run" in document] == [True, False, False]
    tried = next(document for document in documents if document.get("dry_run"))
    assert [loss["client_id"] for loss in tried["losses"]] == ["shop"]
    assert documents[-1]["after"] is None
    assert "reason    grant_type" in done.stdout
    assert "token.refused" in done.stdout
