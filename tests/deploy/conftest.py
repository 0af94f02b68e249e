"""Facts that the tests with containers find out, printed at the end: docs/guides/compose.md quotes them."""

from collections.abc import Callable
from typing import Final

import pytest

_FACTS: Final = pytest.StashKey[dict[str, str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Have one fact printed behind the last test."""
    facts = request.config.stash.setdefault(_FACTS, {})
    return facts.__setitem__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the facts."""
    facts = config.stash.get(_FACTS, {})
    if facts:
        terminalreporter.section("what was measured")
    for name, value in facts.items():
        terminalreporter.write_line(f"{name:<44} {value}")
