"""Variables that name certificates: right, wrong, and empty."""

import os
from pathlib import Path

import pytest

from groat.outbound.authorities import AuthoritiesUnusable, check_authorities
from tests.certificates import self_signed


@pytest.mark.rule("FO-19")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "which cannot be read: No such file or directory"),
        (b"", "which holds no certificate in PEM form"),
        (b"hello", "which holds no certificate in PEM form"),
        (b"\x30\x82\x01", "which holds no certificate in PEM form"),
        (Path(), "which cannot be read: Is a directory"),
    ],
    ids=["missing", "empty", "text", "DER", "directory"],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes | Path | None, words: str) -> None:
    """The error has the variable, the path and the reason."""
    path = tmp_path / "ca.pem"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    with pytest.raises(AuthoritiesUnusable) as caught:
        check_authorities({"SSL_CERT_FILE": str(path)})
    assert str(caught.value) == f'SSL_CERT_FILE names "{path}", {words}'


@pytest.mark.rule("FO-19")
@pytest.mark.parametrize("path", ["/nowhere/certs", f"/nowhere{os.pathsep}/either", "/etc/hostname\n\x1b[2J"])
def test_a_directory_that_is_none(path: str) -> None:
    """The same for the other variable, printable."""
    with pytest.raises(AuthoritiesUnusable, match=r"SSL_CERT_DIR names .*, which is no directory") as caught:
        check_authorities({"SSL_CERT_DIR": path})
    assert str(caught.value).isprintable()


@pytest.mark.rule("FO-19")
def test_what_is_right_passes(tmp_path: Path) -> None:
    """A certificate, a directory among several, empty variables, and those of other programs."""
    authority = str(self_signed(tmp_path)[0])
    for environ in (
        {},
        {"SSL_CERT_FILE": authority},
        {"SSL_CERT_FILE": authority, "SSL_CERT_DIR": str(tmp_path)},
        {"SSL_CERT_DIR": f"/nowhere{os.pathsep}{tmp_path}"},
        {"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""},
        {"REQUESTS_CA_BUNDLE": "/nowhere", "CURL_CA_BUNDLE": "/nowhere"},
    ):
        check_authorities(environ)
