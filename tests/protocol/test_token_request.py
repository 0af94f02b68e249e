"""From the bytes of a form to a request: every defect has one answer, in a fixed order."""

import contextlib
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

import pytest

from groat.protocol.client_auth import read_credential
from groat.protocol.errors import InvalidClient, InvalidRequest, InvalidScope, UnsupportedGrantType
from groat.protocol.models import TokenRequest
from groat.protocol.scope import MAX_SCOPE_CHARS, parse_scope
from groat.protocol.token_request import (
    MAX_ESCAPES,
    MAX_FIELDS,
    REPEATABLE,
    Field,
    check_content_type,
    check_query,
    form_fields,
    parse_token_request,
    read_token_request,
    recognised,
)

from .builders import JWT_BEARER, refused

BASE: list[Field] = [
    ("grant_type", "client_credentials"),
    ("client_assertion_type", JWT_BEARER),
    ("client_assertion", "a.b.c"),
]


def _parse(fields: Sequence[Field], authorization: Sequence[bytes] = ()) -> TokenRequest:
    return parse_token_request(form_fields(urlencode(fields).encode()), authorization)


def _base(**changes: str | None) -> list[Field]:
    merged: dict[str, str | None] = {**dict(BASE), **changes}
    return [(name, value) for name, value in merged.items() if value is not None]


@pytest.mark.rule("AS-TE-03", "A22")
@pytest.mark.parametrize(
    "value",
    [
        b"application/x-www-form-urlencoded",
        b"Application/X-WWW-Form-Urlencoded",
        b"application/x-www-form-urlencoded; charset=utf-8",
        b"Application/X-WWW-Form-Urlencoded;charset=UTF-8",
        b'application/x-www-form-urlencoded; charset="UTF-8"',
    ],
)
def test_a_form_is_accepted(value: bytes) -> None:
    """The media type is compared without case, and UTF-8 may be said."""
    check_content_type([value])


@pytest.mark.rule("AS-TE-03", "A22")
@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"application/json"],
        [b"multipart/form-data; boundary=x"],
        [b"text/plain"],
        [b"application/x-www-form-urlencoded; charset=utf-16"],
        [b"application/x-www-form-urlencoded; charset=iso-8859-1"],
        [b"application/x-www-form-urlencoded; charset=utf-8; charset=utf-16"],
        [b"application/x-www-form-urlencoded, application/json"],
        [b"application/x-www-form-urlencodedx"],
        [b"xapplication/x-www-form-urlencoded"],
        [b"\xff\xfe"],
        [b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded"],
        [b"application/x-www-form-urlencoded" + b"; a=b" * 5000],
    ],
    ids=lambda values: repr(values)[:60],
)
def test_another_body_is_refused(values: list[bytes]) -> None:
    """JSON, multipart, another charset, none, or two headers: 400 invalid_request."""
    with refused(InvalidRequest, "content_type"):
        check_content_type(values)


@pytest.mark.rule("AS-TE-04")
@pytest.mark.parametrize(
    "body",
    [
        *(b"scope=%zz", b"scope=%", b"scope=a%", b"scope=%2", b"scope=%g0", b"scope=%0", b"%zz=a", b"a=%%20"),
        *(b"scope=%ff", b"scope=\xff", b"scope=%c3", b"scope=%c3%28", b"scope=%c0%af", b"scope=%ed%a0%80"),
        *(b"scope=%00", b"scope=a\0b", b"%00=a", b"\0=a", b"scope=%f4%90%80%80", b"a=b&scope=%fe"),
    ],
)
def test_broken_encodings_are_refused(body: bytes) -> None:
    """Broken escapes, bytes that are not UTF-8 and NUL are refused, never replaced."""
    with refused(InvalidRequest, "form"):
        form_fields(body)


@pytest.mark.rule("AS-TE-04", "AS-TE-09")
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", []),
        (b"&", []),
        (b"a=1&&b=2", [("a", "1"), ("b", "2")]),
        (b"a", [("a", "")]),
        (b"a=", [("a", "")]),
        (b"=a", [("", "a")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=1&a=2&a=1", [("a", "1"), ("a", "2"), ("a", "1")]),
        (b"a+b=c+d", [("a b", "c d")]),
        (b"a%20b=%2B%26%3D%25", [("a b", "+&=%")]),
        (b"s=%C3%A9%c3%a9", [("s", "éé")]),
        (b"s=\xc3\xa9", [("s", "é")]),
        (b"a;b=1;c=2", [("a;b", "1;c=2")]),
        (b"a[b]=c&a[]=d", [("a[b]", "c"), ("a[]", "d")]),
        (b"s=%252e", [("s", "%2e")]),
    ],
)
def test_pairs_stay_raw_and_in_order(body: bytes, fields: list[Field]) -> None:
    """Repeats are kept, nothing is merged or decoded twice, brackets mean nothing."""
    assert form_fields(body) == fields


