"""JSON as RFC 8259 meant it: one reading for every document, or none.

The standard library decodes what two parsers may read differently (repeated members, NaN, UTF-16). A signed
document must have one meaning only, so all of these are refused (RFC 8725 2.4, 2.6; RFC 7515 4).
"""

import json
import math
from collections.abc import Callable
from json.encoder import encode_basestring
from json.scanner import make_scanner
from typing import Any, Final

from groat.protocol.errors import JoseError

MAX_DEPTH = 16
MAX_NUMBER_CHARS = 32


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name occurs twice")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError("a number is too long")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if len(text) > MAX_NUMBER_CHARS or not math.isfinite(value):
        raise ValueError("a number is too long or too large")
    return value


def _constant(text: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant)
_scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_decoder)  # type: ignore[arg-type]


def loads(raw: bytes) -> Any:
    """Decode one UTF-8 JSON document.

    Raises JoseError("malformed") for anything that two readers could understand differently: repeated members,
    NaN, infinities, numbers over 32 characters, nesting over 16, other encodings, a BOM, lone surrogates.
    """
    try:
        text = raw.decode("utf-8")
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            _check_depth(text)
        value = _decode(text)
        if b"\\u" in raw:
            # A lone surrogate escape decodes to a string that no encoder can write back.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise JoseError("malformed", f"not strict JSON: {type(error).__name__}") from None
    return value


def _decode(text: str) -> Any:
    # JSONDecoder.decode without its two regular expressions; nearly every document begins with its brace.
    if text[:1] not in ("{", "["):
        return _decoder.decode(text)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text) and text[end:].strip(" \t\n\r"):
        raise ValueError("something follows the JSON value")
    return value


def loads_object(raw: bytes) -> dict[str, Any]:
    """Decode one JSON object; JoseError("malformed") for every other value."""
    value = loads(raw)
    if not isinstance(value, dict):
        raise JoseError("malformed", "the JSON value is not an object")
    return value


def dumps(value: Any) -> bytes:
    """Encode compactly, in the order given."""
    if type(value) is dict:
        try:
            return _dumps_flat(value)
        except KeyError:
            pass
    return _encoder.encode(value).encode("utf-8")


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# Every header and nearly every claims set is an object of strings and whole numbers: JSONEncoder spends more on
# setting itself up for one than on writing it.
_WRITERS: Final[dict[type, Callable[[Any], str]]] = {str: encode_basestring, int: int.__repr__}


def _dumps_flat(members: dict[str, Any]) -> bytes:
    parts = [f"{encode_basestring(name)}:{_WRITERS[type(value)](value)}" for name, value in members.items()]
    return f"{{{','.join(parts)}}}".encode()


def _check_depth(text: str) -> None:
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
        elif char in "]}":
            depth -= 1
