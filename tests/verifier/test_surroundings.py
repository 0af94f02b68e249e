"""The verifier in odd surroundings: several addresses, proxies, wrong certificates' paths, clocks that stand still."""

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from groat.verifier import KeysUnavailable, Verifier
from groat.verifier.keys import fetch
from tests.addresses import black_hole, resolve
from tests.verifier.issuer import JWKS, METADATA, Issuer, outcome, serving
from tests.verifier.tokens import AUD, claims, signed


def named(issuer: Issuer, host: str) -> tuple[str, str]:
    """The issuer under another name, and a token of it."""
    url = issuer.url.replace("127.0.0.1", host)
    issuer.url, issuer.origin = url, url
    return url, signed(claims(url), issuer.key, kid=issuer.key.kid)


@pytest.mark.rule("FO-5", "RS-21")
@pytest.mark.parametrize("order", [["127.0.0.2", "127.0.0.1"], ["127.0.0.2", "127.0.0.2", "127.0.0.1"]])
def test_an_issuer_whose_first_address_is_a_black_hole(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    """Metadata and keys come from the address that answers, within the time of one visit."""
    url, token = named(issuer, "localhost")
    resolve(monkeypatch, {"localhost": order})
    with black_hole(order[0], int(url.rpartition(":")[2])):
        assert Verifier(url, AUD).verify(token).client_id == "billing"
    assert issuer.requests == {METADATA: 1, JWKS: 1}


@pytest.mark.rule("FO-5", "RS-21")
def test_only_black_holes_are_an_issuer_that_is_down(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 within the deadline, as for any issuer that does not answer."""
    url, token = named(issuer, "localhost")
    resolve(monkeypatch, {"localhost": ["127.0.0.2", "127.0.0.2"]})
    monkeypatch.setattr(fetch, "DEADLINE", 1.0)
    with black_hole("127.0.0.2", int(url.rpartition(":")[2])), pytest.raises(KeysUnavailable) as caught:
        Verifier(url, AUD).verify(token)
    assert caught.value.hint == "no answer in time"


@pytest.mark.rule("FO-3", "FO-4")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "garbage://["])
def test_keys_never_come_through_a_proxy(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The verifier's own fetcher knows no proxies: whoever needs one gives it `http=`."""
    monkeypatch.setenv(name, value)
    assert issuer.verifier().verify(issuer.token()).client_id == "billing"


@pytest.mark.rule("FO-19")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch, variable: str, running: Issuer) -> None:
    """A 503 that names variable and path; a plain issuer on loopback needs no certificates and does not mind."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)  # beside a file the directory does not count
    monkeypatch.setenv(variable, "/nowhere/ca")
    fetch._tls.cache_clear()
    verifier = Verifier("https://127.0.0.1:9", AUD)
    with pytest.raises(KeysUnavailable) as caught:
        verifier.verify(signed(claims("https://127.0.0.1:9"), running.key))
    assert caught.value.hint.startswith(f'{variable} names "/nowhere/ca", which ')
    assert caught.value.hint.count(variable) == 1
    assert running.verifier().verify(running.token()).client_id == "billing"


REAL = time.monotonic


def mixed() -> Callable[[], float]:
    """The real time and one of the epoch's size in turns, as where some modules are frozen and others are not."""
    turns: Iterator[Callable[[], float]] = cycle([lambda: 1_795_867_200.0, REAL])
    return lambda: next(turns)()


@pytest.mark.rule("CL-5", "I12")
@pytest.mark.parametrize(
    "clock", [lambda: 1_795_867_200.0, lambda: 0.0, mixed()], ids=["frozen", "zero", "frozen in some modules"]
)
def test_a_frozen_monotonic_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Under a library that puts a function of its own in the place of time.monotonic, keys are fetched as ever."""
    with serving() as issuer:
        before = issuer.verifier()
        monkeypatch.setattr(time, "monotonic", clock)
        for verifier in (before, issuer.verifier()):
            assert verifier.verify(issuer.token()).client_id == "billing"
            verifier.warm_sync(force=True)
        monkeypatch.setattr(time, "monotonic", REAL)


PAST = 1_500_000_000


def freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as freezegun does: put another function in the place of time.time wherever a module has it."""
    real = time.time
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in ("groat", "time")]:
        for name in [name for name, value in vars(module).items() if value is real]:
            monkeypatch.setattr(module, name, lambda: PAST + 1.0)


@pytest.mark.rule("CL-5")
@pytest.mark.parametrize("cache_size", [0, 10])
def test_a_frozen_wall_clock_is_followed(issuer: Issuer, monkeypatch: pytest.MonkeyPatch, cache_size: int) -> None:
    """Tokens are judged by the turned clock, with a verifier from before and one from now; a `clock=` stays its own."""
    token = signed(claims(issuer.url, iat=PAST, exp=PAST + 600), issuer.key, kid=issuer.key.kid)
    before, own = issuer.verifier(cache_size=cache_size), issuer.verifier(clock=lambda: PAST + 601.0)
    assert outcome(lambda: before.verify(token)) == "expired"
    freeze(monkeypatch)
    for verifier in (before, issuer.verifier(cache_size=cache_size)):
        assert [verifier.verify(token).client_id for _ in range(2)] == ["billing"] * 2
    assert outcome(lambda: own.verify(token)) == "expired"


@pytest.mark.rule("FO-19", "RS-18")
def test_the_default_context_still_checks() -> None:
    """What the authorities are read into checks certificates and names."""
    fetch._tls.cache_clear()
    assert fetch._tls().verify_mode is ssl.CERT_REQUIRED
    assert fetch._tls() is fetch._tls()
