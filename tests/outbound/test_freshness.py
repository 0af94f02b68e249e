"""How long an answer stays good, in every form in which servers say it."""

import pytest

from groat.outbound.freshness import lifetime


@pytest.mark.rule("KEY-18")
@pytest.mark.parametrize(
    ("cache_control", "age", "kept"),
    [
        ("Max-Age=600", "", 600), ("MAX-AGE=600", "", 600), ('max-age="600"', "", 600), ("public, max-age=600", "", 600),
        ("public,max-age=600", "", 600), ("max-age=600", "100", 500), ("max-age=600", " 100 ", 500),
        ("max-age=600", "9999", -9399), ("max-age=600", "-5", 600), ("max-age=600", "x", 600), ("max-age=600", "²", 600),
        ("s-max-age=600", "", 300), ("xmax-age=600", "", 300), ("no-cache", "", 300), ("", "100", 200),
        ("max-age=99999999999", "", 999999999), ("max-age=0", "", 0), ("max-age=-1", "", 300),
    ],
)  # fmt: skip
def test_for_how_long_a_set_is_kept(cache_control: str, age: str, kept: float) -> None:
    """Directives in any case, with or without quotes (RFC 9111 5.2), less the age of a cached answer (4.2)."""
    assert lifetime(cache_control, age, 300.0) == kept
