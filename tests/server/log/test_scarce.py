"""Lines that strangers cause are written in moderation."""

import pytest

from groat.server.log.scarce import ScarceLines


@pytest.mark.rule("OP-14", "I14")
def test_some_lines_are_written_and_the_rest_is_counted() -> None:
    """So many at once, then one for each share of the time; whoever is next says how many were held back."""
    lines = ScarceLines(3, 60.0)
    assert [lines.admit("a", 5.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert lines.admit("b", 5.0) == 0
    assert lines.admit("a", 24.9) is None
    assert lines.admit("a", 25.1) == 3
    assert lines.admit("a", 25.1) is None
    assert [lines.admit("a", 200.0) for _ in range(4)] == [1, 0, 0, None]
