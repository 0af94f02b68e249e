"""One reading for every JSON document, or none."""

import json
from typing import Any

import pytest

from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.strict_json import MAX_DEPTH, MAX_NUMBER_CHARS

from .builders import jose_refused

REPEATED = {
    "top": b'{"iss":"evil","iss":"CID"}',
    "same value": b'{"a":1,"a":1}',
    "three times": b'{"a":1,"b":2,"a":3,"a":4}',
    "nested": b'{"a":{"b":1,"b":2}}',
    "in an array": b'[{"a":1},{"b":1,"b":1}]',
    "escaped spelling": b'{"iss":1,"\\u0069ss":2}',
    "empty name": b'{"":1,"":2}',
    "alg": b'{"alg":"none","alg":"ES256"}',
}
ENCODINGS = {
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-16-le": '{"a":1}'.encode("utf-16-le"),
    "utf-16-be": '{"a":1}'.encode("utf-16-be"),
    "utf-32": '{"a":1}'.encode("utf-32"),
    "utf-8 bom": b"\xef\xbb\xbf{}",
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "truncated sequence": b'"\xc3"',
    "overlong": b'"\xc0\xaf"',
    "raw surrogate": b'"\xed\xa0\x80"',
    "beyond unicode": b'"\xf4\x90\x80\x80"',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'"\\udc00"',
    "reversed pair": b'"\\udc00\\ud800"',
    "surrogate as name": b'{"\\uD834":1}',
    "surrogate deep inside": b'[[{"a":["\\udfff"]}]]',
}
NUMBERS = {
    "NaN": b"NaN",
    "Infinity": b'{"exp":Infinity}',
    "-Infinity": b"[-Infinity]",
    "1e400": b'{"exp":1e400}',
    "-1e400": b"-1e400",
    "5000 digits": b"9" * 5000,
    "5000 decimals": b"0." + b"1" * 5000,
    "one char too long": b"1" * (MAX_NUMBER_CHARS + 1),
    "one char too long, signed": b"-" + b"1" * MAX_NUMBER_CHARS,
    "one char too long, real": b"1." + b"1" * (MAX_NUMBER_CHARS - 1),
    "leading zero": b"01",
    "leading plus": b"+1",
    "no digits after the point": b"1.",
    "no digits before the point": b".5",
    "hexadecimal": b"0x10",
    "arabic digits": "[١]".encode(),
}
SYNTAX = {
    "empty": b"",
    "space": b" ",
    "two documents": b"{}{}",
    "trailing text": b"{}x",
    "trailing NUL": b"{}\0",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1/**/}',
    "bare name": b"{a:1}",
    "raw newline in a string": b'"a\nb"',
    "raw NUL in a string": b'"a\0b"',
    "unknown escape": b'"\\x41"',
    "short escape": b'"\\u00"',
    "no-break space outside": "\u00a0{}".encode(),
    "vertical tab outside": b"\x0b{}",
    "capital literal": b"True",
    "unclosed": b'{"a":[1',
    "unclosed string": b'"' + b"[" * 50,
}
DEPTHS = {
    "one array too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "one object too deep": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "depth 100": b"[" * 100 + b"]" * 100,
    "depth 20000": b"[" * 20_000 + b"]" * 20_000,
    "depth 100000, open": b"[" * 100_000,
    "depth behind a string with quotes": b'["\\"[\\\\",' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]",
}


