"""Writing tokens, good ones and every kind of bad one."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from groat.protocol import jose, strict_json
from groat.protocol.jwk import PrivateKey, base64url_encode

Claims = Mapping[str, Any]


def header(key: PrivateKey, typ: str | None) -> dict[str, str]:
    """The JOSE header of a token by this key; `typ` None leaves it out."""
    return {"alg": key.algorithm, "kid": key.kid} | ({} if typ is None else {"typ": typ})


def signed(members: Mapping[str, str], claims: Claims, key: PrivateKey) -> str:
    """A compact JWS with this header. Raises TypeError, ValueError for claims that JSON cannot hold."""
    data = _data(members, claims)
    return _token(data, jose.sign(data, key))


def bad_tokens(claims: Claims, key: PrivateKey, stranger: PrivateKey) -> dict[str, str]:
    """Tokens that no API may accept, made of the claims of a good one, by what is wrong with each.

    `key`: the one that the issuer publishes; `stranger`: one that it has never seen, for the same algorithm.
    """
    now, good = claims["iat"], header(key, "at+jwt")
    whole = signed(good, claims, key)
    spoilt: dict[str, Claims] = {
        "expired": {**claims, "iat": now - 1200, "exp": now - 600},
        "not yet valid": {**claims, "nbf": now + 3600},
        "another audience": {**claims, "aud": f"{claims['aud']}/other"},
        "another issuer": {**claims, "iss": f"{claims['iss']}/other"},
        "no expiry": {name: value for name, value in claims.items() if name != "exp"},
        "bound to a key": {**claims, "cnf": {"jkt": hashlib.sha256(b"nobody's key").hexdigest()[:43]}},
    }
    return {
        **{name: signed(good, words, key) for name, words in spoilt.items()},
        "no access token by its type": signed(header(key, "JWT"), claims, key),
        "unknown key": signed(header(stranger, "at+jwt"), claims, stranger),
        "another key under a known kid": signed(good, claims, stranger),
        "changed after signing": _changed(whole, good, {**claims, "scope": "admin"}),
        "not signed at all": _token(_data({**good, "alg": "none"}, claims), b""),
        "HMAC with the public key": _confused(key, good, claims),
        "no token": "not-a-token",
    }


def _data(members: Mapping[str, str], claims: Claims) -> bytes:
    return jose.signing_input(base64url_encode(strict_json.dumps(dict(members))), strict_json.dumps(dict(claims)))


def _token(data: bytes, signature: bytes) -> str:
    return (data + b"." + base64url_encode(signature)).decode("ascii")


def _changed(whole: str, members: Mapping[str, str], claims: Claims) -> str:
    """Other claims under the signature that was made for the first ones."""
    return f"{_data(members, claims).decode('ascii')}.{whole.rpartition('.')[2]}"


def _confused(key: PrivateKey, members: Mapping[str, str], claims: Claims) -> str:
    """What passes where the token names the algorithm, and the public key becomes a secret (RFC 8725 2.1)."""
    data = _data({**members, "alg": "HS256"}, claims)
    secret = key.native.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return _token(data, hmac.digest(secret, data, "sha256"))
