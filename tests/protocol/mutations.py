"""Seeded mutations of a signed JWT, for differential tests and for fuzzing a running server.

`mutate` draws one mutation; the same token, key and random state give the same one (but for the randomness inside an
ECDSA or PSS signature). Two families: *raw* ones change the text and leave the signature to break, *signed* ones
change header or claims and sign again with the token's own key, so that only the checks behind the signature can
refuse. Not here: expectations of any particular verifier, beyond the three sets below.
"""

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from groat.protocol import jose
from groat.protocol.jwk import PrivateKey, base64url_decode, base64url_encode, generate_private_key


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutated token and the name of what was done to it."""

    kind: str
    token: str


Mutator = Callable[[str, PrivateKey, random.Random], str]
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def mutate(token: str, key: PrivateKey, rng: random.Random) -> Mutation:
    """Draw one mutation of a good compact JWS that `key` signed."""
    kind = rng.choice(KINDS)
    return Mutation(kind, MUTATORS[kind](token, key, rng))


# --- raw: the text changes, the signature stays or breaks


def _flip_bit(token: str, _: PrivateKey, rng: random.Random) -> str:
    at = rng.randrange(len(token))
    bit: int = 1 << rng.randrange(7)
    return token[:at] + chr(ord(token[at]) ^ bit) + token[at + 1 :]


def _replace_char(token: str, _: PrivateKey, rng: random.Random) -> str:
    at = rng.randrange(len(token))
    return token[:at] + rng.choice(_ALPHABET.replace(token[at], "")) + token[at + 1 :]


def _delete(token: str, _: PrivateKey, rng: random.Random) -> str:
    start = rng.randrange(len(token))
    end: int = start + rng.randint(1, 4)
    return token[:start] + token[end:]


def _insert(token: str, _: PrivateKey, rng: random.Random) -> str:
    at = rng.randint(0, len(token))
    char: str = rng.choice([*_ALPHABET, ".", "=", "+", "/", " ", "\n", "\0", "é", "%", ","])
    return token[:at] + char + token[at:]


def _truncate(token: str, _: PrivateKey, rng: random.Random) -> str:
    return token[: rng.randrange(len(token))]


def _extend(token: str, _: PrivateKey, rng: random.Random) -> str:
    return token + "".join(rng.choice(_ALPHABET) for _ in range(rng.randint(1, 8)))


def _swap_case(token: str, _: PrivateKey, rng: random.Random) -> str:
    at = rng.choice([i for i, char in enumerate(token) if char.isalpha()])
    return token[:at] + token[at].swapcase() + token[at + 1 :]


def _pad(token: str, _: PrivateKey, rng: random.Random) -> str:
    parts = token.split(".")
    parts[rng.randrange(3)] += "=" * rng.randint(1, 4)
    return ".".join(parts)


def _unused_bits(token: str, key: PrivateKey, rng: random.Random) -> str:
    last = _ALPHABET.index(token[-1])
    return token[:-1] + _ALPHABET[last ^ rng.randint(1, 3)]


def _standard_alphabet(token: str, key: PrivateKey, rng: random.Random) -> str:
    other = token.replace("-", "+").replace("_", "/")
    return other if other != token else _pad(token, key, rng)


def _whitespace(token: str, _: PrivateKey, rng: random.Random) -> str:
    blank = rng.choice([" ", "\n", "\t", "\r\n", "\u00a0"])
    at = rng.choice([0, token.index("."), token.index(".") + 1, token.rindex("."), token.rindex(".") + 1, len(token)])
    return token[:at] + blank + token[at:]


def _parts(token: str, _: PrivateKey, rng: random.Random) -> str:
    header, claims, signature = token.split(".")
    return rng.choice(
        [
            f"{header}.{claims}",
            f"{header}.{claims}.",
            f"{header}..{signature}",
            f".{claims}.{signature}",
            f"{claims}.{header}.{signature}",
            f"{header}.{signature}.{claims}",
            f"{header}.{header}.{signature}",
            f"{header}.{claims}.{claims}",
            f"{header}.{claims}.{signature}.",
            f".{token}",
            f"{token}.{signature}",
            f"{header}.{claims}.{signature}.{claims}.{signature}",
            token * 2,
            f"{token} {token}",
            f"{token},{token}",
            f"Bearer {token}",
            f'"{token}"',
            token.replace(".", "%2E"),
            token.replace(".", ".."),
            "." * 1000,
            "..",
            "",
        ]
    )


def _json_serialization(token: str, _: PrivateKey, rng: random.Random) -> str:
    header, claims, signature = token.split(".")
    one = {"protected": header, "signature": signature}
    return json.dumps(rng.choice([{"payload": claims, **one}, {"payload": claims, "signatures": [one]}]))


def _weak_signature(token: str, key: PrivateKey, rng: random.Random) -> str:
    data, _, signature = token.rpartition(".")
    size = len(base64url_decode(signature))
    weak = [bytes(size), bytes([255]) * size, bytes(size - 1), bytes(size + 1), rng.randbytes(size)]
    return f"{data}.{_b64(rng.choice(weak))}"


def _reshaped_signature(token: str, key: PrivateKey, rng: random.Random) -> str:
    data, _, signature = token.rpartition(".")
    raw = base64url_decode(signature)
    half = len(raw) // 2
    r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    shapes = [encode_dss_signature(r, s), raw + b"\0", b"\0" + raw, raw[:-1], raw[half:] + raw[:half], raw + raw]
    return f"{data}.{_b64(rng.choice(shapes))}"


def _other_header(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims, signature = token.split(".")
    changed = {**_json(header), **rng.choice([{"alg": "none"}, {"kid": "x"}, {"typ": "JWT"}, {"alg": "HS256"}])}
    return f"{_encoded(changed)}.{claims}.{rng.choice([signature, ''])}"


def _other_claims(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims, signature = token.split(".")
    changed = {**_json(claims), rng.choice(["sub", "scope", "exp", "x"]): rng.choice(["admin", 9_999_999_999])}
    return f"{header}.{_encoded(changed)}.{signature}"


# --- signed: header or claims change and the token's own key signs again


def _b64(raw: bytes) -> str:
    return base64url_encode(raw).decode()


def _encoded(value: Any) -> str:
    return _b64(value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode())


def _json(segment: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64url_decode(segment))
    return value


def _resigned(key: PrivateKey, header: Any, claims: Any) -> str:
    data = f"{_encoded(header)}.{_encoded(claims)}"
    return f"{data}.{_b64(jose.sign(data.encode(), key))}"


def _halves(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return _json(header), _json(claims)


def _with_header(*choices: Mapping[str, Any]) -> Mutator:
    def mutator(token: str, key: PrivateKey, rng: random.Random) -> str:
        header, claims = _halves(token)
        return _resigned(key, {**header, **rng.choice(choices)}, claims)

    return mutator


def _with_header_values(name: str, *values: Any) -> Mutator:
    return _with_header(*({name: value} for value in values))


def _with_claims(*choices: Mapping[str, Any]) -> Mutator:
    def mutator(token: str, key: PrivateKey, rng: random.Random) -> str:
        header, claims = _halves(token)
        return _resigned(key, header, {**claims, **rng.choice(choices)})

    return mutator


def _with_claim_values(name: str, *values: Any) -> Mutator:
    return _with_claims(*({name: value} for value in values))


def _shifted(name: str, *seconds: float) -> Mutator:
    """Move a time relative to the issue time of the token."""

    def mutator(token: str, key: PrivateKey, rng: random.Random) -> str:
        header, claims = _halves(token)
        return _resigned(key, header, {**claims, name: claims["iat"] + rng.choice(seconds)})

    return mutator


def _without(half: int, *names: str) -> Mutator:
    def mutator(token: str, key: PrivateKey, rng: random.Random) -> str:
        halves = _halves(token)
        present = [name for name in names if name in halves[half]]
        halves[half].pop(rng.choice(present))
        return _resigned(key, *halves)

    return mutator


def _wrong_alg(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    names: list[Any] = [
        "none",
        "None",
        "nOnE",
        "HS256",
        "HS512",
        "ES256",
        "ES384",
        "PS256",
        "RS256",
        "ES256K",
        "ESP256",
    ]
    names += ["", header["alg"].lower(), header["alg"] + " ", header["alg"] + "\0", None, 1, True, [header["alg"]], {}]
    names = [name for name in names if name != header["alg"]]
    return _resigned(key, {**header, "alg": rng.choice(names)}, claims)


def _hmac_with_public_key(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    size = rng.choice(["256", "384", "512"])
    secrets = [
        key.key.as_pem(private=False),
        key.key.as_der(private=False),
        json.dumps(dict(key.public.jwk)).encode(),
        key.kid.encode(),
        b"",
    ]
    data = f"{_encoded({**header, 'alg': f'HS{size}'})}.{_encoded(claims)}"
    mac = hmac.new(rng.choice(secrets), data.encode(), getattr(hashlib, f"sha{size}")).digest()
    return f"{data}.{_b64(mac)}"


@cache
def _stranger(algorithm: str) -> PrivateKey:
    return generate_private_key(algorithm, 2048)


def _stranger_signs(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    other = _stranger(key.algorithm)
    extras: list[dict[str, Any]] = [
        {},
        {"jwk": dict(other.public.jwk)},
        {"jku": "https://attacker.example/jwks"},
        {"x5u": "https://attacker.example/x5u"},
        {"x5c": ["AAAA"]},
    ]
    return _resigned(other, {**header, **rng.choice(extras)}, claims)


def _wrong_padding(token: str, key: PrivateKey, rng: random.Random) -> str:
    """RSA only: a salt of another length, or the other RSA scheme; for other keys a zero signature."""
    data, _, _ = token.rpartition(".")
    if not key.algorithm.startswith(("PS", "RS")):
        return f"{data}.{_b64(bytes(64))}"
    digest = hashes.SHA256()
    mask = padding.MGF1(digest)
    schemes = [padding.PSS(mask, 0), padding.PSS(mask, 20), padding.PSS(mask, padding.PSS.MAX_LENGTH)]
    return f"{data}.{_b64(key.native.sign(data.encode(), rng.choice(schemes), digest))}"


def _raw_claims(token: str, key: PrivateKey, rng: random.Random) -> str:
    """Claims that are no JSON object, or one that two parsers read differently; signed well."""
    header, claims = _halves(token)
    return _resigned(key, header, _broken_json(claims, rng))


def _raw_header(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    return _resigned(key, _broken_json(header, rng), claims)


def _broken_json(members: dict[str, Any], rng: random.Random) -> bytes:
    text = json.dumps(members)
    body = text[1:-1]
    name = rng.choice(list(members))
    choices: list[str | bytes] = [
        f'{{"{name}":"evil",{body}}}',
        f"{{{body},{json.dumps(name)}:{json.dumps(members[name])}}}",
        f'{{{body},"x":NaN}}',
        f'{{{body},"x":-Infinity}}',
        f'{{{body},"x":1e400}}',
        f'{{{body},"x":{"9" * 400}}}',
        f'{{{body},"x":{"[" * 50}{"]" * 50}}}',
        f'{{{body},"x":{"[" * 500}{"]" * 500}}}',
        f'{{{body},"x":"\\ud800"}}',
        f'{{{body},"\\udc00":1}}',
        f"{{{body},}}",
        f"{text} x",
        f"{text}{text}",
        f"/**/{text}",
        text.replace('"', "'"),
        text[:-1],
        f"[{text}]",
        "null",
        "[]",
        '"x"',
        "1",
        "true",
        "",
        text.encode("utf-16"),
        text.encode("utf-16-le"),
        text.encode("utf-32"),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode()[:-1] + b',"x":"\xff"}',
        text.encode()[:-1] + b',"x":"\xed\xa0\x80"}',
        text.encode() + b"\0",
    ]
    chosen = rng.choice(choices)
    return chosen if isinstance(chosen, bytes) else chosen.encode()


def _wrong_audience(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    aud: str = claims["aud"]
    choices: list[Any] = [
        f"{aud}/",
        aud.upper(),
        aud[:-1],
        f"{aud}x",
        f"{aud}/token",
        f"{aud}:443",
        f"{aud}\0",
        f" {aud}",
    ]
    choices += ["", [], [[aud]], [aud, 5], {}, {aud: 1}, 5, True, None, ["x", "y"], aud.replace("e", "%65", 1)]
    return _resigned(key, header, {**claims, "aud": rng.choice(choices)})


def _wrong_issuer(token: str, key: PrivateKey, rng: random.Random) -> str:
    header, claims = _halves(token)
    iss: str = claims["iss"]
    choices: list[Any] = [
        f"{iss}/",
        iss.upper(),
        iss[:-1],
        f"{iss}x",
        f"{iss} ",
        f"{iss}\0",
        "",
        [iss],
        {},
        5,
        True,
        None,
    ]
    return _resigned(key, header, {**claims, "iss": rng.choice(choices)})


_NOT_NUMBERS: Final[tuple[Any, ...]] = ("1999999999", "", "now", True, False, None, [], {}, [1999999999])
_NOT_STRINGS: Final[tuple[Any, ...]] = (5, 0, True, None, [], ["a"], {}, "")

_KIDS: Final[tuple[Any, ...]] = ("x", "", None, 7, [], "../../dev/null", "k" * 300, "a\nb")
_TYPES: Final[tuple[Any, ...]] = ("dpop+jwt", "logout+jwt", "text/at+jwt", "JOSE", "", None, 5, [], "at+jwt ")

RAW: Final[Mapping[str, Mutator]] = {
    "flip_bit": _flip_bit,
    "replace_char": _replace_char,
    "delete": _delete,
    "insert": _insert,
    "truncate": _truncate,
    "extend": _extend,
    "swap_case": _swap_case,
    "pad": _pad,
    "unused_bits": _unused_bits,
    "standard_alphabet": _standard_alphabet,
    "whitespace": _whitespace,
    "parts": _parts,
    "json_serialization": _json_serialization,
    "weak_signature": _weak_signature,
    "reshaped_signature": _reshaped_signature,
    "other_header": _other_header,
    "other_claims": _other_claims,
}
SIGNED: Final[Mapping[str, Mutator]] = {
    "wrong_alg": _wrong_alg,
    "no_alg": _without(0, "alg"),
    "no_kid": _without(0, "kid"),
    "no_typ": _without(0, "typ"),
    "hmac_with_public_key": _hmac_with_public_key,
    "stranger_signs": _stranger_signs,
    "wrong_padding": _wrong_padding,
    "raw_claims": _raw_claims,
    "raw_header": _raw_header,
    "crit": _with_header(
        *({"crit": value} for value in (["x"], [], "x", ["x", "x"], ["alg"], ["exp"], None, 5, [5])),
        {"crit": ["x"], "x": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
    ),
    "b64": _with_header({"b64": False}, {"b64": True}),
    "encrypted": _with_header({"zip": "DEF"}, {"enc": "A256GCM"}, {"cty": "JWT"}, {"cty": "application/jwt"}),
    "wrong_kid": _with_header_values("kid", *_KIDS),
    "wrong_typ": _with_header_values("typ", *_TYPES),
    "header_extra": _with_header({"x-foo": 1}, {"jku": "https://evil.example"}, {"x": {"y": [None]}}, {"x5t": "AA"}),
    "claim_extra": _with_claims({"foo": 1}, {"foo": {"bar": [None, 1.5]}}, {"nonce": "é"}),
    "no_required_claim": _without(1, "iss", "sub", "aud", "exp", "jti"),
    "no_other_claim": _without(1, "iat", "client_id", "scope"),
    "wrong_audience": _wrong_audience,
    "wrong_issuer": _wrong_issuer,
    "exp_not_a_number": _with_claim_values("exp", *_NOT_NUMBERS),
    "iat_not_a_number": _with_claim_values("iat", *_NOT_NUMBERS),
    "nbf_not_a_number": _with_claim_values("nbf", *_NOT_NUMBERS),
    "exp_past": _shifted("exp", -1, -30, -3600, -(10**9), -0.5),
    "exp_fraction": _shifted("exp", 60.5, 100.25),
    "exp_far": _with_claim_values("exp", 10**12, 1e12, 10**30, 1e300),
    "nbf_past": _shifted("nbf", 0, -60, -0.5, -(10**9)),
    "nbf_future": _shifted("nbf", 120, 3600, 10**9, 120.5),
    "iat_future": _shifted("iat", 120, 3600, 10**9, 120.5),
    "iat_past": _shifted("iat", -10, -3600, -(10**9)),
    "sub_not_a_string": _with_claim_values("sub", *_NOT_STRINGS),
    "jti_not_a_string": _with_claim_values("jti", *_NOT_STRINGS),
    "client_id_not_a_string": _with_claim_values("client_id", *_NOT_STRINGS),
    "scope_not_a_string": _with_claim_values("scope", 5, True, None, ["read"], {"read": 1}),
    "cnf": _with_claims({"cnf": {"jkt": "x"}}, {"cnf": "x"}),
}
MUTATORS: Final[Mapping[str, Mutator]] = {**RAW, **SIGNED}
KINDS: Final = tuple(MUTATORS)

# The token still says the same: a verifier that follows the RFCs accepts it.
HARMLESS: Final = frozenset({"header_extra", "claim_extra", "exp_fraction", "nbf_past"})
# Depends on the kind of token (assertion or access token) and on the settings of the verifier.
OPEN: Final = frozenset(
    {
        *("no_kid", "no_typ", "no_other_claim", "exp_far", "iat_past", "scope_not_a_string"),
        *("client_id_not_a_string", "cnf"),
    }
)
# Nothing that groat reads may be accepted after one of these.
MUST_FAIL: Final = frozenset(KINDS) - HARMLESS - OPEN
