"""What programmers hand over by mistake is refused at the start, not with every token."""

import asyncio
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from groat.protocol.access_token import Dialect
from groat.verifier import Caller, ConfigError, InvalidToken, TrustedIssuer, Verifier, any_of
from groat.verifier.asgi import GroatMiddleware
from groat.verifier.fastapi import Guard
from groat.verifier.verifier import Options
from tests.verifier.issuer import Issuer
from tests.verifier.test_adapters import hello
from tests.verifier.tokens import AUD

ISS = "https://auth.example.com"


@pytest.mark.rule("FO-10", "RS-16")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"audience": ["a"]}, "audience must be one string, not a list"),
        ({"audience": {"a"}}, "audience must be one string, not a set"),
        ({"audience": b"a"}, "audience must be one string, not a bytes"),
        ({"issuer": [ISS]}, "issuer must be one string, not a list"),
        ({"issuer": None, "issuers": ISS}, "issuers must be a list"),
        ({"issuer": None, "issuers": [[ISS]]}, "issuer must be one string, not a list"),
        (
            {"accept_types": "JWT"},
            r"accept_types must be a list of strings, not one string: write accept_types=\[...\]",
        ),
        ({"accept_types": [7]}, "accept_types must hold strings only, not a int"),
        ({"accept_types": b"JWT"}, "accept_types must be a list of strings"),
        ({"algorithms": "ES256"}, "algorithms must be a list of strings, not one string"),
        ({"algorithms": [None]}, "algorithms must hold strings only"),
        ({"algorithms": None}, "algorithms must be a list of strings, not None"),
        ({"allow_http_hosts": "auth"}, "allow_http_hosts must be a list of strings, not one string"),
        ({"algorithms": ["ES256", "none"]}, 'algorithms must be among ES256, .*, not "none"'),
        ({"algorithms": ["es256"]}, 'algorithms must be among ES256, .*, not "es256"'),
        ({"accept_types": ()}, "accept_types is empty"),
        ({"audience": f" {AUD}"}, f'audience: it begins or ends with a blank: " {AUD}"'),
        ({"audience": f'"{AUD}"'}, "audience: it is in quotes"),
        ({"audience": f"{AUD}\r"}, "audience: it ends in a carriage return"),
        ({"audience": f"\ufeff{AUD}"}, "audience: it begins with a byte order mark"),
        ({"jwks_uri": ["https://x.example"]}, "jwks_uri must be one string, not a list"),
    ],
)
def test_a_string_for_a_list_and_a_list_for_a_string(options: dict[str, Any], words: str) -> None:
    """A ConfigError names the argument, what it is and what it should be; nothing is taken letter by letter."""
    with pytest.raises(ConfigError, match=words):
        Verifier(**{"issuer": ISS, "audience": AUD, **options})


