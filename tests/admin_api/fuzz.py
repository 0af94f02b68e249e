"""A stranger's test of the admin API: requests made from its own description, against a real server (`make admin-fuzz`)."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.admin_api.conftest import Admin, served

# The description allows whatever has the right form; what cannot be right is 422, and what is not there 404.
CHECKS: Final = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection", "missing_required_header", "ignored_auth",
    "unsupported_method",
)  # fmt: skip


def run(admin: Admin, examples: int, seed: int, phases: str) -> subprocess.CompletedProcess[str]:
    """Ask with so many examples for each operation, as somebody who may write; a failure is exit code 1."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run",
        f"http://127.0.0.1:{admin.port}/admin/openapi.json",
        "--header", f"Authorization: Bearer {admin.token('groat:read groat:write')}",
        "--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(examples), "--seed", str(seed),
        "--continue-on-failure", "--generation-database", "none", "--request-timeout", "20",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600, check=False)


def main() -> int:
    """`python -m tests.admin_api.fuzz [EXAMPLES] [SEED]`."""
    examples, seed = (int(word) for word in [*sys.argv[1:3], *("5", "1")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as admin:
        done = run(admin, examples, seed, "examples,coverage,fuzzing")
        broken = [line for line in admin.lab.lines() if b'"server.error"' in line]
    print(done.stdout[-20_000:], done.stderr[-4000:], *(line.decode() for line in broken[:3]), sep="\n")
    return 1 if broken else done.returncode


if __name__ == "__main__":
    sys.exit(main())
