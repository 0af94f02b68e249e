"""Proofs of possession: what is accepted, and every defect by its own reason (RFC 9449 4.3)."""

import json
from collections.abc import Sequence
from typing import Any, Final

import pytest

from groat.protocol.dpop import (
    MAX_PROOF_BYTES,
    Life,
    Proof,
    Target,
    check_proof,
    read_proof,
    token_hash,
)
from groat.protocol.dpop_nonce import SLOT_SECONDS, Nonces
from groat.protocol.htu import normal_url
from groat.protocol.jwk import ALGORITHMS, PrivateKey, base64url_encode, import_public_jwk
from groat.protocol.proof_rules import PROOF_ALGORITHMS, ProofRules
from tests.proofs import ABSENT, PROOF_KEY, bare_jwk, proof, signed

from .builders import KEYS, NOW, OTHER_KEY, RES, TE, jose_refused

RULES: Final = ProofRules()
TOKEN: Final = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
API_URL: Final = f"{RES}/orders?day=1"


def check(
    *values: str | bytes,
    url: str = TE,
    method: str = "POST",
    token: str | None = None,
    rules: ProofRules = RULES,
    now: float = NOW,
    nonce: Life | None = None,
) -> Proof:
    """Both steps, as a server or an API that is known by this URL takes them."""
    target = Target(method, frozenset({normal_url(url)}), token)
    return check_proof(read_proof(values, rules), target, rules, now, nonce)


def at_api(text: str, **more: Any) -> Proof:
    return check(text, url=API_URL, method="GET", token=TOKEN, **more)


def api_proof(key: PrivateKey = PROOF_KEY, **changes: Any) -> str:
    return proof(RES + "/orders", NOW, key, "GET", **{"ath": token_hash(TOKEN), **changes})


@pytest.mark.rule("AS-DP-09", "RS-DP-02")
def test_the_vectors_of_the_standard() -> None:
    """RFC 9449 4.2 and 6.1: the hash of a token, the thumbprint of a key."""
    assert token_hash(TOKEN) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    }
    assert import_public_jwk(jwk).thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


@pytest.mark.rule("AS-DP-01", "AS-DP-09")
def test_a_good_proof_names_its_key_and_what_counts_once() -> None:
    """What a token is bound to follows from the key; what is used up from key and jti."""
    found = check(proof(TE, NOW, jti="j"))
    assert found.confirmation.cnf == {"jkt": PROOF_KEY.public.thumbprint}
    assert found.confirmation.token_type == "DPoP"
    assert (found.once.owner, found.once.value) == (PROOF_KEY.public.thumbprint, "j")
    assert found.once.expires_at == NOW + 70
    assert found.once.signed_at == NOW


@pytest.mark.rule("AS-DP-14")
def test_what_counts_once_is_told_by_key_and_jti_alone() -> None:
    """Another spelling of the URL, or another iat, opens no second use; another key or jti is another proof."""
    first = check(proof(TE, NOW, jti="j")).once.digest
    assert check(proof("HTTPS://AS.EXAMPLE:443/token?x#y", NOW - 5, jti="j", iat=NOW - 5)).once.digest == first
    assert check(proof(TE, NOW, jti="k")).once.digest != first
    assert check(proof(TE, NOW, OTHER_KEY, jti="j")).once.digest != first


@pytest.mark.rule("AS-DP-17", "AS-DP-02")
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_of_the_list_and_no_other(name: str) -> None:
    """PKCS #1 v1.5 is in no list by itself, and can be put in one; the key may say its algorithm or not."""
    texts = [proof(TE, NOW, KEYS[name]), proof(TE, NOW, KEYS[name], header_jwk=dict(KEYS[name].public.jwk))]
    for text in texts:
        assert check(text, rules=ProofRules(frozenset({name}))).algorithm == name
        with jose_refused("algorithm"):
            check(text, rules=ProofRules(frozenset(ALGORITHMS) - {name}))
    assert (name in PROOF_ALGORITHMS) != name.startswith("RS")


def test_ed25519_under_its_old_name() -> None:
    """RFC 8037 calls it EdDSA, and most libraries do."""
    assert check(proof(TE, NOW, KEYS["Ed25519"], header_alg="EdDSA")).algorithm == "Ed25519"


def _replaced(text: str, part: int, by: str) -> str:
    parts = text.split(".")
    parts[part] = by
    return ".".join(parts)


