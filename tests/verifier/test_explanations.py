"""What a refusal says to the people who run the API: which name, which difference, which option."""

import logging
import time
from typing import Any

import pytest

from groat.protocol.access_token import RFC9068
from groat.verifier import InsufficientScope, InvalidToken, KeysUnavailable, Verifier, any_of
from tests.verifier.issuer import METADATA, OPENID, Clock, Issuer, json_answer, outcome
from tests.verifier.tokens import AUD


def hint(verifier: Verifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        verifier.verify(token)
    return caught.value.hint


@pytest.mark.rule("OP-7", "RS-17")
def test_an_issuer_that_differs_by_its_slash(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    """The 503 and the log have both names and say that only the slash is different."""
    with pytest.raises(KeysUnavailable) as caught:
        Verifier(issuer.url + "/", AUD).verify(issuer.token())
    said = f'issuer is "{issuer.url}", expected is "{issuer.url}/"; they differ by the trailing slash only'
    assert said in caught.value.hint
    assert said in caplog.text


@pytest.mark.rule("OP-7", "RS-17", "ST-13")
@pytest.mark.parametrize("found", ["https://other.example.com", "https://x.example/\x1b[2J\u202e", None, 7])
def test_an_issuer_of_another_name(issuer: Issuer, found: str | int | None) -> None:
    """Whatever the document says is shown, printable, beside what is configured."""
    for path in (METADATA, OPENID):
        issuer.spoil(path, json_answer({**issuer.metadata(), "issuer": found}))
    with pytest.raises(KeysUnavailable) as caught:
        issuer.verifier().verify(issuer.token())
    assert f'expected is "{issuer.url}"' in caught.value.hint
    assert caught.value.hint.isascii()
    assert caught.value.hint.isprintable()
    if isinstance(found, str):
        assert ascii(found)[1:-1] in caught.value.hint


@pytest.mark.rule("OP-7", "RS-12", "RS-13")
def test_a_token_whose_names_differ_by_a_slash(running: Issuer) -> None:
    """The same for iss and aud of a token, with one issuer and with several."""
    several = Verifier(issuers=[running.url, "https://other.example.com"], audience=AUD)
    for verifier in (running.verifier(), several):
        assert hint(verifier, running.token(iss=running.url + "/")).endswith("; they differ by the trailing slash only")
        assert hint(verifier, running.token(aud=["https://x.example", AUD + "/"])) == (
            f'aud is not "{AUD}"; they differ by the trailing slash only'
        )


@pytest.mark.rule("CL-6", "RS-14")
@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"exp": -119, "iat": -719}, "s in the past: an old token, or this machine's clock is ahead of the issuer's"),
        ({"exp": 719, "iat": 119}, "s in the future: this machine's clock is behind the issuer's"),
        ({"nbf": 119}, "s in the future: this machine's clock is behind the issuer's"),
    ],
    ids=["past", "ahead", "nbf"],
)
def test_a_wrong_clock_is_called_one(running: Issuer, times: dict[str, int], said: str) -> None:
    """Both machines' clocks are named, and which of them is where."""
    now = int(time.time())
    claims: dict[str, Any] = {name: now + span for name, span in times.items()}
    assert hint(running.verifier(), running.token(**claims)).endswith(said)


@pytest.mark.rule("CL-6", "RS-14")
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iat": time.time_ns() // 10**6}, "iat looks like milliseconds"),
        ({"nbf": time.time_ns()}, "nbf looks like nanoseconds"),
        ({"exp": 600}, "exp is 600, which looks like a span"),
    ],
    ids=["milliseconds", "nanoseconds", "span"],
)
def test_a_time_in_another_unit_is_called_so(running: Issuer, claims: dict[str, Any], said: str) -> None:
    """Not "very far in the future"."""
    assert hint(running.verifier(), running.token(**claims)).startswith(said)


