"""Some thousands of mutated requests as part of every test run; and the judge held against servers with a rule less."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from . import mutators
from .drafts import FORM, Draft, members
from .faulty import FAULTS
from .judge import Reading, readings
from .mutators import MUTATORS
from .run import AUDIENCE, ISSUER, Fuzz, Result, Target, _winners, furnish, target

SEED: Final = 20261128
REQUESTS: Final = 2000
MAX_GROWTH_MB: Final = 64


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with four clients; copied, never changed."""
    directory = tmp_path_factory.mktemp("fuzz")
    furnish(directory)
    return directory


@pytest.fixture(scope="module")
def server(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server as it is delivered."""
    with target(Path(shutil.copytree(furnished, tmp_path_factory.mktemp("good") / "home"))) as running:
        yield running


@pytest.mark.rule("Z01", "I3", "I10")
def test_no_mutated_request_gets_more_than_the_judge_allows(server: Target) -> None:
    """No 5xx, no token for a bad request, no row for a refused one, every control served, memory flat."""
    result = Fuzz(server, Result(SEED)).run(REQUESTS)
    assert not result.breaches, "\n".join(str(breach) for breach in result.breaches[:5])
    assert result.controls == REQUESTS // 10
    assert result.tokens >= result.controls
    assert {400, 401, 404, 405, 413} <= result.statuses.keys()
    assert result.growth < MAX_GROWTH_MB


CATCHES: Final[dict[str, tuple[mutators.Mutator, ...]]] = {
    "audience": (mutators.audience,),
    "signature": (mutators.wrong_key, mutators.signature),
    "times": (mutators.claim_near_limits,),
    "names": (mutators.subject, mutators.claim),
    "members": (mutators.claim, mutators.json_text),
    "fields": (mutators.form_known,),
    "methods": (mutators.form_known, mutators.http_headers),
    "scopes": (mutators.form_known,),
    "replays": (mutators.replay,),
    "rows": (mutators.wrong_key,),
    "types": (mutators.claim,),
}


@pytest.mark.rule("Z01")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_judge_notices_a_rule_that_is_missing(furnished: Path, tmp_path: Path, fault: str) -> None:
    """A real server with that rule taken out is caught within some hundred requests."""
    with target(Path(shutil.copytree(furnished, tmp_path / "home")), fault) as broken:
        result = Fuzz(broken, Result(SEED), CATCHES[fault]).run(300)
    assert result.breaches
    expected = {"rows": "rows of refused", "types": "status 500"}.get(fault, "may be given")
    assert any(expected in breach.what for breach in result.breaches), [breach.what for breach in result.breaches]


def draft(server: Target, client: str = "es") -> Draft:
    """A good request of this client."""
    party = next(party for party in server.parties if party.client_id == client)
    others = tuple(other for other in server.parties if other is not party)
    return Draft(Random(1), party, others, ISSUER, AUDIENCE)


@pytest.mark.parametrize("client", ["es", "ed", "rs", "ps"])
def test_the_judge_allows_a_good_request(server: Target, client: str) -> None:
    """By each kind of key; also where only its form differs in what a server may overlook."""
    changes: tuple[Callable[[bytes], bytes], ...] = (
        lambda raw: raw,
        lambda raw: b"\r\n" + raw,
        lambda raw: raw.replace(b"POST /token", b"POST  /%74oken"),
        lambda raw: raw.replace(FORM.encode(), FORM.upper().encode() + b'; charset="UTF-8"'),
        lambda raw: raw.replace(b"grant_type", b"%67rant%5ftype", 1).replace(b"Length: ", b"Length: 0", 1),
    )
    for change in changes:
        raw = change(draft(server, client).message())
        if b"%67" in raw:
            head, _, body = raw.partition(b"\r\n\r\n")
            raw = b"\r\n".join(line for line in head.split(b"\r\n") if b"Length" not in line)
            raw += b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        (reading,) = readings(raw, server.world, time.time())
        assert reading.granted
        assert reading.proven is not None
        assert reading.proven[0] == client


def _claims(**changes: Any) -> Callable[[Draft], None]:
    def change(made: Draft) -> None:
        made.claims = [(name, changes.get(name, value)) for name, value in made.claims]

    return change


def _times(**ahead: int) -> Callable[[Draft], None]:
    return lambda made: _claims(**{name: int(time.time()) + by for name, by in ahead.items()})(made)


def _header(*pairs: tuple[str, Any]) -> Callable[[Draft], None]:
    def change(made: Draft) -> None:
        made.header = [pair for pair in made.header if pair[0] not in dict(pairs)] + list(pairs)

    return change


def _form(*pairs: tuple[str, str]) -> Callable[[Draft], None]:
    return lambda made: made.form().extend(pairs)


def _lines(*pairs: tuple[str, str]) -> Callable[[Draft], None]:
    return lambda made: made.lines().extend(pairs)


def _raw(old: bytes, new: bytes) -> Callable[[Draft], None]:
    def change(made: Draft) -> None:
        assert old in made.message()
        made.raw = made.message().replace(old, new, 1)

    return change


def _json(text: Callable[[bytes], bytes]) -> Callable[[Draft], None]:
    return lambda made: setattr(made, "claims_json", text(members(made.claims)))


def _jwt(text: Callable[[str], str]) -> Callable[[Draft], None]:
    return lambda made: setattr(made, "jwt", text(made.token()))


BAD: Final[dict[str, Callable[[Draft], None]]] = {
    "aud with a slash": _claims(aud=f"{ISSUER}/"),
    "aud of two": _claims(aud=[ISSUER, "https://other.example"]),
    "another iss": _claims(iss="ed"),
    "another sub": _claims(iss="ed", sub="ed"),
    "nobody": _claims(iss="nobody", sub="nobody"),
    "no jti": _claims(jti=None),
    "long jti": _claims(jti="j" * 257),
    "exp over": _times(exp=-10),
    "exp too far": _times(exp=400),
    "exp as text": _claims(exp="4000000000"),
    "exp true": _claims(exp=True),
    "iat ahead": _times(iat=30),
    "none": _header(("alg", "none")),
    "another alg": _header(("alg", "RS256")),
    "crit": _header(("crit", ["exp"])),
    "another kid": _header(("kid", "x")),
    "at+jwt": _header(("typ", "at+jwt")),
    "member twice": _json(lambda text: text[:-1] + b',"aud":"x"}'),
    "member twice, escaped": _json(lambda text: text[:-1] + b',"\\u0061ud":"x"}'),
    "NaN": _json(lambda text: text[:-1] + b',"n":NaN}'),
    "BOM": _json(lambda text: b"\xef\xbb\xbf" + text),
    "UTF-16": _json(lambda text: text.decode().encode("utf-16")),
    "array": _json(lambda text: b"[" + text + b"]"),
    "padding": _jwt(lambda text: text + "="),
    "space": _jwt(lambda text: text + " "),
    "standard base64": _jwt(lambda text: text[:-2] + "+/"),
    "four parts": _jwt(lambda text: text + ".AA"),
    "empty signature": _jwt(lambda text: text.rpartition(".")[0] + "."),
    "one bit": _jwt(lambda text: text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:]),
    "scope twice": _form(("scope", "orders:read")),
    "secret": _form(("client_secret", "s")),
    "another client_id": _form(("client_id", "ed")),
    "assertion twice": _form(("client_assertion", "x")),
    "broken escape": _raw(b"grant_type", b"grant%_ype"),
    "basic": _lines(("Authorization", "Basic eDp5")),
    "type twice": _lines(("Content-Type", FORM)),
    "gzip": _lines(("Content-Encoding", "gzip")),
    "GET": _raw(b"POST ", b"GET "),
    "path": _raw(b"/token ", b"/tokens "),
    "query": _raw(b"/token ", b"/token?scope=orders:read "),
    "charset": _raw(FORM.encode(), FORM.encode() + b";charset=utf-16"),
    "JSON": _raw(FORM.encode(), b"application/json"),
    "two lengths": _raw(b"Content-Length: ", b"Content-Length: 1\r\nContent-Length: "),
    "length and chunks": _raw(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nContent-Length: "),
    "gzip, chunked": _raw(b"Content-Length: ", b"Transfer-Encoding: gzip, chunked\r\nX: "),
    "short": _raw(b"Content-Length: ", b"Content-Length: 9"),
}


@pytest.mark.rule("Z01")
@pytest.mark.parametrize("kind", BAD)
def test_the_judge_allows_no_bad_request(server: Target, kind: str) -> None:
    """Neither a token nor a row."""
    made = draft(server)
    BAD[kind](made)
    assert [reading.proven for reading in readings(made.message(), server.world, time.time()) if reading.proven] == []


@pytest.mark.rule("Z01")
@pytest.mark.parametrize(
    "pairs",
    [[("scope", "orders:write")], [("scope", "orders:read  x")], [("scope", "")], [("resource", "https://x")]],
    ids=str,
)
def test_the_judge_allows_a_row_without_a_token(server: Target, pairs: Sequence[tuple[str, str]]) -> None:
    """A proven client that asks for what it may not have has used its assertion, and gets nothing."""
    made = draft(server)
    made.form()[:] = [pair for pair in made.form() if pair[0] != pairs[0][0]] + list(pairs)
    (reading,) = readings(made.message(), server.world, time.time())
    assert (reading.proven is not None, reading.granted) == (True, False)


def test_requests_on_one_connection_are_told_apart(server: Target) -> None:
    """Two that are good are two; behind one that cannot be framed nothing counts."""
    one, two = draft(server).message(), draft(server, "ed").message()
    assert [reading.granted for reading in readings(one + b"\r\n" + two, server.world, time.time())] == [True, True]
    assert readings(b"BROKEN\r\n\r\n" + one, server.world, time.time()) == ()


def test_a_seed_gives_the_same_mutations(server: Target) -> None:
    """All but keys, times and jtis follow from the seed and the number."""
    assert len(MUTATORS) >= 12
    for mutator in (mutators.header_known, mutators.form_known, mutators.http_headers, mutators.http_line):
        shown = []
        for _ in range(2):
            made = draft(server)
            made.jwt = "a.b.c"
            mutator(made)
            shown.append((made.header, made.message()))
        assert shown[0] == shown[1]


def test_whose_assertion_was_used_up_among_several() -> None:
    """The one whose answer is a token; of too few or too many answers, none is known to be."""
    first, second = (Reading((client, "j"), True, 0.0, 60.0) for client in ("es", "ed"))
    refused = Reading(None, False, 0.0, 0.0)
    assert _winners((first, second), (401, 200)) == {("ed", "j")}
    assert _winners((first, refused, second), (100, 200, 400, 401)) == {("es", "j")}
    assert _winners((first, second), (200,)) == set()