def _private_jwk() -> dict[str, Any]:
    return {**bare_jwk(PROOF_KEY), "d": PROOF_KEY.private_jwk()["d"]}


def _null_signature(text: str) -> str:
    return _replaced(text, 2, base64url_encode(bytes(64)).decode())


_GOOD: Final = api_proof()
_OFF_CURVE: Final = {**bare_jwk(PROOF_KEY), "y": bare_jwk(PROOF_KEY)["x"]}
_HEADER: Final = {"typ": "dpop+jwt", "alg": "ES256", "jwk": bare_jwk(PROOF_KEY)}
_CLAIMS: Final = {"jti": "j", "htm": "GET", "htu": RES + "/orders", "iat": NOW, "ath": token_hash(TOKEN)}
_TWICE: Final = json.dumps(_CLAIMS)[:-1] + ', "htm": "GET"}'

# At an API, where a proof must say most; values of the DPoP header, and the reason.
DEFECTS: Final[dict[str, tuple[Sequence[str | bytes], str]]] = {
    # The cases of the OpenID suite.
    "two headers": ([_GOOD, api_proof()], "header"),
    "no header": ([], "header"),
    "two headers that a gateway joined": ([f"{_GOOD}, {api_proof()}"], "malformed"),
    "no JWT": (["abc"], "malformed"),
    "empty": ([""], "malformed"),
    "typ missing": ([api_proof(header_typ=ABSENT)], "type"),
    "typ JWT": ([api_proof(header_typ="JWT")], "type"),
    "typ of an access token": ([api_proof(header_typ="at+jwt")], "type"),
    "typ no string": ([api_proof(header_typ=["dpop+jwt"])], "malformed"),
    "alg missing": ([api_proof(header_alg=ABSENT)], "algorithm"),
    "alg none": ([api_proof(header_alg="none")], "algorithm"),
    "alg none, unsigned": ([_replaced(api_proof(header_alg="none"), 2, "")], "algorithm"),
    "alg HS256": ([api_proof(header_alg="HS256", header_jwk={"kty": "oct", "k": "AAAA"})], "algorithm"),
    "alg in lower case": ([api_proof(header_alg="es256")], "algorithm"),
    "RS256": ([api_proof(KEYS["RS256"])], "algorithm"),
    "jwk missing": ([api_proof(header_jwk=ABSENT)], "key"),
    "jwk null": ([api_proof(header_jwk=None)], "key"),
    "jwk a text": ([api_proof(header_jwk=json.dumps(bare_jwk(PROOF_KEY)))], "key"),
    "jwk empty": ([api_proof(header_jwk={})], "key"),
    "jwk private": ([api_proof(header_jwk=_private_jwk())], "key"),
    "jwk symmetric": ([api_proof(header_jwk={"kty": "oct", "k": "AAAA"})], "key"),
    "jwk symmetric behind a public one": ([api_proof(header_jwk={**bare_jwk(PROOF_KEY), "k": "AAAA"})], "key"),
    "jwk off its curve": ([api_proof(header_jwk=_OFF_CURVE)], "key"),
    "jwk for encryption": ([api_proof(header_jwk={**bare_jwk(PROOF_KEY), "use": "enc"})], "key"),
    "jwk of another algorithm": ([api_proof(header_jwk={**bare_jwk(PROOF_KEY), "alg": "ES384"})], "key"),
    "jwk of another kind": ([api_proof(header_jwk=bare_jwk(KEYS["Ed25519"]))], "algorithm"),
    "jwk of somebody else": ([api_proof(header_jwk=bare_jwk(OTHER_KEY))], "signature"),
    "bad signature": ([_replaced(_GOOD, 2, api_proof().split(".")[2])], "signature"),
    "null signature": ([_null_signature(_GOOD)], "signature"),
    "no signature": ([_GOOD.rpartition(".")[0] + "."], "signature"),
    "claims changed": ([_replaced(_GOOD, 1, api_proof().split(".")[1])], "signature"),
    "jti missing": ([api_proof(jti=ABSENT)], "claims"),
    "jti empty": ([api_proof(jti="")], "claims"),
    "jti a number": ([api_proof(jti=1)], "claims"),
    "jti of 257 characters": ([api_proof(jti="j" * 257)], "claims"),
    "htm missing": ([api_proof(htm=ABSENT)], "claims"),
    "htm of another method": ([api_proof(htm="POST")], "method"),
    "htm in lower case": ([api_proof(htm="get")], "method"),
    "htu missing": ([api_proof(htu=ABSENT)], "claims"),
    "htu a list": ([api_proof(htu=[RES])], "claims"),
    "htu of another URL": ([api_proof(htu="https://other.example/orders")], "url"),
    "htu of another path": ([api_proof(htu=RES + "/order")], "url"),
    "htu with a final slash": ([api_proof(htu=RES + "/orders/")], "url"),
    "htu with another case of the path": ([api_proof(htu=RES + "/Orders")], "url"),
    "htu over http": ([api_proof(htu="http://api.example/orders")], "url"),
    "htu with another port": ([api_proof(htu="https://api.example:8443/orders")], "url"),
    "htu relative": ([api_proof(htu="/orders")], "url"),
    "htu with a user": ([api_proof(htu="https://me@api.example/orders")], "url"),
    "iat missing": ([api_proof(iat=ABSENT)], "claims"),
    "iat a text": ([api_proof(iat=str(NOW))], "claims"),
    "iat true": ([api_proof(iat=True)], "claims"),
    "iat an hour ahead": ([api_proof(iat=NOW + 3600)], "not_yet"),
    "iat an hour back": ([api_proof(iat=NOW - 3600)], "expired"),
    "iat 11 s ahead": ([api_proof(iat=NOW + 11)], "not_yet"),
    "iat 61 s back": ([api_proof(iat=NOW - 61)], "expired"),
    "iat in milliseconds": ([api_proof(iat=NOW * 1000)], "not_yet"),
    "iat beyond everything": ([api_proof(iat=10**31)], "not_yet"),
    "exp over": ([api_proof(exp=NOW)], "expired"),
    "exp a text": ([api_proof(exp="soon")], "claims"),
    "nbf ahead": ([api_proof(nbf=NOW + 11)], "not_yet"),
    "ath missing": ([api_proof(ath=ABSENT)], "claims"),
    "ath wrong": ([api_proof(ath=token_hash(TOKEN + "x"))], "token"),
    "ath of the token itself": ([api_proof(ath=TOKEN)], "token"),
    "ath with padding": ([api_proof(ath=token_hash(TOKEN) + "=")], "token"),
    "nonce a number": ([api_proof(nonce=1)], "claims"),
    "nonce empty": ([api_proof(nonce="")], "claims"),
    "nonce of 513 characters": ([api_proof(nonce="n" * 513)], "claims"),
    # Forged ones.
    "crit": ([api_proof(header_crit=["x"], header_x=1)], "malformed"),
    "b64": ([api_proof(header_b64=True)], "malformed"),
    "zip": ([api_proof(header_zip="DEF")], "malformed"),
    "nested": ([api_proof(header_cty="JWT")], "malformed"),
    "a claim twice": ([signed(_HEADER, _TWICE, PROOF_KEY)], "malformed"),
    "a header member twice": (
        [signed(json.dumps(_HEADER)[:-1] + ', "alg": "ES256"}', _CLAIMS, PROOF_KEY)],
        "malformed",
    ),
    "a member of the key twice": (
        [signed(json.dumps(_HEADER)[:-2] + ', "kty": "EC"}}', _CLAIMS, PROOF_KEY)],
        "malformed",
    ),
    "no object": ([signed(_HEADER, "[]", PROOF_KEY)], "malformed"),
    "NaN": ([signed(_HEADER, '{"iat": NaN}', PROOF_KEY)], "malformed"),
    "padded": ([_GOOD + "=="], "malformed"),
    "blanks around it": ([f" {_GOOD}"], "malformed"),
    "not ASCII": (["é" + _GOOD[1:]], "malformed"),
    "bytes above ASCII": ([b"\xff" + _GOOD[1:].encode()], "malformed"),
    "five parts": ([_GOOD + ".a.b"], "malformed"),
    "JSON serialisation": ([json.dumps({"payload": "", "signatures": []})], "malformed"),
    "huge": ([api_proof(padding="x" * MAX_PROOF_BYTES)], "malformed"),
    "RSA of 8192 bits": (
        [api_proof(header_jwk={"kty": "RSA", "n": "_" * 1366, "e": "AQAB"}, header_alg="PS256")],
        "key",
    ),
}


