"""No test is skipped in silence: what may be missing is one list, and the README has it."""

import re
from pathlib import Path

import pytest

from tests.missing import EVEN_IN_CI, Missing, skip

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SKIPS = re.compile(r"\b(?:skip|skipif|importorskip|xfail)\(")


def test_only_one_module_skips() -> None:
    """Whoever wants to skip names what is missing."""
    skipping = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if SKIPS.search(line.replace("skip(Missing.", ""))
    ]
    assert set(skipping) == {"tests/missing.py"}


@pytest.mark.parametrize("missing", Missing, ids=lambda missing: missing.name)
def test_the_readme_says_what_may_be_missing(missing: Missing) -> None:
    """Nobody has to read the tests to know what a skipped one needs."""
    assert f"| {missing.value} |" in README


@pytest.mark.parametrize("missing", Missing, ids=lambda missing: missing.name)
def test_ci_lacks_nothing_but_foreign_toolchains(missing: Missing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CI is set, what is missing is a failure; the README marks the two that are not."""
    monkeypatch.setenv("CI", "true")
    end = skip  # the search above looks for calls
    with pytest.raises(pytest.skip.Exception if missing in EVEN_IN_CI else pytest.fail.Exception, match="lacks"):
        end(missing)
    assert {Missing.GO, Missing.MAVEN} == EVEN_IN_CI
    row = next(line for line in README.splitlines() if line.startswith(f"| {missing.value} |"))
    assert ("(in CI too)" in row) is (missing in EVEN_IN_CI)
