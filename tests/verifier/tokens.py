"""Access tokens, good and spoilt, written with the standard library so that no fault of ours can hide itself."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

from groat.protocol import jose
from groat.protocol.jwk import PrivateKey, base64url_encode
from groat.verifier import InvalidToken

AUD: Final = "https://orders.example.com"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """The claims of a good access token of `billing` for the orders API."""
    now = int(time.time())
    good = {
        "iss": issuer,
        "sub": "billing",
        "aud": AUD,
        "client_id": "billing",
        "iat": now,
        "exp": now + 600,
        "jti": "0123456789abcdef0123456789abcdef",
        "scope": "orders:read",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ABSENT}


def segment(value: Any) -> bytes:
    """One base64url part: JSON of a value, or bytes as they are."""
    return base64url_encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def signed(
    payload: Any,
    key: PrivateKey,
    *,
    typ: str | None = "at+jwt",
    kid: str | None = None,
    header: Mapping[str, Any] | bytes | None = None,
) -> str:
    """Sign whatever it is; `header` replaces the whole header."""
    if header is None:
        members = {"alg": key.algorithm, "kid": kid, "typ": typ}
        header = {name: value for name, value in members.items() if value is not None}
    data = segment(header) + b"." + segment(payload)
    return (data + b"." + base64url_encode(jose.sign(data, key))).decode()


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """The token is refused as invalid_token, for this reason and no other."""
    with pytest.raises(InvalidToken) as caught:
        yield
    assert caught.value.reason == reason
    assert caught.value.status == 401
    assert 'error="invalid_token"' in (caught.value.www_authenticate or "")
