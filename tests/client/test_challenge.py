"""WWW-Authenticate as RFC 9110 11.6.1 allows it, and as it must not hurt us."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groat.client.challenge import parse_challenges


@pytest.mark.rule("CL-15", "CL-16")
@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        ("", []),
        ("Bearer", [("bearer", {})]),
        ('Bearer realm="a"', [("bearer", {"realm": "a"})]),
        ('Bearer  Realm = "a" , ERROR=b', [("bearer", {"realm": "a", "error": "b"})]),
        (r'Bearer realm="a \"b\" \\"', [("bearer", {"realm": 'a "b" \\'})]),
        ('Bearer realm="a", realm="b"', [("bearer", {"realm": "a"})]),
        ('Basic realm="a", Bearer realm="b"', [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ("Negotiate, Bearer error=x", [("negotiate", {}), ("bearer", {"error": "x"})]),
        ("Negotiate YWJj==, Bearer error=x", [("negotiate", {}), ("bearer", {"error": "x"})]),
        (", ,Bearer error=x,,", [("bearer", {"error": "x"})]),
        ('Bearer scope="a b", error=c', [("bearer", {"scope": "a b", "error": "c"})]),
        # Broken ones: what stands before the fault counts.
        ('Bearer error=x, realm="open', [("bearer", {"error": "x"})]),
        ("(", []),
        ('error="invalid_token"', []),
    ],
)
def test_parse(value: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    """Schemes and parameters come out in order; the first of a repeated parameter counts."""
    assert parse_challenges(value) == challenges


@pytest.mark.rule("CL-17")
@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='Bearr o="\\,\t=~(é', max_size=60))
def test_anything_is_survived(value: str) -> None:
    """No header value raises."""
    for scheme, parameters in parse_challenges(value):
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in parameters)


@pytest.mark.rule("CL-17")
@pytest.mark.parametrize(
    "unit", ["a", " ", ",", "=", '"', "\\", "a ", "a=", 'a="', 'a="b" ', "a,", "a=b,", "a a= ", ' "', '\\"'], ids=repr
)
@pytest.mark.parametrize("prefix", ["Bearer ", 'Bearer a="', ""])
def test_no_slow_header(prefix: str, unit: str) -> None:
    """The largest header that the libraries let through is read in no time, whatever it repeats."""
    value = prefix + unit * (64_000 // len(unit))
    began = time.process_time()
    parse_challenges(value)
    assert time.process_time() - began < 2