@pytest.mark.rule("AS-DP-01", "AS-DP-02", "AS-DP-03", "AS-DP-04", "AS-DP-05", "AS-DP-06", "AS-DP-07", "AS-DP-08")
@pytest.mark.rule("RS-DP-02", "RS-DP-10")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_proof_with_one_defect(defect: str) -> None:
    """Each is refused, for its own reason and no other."""
    values, reason = DEFECTS[defect]
    target = Target("GET", frozenset({normal_url(API_URL)}), TOKEN)
    with jose_refused(reason) as caught:
        check_proof(read_proof(values, RULES), target, RULES, NOW)
    hint = caught.value.hint
    assert hint.isprintable()
    assert all(str(value) not in hint for value in values if len(value) > 20)


ACCEPTED: Final = {
    "as it is": api_proof(),
    "htu with query and fragment": api_proof(htu=RES + "/orders?x=1#y"),
    "htu in capitals": api_proof(htu="HTTPS://API.EXAMPLE/orders"),
    "htu with the default port": api_proof(htu="https://api.example:443/orders"),
    "htu percent-encoded": api_proof(htu=RES + "/%6frders"),
    "htu with dots": api_proof(htu=RES + "/x/../orders"),
    "more members and claims": api_proof(header_foo={"a": 1}, foo=[1], header_kid="k", header_jku="https://x.example"),
    "other keys in the header": api_proof(header_x5c=["AAAA"], header_x5u="https://x.example"),
    "nulls in the key": api_proof(header_jwk={**bare_jwk(PROOF_KEY), "d": None, "alg": None}),
    "typ as a whole media type": api_proof(header_typ="application/dpop+jwt"),
    "nbf now, exp later": api_proof(nbf=NOW, exp=NOW + 300),
    "iat 10 s back": api_proof(iat=NOW - 10),
    "iat 60 s back": api_proof(iat=NOW - 60),
    "iat 10 s ahead": api_proof(iat=NOW + 10),
    "iat a fraction": api_proof(iat=NOW + 0.5),
    "a nonce that nobody asked for": api_proof(nonce="n"),
    "jti of 256 characters": api_proof(jti="j" * 256),
}


