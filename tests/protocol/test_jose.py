"""The strict envelope: shape, header, key choice, and the claims that every JWT has."""

import hashlib
import hmac
import json
import socket
from typing import Any

import pytest

from groat.protocol import jose
from groat.protocol.errors import JoseError
from groat.protocol.jwk import (
    ALGORITHM_NAMES,
    KeyPair,
    PublicKey,
    base64url_decode,
    generate_private_key,
    import_public_jwk,
)

from .builders import (
    ABSENT,
    CLIENT_KEY,
    KEYS,
    NOW,
    OTHER_KEY,
    access_token,
    assertion,
    authenticate,
    client_refused,
    compact,
    header_of,
    jose_refused,
    segment,
    verify,
)

GOOD = assertion()
HEADER, CLAIMS, SIGNATURE = GOOD.split(".")


def _jwt(header: Any, claims: Any = None) -> str:
    return compact(header, {} if claims is None else claims, CLIENT_KEY)


SHAPES = {
    "nothing": "",
    "one part": HEADER,
    "two parts": f"{HEADER}.{CLAIMS}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "five parts": f"{GOOD}.AA.AA",
    "leading dot": f".{GOOD}",
    "trailing dot": f"{GOOD}.",
    "only dots": "..",
    "100000 dots": "." * 100_000,
    "8000 dots": "." * 8000,
    "no header": f".{CLAIMS}.{SIGNATURE}",
    "no claims": f"{HEADER}..{SIGNATURE}",
    "leading space": f" {GOOD}",
    "trailing newline": f"{GOOD}\n",
    "newline inside": f"{HEADER}.\n{CLAIMS}.{SIGNATURE}",
    "tab inside the signature": f"{HEADER}.{CLAIMS}.{SIGNATURE[:9]}\t{SIGNATURE[9:]}",
    "bearer prefix": f"Bearer {GOOD}",
    "quoted": f'"{GOOD}"',
    "brace": "{" + GOOD,
    "non-ASCII": GOOD[:-1] + "é",
    "full-width dot": f"{HEADER}．{CLAIMS}.{SIGNATURE}",
    "lone surrogate": GOOD + "\ud800",
    "escaped dots": GOOD.replace(".", "%2E"),
    "BOM": "\ufeff" + GOOD,
    "two joined by a space": f"{GOOD} {GOOD}",
    "two joined by a comma": f"{GOOD},{GOOD}",
    "two joined": GOOD + GOOD,
    "NUL": GOOD + "\0",
    "flattened JSON": json.dumps({"protected": HEADER, "payload": CLAIMS, "signature": SIGNATURE}),
    "general JSON": json.dumps({"payload": CLAIMS, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}),
    "padded signature": f"{GOOD}==",
    "padded header": f"{HEADER}=.{CLAIMS}.{SIGNATURE}",
    "standard alphabet": f"{HEADER}.{CLAIMS}.+/{SIGNATURE[2:]}",
    "exclamation mark": f"{HEADER}.{CLAIMS}.!{SIGNATURE[1:]}",
    "signature of an impossible length": f"{HEADER}.{CLAIMS}.{SIGNATURE[:-1]}",
    "JWE dir": f"{segment({'alg': 'dir', 'enc': 'A256GCM'})}..AA.AA.AA",
    "JWE RSA-OAEP": f"{segment({'alg': 'RSA-OAEP', 'enc': 'A256GCM'})}.AA.AA.AA.AA",
    "JWE PBES2 with a huge count": segment({"alg": "PBES2-HS512+A256KW", "p2c": 2**31 - 1}) + ".AA.AA.AA.AA",
}


@pytest.mark.rule("JOSE-01", "JOSE-02", "JOSE-25", "A07", "A08", "A09")
@pytest.mark.parametrize("token", SHAPES.values(), ids=SHAPES.keys())
def test_only_three_clean_parts_are_a_jwt(token: str) -> None:
    """Every other serialization and every stray character is refused by its shape."""
    with jose_refused("malformed"):
        jose.parse_jwt(token)


@pytest.mark.rule("JOSE-01", "A08")
@pytest.mark.parametrize("token", [t.encode() for t in SHAPES.values() if t.isascii()])
def test_bytes_are_held_to_the_same_shape(token: bytes) -> None:
    """A token given as bytes gets no easier reading."""
    with jose_refused("malformed"):
        jose.parse_jwt(token)


