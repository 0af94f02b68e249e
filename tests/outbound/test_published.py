"""One fetch of a key set: where it may lead, what it accepts, and when it ends."""

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from groat.outbound import published
from groat.outbound.authorities import tls_context
from groat.outbound.lookups import Crowded, Lookups
from groat.outbound.published import MAX_BYTES, Postponed, Refused, fetch_key_set
from tests.key_set_server import KEY, LOOPBACK, http, target
from tests.waiting import wait_until


@pytest.mark.rule("AS-CA-18", "K06", "ST-15")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "017700000001", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
     "[::1]", "0", "0.0.0.0", "[::]", "localhost.", "127.0.0.1."],
)  # fmt: skip
def test_an_internal_target_is_never_reached(tmp_path: Path, host: str) -> None:
    """Whatever way its address is written, and whatever a name leads to: not even a connection is made."""
    with target(tmp_path) as (inner, context):
        with pytest.raises(Refused, match=r"not public|no address|plain form"):
            fetch_key_set(inner.uri.replace("127.0.0.1", host), (), context)
        assert inner.hits == 0


@pytest.mark.rule("AS-CA-18")
def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to both kinds is refused, and it is looked up once: the checked address is the one used."""
    looked_up = []

    def resolve(host: str, port: int, **options: Any) -> list[Any]:
        looked_up.append(host)
        return [(2, 1, 6, "", (address, port)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Refused, match="leads to an address that is not public"):
        fetch_key_set("https://a.example/keys")
    assert looked_up == ["a.example"]


@pytest.mark.rule("AS-CA-18", "KEY-18")
@pytest.mark.parametrize(
    ("header", "age"),
    [("max-age=600", 600), ('public, Max-Age="600"', 600), ("max-age=1", 60), ("max-age=99999", 3600), ("", 300)],
)
def test_a_good_set_is_read(tmp_path: Path, header: str, age: float) -> None:
    """From an allow-listed network here; its max-age counts between a minute and an hour."""
    with target(tmp_path, http(Cache_Control=header)) as (outer, context):
        fetched = fetch_key_set(outer.uri, LOOPBACK, context)
    assert ([key.kid for key in fetched.keys], fetched.max_age) == ([KEY.kid], age)


@pytest.mark.rule("AS-CA-18", "K07", "KEY-17")
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(http(status="302 Found", Location="https://169.254.169.254/"), "status 302", id="redirect"),
        pytest.param(http(status="500 Oops"), "status 500", id="error"),
        pytest.param(http(Content_Type="text/html"), "content type", id="type"),
        pytest.param(http(b"{" + b" " * MAX_BYTES + b"}"), "too large", id="too large"),
        pytest.param(http(b" " * 10_000_000), "too large", id="ten megabytes"),
        pytest.param(http(Content_Length="100000")[:-5], r"ends early|usable", id="ends early"),
        pytest.param(http(b"[]"), "object", id="no object"),
        pytest.param(http(json.dumps({"keys": [KEY.private_jwk()]}).encode()), "private", id="private members"),
        pytest.param(http(json.dumps({"keys": [{}] * 101}).encode()), "100", id="too many keys"),
        pytest.param(http(Content_Encoding="gzip"), "compressed", id="compressed"),
        pytest.param(http(X=("y" * 60_000), Z=("z" * 60_000)), r"early|usable|type", id="a head of 120 KB"),
        pytest.param(b"nonsense\r\n\r\n", "usable", id="no HTTP"),
    ],
)
def test_what_is_no_key_set(tmp_path: Path, answer: bytes, why: str) -> None:
    """One visit, no second one, and a reason that quotes nothing."""
    with target(tmp_path, answer) as (outer, context):
        with pytest.raises(Refused, match=why):
            fetch_key_set(outer.uri, LOOPBACK, context)
        assert outer.hits == 1


@pytest.mark.rule("AS-CA-18", "K07")
@pytest.mark.parametrize("options", [{"silent": True}, {"drip": 0.05}], ids=["silent", "drip"])
def test_a_stalled_answer_ends_at_the_deadline(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither silence nor a byte now and then keeps a fetch alive."""
    monkeypatch.setattr(published, "DEADLINE", 0.4)
    started = time.monotonic()
    with target(tmp_path, **options) as (outer, context), pytest.raises(Refused, match="no usable answer"):
        fetch_key_set(outer.uri, LOOPBACK, context)
    assert time.monotonic() - started < 3


