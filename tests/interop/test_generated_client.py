"""A client in TypeScript, generated from the admin API's description: it compiles strictly, and a real server answers it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.admin_api.conftest import served
from tests.guide_pages import programs

from .processes import ENVIRONMENT, NODE

PAGE: Final = "admin-api.md"
OURS: Final = ("manage_admin.ts", "manage_admin_stdio.mjs", "json_stdio.mjs", "tsconfig.json")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("node_peers")]


def run(directory: Path, program: str, *arguments: str, text: str = "") -> str:
    """A program of an npm package, or node; what it printed."""
    done = subprocess.run(
        [program, *arguments], cwd=directory, env=ENVIRONMENT, input=text, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
    return done.stdout


def generate(directory: Path, description: bytes) -> None:
    """As the guide says, and compiled: its program and ours."""
    (directory / "node_modules").symlink_to(NODE / "node_modules")
    (directory / "package.json").write_text('{"type": "module"}')
    (directory / "openapi.json").write_bytes(description)
    for name, source in programs(PAGE, "typescript").items():
        (directory / name).write_text(source)
    for name in OURS:
        shutil.copy(NODE / name, directory)
    made = ("openapi.json", "--default-non-nullable=false", "--output", "groat-admin.ts")
    run(directory, "node_modules/.bin/openapi-typescript", *made)
    run(directory, "node_modules/.bin/tsc")


def test_a_generated_client_manages_an_api(tmp_path: Path) -> None:
    """Added, listed in parts, changed by its tag, refused by an old one, tried, removed; problems are told by type."""
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    with served(tmp_path / "server") as admin:
        generate(tmp_path / "client", admin.over_tcp("GET", "/admin/openapi.json").body)
        asked = {"origin": f"http://127.0.0.1:{admin.port}", "token": admin.token("groat:write")}
        seen = json.loads(run(tmp_path / "client", "node", "manage_admin_stdio.mjs", text=json.dumps(asked)))
    created = seen["added"].pop("created_at")
    assert isinstance(created, int)
    assert "bills" in seen.pop("names")
    assert seen == {
        "added": {
            "name": "bills", "audience": "https://bills.example", "scopes": ["bills:read"], "token_lifetime": None,
            "binding": "none", "status": "none",
        },
        "location": "/admin/v1/apis/bills",
        "took": True,
        "stale": {"status": 412, "type": "urn:groat:reason:admin_stale"},
        "lifetimes": [300, 600],
        "removed": "bills",
        "gone": {"status": 404, "type": "urn:groat:reason:admin_unknown", "detail": seen["gone"]["detail"]},
    }  # fmt: skip
    assert "bills" in seen["gone"]["detail"]
