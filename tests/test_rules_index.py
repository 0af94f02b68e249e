"""The index of rules tells when it is not true: a marker, a row or a function that has nothing at its other end."""

import pytest

from tests import rules_index
from tests.rules_index import Rule, findings, follow_moved, is_there, read_rules

GOOD = Rule("RFC 7515 7.1", "A JWT has three parts.", "groat.protocol.jose:parse_jwt")
TESTS = {"JOSE-01": {"tests/protocol/test_jose.py::test_parts"}}


def test_the_index_of_this_repository_has_nothing_missing() -> None:
    """What `make lint` checks, without the comparison of the page."""
    assert findings(read_rules(rules_index.SOURCE.read_text("utf-8")), rules_index.marked_tests()) == []


@pytest.mark.parametrize(
    ("rules", "tests", "said"),
    [
        ({}, TESTS, "JOSE-01 has a test and no row"),
        ({"JOSE-01": GOOD}, {}, "JOSE-01 of docs/rules.toml has no test"),
        (
            {"JOSE-01": GOOD._replace(kept_by="groat.protocol.jose:parse")},
            TESTS,
            "groat.protocol.jose:parse, which is not",
        ),
        ({"JOSE-01": GOOD._replace(kept_by="groat.protocol.gone:parse_jwt")}, TESTS, "which is not there"),
        ({"JOSE-01": GOOD._replace(kept_by="docs/gone.md")}, TESTS, "which is not there"),
        ({"Q-1": GOOD}, {"Q-1": {"tests/test_q.py"}}, "Q-1 is of no family"),
    ],
)
def test_what_is_missing_is_said(rules: dict[str, Rule], tests: dict[str, set[str]], said: str) -> None:
    """Each of the ends in turn, and nothing else beside it."""
    (finding,) = findings(rules, tests)
    assert said in finding


def test_functions_methods_and_files_keep_rules() -> None:
    """What a row may name."""
    assert is_there("groat.protocol.jose:parse_jwt")
    assert is_there("groat.protocol.models:Grant.scope")
    assert is_there("deploy/compose.yaml")
    assert not is_there("groat.protocol.models:Grant.gone")


def test_a_function_that_moved_is_followed() -> None:
    """To the one module that has it now; a name that several have, or none, is left for somebody to decide."""
    row = 'A = {{ source = "own", text = "Text.", kept_by = "{}" }}\n'
    moved = follow_moved(row.format("groat.protocol.jwt:parse_jwt"))
    assert moved == row.format("groat.protocol.jose:parse_jwt")
    assert "groat.client.token_endpoint:TokenEndpoint" in follow_moved(row.format("groat.client.gone:TokenEndpoint"))
    for left in ("groat.keys.gone:TokenEndpoint", "groat.server.gone:nowhere"):
        assert follow_moved(row.format(left)) == row.format(left)


def test_a_rule_is_one_line_of_words() -> None:
    """Short enough to be read in a row of hundreds, and a whole sentence."""
    for rule, row in read_rules(rules_index.SOURCE.read_text("utf-8")).items():
        assert 15 <= len(row.text) <= 130, rule
        assert row.text.endswith("."), rule