@pytest.mark.rule("JOSE-02", "A07")
def test_unused_bits_of_the_signature_are_refused() -> None:
    """Of the 64 spellings of the last character, the one that was signed is the one that passes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    value = alphabet.index(GOOD[-1])
    for bit in (1, 2, 4, 8):
        with jose_refused("malformed"):
            jose.parse_jwt(GOOD[:-1] + alphabet[value ^ bit])


@pytest.mark.rule("JOSE-25", "A08")
def test_the_size_limit_is_inclusive() -> None:
    """A JWT of just the limit is read; one byte more is refused before anything is decoded."""
    tokens = (
        (fill, _jwt(header_of(CLIENT_KEY, "t" * typ), {"fill": fill}))
        for fill in ("x" * size for size in range(5900, 6100))
        for typ in (1, 2, 3)
    )
    fill, token = next(pair for pair in tokens if len(pair[1]) == jose.MAX_JWT_BYTES)
    assert jose.parse_jwt(token).claims == {"fill": fill}
    with jose_refused("malformed"):
        jose.parse_jwt(token + "A")
    with jose_refused("malformed"):
        jose.parse_jwt(token, max_bytes=len(token) - 1)


@pytest.mark.rule("JOSE-01")
def test_a_good_jwt_comes_apart_and_verifies_nothing() -> None:
    """Parsing gives the header, the claims and the signed bytes; a wrong signature is not its business."""
    jwt = jose.parse_jwt(f"{HEADER}.{CLAIMS}.AAAA")
    assert (jwt.header.algorithm.name, jwt.header.kid) == ("ES256", CLIENT_KEY.kid)
    assert jwt.header.typ == "client-authentication+jwt"
    assert jwt.claims["sub"] == "billing"
    assert jwt.signing_input == f"{HEADER}.{CLAIMS}".encode()
    assert jwt.signature == b"\0\0\0"
    assert jose.parse_jwt(GOOD.encode()) == jose.parse_jwt(GOOD)


@pytest.mark.rule("JOSE-04", "A11")
@pytest.mark.parametrize(
    "raw",
    [b"null", b"[]", b"[1]", b'"x"', b"1", b"true", b"\xff", '{"a":1}'.encode("utf-16"), b"\xef\xbb\xbf{}", b"{} x"],
)
def test_header_and_claims_are_json_objects(raw: bytes) -> None:
    """Neither half may be anything but one UTF-8 JSON object, even under a good signature."""
    with jose_refused("malformed"):
        jose.parse_jwt(_jwt(header_of(CLIENT_KEY, "t"), raw))
    with jose_refused("malformed"):
        jose.parse_jwt(_jwt(raw))


@pytest.mark.rule("JOSE-03", "JOSE-05", "A12")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"alg":"none","alg":"ES256"}',
        b'{"alg":"ES256","alg":"ES256"}',
        b'{"alg":"ES256","x":NaN}',
        b'{"alg":"ES256","x":1e400}',
        b'{"alg":"ES256","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"alg":"ES256","x":' + b"7" * 5000 + b"}",
        b'{"alg":"ES256","x":"\\ud800"}',
    ],
)
def test_both_halves_are_strict_json(raw: bytes) -> None:
    """What two parsers may read differently is refused in the header and in the claims."""
    with jose_refused("malformed"):
        jose.parse_jwt(_jwt(raw))
    with jose_refused("malformed"):
        jose.parse_jwt(_jwt(header_of(CLIENT_KEY, "t"), raw))


BAD_ALGS: list[Any] = [
    *("none", "None", "NONE", "nOnE", "noNE", "", " ", "HS256", "HS384", "HS512", "es256", "ES256 ", " ES256"),
    *("ES256\0", "ＥＳ256", "ES256K", "ESP256", "ESP384", "ESP512", "rs256", "RS1", "Ed448", "ed25519", "EDDSA"),
    *("RSA-OAEP", "dir", "ML-DSA-44", None, 1, True, ["ES256"], {"ES256": 1}, ABSENT),
]


@pytest.mark.rule("JOSE-06", "JOSE-17", "A01", "A02", "A03")
@pytest.mark.parametrize("alg", BAD_ALGS, ids=repr)
@pytest.mark.parametrize("signature", ["good", "none", "random"])
def test_only_the_algorithms_of_the_table_exist(alg: Any, signature: str) -> None:
    """The alg comparison is exact; none, HMAC, COSE names and non-strings are no algorithms, signed or not."""
    token = _jwt(header_of(CLIENT_KEY, "t", {"alg": alg}))
    head = token.rpartition(".")[0]
    tail = {"good": token.rpartition(".")[2], "none": "", "random": segment(bytes(range(64)))}[signature]
    with jose_refused("algorithm"):
        jose.parse_jwt(f"{head}.{tail}")


def _secrets() -> list[bytes]:
    jwk = {name: CLIENT_KEY.public.jwk[name] for name in ("kty", "crv", "x", "y")}
    pair: KeyPair = CLIENT_KEY.key
    forms = [pair.as_pem(private=False), pair.as_der(private=False), b"", CLIENT_KEY.kid.encode()]
    forms += [KEYS["RS256"].key.as_pem(private=False)]
    texts = [json.dumps(jwk), json.dumps(jwk, sort_keys=True, separators=(",", ":")), json.dumps(jwk, indent=2)]
    point = CLIENT_KEY.public.native.public_numbers()
    return [*forms, *(text.encode() for text in texts), point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")]


@pytest.mark.rule("JOSE-06", "JOSE-07", "AS-CA-16", "A03")
@pytest.mark.parametrize("size", ["256", "384", "512"])
@pytest.mark.parametrize("secret", _secrets())
def test_a_public_key_is_no_hmac_secret(size: str, secret: bytes) -> None:
    """HMAC is refused whatever spelling of the public key served as its secret."""
    data = f"{segment(header_of(CLIENT_KEY, 't', {'alg': f'HS{size}'}))}.{CLAIMS}"
    mac = hmac.new(secret, data.encode(), getattr(hashlib, f"sha{size}")).digest()
    with jose_refused("algorithm"):
        jose.parse_jwt(f"{data}.{segment(mac)}")


REFUSED_MEMBERS: dict[str, dict[str, Any]] = {
    "crit with the member": {"crit": ["x"], "x": 1},
    "crit without the member": {"crit": ["x"]},
    "crit empty": {"crit": []},
    "crit a string": {"crit": "x"},
    "crit null": {"crit": None},
    "crit repeated": {"crit": ["x", "x"], "x": 1},
    "crit registered": {"crit": ["alg"]},
    "crit exp": {"crit": ["exp"], "exp": 1},
    "crit bork": {"crit": ["bork"], "bork": True},
    "b64 false, crit": {"b64": False, "crit": ["b64"]},
    "b64 false": {"b64": False},
    "b64 true": {"b64": True},
    "zip": {"zip": "DEF"},
    "enc": {"enc": "A256GCM"},
    "epk": {"epk": {}},
    "cty JWT": {"cty": "JWT"},
    "cty jwt": {"cty": "jwt"},
    "cty application/jwt": {"cty": "application/jwt"},
    "cty Application/JWT": {"cty": "Application/JWT"},
    "kid number": {"kid": 7},
    "kid null": {"kid": None},
    "kid list": {"kid": ["a"]},
    "kid empty": {"kid": ""},
    "kid 257 characters": {"kid": "k" * 257},
    "kid 5 kB": {"kid": "k" * 5000},
    "typ number": {"typ": 5},
    "typ null": {"typ": None},
    "typ list": {"typ": ["at+jwt"]},
}


@pytest.mark.rule("JOSE-08", "JOSE-09", "JOSE-12", "JOSE-22", "JOSE-25", "A06", "A10")
@pytest.mark.parametrize("members", REFUSED_MEMBERS.values(), ids=REFUSED_MEMBERS.keys())
def test_header_members_that_change_the_reading_are_refused(members: dict[str, Any]) -> None:
    """Extensions that we would have to understand, nested and encrypted forms, and ill-typed hints are refused."""
    with jose_refused("malformed"):
        jose.parse_jwt(_jwt(header_of(CLIENT_KEY, "t", members)))


@pytest.mark.rule("JOSE-10", "JOSE-11", "A05")
@pytest.mark.parametrize(
    "members",
    [{"x-foo": 1}, {"x5t#S256": "AA"}, {"cty": "json"}, {"jku": "https://evil"}, {"x5u": "https://evil"}, {"x5c": []}],
)
def test_other_header_members_are_ignored(members: dict[str, Any]) -> None:
    """Unknown members, and those that would only locate a key, change nothing."""
    jwt = jose.parse_jwt(_jwt(header_of(CLIENT_KEY, "t", members)))
    jose.verify_signature(jwt, jose.select_key(jwt.header, [CLIENT_KEY.public]))


@pytest.mark.rule("JOSE-11", "A05")
@pytest.mark.parametrize("kid", [CLIENT_KEY.kid, OTHER_KEY.kid, None])
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_token_never_brings_its_own_key(name: str, kid: str | None) -> None:
    """A key in or behind the header is not used, and no connection is made to look for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        value = {"jwk": dict(OTHER_KEY.public.jwk), "x5c": ["AAAA"]}.get(name, f"http://127.0.0.1:{port}/keys")
        with client_refused("assertion_key" if kid == OTHER_KEY.kid else "assertion_signature"):
            authenticate(assertion(OTHER_KEY, {"kid": ABSENT if kid is None else kid, name: value}))
        with pytest.raises(BlockingIOError):
            listener.accept()