@pytest.mark.rule("AS-TE-29", "H02")
def test_the_number_of_fields_is_bounded() -> None:
    """Fifty fields are read; fifty-one are refused, and a million cost nothing."""
    assert len(form_fields(b"&".join([b"a=1"] * MAX_FIELDS))) == MAX_FIELDS
    for count in (MAX_FIELDS + 1, 1_000_000):
        with refused(InvalidRequest, "form"):
            form_fields(b"&".join([b"a=1"] * count))


@pytest.mark.rule("AS-TE-05", "A19")
@pytest.mark.parametrize("name", sorted(recognised() | REPEATABLE))
@pytest.mark.parametrize("form", ["{}=x", "{}", "a=b&{}=", "a=b&{}=x&c=d"])
def test_a_parameter_in_the_url_is_refused(name: str, form: str) -> None:
    """A protocol parameter counts in the body only."""
    with refused(InvalidRequest, "query"):
        check_query(form.format(name).encode())


@pytest.mark.rule("AS-TE-05")
@pytest.mark.parametrize("encoded", [b"client%5Fassertion=x", b"%73cope=read", b"grant%5ftype=client_credentials"])
def test_an_encoded_name_in_the_url_is_seen(encoded: bytes) -> None:
    """Escapes do not hide a parameter."""
    with refused(InvalidRequest, "query"):
        check_query(encoded)


@pytest.mark.rule("AS-TE-05", "AS-TE-12")
@pytest.mark.parametrize("query", [b"", b"a=b", b"trace=1&trace=2", b"Scope=read"])
def test_other_queries_are_ignored(query: bytes) -> None:
    """What is no parameter of ours does not matter."""
    check_query(query)


@pytest.mark.rule("AS-TE-06")
@pytest.mark.parametrize("value", [None, ""])
def test_grant_type_is_required(value: str | None) -> None:
    """A missing grant_type, or an empty one, is a malformed request."""
    with refused(InvalidRequest, "grant_type"):
        _parse(_base(grant_type=value))


@pytest.mark.rule("AS-TE-07")
@pytest.mark.parametrize(
    "value",
    [
        "password",
        "authorization_code",
        "refresh_token",
        "implicit",
        "CLIENT_CREDENTIALS",
        "client_credentials ",
        "client-credentials",
        "urn:ietf:params:oauth:grant-type:saml2-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "__class__",
        "'\"<script>",
    ],
)
def test_other_grants_are_unsupported(value: str) -> None:
    """Grant names are compared exactly."""
    with refused(UnsupportedGrantType, "grant_type"):
        _parse(_base(grant_type=value))


@pytest.mark.rule("AS-TE-09", "A19")
@pytest.mark.parametrize("name", sorted(recognised()))
@pytest.mark.parametrize(("first", "second"), [("x", "x"), ("x", "y"), ("", "x"), ("x", ""), ("", "")])
def test_a_repeated_parameter_is_refused(name: str, first: str, second: str) -> None:
    """A recognised parameter stands once, even if the values agree or one is empty."""
    others = [field for field in BASE if field[0] != name]
    with refused(InvalidRequest, "form"):
        _parse([(name, first), *others, (name, second)])


@pytest.mark.rule("AS-TE-09")
def test_a_repeat_is_seen_through_its_escapes() -> None:
    """The names are compared after decoding."""
    with refused(InvalidRequest, "form"):
        parse_token_request(form_fields(b"grant_type=client_credentials&grant%5Ftype=x"), ())


@pytest.mark.rule("AS-TE-10", "AS-TE-25")
@pytest.mark.parametrize(
    ("fields", "targets"),
    [
        ([], ()),
        ([("resource", "")], ()),
        ([("resource", "a")], ("a",)),
        ([("resource", "a"), ("resource", "b")], ("a", "b")),
        ([("resource", "b"), ("resource", ""), ("resource", "a"), ("resource", "b")], ("b", "a")),
        ([("audience", "a")], ("a",)),
        ([("audience", "a"), ("resource", "a")], ("a",)),
        ([("audience", "a"), ("resource", "b")], ("a", "b")),
    ],
)
def test_resource_and_audience_may_repeat(fields: list[Field], targets: tuple[str, ...]) -> None:
    """Both name targets, in the order given, equal ones once."""
    assert _parse([*BASE, *fields]).targets == targets