@pytest.mark.rule("RS-DP-10", "AS-DP-04", "AS-DP-06", "AS-DP-07", "AS-DP-13", "AS-DP-17")
@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_accepted(what: str) -> None:
    """The same request in other words."""
    assert at_api(ACCEPTED[what]).thumbprint == PROOF_KEY.public.thumbprint


def test_ath_means_nothing_where_there_is_no_token() -> None:
    """The token endpoint has none to compare with (RFC 9449 4.3 (11))."""
    assert check(proof(TE, NOW, ath="whatever")).thumbprint == PROOF_KEY.public.thumbprint


@pytest.mark.rule("RS-DP-12")
def test_several_names_of_one_place() -> None:
    """An API with two public names takes proofs for either."""
    target = Target("POST", frozenset({normal_url(TE), normal_url("https://two.example/token")}))
    for url in target.urls:
        check_proof(read_proof([proof(url, NOW)], RULES), target, RULES, NOW)


@pytest.mark.rule("AS-DP-01")
def test_the_form_is_judged_before_any_key() -> None:
    """`read_proof` passes whatever only a signature check could tell, and gives the nonce."""
    assert read_proof([api_proof(header_jwk=_OFF_CURVE, nonce="n")], RULES).nonce == "n"
    assert read_proof([_null_signature(_GOOD)], RULES).nonce is None


def test_a_text_of_bytes_is_the_same() -> None:
    """Servers have header values as bytes, frameworks as text."""
    assert at_api(_GOOD) == check(_GOOD.encode(), url=API_URL, method="GET", token=TOKEN)


URLS: Final = [
    ("https://as.example/token", "https://as.example/token"),
    ("HTTPS://AS.EXAMPLE/token", "https://as.example/token"),
    ("https://as.example:443/token", "https://as.example/token"),
    ("https://as.example:/token", "https://as.example/token"),
    ("https://as.example/token?x#y", "https://as.example/token"),
    ("https://as.example/%74oken", "https://as.example/token"),
    ("https://as.example/a/../token", "https://as.example/token"),
    ("https://as.example/./token", "https://as.example/token"),
    ("https://as.example/../../token", "https://as.example/token"),
    ("https://as.example", "https://as.example/"),
    ("https://as.example?x", "https://as.example/"),
    ("http://as.example:80/", "http://as.example/"),
    ("http://as.example:443/", "http://as.example:443/"),
    ("https://as.example/%c3%a9%2f", "https://as.example/%C3%A9%2F"),
    ("https://as.example/a/..", "https://as.example/"),
    ("https://as.example/a/b/.", "https://as.example/a/b/"),
    ("https://[2001:DB8::1]:443/token", "https://[2001:db8::1]/token"),
    ("https://as.example/token/", "https://as.example/token/"),
    ("https://as.example//token", "https://as.example//token"),
    ("https://as.example/Token", "https://as.example/Token"),
    ("https://as.example/%2e%2E/token", "https://as.example/token"),
]