KIDS = ["../../dev/null", "/dev/null", "' OR 1=1--", "|sleep 10", "https://evil.example", "\0", "a\nb", "é", "k" * 256]


@pytest.mark.rule("JOSE-12", "A06")
@pytest.mark.parametrize("kid", KIDS)
def test_a_kid_is_only_compared(kid: str) -> None:
    """A strange kid is an unknown key, and shows on one log line at most."""
    jwt = jose.parse_jwt(_jwt(header_of(CLIENT_KEY, "t", {"kid": kid})))
    assert jwt.header.kid == kid
    with pytest.raises(JoseError) as caught:
        jose.select_key(jwt.header, [CLIENT_KEY.public])
    assert caught.value.reason == "key_unknown"
    assert caught.value.hint.isascii()
    assert caught.value.hint.isprintable()
    assert len(caught.value.hint) < 300


@pytest.mark.rule("JOSE-12", "A06")
@pytest.mark.parametrize("spell", [str.upper, str.lower, lambda k: k + " ", lambda k: k[:-1], lambda k: k + "="])
def test_a_kid_is_compared_exactly(spell: Any) -> None:
    """Case, blanks and prefixes make another kid."""
    with jose_refused("key_unknown"):
        jose.select_key(_header(spell(CLIENT_KEY.kid)), [CLIENT_KEY.public])


