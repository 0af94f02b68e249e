"""The grammar of the standards: what each rule takes, and that it is written down once."""

import ast
import re
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol import grammar

SOURCES: Final = Path(grammar.__file__).parent.parent
# The heart of each set, by which a second spelling of it is known.
HEARTS: Final = (
    "!#$%&'*+.^_`|~",
    "._~+/-]+=*",
    r"\x23-\x5B",
    r"\x21-\x7",
    "._~!$&'()*+,;=",
    r"%(?![0-9",
    "0123456789-_",
    'max-age="?',
)


@pytest.mark.parametrize(
    ("rule", "fits", "misfits"),
    [
        (grammar.TOKEN, ["Bearer", "x-a.b", "!#$%&'*+-.^_`|~1"], ["", "a b", "a=", '"a"', "a,", "(a)", "\u00e4"]),
        (grammar.TOKEN68, ["abc", "a-b.c_d~e+f/g==", "0"], ["", "=", "a=b", "a b", "a,b", "\u00e4"]),
        (grammar.QUOTED, ["", "a b", r'a \"b\" c', r"\\", "a,b=c"], ['a"b', "a\\"]),
        (grammar.HOST, [b"", b"as.example", b"as.example:8443", b"[::1]:80", b"a_b", b"a:"], [b"a b", b"a/b", b"u@a", b"[::1", b"a:b"]),
        (grammar.URL_HOST, ["as.example", "[::1]", "a_b"], ["", "a:1", "a/b", "u@a", "[::1", "a b", "\u00e4"]),
        (grammar.SCHEME, ["https", "h2", "coap+tcp", "a.b-c"], ["", "2h", "ht tp", "http:"]),
        (grammar.NQSCHARS, ["api", "the api", "!", "~"], ["", 'a"b', "a\\b", "a\tb", "\u00e4", "a\n"]),
        (grammar.SCOPE_TOKEN, ["read", "orders:read", "!", "~", "[", "]"], ["", "a b", 'a"', "a\\", "\u00e4", "a\n"]),
        (grammar.SCOPE, ["read", "read write"], ["", " ", "a  b", " a", "a ", "a\tb"]),
        (grammar.CLIENT_ID, ["billing", "spiffe://x/y", "a" * 128], ["", "a b", 'a"', "a" * 129, "\u00e4"]),
        (grammar.ACCESS_TOKEN, ["abc", "a.b.c", "~!"], ["", "a b", "a\n", "\u00e4", "a\x7f"]),
    ],
)  # fmt: skip
def test_what_a_rule_takes(rule: Any, fits: list[Any], misfits: list[Any]) -> None:
    """The whole of each text, at the borders of its set."""
    for text in fits:
        assert re.fullmatch(rule, text), text
    for text in misfits:
        assert not re.fullmatch(rule, text), text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("max-age=5", "5"),
        ("public, max-age=5", "5"),
        ('Max-Age="5"', "5"),
        ("s-maxage=5", None),
        ("x-max-age=5", None),
        ("", None),
    ],
)
def test_max_age_is_found_among_other_directives(text: str, found: str | None) -> None:
    """In any case, quoted or not, and no other directive that ends like it."""
    match = grammar.MAX_AGE.search(text)
    assert (match and match[1]) == found


@pytest.mark.parametrize(("text", "broken"), [("%41", False), ("a%zz", True), ("%4", True), ("%", True), ("a", False)])
def test_a_broken_escape_is_found(text: str, broken: bool) -> None:
    """Wherever it stands."""
    assert bool(grammar.BROKEN_ESCAPE.search(text)) is broken


def test_no_other_module_spells_a_rule_anew() -> None:
    """Two spellings would differ some day."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))) if path.name != "grammar.py" else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                assert not [heart for heart in HEARTS if heart in text], (path, text)
