"""What WSGI servers make of header lines, paths and queries, and what is read from it again."""

import random
import time

import pytest

from groat.verifier import MissingToken, VerificationError, bearer_token
from groat.verifier.wsgi import api_request, field_lines, paths


@pytest.mark.rule("RS-05")
@pytest.mark.parametrize(
    ("joined", "lines"),
    [
        ("Bearer x", ["Bearer x"]),
        ("", [""]),
        ("Basic x,Bearer y", ["Basic x", "Bearer y"]),
        ("Basic x, Bearer y", ["Basic x", " Bearer y"]),
        ("Bearer x,Bearer x", ["Bearer x", "Bearer x"]),
        (",Bearer x", ["", "Bearer x"]),
        ("Bearer x,", ["Bearer x", ""]),
        ("Bearer,Basic", ["Bearer", "Basic"]),
        ("Bearer x==,Bearer y", ["Bearer x==", "Bearer y"]),
        ("Basic dTpw==,bearer y", ["Basic dTpw==", "bearer y"]),
        ('Digest username="a", realm="b, Bearer c"', ['Digest username="a", realm="b, Bearer c"']),
        ('Digest a="\\",", nc=1', ['Digest a="\\",", nc=1']),
        ('Digest a="b",Bearer y', ['Digest a="b"', "Bearer y"]),
        ("Basic a\\,Bearer y", ["Basic a\\", "Bearer y"]),
        ('Digest a="b,Bearer y', ['Digest a="b,Bearer y']),
        ("Bearer x, realm=y", ["Bearer x, realm=y"]),
    ],
)
def test_lines_that_a_server_joined(joined: str, lines: list[str]) -> None:
    """Credentials are told apart as the client sent them; parameters and quotes stay with theirs."""
    assert field_lines(joined) == lines
    assert api_request({"HTTP_AUTHORIZATION": joined}).lines("authorization") == lines


@pytest.mark.rule("RS-05")
def test_nothing_with_a_comma_is_ever_a_token() -> None:
    """Whatever strangers write between commas, no cut makes one good credential of it."""
    dice = random.Random(7)
    pieces = ["Bearer x", "bearer y", "Basic z", ",", '"', "\\", "=", " ", "a=b", "Digest", "\t", "é"]
    for _ in range(5000):
        value = "".join(dice.choices(pieces, k=dice.randint(1, 8)))
        if "," in value:
            with pytest.raises(VerificationError):
                bearer_token(field_lines(value))


def test_a_long_header_is_read_in_one_pass() -> None:
    """Quotes and backslashes without an end cost no more than their number."""
    for piece in ('"\\', '",', 'a="', "\\,", ", a=b", '"'):
        start = time.process_time()
        field_lines("," + piece * 100_000)
        assert time.process_time() - start < 2


def test_headers_that_are_not_there() -> None:
    """No line, and no query."""
    assert api_request({}).lines("authorization") == []
    assert api_request({}).query == b""
    with pytest.raises(MissingToken):
        bearer_token(api_request({"HTTP_PROXY_AUTHORIZATION": "Bearer x"}).lines("authorization"))


def test_other_headers_by_their_names() -> None:
    """Dashes are underscores in WSGI."""
    assert api_request({"HTTP_X_Y": "a,b"}).lines("x-y") == ["a", "b"]


@pytest.mark.rule("FO-6")
@pytest.mark.parametrize(
    ("script", "info", "expected"),
    [
        ("", "/a", ("/a", "/a")),
        ("/base", "/a", ("/a", "/base/a")),
        ("/base", "", ("", "/base")),
        ("", "/\xc3\xa9", ("/é", "/é")),
        ("", "/\xff", ("/�", "/�")),
        ("", "/€", ("/?", "/?")),
    ],
)
def test_paths(script: str, info: str, expected: tuple[str, str]) -> None:
    """Inside and as it was sent; bytes of any kind are no error."""
    assert paths({"SCRIPT_NAME": script, "PATH_INFO": info}) == expected


def test_a_query_of_any_bytes() -> None:
    """A name is found behind bytes that are no text."""
    assert api_request({"QUERY_STRING": "\xff&access_token=x"}).query == b"\xff&access_token=x"
    assert api_request({"QUERY_STRING": "€"}).query == b"?"