@pytest.mark.rule("FO-10", "RS-16")
@pytest.mark.parametrize("issuer", ["https://u:s3cr/e@t@auth.example.com", "http://u:s3cr/e@t@[::1]"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_the_password_in_an_issuer_is_not_repeated(issuer: str, several: bool) -> None:
    """The message says which issuer it is about, without what stands before its host."""
    named: dict[str, Any] = {"issuers": [ISS, issuer]} if several else {"issuer": issuer}
    with pytest.raises(ConfigError, match=r"//\*\*\*@") as caught:
        Verifier(audience=AUD, **named)
    assert not any(part in str(caught.value) for part in ("s3cr", "e@t"))


@pytest.mark.rule("FO-10")
@pytest.mark.parametrize("options", [{"algorithms": "ES256"}, {"issuer": [ISS]}, {"jwks_uri": [ISS]}])
def test_the_same_for_one_of_several_issuers(options: dict[str, Any]) -> None:
    """A TrustedIssuer is checked when it is made."""
    with pytest.raises(ConfigError):
        TrustedIssuer(**{"issuer": ISS, **options})


@pytest.mark.rule("FO-10")
@pytest.mark.parametrize(
    "options",
    [{"types": "application/jwt"}, {"client_id": "azp"}, {"scopes": "scp"}, {"required": "iat"}, {"audience": ["aud"]}],
)
def test_the_same_for_a_dialect(options: dict[str, Any]) -> None:
    """Names of claims are lists too, and one that is a string is refused."""
    with pytest.raises(ConfigError, match=f"Dialect.{next(iter(options))}"):
        Dialect(**options)


@pytest.mark.rule("FO-10")
def test_lists_of_any_kind_work(running: Issuer) -> None:
    """Tuples, sets and generators are lists; they are read once and kept."""
    verifier = running.verifier(accept_types=(name for name in ["at+jwt", "JWT", None]), algorithms={"ES256"})
    for typ in ("JWT", "at+jwt", None):
        assert verifier.verify(running.token(typ=typ)).client_id == "billing"
        assert verifier.verify(running.token(typ=typ), {"orders:read"}).client_id == "billing"


@pytest.mark.rule("FO-10", "RS-09", "RS-22")
@pytest.mark.parametrize("scopes", [["orders:read"], ("orders:read",), None, 7, {"orders:read"}])
def test_a_guard_takes_scopes_and_not_a_list_of_them(running: Issuer, scopes: Any) -> None:
    """A list that was handed over in place of its scopes would demand nothing: refused where it is written."""
    guard = Guard(running.verifier(), scopes={"orders:read": "Read orders"})
    with pytest.raises(ConfigError, match="the scopes of a guard must hold strings only"):
        guard(scopes)
    assert guard("orders:read") is not None


@pytest.mark.rule("FO-10")
@pytest.mark.parametrize("scopes", [["orders:read"], "orders:read", {"orders:read"}])
def test_a_guard_wants_its_scopes_described(running: Issuer, scopes: Any) -> None:
    """The scopes of an API come with a line for people."""
    with pytest.raises(ConfigError, match="scopes must say what each is for"):
        Guard(running.verifier(), scopes=scopes)


@pytest.mark.rule("FO-10")
@pytest.mark.parametrize(
    "options",
    [{"scopes": "orders:read"}, {"scopes": [["a"]]}, {"scopes": [None]}, {"exempt": ["health"]}, {"exempt": [7]}],
)
def test_the_same_for_the_middleware(running: Issuer, options: dict[str, Any]) -> None:
    """Scopes are a list, and an exempt path begins with its slash or could never be asked for."""
    with pytest.raises(ConfigError):
        GroatMiddleware(hello, running.verifier(), **options)
    with pytest.raises(ConfigError):
        any_of(["a", "b"])  # type: ignore[arg-type]


@pytest.mark.rule("FO-10")
@pytest.mark.parametrize("path", ["/*", "/docs/*", "/items/{id}", "/health?full=1", "/page#top", "/[a-z]"])
def test_an_exempt_pattern_is_refused(running: Issuer, path: str) -> None:
    """No request asks for a path of that name, so the application would find out by a 401 in production."""
    with pytest.raises(ConfigError, match=r"exempt must hold exact paths: .* would exempt nothing"):
        GroatMiddleware(hello, running.verifier(), exempt=["/health", path])


@pytest.mark.rule("FO-10", "RS-05")
@pytest.mark.parametrize("cache_size", [0, 10])
@pytest.mark.parametrize("token", [None, 7, ["a.b.c"], bytearray(b"a.b.c")], ids=["None", "int", "list", "bytearray"])
def test_a_token_that_is_no_string(running: Issuer, token: Any, cache_size: int) -> None:
    """What a framework gives where a header is missing is refused as any malformed token, in both worlds."""
    verifier = running.verifier(cache_size=cache_size)
    verdicts: list[Callable[[], Caller]] = [
        lambda: verifier.verify(token),
        lambda: asyncio.run(verifier.averify(token)),
    ]
    for verdict in verdicts:
        with pytest.raises(InvalidToken, match="malformed") as caught:
            verdict()
        assert caught.value.hint.startswith("the token must be a string, not ")


@pytest.mark.rule("FO-10")
def test_the_options_are_those_of_the_constructor() -> None:
    """What is passed on has the names and types of what it is passed to."""
    taken = get_type_hints(Verifier.__init__)
    own = {"issuer", "audience", "issuers", "return"}
    assert get_type_hints(Options) == {name: kind for name, kind in taken.items() if name not in own}


@pytest.mark.rule("FO-22", "FO-10")
@pytest.mark.parametrize("variable", ["GROAT_ISSUER", "GROAT_AUDIENCE", "GROAT_JWKS_URI", "GROAT_ALGORITHMS"])
@pytest.mark.parametrize(
    ("around", "words"),
    [('"{}"', "in quotes"), ("{}\r", "carriage return"), ("\ufeff{}", "byte order"), (" {}", "blank")],
)
def test_what_env_files_leave_in_a_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, around: str, words: str
) -> None:
    """Quotes, CR, BOM and blanks are named with the variable, instead of refusing every token later."""
    good = {
        "GROAT_ISSUER": ISS,
        "GROAT_AUDIENCE": AUD,
        "GROAT_JWKS_URI": f"{ISS}/jwks",
        "GROAT_ALGORITHMS": "ES256, RS256",
        "GROAT_ALLOW_HTTP_HOSTS": "",
    }
    for name, value in good.items():
        monkeypatch.setenv(name, value)
    assert Verifier.from_env().audience == AUD
    monkeypatch.setenv(variable, around.format(good[variable]))
    with pytest.raises(ConfigError, match=f"^{variable}: .*{words}") as caught:
        Verifier.from_env()
    assert str(caught.value).isprintable()