def _header(kid: str | None, alg: str = "ES256") -> jose.Header:
    return jose.Header(ALGORITHM_NAMES[alg], kid, None)


@pytest.mark.rule("JOSE-13", "A06")
@pytest.mark.parametrize(
    ("keys", "found"),
    [
        pytest.param(["ES256"], "ES256", id="the only key"),
        pytest.param(["ES256", "ES384", "PS256"], "ES256", id="the only one that fits"),
        pytest.param([], None, id="no key"),
        pytest.param(["ES384", "PS256"], None, id="none fits"),
        pytest.param(["ES256", "other"], None, id="two fit"),
    ],
)
def test_without_kid_exactly_one_key_must_fit(keys: list[str], found: str | None) -> None:
    """No kid means no choice: one fitting key, or a refusal."""
    known = {**{name: key.public for name, key in KEYS.items()}, "other": OTHER_KEY.public}
    listed = [known[name] for name in keys]
    if found is not None:
        assert jose.select_key(_header(None), listed) is known[found]
        return
    with jose_refused("key_unknown"):
        jose.select_key(_header(None), listed)


@pytest.mark.rule("JOSE-07", "JOSE-12")
def test_a_known_kid_of_another_algorithm_is_refused() -> None:
    """The kid finds the key, and the key's own algorithm decides."""
    keys = [key.public for key in KEYS.values()]
    assert jose.select_key(_header(KEYS["ES384"].kid, "ES384"), keys).algorithm == "ES384"
    with jose_refused("algorithm"):
        jose.select_key(_header(KEYS["ES384"].kid), keys)


@pytest.mark.rule("JOSE-07", "KEY-13", "A04")
@pytest.mark.parametrize("alg", [*KEYS, "EdDSA"])
@pytest.mark.parametrize("name", KEYS)
def test_a_key_verifies_its_one_algorithm(name: str, alg: str) -> None:
    """Of all header algorithms only the key's own passes; EdDSA and Ed25519 are one."""
    own = name == alg or {name, alg} == {"Ed25519", "EdDSA"}
    jwt = jose.parse_jwt(compact(header_of(KEYS[name], "t", {"alg": alg}), {}, KEYS[name]))
    if own:
        jose.verify_signature(jwt, KEYS[name].public)
        return
    with jose_refused("algorithm"):
        jose.verify_signature(jwt, KEYS[name].public)


