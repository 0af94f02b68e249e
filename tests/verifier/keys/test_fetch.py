"""What an issuer may answer: every way in which metadata or JWKS can be unfit, over real sockets."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from groat.protocol.errors import ConfigError
from groat.protocol.jwk import base64url_encode, generate_private_key
from groat.protocol.key_set import public_key_set
from groat.verifier import KeysUnavailable, Verifier
from groat.verifier.keys.fetch import FetchError, KeyFetcher, KeySet
from tests.verifier.issuer import JWKS, METADATA, OPENID, Answer, Issuer, json_answer, serving
from tests.verifier.tokens import AUD, refused

KEY = generate_private_key("ES256")
OTHER = generate_private_key("ES256")
GOOD = public_key_set([KEY.public])
JWK = GOOD["keys"][0]


def fetched(issuer: Issuer, previous: KeySet | None = None) -> KeySet:
    return KeyFetcher(issuer.url).fetch(previous, 0.0)


@pytest.mark.rule("RS-17", "DEMO-21")
def test_keys_are_found_through_metadata(issuer: Issuer) -> None:
    """Metadata leads to the JWKS; one request each."""
    keys = fetched(issuer)
    assert list(keys.by_kid) == [issuer.key.kid]
    assert keys.uri == issuer.origin + JWKS
    assert issuer.requests == {METADATA: 1, JWKS: 1}


@pytest.mark.rule("RS-17")
@pytest.mark.parametrize("path", ["", "/tenant/a"])
def test_openid_metadata_is_the_second_choice(path: str) -> None:
    """Servers that only know OpenID Connect discovery are found too, with and without a path in the issuer."""
    with serving(path=path) as issuer:
        issuer.spoil(METADATA + path, Answer(status=404))
        assert fetched(issuer).by_kid
        assert list(issuer.requests) == [METADATA + path, path + OPENID, JWKS]


@pytest.mark.rule("RS-17")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"issuer": "https://evil.example"}, id="another issuer"),
        pytest.param({"issuer": None}, id="no issuer"),
        pytest.param({"jwks_uri": None}, id="no jwks_uri"),
        pytest.param({"jwks_uri": 7}, id="jwks_uri no string"),
        pytest.param({"jwks_uri": "http://keys.example/jwks"}, id="plain http elsewhere"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, id="file"),
        pytest.param({"jwks_uri": "ftp://127.0.0.1/jwks"}, id="ftp"),
        pytest.param({"jwks_uri": "data:application/json,{}"}, id="data"),
        pytest.param({"jwks_uri": "//127.0.0.1/jwks"}, id="no scheme"),
        pytest.param({"jwks_uri": "https://[bad"}, id="no URL"),
        pytest.param({"jwks_uri": "https://user@keys.example/jwks"}, id="user name"),
    ],
)
@pytest.mark.rule("R14")
def test_metadata_that_is_not_to_be_used(issuer: Issuer, change: dict[str, Any]) -> None:
    """Nothing of a document for another issuer, or with an unfit jwks_uri, is acted upon."""
    document = {name: value for name, value in {**issuer.metadata(), **change}.items() if value is not None}
    for path in (METADATA, OPENID):
        issuer.spoil(path, json_answer(document))
    with pytest.raises(FetchError):
        fetched(issuer)
    assert issuer.fetches == 0


@pytest.mark.rule("R14", "RS-18")
@pytest.mark.parametrize(
    "uri",
    [
        "http://keys.example/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https://[bad",
        "jwks",
        "https://k.example/#f",
    ],
)
def test_configured_jwks_uri_must_be_https(uri: str) -> None:
    """An unfit jwks_uri is refused when the verifier is made, before any request."""
    with pytest.raises(ConfigError):
        Verifier("https://as.example", AUD, jwks_uri=uri)


def oversized() -> bytes:
    return json.dumps({**GOOD, "padding": "x" * (5 * 1024 * 1024)}).encode()


BAD_ANSWERS = [
    pytest.param(Answer(status=301, headers={"Location": "/elsewhere"}), id="301"),
    pytest.param(Answer(status=302, headers={"Location": "/elsewhere"}), id="302"),
    pytest.param(Answer(status=307, headers={"Location": "/elsewhere"}), id="307"),
    pytest.param(json_answer(GOOD, status=201), id="201"),
    pytest.param(json_answer(GOOD, status=206), id="206"),
    pytest.param(json_answer(GOOD, status=304), id="304 that nobody asked for"),
    pytest.param(json_answer(GOOD, status=404), id="404 with keys"),
    pytest.param(json_answer(GOOD, status=500), id="500 with keys"),
    pytest.param(Answer(oversized()), id="5 MB"),
    pytest.param(Answer(oversized(), content_type="text/html"), id="5 MB of HTML"),
    pytest.param(Answer(b"<html></html>", content_type="text/html"), id="HTML"),
    pytest.param(json_answer(GOOD, content_type="text/plain"), id="text/plain"),
    pytest.param(json_answer(GOOD, content_type="application/jsonp"), id="application/jsonp"),
    pytest.param(json_answer(GOOD, content_type=None), id="no content type"),
    pytest.param(json_answer(GOOD, headers={"content-type": "text/html"}), id="two content types"),
    pytest.param(json_answer(GOOD, headers={"Content-Encoding": "gzip"}), id="compressed"),
    pytest.param(json_answer(GOOD, declared_length=100_000), id="cut short"),
    pytest.param(Answer(b""), id="empty"),
    pytest.param(Answer(b"garbage"), id="garbage"),
    pytest.param(Answer(b"[]"), id="array"),
    pytest.param(Answer(b'{"keys": {}}'), id="keys no array"),
    pytest.param(Answer(b'{"keys": []}'), id="no keys"),
    pytest.param(Answer(b'{"keys": ' + json.dumps([JWK]).encode() + b', "keys": []}'), id="repeated member"),
    pytest.param(
        Answer(json.dumps(GOOD).replace('"kid"', '"kid": "other", "kid"').encode()), id="repeated member in a key"
    ),
    pytest.param(Answer(json.dumps(GOOD).encode("utf-16")), id="UTF-16"),
    pytest.param(Answer(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), id="BOM"),
    pytest.param(Answer(json.dumps({**GOOD, "n": float("nan")}).encode()), id="NaN"),
    pytest.param(Answer(b'{"keys": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"), id="deep nesting"),
    pytest.param(json_answer({"keys": [JWK, KEY.private_jwk()]}), id="private members (K01)"),
    pytest.param(json_answer({"keys": [JWK, {"kty": "oct", "k": "AAAA"}]}), id="symmetric key (K02)"),
    pytest.param(json_answer({"keys": [{**JWK, "use": "enc"}]}), id="use=enc only (K03)"),
    pytest.param(json_answer({"keys": [{**JWK, "key_ops": ["encrypt"]}]}), id="key_ops without verify (K03)"),
    pytest.param(json_answer({"keys": [JWK, {**JWK, "kid": "other"}]}), id="one key, two kids (K05)"),
    pytest.param(json_answer({"keys": [JWK, {**OTHER.public.jwk, "kid": JWK["kid"]}]}), id="one kid, two keys (K05)"),
    pytest.param(json_answer({"keys": [JWK] + [{"kty": "XYZ"}] * 10_000}), id="10 000 keys (K04)"),
]


@pytest.mark.rule("RS-18", "R15", "K01", "K02", "K03", "K04", "K05", "K07", "JOSE-03", "KEY-16", "KEY-17")
@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_unfit_jwks_is_refused_and_old_keys_kept(issuer: Issuer, answer: Answer) -> None:
    """An answer that is not exactly a JWKS brings no keys and takes none away, and no redirect is followed."""
    verifier = issuer.verifier()
    verifier.verify(issuer.token())
    issuer.spoil(JWKS, answer)
    with pytest.raises(KeysUnavailable):
        verifier.warm_sync(force=True)
    assert verifier.verify(issuer.token()).client_id == "billing"
    with pytest.raises(KeysUnavailable):
        issuer.verifier().verify(issuer.token())
    assert issuer.requests["/elsewhere"] == 0


@pytest.mark.rule("RS-18")
@pytest.mark.parametrize("answer", BAD_ANSWERS[:16])
def test_unfit_metadata_is_refused(issuer: Issuer, answer: Answer) -> None:
    """Metadata travels under the same rules as keys."""
    for path in (METADATA, OPENID):
        issuer.spoil(path, answer)
    with pytest.raises(FetchError):
        fetched(issuer)
    assert issuer.fetches == 0


@pytest.mark.rule("RS-18", "DEMO-20")
@pytest.mark.parametrize(
    "content_type",
    ["application/jwk-set+json", "application/json", "application/json; charset=utf-8", "Application/JSON ;x=y"],
)
def test_accepted_content_types(issuer: Issuer, content_type: str) -> None:
    """Both registered types are fine, in any case and with parameters."""
    issuer.spoil(JWKS, json_answer(issuer.document(), content_type=content_type))
    assert fetched(issuer).by_kid


@pytest.mark.rule("KEY-18", "K02", "K03", "K04", "KEY-16", "R08")
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"kty": "XYZ"}, id="unknown kty"),
        pytest.param({"kty": "oct"}, id="oct without its value"),
        pytest.param({"kty": "EC", "crv": "P-256"}, id="missing members"),
        pytest.param({**OTHER.public.jwk, "crv": "P-999"}, id="unknown curve"),
        pytest.param({**OTHER.public.jwk, "use": "enc"}, id="use=enc"),
        pytest.param({**OTHER.public.jwk, "key_ops": ["encrypt"]}, id="key_ops"),
        pytest.param({**OTHER.public.jwk, "alg": "RS256"}, id="alg of another kty"),
        pytest.param({**OTHER.public.jwk, "y": OTHER.public.jwk["x"]}, id="off the curve"),
        pytest.param({"kty": "RSA", "n": base64url_encode(b"\xc1" * 128).decode(), "e": "AQAB"}, id="RSA 1024"),
        pytest.param({**OTHER.public.jwk, "kid": 7}, id="kid no string"),
        pytest.param("string", id="no object"),
        pytest.param(None, id="null"),
    ],
)
def test_one_unusable_key_is_skipped(issuer: Issuer, extra: Any) -> None:
    """One key that we cannot use is left out and never verifies anything; the good one works."""
    issuer.spoil(JWKS, json_answer({"keys": [extra, *issuer.document()["keys"]]}))
    verifier = issuer.verifier()
    assert verifier.verify(issuer.token()).client_id == "billing"
    with refused("key_unknown"):
        verifier.verify(issuer.token(OTHER))


@pytest.mark.rule("K04")
def test_twenty_one_keys_are_fine(issuer: Issuer) -> None:
    """A long but sane list is read in full; alg and x5c are not needed."""
    keys = [generate_private_key("ES256") for _ in range(20)]
    bare = [{name: key.public.jwk[name] for name in ("kty", "crv", "x", "y", "kid")} for key in keys]
    issuer.spoil(JWKS, json_answer({"keys": [*issuer.document()["keys"], *bare]}))
    verifier = issuer.verifier()
    for key in (*keys, issuer.key):
        assert verifier.verify(issuer.token(key)).client_id == "billing"


@pytest.mark.rule("RS-19", "S02")
def test_conditional_request(issuer: Issuer) -> None:
    """The ETag comes back as If-None-Match, and 304 keeps the keys as the same objects."""
    issuer.etag = '"one"'
    first = fetched(issuer)
    issuer.max_age = 900
    second = fetched(issuer, first)
    assert second.by_kid is first.by_kid
    assert second.max_age == 900
    assert issuer.seen_headers[-1][1]["If-None-Match"] == '"one"'
    issuer.rotate()
    issuer.etag = '"two"'
    third = fetched(issuer, second)
    assert len(third.by_kid) == 2
    assert third.by_kid[issuer.keys[0].kid] is first.by_kid[issuer.keys[0].kid]


@pytest.mark.rule("RS-18")
def test_etag_belongs_to_its_address(issuer: Issuer) -> None:
    """The ETag of one JWKS is not shown to another, whose 304 would keep keys that it never had."""
    issuer.etag = '"one"'
    first = fetched(issuer)
    issuer.spoil("/moved", Answer(status=304))
    issuer.spoil(METADATA, json_answer({**issuer.metadata(), "jwks_uri": issuer.origin + "/moved"}))
    with pytest.raises(FetchError, match="304"):
        KeyFetcher(issuer.url).fetch(first, 0.0, rediscover=True)
    assert "If-None-Match" not in issuer.seen_headers[-1][1]


@pytest.mark.rule("RS-17")
def test_discovery_is_repeated_hourly_and_after_failure(issuer: Issuer) -> None:
    """The jwks_uri is remembered for an hour, and looked up anew when asked to."""
    fetcher = KeyFetcher(issuer.url)
    keys = fetcher.fetch(None, 0.0)
    keys = fetcher.fetch(keys, 3599.0)
    assert issuer.requests[METADATA] == 1
    keys = fetcher.fetch(keys, 3600.0)
    assert issuer.requests[METADATA] == 2
    fetcher.fetch(keys, 3601.0, rediscover=True)
    assert issuer.requests[METADATA] == 3


@pytest.mark.rule("RS-19")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 300),
        ({"Cache-Control": "max-age=120"}, 120),
        ({"Cache-Control": 'public, Max-Age="120"'}, 120),
        ({"Cache-Control": "s-maxage=120"}, 300),
        ({"Cache-Control": "max-age=120", "Age": "100"}, 20),
        ({"Cache-Control": "max-age=120", "Age": "x"}, 120),
        ({"Cache-Control": "no-store"}, 300),
        ({"Cache-Control": "max-age=-1"}, 300),
    ],
)
def test_max_age_is_read(issuer: Issuer, headers: Mapping[str, str], expected: float) -> None:
    """max-age less the Age that caches report; the schedule clamps it afterwards."""
    issuer.spoil(JWKS, json_answer(issuer.document(), headers=headers))
    assert fetched(issuer).max_age == expected