@pytest.mark.rule("AS-CA-18")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """An unknown authority is no answer."""
    with target(tmp_path) as (outer, _), pytest.raises(Refused, match="SSLCertVerificationError"):
        fetch_key_set(outer.uri, LOOPBACK)


@pytest.mark.rule("AS-CA-18", "FO-19")
def test_authorities_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log then names the variable and the file, and not the host, which did nothing wrong."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setattr(published, "_tls", tls_context)
    with target(tmp_path) as (outer, _), pytest.raises(Refused, match=r"SSL_CERT_FILE.*missing\.pem"):
        fetch_key_set(outer.uri, LOOPBACK)


@pytest.mark.rule("AS-CA-18", "ST-4", "F11")
def test_a_handshake_that_drips_ends_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a TLS record that come one by one keep nothing alive either."""
    monkeypatch.setattr(published, "DEADLINE", 0.5)
    started = time.monotonic()
    with target(tmp_path, handshake_drip=0.1) as (outer, context), pytest.raises(Refused, match="no usable answer"):
        fetch_key_set(outer.uri, LOOPBACK, context)
    assert time.monotonic() - started < 3


def test_the_whole_fetch_has_two_seconds() -> None:
    """What the documentation says."""
    assert published.DEADLINE == 2.0


@pytest.mark.rule("AS-CA-18", "ST-4", "F11")
def test_a_name_that_nobody_resolves_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo hangs for as long as it likes; the fetch does not, and a second one starts no second look-up."""
    hanging, asked = threading.Event(), []

    def hang(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        hanging.wait(30)
        return []

    monkeypatch.setattr(published, "_LOOKUPS", Lookups(resolve=hang))
    monkeypatch.setattr(published, "DEADLINE", 0.3)
    started = time.monotonic()
    try:
        for _ in range(3):
            with pytest.raises(Refused, match="not looked up in time"):
                fetch_key_set("https://slow.example/keys")
        assert asked == ["slow.example"]
        assert time.monotonic() - started < 5
    finally:
        hanging.set()


@pytest.mark.rule("ST-4", "I14")
def test_names_that_hang_are_bounded_and_given_back() -> None:
    """One more than the bound is turned away at once, others beside them are served, and places come back."""
    hanging = threading.Event()

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host.startswith("hang"):
            hanging.wait(30)
        return quick

    quick = [(2, 1, 6, "", ("192.0.2.1", 443))]
    lookups = Lookups(limit=5, resolve=resolve)
    for number in range(4):
        with pytest.raises(TimeoutError):
            lookups.find(f"hang{number}.example", 443, 0.01)
    assert lookups.find("quick.example", 443, 5) == quick
    with pytest.raises(TimeoutError):
        lookups.find("hang4.example", 443, 0.01)
    with pytest.raises(Crowded):
        lookups.find("quick.example", 443, 5)
    hanging.set()
    wait_until(lambda: not lookups._under_way)
    assert lookups.find("quick.example", 443, 5) == quick


def test_a_fetch_that_found_no_room_says_nothing_about_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is to be tried again soon, not after the pause of a failure."""
    monkeypatch.setattr(published, "_LOOKUPS", Lookups(limit=0))
    with pytest.raises(Postponed, match="too many names"):
        fetch_key_set("https://a.example/keys")


@pytest.mark.rule("AS-CA-18", "K06")
def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer of the resolver, an error of it, and a name that it cannot even encode."""

    def failing(error: Exception) -> Any:
        def resolve(*_: Any, **__: Any) -> Any:
            raise error

        return resolve

    def empty(*_: Any, **__: Any) -> Any:
        return []

    for resolve in (empty, failing(socket.gaierror()), failing(UnicodeError())):
        monkeypatch.setattr(published, "_LOOKUPS", Lookups(resolve=resolve))
        with pytest.raises(Refused, match="no address"):
            fetch_key_set("https://a.example/keys")


@pytest.mark.rule("AS-CA-18")
def test_a_host_with_a_dead_address_is_reached_by_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address refuses the connection; each address that was checked has its turn within the time."""
    addresses = ["127.0.0.2", "127.0.0.1"]
    with target(tmp_path) as (outer, context):
        port = outer.listener.getsockname()[1]
        found = [(2, 1, 6, "", (address, port)) for address in addresses]
        monkeypatch.setattr(published, "_LOOKUPS", Lookups(resolve=lambda *_, **__: found))
        assert fetch_key_set(f"https://localhost:{port}/keys", LOOPBACK, context).keys[0].kid == KEY.kid