@pytest.mark.rule("JOSE-07", "A04")
@pytest.mark.parametrize(("signed", "said"), [("PS256", "RS256"), ("RS256", "PS256"), ("RS384", "RS256")])
def test_an_undeclared_rsa_key_still_needs_the_signature_that_the_header_names(signed: str, said: str) -> None:
    """A key without alg fits several names, but a signature fits only one of them."""
    members = {name: KEYS["RS256"].public.jwk[name] for name in ("kty", "n", "e")}
    key: PublicKey = import_public_jwk(members)
    jwt = jose.parse_jwt(compact({"alg": said}, {}, KEYS[signed]))
    assert jose.select_key(jwt.header, [key]) is key
    with jose_refused("signature"):
        jose.verify_signature(jwt, key)


@pytest.mark.rule("JOSE-17")
@pytest.mark.parametrize("name", ["Ed25519", "EdDSA"])
def test_ed25519_has_two_names(name: str) -> None:
    """The old name and the new one are the same algorithm, read and written."""
    key = KEYS["Ed25519"]
    token = jose.sign_jwt({"a": 1}, key, "t", alg_name=name)
    jwt = jose.parse_jwt(token)
    assert json.loads(base64url_decode(token.split(".")[0])) == {"alg": name, "kid": key.kid, "typ": "t"}
    assert jwt.header.algorithm.name == "Ed25519"
    jose.verify_signature(jwt, jose.select_key(jwt.header, [key.public]))


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize(("key", "name"), [("RS256", "PS256"), ("ES256", "ES384"), ("ES256", "EdDSA"), ("ES256", "no")])
def test_a_key_signs_its_one_algorithm(key: str, name: str) -> None:
    """Asking a key to write another algorithm's name is refused before it signs."""
    with jose_refused("algorithm"):
        jose.sign_jwt({}, KEYS[key], "t", alg_name=name)


@pytest.mark.rule("JOSE-22")
@pytest.mark.parametrize(
    ("value", "media"),
    [
        ("at+jwt", "application/at+jwt"),
        ("application/at+jwt", "application/at+jwt"),
        ("AT+JWT", "application/at+jwt"),
        ("Application/At+Jwt", "application/at+jwt"),
        ("text/at+jwt", "text/at+jwt"),
        ("JWT", "application/jwt"),
        ("", "application/"),
        ("at+jwt;v=1", "application/at+jwt;v=1"),
        (5, None),
        (None, None),
    ],
)
def test_typ_is_a_media_type(value: Any, media: str | None) -> None:
    """A name without slash belongs to application, and case does not matter."""
    assert jose.media_type(value) == media


@pytest.mark.rule("JOSE-18", "A15")
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1999999999", "", True, False, None, [], {}, [NOW]], ids=repr)
def test_times_are_numbers(name: str, value: Any) -> None:
    """A string of digits, a boolean and null are no NumericDate."""
    with jose_refused("claims"):
        jose.check_times({"exp": NOW + 60, name: value}, NOW, tolerance=10)


@pytest.mark.rule("JOSE-18", "JOSE-19", "JOSE-20", "A15")
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "claims"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW - 1}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": -(10**30)}, "expired"),
        ({"exp": -1e300}, "expired"),
        ({"exp": NOW + 1}, None),
        ({"exp": NOW + 0.5}, None),
        ({"exp": NOW + 60.5}, None),
        ({"exp": 10**31}, None),
        ({"exp": 1e300}, None),
        ({"exp": NOW + 60, "nbf": NOW + 10}, None),
        ({"exp": NOW + 60, "nbf": NOW + 10.5}, "not_yet"),
        ({"exp": NOW + 60, "nbf": NOW + 11}, "not_yet"),
        ({"exp": NOW + 90, "nbf": NOW + 61}, "not_yet"),
        ({"exp": NOW + 60, "nbf": -1}, None),
        ({"exp": NOW + 60, "iat": NOW + 10}, None),
        ({"exp": NOW + 60, "iat": NOW + 11}, "not_yet"),
        ({"exp": NOW + 90, "iat": NOW + 61}, "not_yet"),
        ({"exp": NOW + 60, "iat": 1e300}, "not_yet"),
        ({"exp": NOW + 60, "iat": NOW - 10**9}, None),
    ],
    ids=repr,
)
def test_times_at_their_boundaries(claims: dict[str, Any], reason: str | None) -> None:
    """exp counts to the second and has no leeway; nbf and iat may lie ahead by the tolerance."""
    if reason is None:
        assert jose.check_times(claims, NOW, tolerance=10) == claims["exp"]
        return
    with jose_refused(reason):
        jose.check_times(claims, NOW, tolerance=10)