def _table(rows: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("raw", rows.values(), ids=rows.keys())


@pytest.mark.rule("JOSE-03", "A12")
@_table(REPEATED)
def test_repeated_members_are_refused(raw: bytes) -> None:
    """A member name that stands twice in one object has two readings."""
    with jose_refused("malformed"):
        strict_json.loads(raw)


@pytest.mark.rule("JOSE-03")
def test_the_same_name_in_two_objects_is_no_repeat() -> None:
    """Only names within one object clash."""
    assert strict_json.loads(b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}') == {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}


@pytest.mark.rule("JOSE-04", "A11")
@_table(ENCODINGS)
def test_only_clean_utf8_is_read(raw: bytes) -> None:
    """Other encodings, a BOM and lone surrogates are refused, not guessed."""
    with jose_refused("malformed"):
        strict_json.loads(raw)


@pytest.mark.rule("JOSE-05", "A12")
@_table(NUMBERS | SYNTAX)
def test_what_json_does_not_know_is_refused(raw: bytes) -> None:
    """Numbers and syntax outside RFC 8259, or outside our bounds, are one kind of error."""
    with jose_refused("malformed"):
        strict_json.loads(raw)


@pytest.mark.rule("JOSE-05", "A12")
@_table(DEPTHS)
def test_deep_nesting_is_refused(raw: bytes) -> None:
    """Nesting beyond the bound is an error of ours, never a RecursionError."""
    with jose_refused("malformed"):
        strict_json.loads(raw)


@pytest.mark.rule("JOSE-05")
@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None, id="the deepest allowed"),
        pytest.param(b"[" * MAX_DEPTH + b'"[["' + b"]" * MAX_DEPTH, None, id="the deepest allowed, around brackets"),
        pytest.param(b'["' + b"[{" * 40 + b'"]', ["[{" * 40], id="brackets in a string do not nest"),
        pytest.param(b'["' + b'\\"[' * 40 + b'"]', ['"[' * 40], id="nor behind an escaped quote"),
        pytest.param(b'["\\\\",' + b"[]," * 20 + b"[]]", None, id="siblings do not nest"),
        pytest.param(b"1" * MAX_NUMBER_CHARS, int("1" * MAX_NUMBER_CHARS), id="the longest integer"),
        pytest.param(b"1." + b"0" * (MAX_NUMBER_CHARS - 2), 1.0, id="the longest real"),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="a surrogate pair"),
        pytest.param(b'"\\\\ud800"', "\\ud800", id="an escaped backslash before u"),
        pytest.param(b'"\\u0000"', "\0", id="NUL is a character"),
        pytest.param(b' \t\r\n{"a" : 1}\n', {"a": 1}, id="insignificant whitespace"),
        pytest.param(b"1.5e3", 1500.0, id="exponent"),
        pytest.param(b"-0", 0, id="minus zero"),
        pytest.param(b"null", None, id="null"),
    ],
)
def test_what_is_sound_is_read(raw: bytes, value: Any) -> None:
    """The bounds refuse nothing that lies on them, and the value is what RFC 8259 says."""
    expected = value if value is not None else json.loads(raw)
    assert strict_json.loads(raw) == expected


@pytest.mark.rule("JOSE-04", "A11")
@pytest.mark.parametrize("raw", [b"null", b"[]", b"[1]", b'"x"', b"1", b"true", b"", b"[{}]"])
def test_only_an_object_is_an_object(raw: bytes) -> None:
    """Header and claims are objects; every other JSON value is refused."""
    with jose_refused("malformed"):
        strict_json.loads_object(raw)


@pytest.mark.rule("JOSE-05")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_could_not_be_read_is_not_written(value: Any) -> None:
    """The writer holds itself to the reader's rule on numbers."""
    with pytest.raises(ValueError):
        strict_json.dumps(value)


def test_writing_is_compact_and_keeps_the_order() -> None:
    """Bytes that get signed are the same every time."""
    assert strict_json.dumps({"b": [1, 2.5], "a": "é"}) == '{"b":[1,2.5],"a":"é"}'.encode()


@pytest.mark.rule("JOSE-05")
def test_the_error_tells_nothing_of_the_document() -> None:
    """Claims are personal: the parser's message does not quote them."""
    with pytest.raises(JoseError) as caught:
        strict_json.loads(b'{"secret-claim":tru}')
    assert "secret" not in str(caught.value) + caught.value.hint
    assert caught.value.__cause__ is None