@pytest.mark.rule("AS-TE-11")
def test_a_parameter_without_value_is_absent() -> None:
    """Empty scope, client_id and client_secret are as if not sent."""
    request = _parse(_base(scope="", client_id="", client_secret="", resource=""))
    assert request == _parse(BASE)
    assert (request.parameters, request.client_id, request.targets) == ({}, None, ())
    assert request.auth_methods == ("client_assertion",)


@pytest.mark.rule("AS-TE-12", "A19")
def test_unknown_parameters_are_ignored() -> None:
    """Also when they repeat."""
    assert _parse([*BASE, ("foo", "1"), ("foo", "2"), ("Scope", "x"), ("scope ", "y")]) == _parse(BASE)


@pytest.mark.rule("AS-CA-01", "AS-TE-11", "A20")
@pytest.mark.parametrize("value", [None, ""])
def test_an_assertion_needs_its_type(value: str | None) -> None:
    """An assertion without type is a malformed request."""
    with refused(InvalidRequest, "form"):
        _parse(_base(client_assertion_type=value))


@pytest.mark.rule("AS-TE-11", "A20")
@pytest.mark.parametrize("value", [None, ""])
def test_a_type_without_assertion_is_no_credential(value: str | None) -> None:
    """The form is sound; nothing is proven by it."""
    request = _parse(_base(client_assertion=value))
    assert request.auth_methods == ()
    assert "client_assertion" not in request.credentials


@pytest.mark.rule("AS-TE-24", "A20")
@pytest.mark.parametrize(
    ("changes", "authorization"),
    [
        ({}, [b"Basic eDp5"]),
        ({}, [b"Bearer x"]),
        ({}, [b""]),
        ({"client_secret": "x"}, []),
        ({"client_secret": "x"}, [b"Basic eDp5"]),
        ({"client_assertion": None, "client_assertion_type": None, "client_secret": "x"}, [b"Basic eDp5"]),
        ({"client_assertion": None, "client_assertion_type": None}, [b"Basic eDp5", b"Basic eDp5"]),
    ],
)
def test_two_authentication_methods_are_refused(changes: dict[str, str | None], authorization: list[bytes]) -> None:
    """A request authenticates in one way."""
    with refused(InvalidRequest, "auth_methods"):
        _parse(_base(**changes), authorization)


@pytest.mark.rule("AS-TE-23", "AS-TE-27")
@pytest.mark.parametrize(
    ("changes", "authorization", "methods", "scheme"),
    [
        ({"client_id": "billing"}, [], (), None),
        ({"client_secret": "x"}, [], ("client_secret",), None),
        ({}, [b"Basic eDp5"], ("header",), "basic"),
        ({}, [b"bEaReR x y"], ("header",), "bearer"),
        ({}, [b"\xff\xfe"], ("header",), "ÿþ"),
    ],
)
def test_other_methods_are_seen_and_named(
    changes: dict[str, str], authorization: list[bytes], methods: tuple[str, ...], scheme: str | None
) -> None:
    """What was presented is known to whoever writes the refusal; the secret itself is not kept."""
    request = _parse([("grant_type", "client_credentials"), *changes.items()], authorization)
    assert (request.auth_methods, request.authorization_scheme) == (methods, scheme)
    with refused(InvalidClient, "auth_method") as caught:
        read_credential(request)
    assert caught.value.hint == f"presented: {', '.join(methods) or 'nothing'}"


@pytest.mark.rule("AS-TE-13", "A21")
@pytest.mark.parametrize(
    "scope",
    [
        *("", " ", "a  b", " a", "a ", "a\tb", "a\nb", "a\r\nb", 'a"b', "a\\b", "é", "a\x7f", "a\x1f", "a\0", "a\n"),
        *("a\u00a0b", "a\u2003b", "a\ud800", "😀", "x" * (MAX_SCOPE_CHARS + 1), "x" * 10_000),
    ],
    ids=lambda scope: repr(scope)[:20],
)
def test_the_scope_grammar(scope: str) -> None:
    """Tokens of visible ASCII without quote and backslash, single spaces between them, of bounded length."""
    with refused(InvalidScope, "scope"):
        parse_scope(scope)


@pytest.mark.rule("AS-TE-13", "A21")
@pytest.mark.parametrize("code", range(256))
def test_the_scope_alphabet(code: int) -> None:
    """Each character is in the grammar of RFC 6749 3.3 or is refused."""
    legal = code == 0x21 or 0x23 <= code <= 0x5B or 0x5D <= code <= 0x7E
    if legal:
        assert parse_scope(f"a{chr(code)}") == (f"a{chr(code)}",)
        return
    with refused(InvalidScope, "scope"):
        parse_scope(f"a{chr(code)}")


