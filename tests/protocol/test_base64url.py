"""Base64url without padding, and with one spelling for every byte string."""

import base64
import string

import pytest

from groat.protocol.grammar import BASE64URL_ALPHABET
from groat.protocol.jwk import base64url_decode, base64url_encode

from .builders import jose_refused

ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.mark.rule("JOSE-02")
@pytest.mark.parametrize("size", range(70))
def test_every_length_goes_there_and_back(size: int) -> None:
    """Encoding agrees with the standard library's, minus the padding."""
    raw = bytes((37 * i + size) % 256 for i in range(size))
    text = base64url_encode(raw)
    assert text == base64.urlsafe_b64encode(raw).rstrip(b"=")
    assert base64url_decode(text) == raw
    assert base64url_decode(text.decode()) == raw


@pytest.mark.rule("JOSE-02", "A07")
@pytest.mark.parametrize("code", [c for c in range(256) if chr(c) not in ALPHABET])
def test_each_foreign_byte_is_refused(code: int) -> None:
    """Nothing outside the alphabet is skipped, wherever it stands."""
    for raw in (bytes([code]) + b"AAA", b"AA" + bytes([code]) + b"A", b"AAA" + bytes([code])):
        with jose_refused("malformed"):
            base64url_decode(raw)


@pytest.mark.rule("JOSE-02")
@pytest.mark.parametrize(
    "text",
    ["QQ==", "QUI=", "QQ=", "QUJD=", "QUJD\n", " QUJD", "QU JD", "QUJD\0", "QUJ+", "QUJ/", "QUJé", "ＱＵＪＤ", "===="],
)
def test_foreign_texts_are_refused(text: str) -> None:
    """Padding, the standard alphabet, whitespace and look-alikes are refused."""
    with jose_refused("malformed"):
        base64url_decode(text)


@pytest.mark.rule("JOSE-02")
@pytest.mark.parametrize("size", [1, 5, 9, 4097])
def test_impossible_lengths_are_refused(size: int) -> None:
    """One character over a multiple of four carries no whole byte."""
    with jose_refused("malformed"):
        base64url_decode("A" * size)


@pytest.mark.rule("JOSE-02", "A07")
@pytest.mark.parametrize("head", ["_", "ab", "abcd-", "abcdZZ"])
def test_unused_bits_must_be_zero(head: str) -> None:
    """Of all last characters just those are accepted that an encoder would write."""
    accepted = 0
    for last in ALPHABET:
        text = head + last
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64url_encode(raw).decode() == text:
            assert base64url_decode(text) == raw
            accepted += 1
        else:
            with jose_refused("malformed"):
                base64url_decode(text)
    assert accepted == (4 if len(head) % 4 == 1 else 16)


@pytest.mark.rule("JOSE-02")
def test_the_alphabet_is_that_of_rfc_4648() -> None:
    """64 characters, each once."""
    assert sorted(BASE64URL_ALPHABET.decode()) == sorted(ALPHABET)


@pytest.mark.rule("JOSE-02")
def test_nothing_decodes_to_nothing() -> None:
    """The empty string is the encoding of no bytes."""
    assert base64url_decode("") == b""