@pytest.mark.rule("OP-8", "RS-11")
@pytest.mark.parametrize(
    ("typ", "found", "option"),
    [
        ("JWT", '"JWT"', '["at+jwt", "JWT"]'),
        (None, "absent", '["at+jwt", None]'),
        ("application/jwt", '"application/jwt"', '["at+jwt", "application/jwt"]'),
        ("a\x1b[1m\u202e", r'"a\x1b[1m\u202e"', r'["at+jwt", "a\x1b[1m\u202e"]'),
    ],
)
def test_the_type_that_was_found(running: Issuer, typ: str | None, found: str, option: str) -> None:
    """The hint names the typ and the option that takes it, and that option does."""
    said = hint(running.verifier(), running.token(typ=typ))
    assert said == (
        f"typ is {found}, accepted is at+jwt; accept_types={option} would take it too, "
        "where the issuer has no RFC 9068 type"
    )
    assert running.verifier(accept_types=["at+jwt", typ]).verify(running.token(typ=typ)).client_id == "billing"


@pytest.mark.rule("OP-8", "RS-11", "JOSE-23")
@pytest.mark.parametrize(
    "typ",
    [
        "client-authentication+jwt",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "DPoP+JWT",
        "id+jwt",
        "kb+jwt",
        "dc+sd-jwt",
    ],
)
def test_no_option_is_offered_for_what_proves_something_else(running: Issuer, typ: str) -> None:
    """An assertion or a proof must never be taken for an access token, so nobody is told how."""
    said = hint(running.verifier(), running.token(typ=typ))
    assert said == f'typ is "{typ}", accepted is at+jwt: no access token'


@pytest.mark.rule("OP-8")
def test_other_options_are_named_likewise(running: Issuer) -> None:
    """An algorithm that was left out, and the types of a verifier that accepts none."""
    assert (
        hint(running.verifier(algorithms=["RS256"]), running.token()) == "ES256 is not accepted here; algorithms=RS256"
    )
    said = hint(running.verifier(accept_types=[None, "JWT"]), running.token())
    assert said.startswith('typ is "at+jwt", accepted is jwt or none; accept_types=["jwt", None, "at+jwt"]')
    assert "none" not in hint(running.verifier(dialect=RFC9068), running.token(typ="JWT"))


@pytest.mark.rule("OP-6", "RS-09")
def test_the_scope_that_is_missing(running: Issuer) -> None:
    """The log says which of the demanded scopes it is."""
    verifier, token = running.verifier(), running.token(scope="orders:read")
    with pytest.raises(InsufficientScope) as caught:
        verifier.verify(token, ["orders:read", "orders:write"])
    assert caught.value.hint == '"orders:write" is not granted'
    with pytest.raises(InsufficientScope) as caught:
        verifier.verify(token, any_of("a", "b"))
    assert caught.value.hint == 'none of "a b" is granted'


@pytest.mark.rule("OP-6", "OPS-04", "I9")
def test_warnings_are_few_and_count_the_rest(
    running: Issuer, monotonic: Clock, wall: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning per reason in ten seconds, with the number of those held back; each refusal stays one line."""
    caplog.set_level(logging.INFO, "groat.verifier")
    verifier = running.verifier(monotonic=monotonic, clock=wall)
    expired = running.token(exp=1_700_000_000)
    for seconds in (0.0, 9.9, 0.2, 30.0):
        monotonic.now += seconds
        for _ in range(20):
            assert outcome(lambda: verifier.verify(expired)) == "expired"
        assert outcome(lambda: verifier.verify("garbage")) == "malformed"
    said = [record for record in caplog.records if record.getMessage().startswith("refused: ")]
    assert len(said) == 4 * 21
    loud = [record.getMessage() for record in said if record.levelno == logging.WARNING]
    expiries = [line for line in loud if "reason=expired" in line]
    assert [line.partition(" (and ")[2].partition(" more")[0] for line in expiries] == ["", "39", "19"]
    assert len(loud) == 6
