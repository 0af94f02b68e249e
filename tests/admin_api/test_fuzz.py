"""A few requests made from the description of the admin API; `make admin-fuzz` makes thousands."""

from pathlib import Path

from groat.admin_api.table import ROWS
from tests.admin_api.conftest import served
from tests.admin_api.fuzz import run


def test_the_description_can_be_believed(tmp_path: Path) -> None:
    """Each operation is asked, good and bad; nothing is a 5xx, and every answer is one that is described."""
    with served(tmp_path) as admin:
        done = run(admin, 1, 1, "fuzzing")
        assert b'"server.error"' not in b"".join(admin.lab.lines())
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert f"Tested: {len(ROWS)}" in done.stdout