@pytest.mark.rule("AS-TE-13", "A21")
@pytest.mark.parametrize(
    ("scope", "tokens"),
    [
        ("a", ("a",)),
        ("b a", ("b", "a")),
        ("a b a a", ("a", "b")),
        ("A a", ("A", "a")),
        ("orders:read urn:x:y https://api/x !#[]~", ("orders:read", "urn:x:y", "https://api/x", "!#[]~")),
        ("x" * MAX_SCOPE_CHARS, ("x" * MAX_SCOPE_CHARS,)),
    ],
    ids=lambda v: repr(v)[:20],
)
def test_a_scope_is_a_list_without_repeats(scope: str, tokens: tuple[str, ...]) -> None:
    """Case matters, order stays, repeats collapse."""
    assert parse_scope(scope) == tokens


@pytest.mark.rule("AS-TE-28")
def test_the_earliest_step_answers() -> None:
    """Of several defects the first in the fixed order is named: repeats, methods, grant_type, its support."""
    fields = [("scope", "a"), ("scope", "a"), ("client_secret", "x"), *_base(grant_type="password")]
    with refused(InvalidRequest, "form"):
        _parse(fields, [b"Basic x"])
    with refused(InvalidRequest, "auth_methods"):
        _parse(fields[1:], [b"Basic x"])
    with refused(InvalidRequest, "auth_methods"):
        _parse([field for field in fields[1:] if field[0] != "grant_type"])
    with refused(UnsupportedGrantType, "grant_type"):
        _parse(fields[3:])


@pytest.mark.rule("AS-TE-28", "AS-CA-01")
def test_an_unsupported_grant_is_named_before_the_form_of_the_credential() -> None:
    """`grant_known` comes before `assertion_kind`."""
    with refused(UnsupportedGrantType, "grant_type"):
        _parse(_base(grant_type="password", client_assertion_type=None))


@pytest.mark.rule("OPS-03")
def test_a_request_shows_no_assertion() -> None:
    """The repr of a request may stand in a log."""
    shown = repr(_parse([*_base(client_assertion="hidden.assert.ion")]))
    assert "hidden" not in shown


@pytest.mark.rule("AS-TE-22")
def test_refusals_never_echo_the_request() -> None:
    """What the peer is told is a fixed phrase."""
    nasty = '"><script>\r\nX: y😀'
    with pytest.raises(UnsupportedGrantType) as caught:
        _parse(_base(grant_type=nasty))
    assert nasty not in caught.value.description + caught.value.hint + str(caught.value)
    assert quote(nasty) not in caught.value.hint


def _cpu_seconds(work: Callable[[], object]) -> float:
    """Of the best of some tries, so that a busy machine does not count."""
    taken = []
    for _ in range(9):
        began = time.thread_time()
        with contextlib.suppress(InvalidRequest):
            work()
        taken.append(time.thread_time() - began)
    return min(taken)


@pytest.mark.rule("ST-8", "I14", "T9")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x=" + b"%41" * 21_000, id="a field"),
        pytest.param(b"scope=" + b"%41" * 21_000, id="a field that counts"),
        pytest.param(b"client_assertion=" + b"%41" * 21_000, id="the assertion"),
        pytest.param(b"&".join(b"%41" * 400 + b"=1" for _ in range(49)), id="names"),
        pytest.param(b"&".join(b"x=" + b"%41" * 400 for _ in range(49)), id="many fields"),
        pytest.param(b"x=" + b"%c3%a9" * 10_000, id="beyond ASCII"),
        pytest.param(b"&" * 65_000, id="thousands of fields"),
    ],
)
def test_what_takes_long_to_decode_is_refused_undecoded(body: bytes) -> None:
    """Escapes and fields are counted before anything is done about them, in the body and in the query."""
    for read in (form_fields, check_query, lambda form: read_token_request(form, ())):
        with refused(InvalidRequest, "form"):
            read(body)
        assert _cpu_seconds(lambda read=read: read(body)) < 0.002  # type: ignore[misc]


@pytest.mark.rule("ST-8")
def test_as_many_escapes_as_anybody_needs() -> None:
    """1,024 are decoded, one more is not; a form in which everything is escaped that may be stays far below."""
    assert form_fields(b"x=" + b"%41" * MAX_ESCAPES) == [("x", "A" * MAX_ESCAPES)]
    with refused(InvalidRequest, "form"):
        form_fields(b"x=" + b"%41" * (MAX_ESCAPES + 1))