@pytest.mark.rule("JOSE-19", "JOSE-20")
def test_tolerance_and_exp_leeway_are_separate() -> None:
    """Sixty seconds of tolerance do not keep an expired token alive, and leeway does not make one valid early."""
    assert jose.check_times({"exp": NOW + 99, "iat": NOW + 60}, NOW, tolerance=60) == NOW + 99
    with jose_refused("not_yet"):
        jose.check_times({"exp": NOW + 99, "iat": NOW + 61}, NOW, tolerance=60)
    with jose_refused("expired"):
        jose.check_times({"exp": NOW}, NOW, tolerance=60)
    assert jose.check_times({"exp": NOW - 4}, NOW, tolerance=10, exp_leeway=5) == NOW - 4
    with jose_refused("expired"):
        jose.check_times({"exp": NOW - 5}, NOW, tolerance=10, exp_leeway=5)


@pytest.mark.rule("JOSE-21", "A13")
@pytest.mark.parametrize("value", [5, 5.0, True, None, {}, {"a": "b"}, [], [5], ["a", 5], [["a"]], [None], "", [""]])
def test_an_audience_is_strings(value: Any) -> None:
    """Anything but a string or a non-empty array of strings is no audience."""
    with jose_refused("audience"):
        jose.audience({"aud": value})


@pytest.mark.rule("JOSE-21")
def test_an_absent_audience_is_refused() -> None:
    """A claim that is missing names nobody."""
    with jose_refused("audience"):
        jose.audience({})
    assert jose.audience({"aud": "a"}) == ("a",)
    assert jose.audience({"aud": ["a", "b", "a"]}) == ("a", "b", "a")


@pytest.mark.rule("JOSE-25")
@pytest.mark.parametrize("value", [5, True, None, [], ["x"], {}, "", "x" * 257, ABSENT], ids=repr)
def test_a_string_claim_is_a_bounded_string(value: Any) -> None:
    """Other types, nothing, and too much are refused."""
    with jose_refused("claims"):
        jose.string_claim({} if value is ABSENT else {"jti": value}, "jti", 256)
    assert jose.string_claim({"jti": "x" * 256}, "jti", 256) == "x" * 256


@pytest.mark.rule("JOSE-24")
def test_claims_are_rumours_until_the_signature_is_proven() -> None:
    """With a bad signature no other defect is ever noticed: nothing acts before the proof."""
    head, _, _ = assertion(aud="https://other", exp=1, jti=5).rpartition(".")
    with client_refused("assertion_signature"):
        authenticate(f"{head}.{segment(b'x' * 64)}")


@pytest.mark.rule("JOSE-10")
def test_unknown_claims_are_ignored() -> None:
    """A claim that nobody knows changes nothing."""
    authenticate(assertion(foo={"bar": [1, None]}))
    assert verify(access_token(foo=1)).claims["foo"] == 1


def test_verified_claims_are_read_only() -> None:
    """What was proven cannot be assigned to."""
    with pytest.raises(TypeError):
        verify(access_token(foo=1)).claims["foo"] = 2  # type: ignore[index]


@pytest.mark.rule("KEY-14", "OPS-03")
def test_a_parsed_jwt_shows_no_claims() -> None:
    """The repr of a JWT may stand in a log: no claim, no signature, nothing signed."""
    shown = repr(jose.parse_jwt(assertion(foo="hidden-value")))
    assert "hidden-value" not in shown
    assert "billing" not in shown
    assert SIGNATURE not in shown


@pytest.mark.rule("JOSE-01")
@pytest.mark.parametrize("name", KEYS)
def test_what_we_sign_we_read(name: str) -> None:
    """Each algorithm's own token verifies under its own key and under no freshly made one."""
    key = KEYS[name]
    jwt = jose.parse_jwt(jose.sign_jwt({"a": "é", "n": [1, 2.5, None]}, key, "t"))
    assert jwt.claims == {"a": "é", "n": [1, 2.5, None]}
    jose.verify_signature(jwt, key.public)
    stranger = generate_private_key(name, 2048)
    with jose_refused("signature"):
        jose.verify_signature(jwt, stranger.public)
