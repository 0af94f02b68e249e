"""Two names that should have been one."""

from typing import Any

import pytest

from groat.protocol.differences import MAX_SHOWN_CHARS, difference, mismatch, other_than, shown
from groat.protocol.errors import ConfigError
from groat.protocol.metadata import check_metadata

ISS = "https://auth.example.com/tenant"


@pytest.mark.rule("OP-7")
@pytest.mark.parametrize(
    ("found", "what"),
    [
        (ISS + "/", "trailing slash"),
        (ISS + "//", "trailing slash"),
        (ISS.replace("auth", "Auth"), "capital letters"),
        (ISS.replace("https", "http"), "scheme"),
        (ISS.removeprefix("https://"), "scheme"),
        (ISS.replace(".com", ".com:443"), "port"),
        (f" {ISS}\n", "blanks around it"),
        (f'"{ISS}"', "quotes around it"),
    ],
)
def test_what_the_eye_passes_over_is_named(found: str, what: str) -> None:
    """One small difference is said in words, in both directions, beside both names."""
    assert difference(found, ISS) == difference(ISS, found) == f"; they differ by the {what} only"
    said = mismatch("issuer", found, ISS)
    assert shown(found) in said
    assert shown(ISS) in said
    with pytest.raises(ConfigError, match=f"they differ by the {what} only"):
        check_metadata({"issuer": found}, ISS)


@pytest.mark.rule("OP-7")
@pytest.mark.parametrize("found", ["https://other.example.com/tenant", ISS + "/x", "", None, 7, [ISS], ISS])
def test_what_anybody_sees_is_not(found: Any) -> None:
    """Another host or path needs no words, and equal names have no difference."""
    assert difference(found, ISS) == ""
    assert mismatch("issuer", found, ISS).endswith(f'expected is "{ISS}"')


@pytest.mark.rule("OP-7", "ST-13")
def test_foreign_names_are_printable_and_short() -> None:
    """Control characters, bidi marks and endless names are made harmless; what is no string is named by its type."""
    assert shown("a\n\x1b[31m\u202e\x9b") == r'"a\n\x1b[31m\u202e\x9b"'
    assert len(shown("x" * 10_000)) == MAX_SHOWN_CHARS + 2
    assert (shown(None), shown(7), shown({})) == ("absent", "no string but int", "no string but dict")


@pytest.mark.rule("RS-25", "OP-7")
def test_claims_are_compared_and_not_repeated() -> None:
    """Of a token's claim only the difference is told, not the value."""
    assert other_than("aud", ISS + "/", ISS) == f'aud is not "{ISS}"; they differ by the trailing slash only'
    assert other_than("aud", "https://secret.example", ISS) == f'aud is not "{ISS}"'
