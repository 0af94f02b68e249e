"""What may stand where a URL is expected: issuers, endpoints, key sets of clients, audiences of APIs."""

from collections.abc import Callable
from typing import Final

import pytest

from groat.protocol.errors import ConfigError
from groat.protocol.metadata import check_metadata
from groat.protocol.models import Policy
from groat.protocol.uris import audience_fault, check_endpoint, is_absolute, issuer_fault, key_set_fault

from .builders import ISS


@pytest.mark.rule("AS-TE-02", "AS-MD-03", "DEMO-25")
@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "as.example",
        "//as.example",
        "https://",
        "https:///path",
        "https:as.example",
        "ftp://as.example",
        "http://as.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://192.168.0.1",
        "https://as.example?x=1",
        "https://as.example?",
        "https://as.example#f",
        "https://as.example#",
        "https://user@as.example",
        "https://user:pw@as.example",
        "https://@as.example",
        "https://as.example/a b",
        "https://as.example/\n",
        "https://as.example\t",
        " https://as.example",
        "https://äs.example",
        "https://as.example/é",
        "https://as.example:99999",
        "https://as.example:x",
        "https://[::1",
        "javascript:alert(1)",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_issuer(issuer: str) -> None:
    """https, a host, no query, fragment or user; plain http only on loopback."""
    assert issuer_fault(issuer)
    with pytest.raises(ConfigError):
        Policy(issuer)


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize("issuer", ["https://as.example:99999", "https://as.example:x", "https://[::1", "as.example"])
def test_a_url_that_is_none_is_shown(issuer: str) -> None:
    """Somebody has to find the one character that is wrong."""
    assert issuer_fault(issuer) == (
        f'issuer must be an absolute URL, for example https://auth.example.com, not "{issuer}"'
    )


@pytest.mark.rule("AS-TE-02")
@pytest.mark.parametrize(
    ("issuer", "hosts"),
    [
        ("https://as.example", frozenset()),
        ("https://as.example:8443/t/", frozenset()),
        ("http://localhost:3001", frozenset()),
        ("http://127.0.0.1:3001", frozenset()),
        ("http://[::1]:3001", frozenset()),
        ("http://auth:3001", frozenset({"auth"})),
    ],
)
def test_what_is_an_issuer(issuer: str, hosts: frozenset[str]) -> None:
    """Loopback may speak plain http, and so may hosts that the operator lists by name."""
    assert issuer_fault(issuer, hosts) == ""
    assert Policy(issuer, allow_http_hosts=hosts).issuer == issuer


@pytest.mark.rule("CL-02", "AS-TE-02")
@pytest.mark.parametrize(
    ("url", "hosts", "fine"),
    [
        ("https://as.example/token", (), True),
        ("http://localhost:3001/token", (), True),
        ("http://[::1]:3001/token", (), True),
        ("http://auth:3001/token", ("auth",), True),
        ("http://auth:3001/token", (), False),
        ("http://localhost.evil.example/", (), False),
        ("https://", (), False),
        ("https://as.example/#", (), False),
    ],
)
def test_where_requests_may_go(url: str, hosts: tuple[str, ...], fine: bool) -> None:
    """https, or http on loopback and on listed hosts."""
    if fine:
        assert check_endpoint(url, frozenset(hosts)) == url
        assert check_metadata({"issuer": ISS, "token_endpoint": url}, ISS, hosts).token_endpoint == url
        return
    with pytest.raises(ConfigError):
        check_endpoint(url, frozenset(hosts))


@pytest.mark.rule("AS-CA-18", "K06", "ST-15")
@pytest.mark.parametrize(
    "uri",
    [
        "http://a.example/k", "ftp://a.example/k", "https://", "https://user@a.example/", "https://:pw@a.example/",
        "https://a.example/#x", "https://a.example:99999/", "https://a.example:0/", "https://a.example:x/",
        "https://a.example/ b", "https://a.example/\tb", "https://ä.example/", "https://１２７.0.0.1/", "https:a.example",
        "file:///etc/passwd", "//a.example", "", "https://a.example\\@127.0.0.1/", "https://a..example/", "https://.example/",
        "https://%6c%6fcalhost/", "https://a.example%00.b.example/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/",
        "https://[::1", "https://[v1.x]/", "https://[localhost]/", "https://127.1/", "https://2130706433/",
        "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.0.0.01/", "https://127.0.0.1./",
        "https://8.8.8/", "https://134744072/", "https://a.example.1/", "https://a.example.0x/", f"https://{'a.' * 130}example/",
        f"https://{'a' * 64}.example/", f"https://a.example/{'k' * 2100}",
    ],
)  # fmt: skip
def test_addresses_that_are_never_visited(uri: str) -> None:
    """Not https, no plain URL, or a host that somebody else might read as another one."""
    assert key_set_fault(uri)


@pytest.mark.rule("AS-CA-18", "K06")
@pytest.mark.parametrize(
    "uri",
    ["https://a.example/keys", "https://A.Example:8443/keys?tenant=1", "https://a.example", "https://keys_1.a-b.example./k",
     "https://1password.example/", "https://8.8.8.8/k", "https://[2606:4700::1111]:8443/k", "https://localhost/k",
     "https://xn--bcher-kva.example/"],
)  # fmt: skip
def test_addresses_that_may_be_registered(uri: str) -> None:
    """Names and plain addresses; where they lead is looked at before each visit."""
    assert key_set_fault(uri) == ""


def _endpoint_fault(url: str) -> str:
    try:
        check_endpoint(url)
    except ConfigError as error:
        return str(error)
    return ""


REQUESTED: Final = {"issuer": issuer_fault, "endpoint": _endpoint_fault, "key set": key_set_fault}


@pytest.mark.rule("AS-TE-02", "CL-02", "AS-CA-18")
@pytest.mark.parametrize("fault", REQUESTED.values(), ids=REQUESTED)
@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/ b", "https://a.example/\tb", "https://a.example/\u00e9", "https://a.example\\@127.0.0.1/",
        "https://a.example\\b", "https://a.example:0/", "https://a.example:99999/", "https://[::1", "https:///k", "https://",
        "https://user@a.example/", "https://:pw@a.example/", "https://a.example/#", "https://a.example/#x", "ftp://a.example/",
        "http://a.example/", "a.example", "",
    ],
)  # fmt: skip
def test_what_nobody_is_asked_at(fault: Callable[[str], str], url: str) -> None:
    """The same holds for every URL that a request goes to, whoever wrote it."""
    assert fault(url)


@pytest.mark.rule("AS-TE-25")
@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("https://api.example", True), ("https://api.example/v1?x=y", True), ("urn:example:orders", True),
        ("api://5c1e/orders", True), ("//api.example", False), ("/orders", False), ("orders", False), ("", False),
        ("https://api.example/#", False), ("https://api.example/#x", False), ("https:", False), ("https://[::1", False),
    ],
)  # fmt: skip
def test_an_absolute_uri_has_a_scheme_and_no_fragment(uri: str, absolute: bool) -> None:
    """RFC 8707 2; a resource need not be a place that anybody can ask."""
    assert is_absolute(uri) is absolute
    assert (audience_fault(uri) == "") is absolute


@pytest.mark.rule("AS-TE-25")
@pytest.mark.parametrize(
    "uri", ["https://api.example/a b", "https://\u00e4pi.example", "https://api.example\\v1", f"urn:{'x' * 510}"]
)
def test_an_audience_can_be_written_into_a_token(uri: str) -> None:
    """Printable ASCII of bounded length."""
    assert audience_fault(uri)