@pytest.mark.rule("AS-DP-13")
@pytest.mark.parametrize(("url", "normal"), URLS)
def test_the_one_spelling_of_a_url(url: str, normal: str) -> None:
    """What is equal by RFC 3986 6.2.2 and 6.2.3 is one text, and stays it."""
    assert normal_url(url) == normal == normal_url(normal)


@pytest.mark.rule("AS-DP-13")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "/token",
        "token",
        "//as.example/token",
        "https:///token",
        "https:as.example/token",
        "ftp://as.example/token",
        "https://u@as.example/token",
        "https://u:p@as.example/token",
        "https://as.example\\@evil.example/token",
        "https://as.example/tok en",
        "https://as.example/tok\ten",
        "https://as.example/token\n",
        "https://bücher.example/token",
        "https://as.example:99999999/token",
        "https://as.example:-1/token",
        "https://as.example/%zz",
        "https://as.example/%",
        "https://[::1/token",
        "https://as.example/" + "x" * 2048,
    ],
)
def test_what_is_no_url_of_a_request(url: str) -> None:
    """Relative, with a user, for another protocol, or with what readers differ on."""
    with jose_refused("url"):
        normal_url(url)


SLOT_BEGIN: Final = float(NOW // SLOT_SECONDS * SLOT_SECONDS)
NONCES: Final = Nonces([b"s" * 32])


@pytest.mark.rule("AS-DP-15")
@pytest.mark.parametrize("given", [0, 1, 75, 149])
def test_how_long_a_nonce_is_good(given: float) -> None:
    """150 s at least and 300 s at most, wherever in its slot it was given."""
    given += SLOT_BEGIN
    nonce = NONCES.current(given)
    for age in (0, 100, 150):
        life = NONCES.life(nonce, given + age)
        assert life is not None
        assert life.begin <= given <= given + age < life.end
    assert NONCES.life(nonce, given + 301) is None
    assert NONCES.life(nonce, given + 601) is None


@pytest.mark.rule("AS-DP-15")
def test_nonces_of_clocks_that_differ() -> None:
    """A server that is ten seconds ahead gives a nonce of the next slot already; no nonce from far ahead is known."""
    next_one = NONCES.current(SLOT_BEGIN)
    assert NONCES.life(next_one, SLOT_BEGIN - 10) is not None
    assert NONCES.life(next_one, SLOT_BEGIN - 11) is None


@pytest.mark.rule("AS-DP-15", "AS-DP-10", "RS-DP-08")
def test_nonces_are_of_one_secret() -> None:
    """Another deployment's are none; after a change of the secret those of the one before are known for their time."""
    other = Nonces([b"t" * 32])
    assert NONCES.life(other.current(NOW), NOW) is None
    assert Nonces([b"s" * 32, b"t" * 32]).life(other.current(NOW), NOW) is not None
    for foreign in ("", "é", "n" * 512, NONCES.current(NOW)[:-1], NONCES.current(NOW).lower()):
        assert NONCES.life(foreign, NOW) is None
    assert NONCES.current(NOW) != NONCES.current(NOW + SLOT_SECONDS)
    assert len(NONCES.current(NOW)) == 24
    assert "ssss" not in repr(NONCES)


@pytest.mark.rule("AS-DP-07")
def test_a_good_nonce_decides_in_place_of_iat() -> None:
    """A caller whose clock is wrong can still prove when he signed; exp and nbf hold as before."""
    life = NONCES.life(NONCES.current(NOW), NOW)
    assert life is not None
    for iat in (NOW - 3600, NOW + 3600):
        once = check(proof(TE, NOW, iat=iat), nonce=life).once
        assert (once.signed_at, once.expires_at) == (life.begin, life.end + 10)
    with jose_refused("expired"):
        check(proof(TE, NOW, exp=NOW - 1), nonce=life)
    with jose_refused("claims"):
        check(proof(TE, NOW, iat=ABSENT), nonce=life)
