"""Key sets that clients publish: where a fetch may lead, what it accepts, and how often it goes out."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from groat.keys.custody import KeyEncryptionKey
from groat.protocol.jwk import generate_private_key
from groat.protocol.key_set import public_key_set
from groat.protocol.models import Policy
from groat.server import client_key_sets, operations
from groat.server.client_key_sets import (
    COOLDOWN,
    MAX_AGE,
    MAX_BYTES,
    ClientKeySets,
    Fetched,
    Refused,
    fetch_key_set,
    is_public,
    uri_fault,
)
from groat.server.operator import Operator
from groat.server.registry import Registry
from groat.server.store.sqlite import SqliteStore
from tests.certificates import self_signed, serving

from .builders import Party, base
from .wire import check_ec, check_ok, post

if TYPE_CHECKING:
    from tests.conftest import Groat

LOOPBACK: Final = (ip_network("127.0.0.0/8"),)
KEY: Final = generate_private_key("ES256")
GOOD: Final = json.dumps(public_key_set([KEY.public])).encode()


@dataclass(slots=True)
class Target:
    """A TLS server that answers every connection with the same bytes, and counts them; `drip`: seconds a byte."""

    context: ssl.SSLContext
    answer: bytes = b""
    drip: float = 0.0
    silent: bool = False
    hits: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def uri(self) -> str:
        return f"https://127.0.0.1:{self.listener.getsockname()[1]}/keys"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.hits += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                stream.recv(4096)
                if self.silent:
                    stream.recv(4096)
                elif self.drip:
                    for byte in self.answer:
                        stream.send(bytes([byte]))
                        time.sleep(self.drip)
                else:
                    stream.sendall(self.answer)
        except OSError:
            return


def http(body: bytes = GOOD, status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer."""
    named = {"Content-Type": "application/jwk-set+json", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@contextmanager
def target(folder: Path, answer: bytes = b"", **options: Any) -> Iterator[tuple[Target, ssl.SSLContext]]:
    """A running target and a context that trusts it."""
    authority, both = self_signed(folder, names=["localhost"])
    client = ssl.create_default_context(cafile=str(authority))
    made = Target(serving(both), answer or http(), **options)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made, client
    finally:
        made.listener.shutdown(socket.SHUT_RDWR)
        made.listener.close()
        thread.join(5)


@pytest.mark.rule("AS-CA-18", "K06")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1", "fc00::1",
        "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    """Loopback, private, link-local, metadata, shared, reserved, multicast, and what wraps one of them."""
    assert not is_public(address)


@pytest.mark.rule("AS-CA-18")
@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    """The rest of the internet."""
    assert is_public(address)


@pytest.mark.rule("AS-CA-18", "K06")
@pytest.mark.parametrize(
    "uri",
    [
        "http://a.example/k", "ftp://a.example/k", "https://", "https://user@a.example/", "https://a.example/#x",
        "https://a.example:99999/", "https://a.example/ b", "https://ä.example/", "file:///etc/passwd", "//a.example", "",
    ],
)  # fmt: skip
def test_addresses_that_are_never_visited(uri: str) -> None:
    """Not https, or not a plain URL: refused when the client is registered, and again before a fetch."""
    assert uri_fault(uri)
    with pytest.raises(Refused):
        fetch_key_set(uri)


@pytest.mark.rule("AS-CA-18", "K06")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"])
def test_an_internal_target_is_never_reached(tmp_path: Path, host: str) -> None:
    """Whatever way its address is written, and whatever a name leads to: not even a connection is made."""
    with target(tmp_path) as (inner, context):
        with pytest.raises(Refused, match=r"not public|no address"):
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
    ("header", "age"), [("max-age=600", 600), ("max-age=1", 60), ("max-age=99999", 3600), ("", 300)]
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
    monkeypatch.setattr(client_key_sets, "DEADLINE", 0.4)
    started = time.monotonic()
    with target(tmp_path, **options) as (outer, context), pytest.raises(Refused, match="no usable answer"):
        fetch_key_set(outer.uri, LOOPBACK, context)
    assert time.monotonic() - started < 3


@pytest.mark.rule("AS-CA-18")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """An unknown authority is no answer."""
    with target(tmp_path) as (outer, _), pytest.raises(Refused, match="SSLCertVerificationError"):
        fetch_key_set(outer.uri, LOOPBACK)


@dataclass(slots=True)
class Source:
    """A key set that the test changes, on a clock that the test turns."""

    fetched: Fetched = field(default_factory=lambda: Fetched((KEY.public,), 300.0))
    fetches: int = 0
    broken: bool = False
    now: float = 1000.0
    told: list[str] = field(default_factory=list)

    def __call__(self, uri: str) -> Fetched:
        self.fetches += 1
        time.sleep(0.02)
        if self.broken:
            raise Refused("nobody there")
        return self.fetched

    def sets(self) -> ClientKeySets:
        return ClientKeySets(self, lambda host, why: self.told.append(f"{host}: {why}"), lambda: self.now)


def ask(sets: ClientKeySets, kid: str | None = None, times: int = 1) -> list[list[str]]:
    """That many requests at once; the kids that each sees."""

    async def work() -> list[list[str]]:
        found = await asyncio.gather(*(sets.keys("https://a.example/k", kid) for _ in range(times)))
        return [[key.kid for key in keys] for keys in found]

    return asyncio.run(work())


@pytest.mark.rule("AS-CA-18", "RS-20")
def test_a_set_is_fetched_once_for_all_and_again_when_it_is_old() -> None:
    """Fifty requests share one fetch; unknown kids cause one in half a minute."""
    source = Source()
    sets = source.sets()
    assert ask(sets, KEY.kid, 50) == [[KEY.kid]] * 50
    assert source.fetches == 1
    for later, kid, fetches in (
        (1, KEY.kid, 1), (1, "new", 1), (COOLDOWN, "new", 2), (COOLDOWN + 1, "new", 2), (320, KEY.kid, 2), (331, KEY.kid, 3)
    ):  # fmt: skip
        source.now = 1000 + later
        assert ask(sets, kid, 3) == [[KEY.kid]] * 3
        assert source.fetches == fetches, later


@pytest.mark.rule("AS-CA-18", "KEY-21")
def test_the_last_good_set_serves_an_hour_of_outage_and_no_longer() -> None:
    """Then nothing vouches for the keys any more; each failure is reported, and not repeated at once."""
    source = Source()
    sets = source.sets()
    ask(sets)
    source.broken = True
    for later, kids in ((301, [KEY.kid]), (MAX_AGE - 1, [KEY.kid]), (MAX_AGE, [])):
        source.now = 1000 + later
        assert ask(sets, KEY.kid, 2) == [kids] * 2
    assert source.fetches == 1 + 2
    assert set(source.told) == {"a.example: nobody there"}
    source.broken, source.now = False, source.now + COOLDOWN
    assert ask(sets) == [[KEY.kid]]


@pytest.mark.rule("AS-CA-18", "KEY-14")
def test_a_bug_in_a_fetch_is_told_by_its_type() -> None:
    """The text may quote what the other side sent."""

    def broken(uri: str) -> Fetched:
        raise ZeroDivisionError("secret")

    told: list[str] = []
    sets = ClientKeySets(broken, lambda host, why: told.append(why))
    assert ask(sets) == [[]]
    assert told == ["a bug: ZeroDivisionError"]


@pytest.mark.rule("AS-CA-18", "AS-CA-22")
@pytest.mark.parametrize("allowed", [True, False])
def test_a_client_publishes_its_keys(make_groat: "Callable[[str], Groat]", tmp_path: Path, allowed: bool) -> None:
    """Its assertions are good by the set that it publishes; at an address that is not allowed nobody ever knocks."""
    groat = make_groat(f"jwks-uri-{allowed}")
    party = Party("publisher", KEY, time.time())
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    with target(tmp_path) as (outer, _):
        groat.run("client", "add", "publisher", "--allow", "orders=read", "--default-scope", "read",
                  "--jwks-uri", outer.uri)  # fmt: skip
        networks = {"GROAT_KEYS__CLIENT_NETWORKS": "127.0.0.0/8"} if allowed else {}
        server = groat.serve(env={"SSL_CERT_FILE": str(tmp_path / "ca.pem"), **networks})
        for _ in range(3):
            answer = post(server.address, base(party.assertion()))
            check_ok(answer) if allowed else check_ec(answer)
        if allowed:
            stranger = Party("publisher", generate_private_key("ES256"), time.time())
            check_ec(post(server.address, base(stranger.assertion())))
        assert outer.hits == (1 if allowed else 0)
        hints = [line["hint"] for line in server.lines() if line["event"] == "client.keys_unavailable"]
        assert all("not public" in hint for hint in hints)
        assert bool(hints) is not allowed
        server.stop()


def test_a_jwks_uri_is_checked_when_it_is_registered(make_groat: "Callable[[str], Groat]") -> None:
    """Plain http is no way to publish keys."""
    groat = make_groat("jwks-uri-check")
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read")
    words = ("client", "add", "x", "--allow", "orders=read", "--jwks-uri")
    done = groat.run(*words, "http://a.example/keys", check=False)
    assert (done.returncode, "must be an https URL" in done.stderr) == (3, True)
    groat.run(*words, "https://a.example/keys")
    changes: tuple[tuple[tuple[str, ...], str | None], ...] = (
        ((), "https://a.example/keys"),
        (("--jwks-uri", "https://b.example/k"), "https://b.example/k"),
        (("--jwks-uri", ""), None),
    )
    for change, uri in changes:
        groat.run("client", "update", "x", *change)
        assert json.loads(groat.run("--json", "client", "show", "x").stdout)["jwks_uri"] == uri


@pytest.mark.rule("AS-CA-18", "KEY-21")
def test_an_address_that_is_taken_back_vouches_for_nothing(tmp_path: Path) -> None:
    """From the next version of the registry on, the keys that were published there open nothing."""
    source = Source()

    async def work() -> None:
        store = SqliteStore.create(tmp_path / "groat.db")
        operator, kek = Operator(store, Policy("https://as.example")), KeyEncryptionKey(bytes(32))
        registry = Registry(store, kek, source.sets())
        await operations.add_api(operator, "orders", "https://orders.example", ["read"])
        settings = {"jwks_uri": "https://a.example/k"}
        await operations.add_client(operator, "publisher", {"orders": ["read"]}, (), settings)
        seen = []
        for uri in ("https://a.example/k", None, "https://b.example/k"):
            await operations.update_client(operator, "publisher", settings={"jwks_uri": uri})
            for _ in range(2):
                await registry.refresh()
                client = await registry.find_client("publisher", KEY.kid)
                assert client is not None
                seen.append(len(client.keys))
        assert seen == [1, 1, 0, 0, 1, 1]
        assert source.fetches == 2
        await operations.remove_client(operator, "publisher")
        await registry.refresh()
        assert await registry.find_client("publisher", KEY.kid) is None
        await store.close()

    asyncio.run(work())
