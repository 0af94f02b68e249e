"""Good keys, assertions and access tokens, and ways to spoil exactly one thing of them.

The names are those of the rule list: ISS the issuer, TE its token endpoint, RES the API, CID the client. Everything is
written with the standard library's JSON encoder, so that a fault of the strict one cannot hide itself.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from joserfc.jwk import RSAKey

from groat.protocol import jose
from groat.protocol.access_token import Caller, Expectations, check_access_token, parse_access_token
from groat.protocol.client_auth import authenticate_client, read_credential
from groat.protocol.client_settings import ClientSettings, SettingsChange
from groat.protocol.errors import InvalidClient, InvalidToken, JoseError, OAuthError, VerificationError
from groat.protocol.jwk import ALGORITHMS, PrivateKey, PublicKey, base64url_encode, generate_private_key, private_key
from groat.protocol.models import Api, AuthenticatedClient, Client, Permission, Policy, Profile, TokenRequest
from groat.protocol.token_request import form_fields, parse_token_request

ISS: Final = "https://as.example"
TE: Final = f"{ISS}/token"
RES: Final = "https://api.example"
CID: Final = "billing"
NOW: Final = 1_800_000_000
JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class _Absent:
    """Marks a member that is to be left out."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()

# One RSA pair serves all six RSA names: generation is slow, and each PrivateKey is still bound to one algorithm.
_RSA_PAIR: Final = RSAKey.generate_key(2048)
KEYS: Final[Mapping[str, PrivateKey]] = {
    name: private_key(_RSA_PAIR, name) if known.key_type == "RSA" else generate_private_key(name)
    for name, known in ALGORITHMS.items()
}
CLIENT_KEY: Final = KEYS["ES256"]
AS_KEY: Final = generate_private_key("ES256")
OTHER_KEY: Final = generate_private_key("ES256")

API: Final = Api("orders", RES, frozenset({"read", "write"}))
POLICY: Final = Policy(ISS)
FAPI2: Final = Policy(ISS, profile=Profile.FAPI2)
CLIENT: Final = Client(
    CID,
    (CLIENT_KEY.public,),
    (Permission(API, frozenset({"read"})),),
    settings=ClientSettings(default_scopes=("read",)),
)
EXPECTED: Final = Expectations(ISS, RES)


def segment(value: Any) -> str:
    """Base64url of bytes as they are, of anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64url_encode(raw).decode()


def compact(header: Any, claims: Any, key: PrivateKey) -> str:
    """A JWS over any header and claims, signed by the key whatever the header says."""
    data = f"{segment(header)}.{segment(claims)}"
    return f"{data}.{base64url_encode(jose.sign(data.encode(), key)).decode()}"


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The members with some replaced, and those set to ABSENT left out."""
    return {name: value for name, value in {**members, **changes}.items() if value is not ABSENT}


def assertion_claims(**changes: Any) -> dict[str, Any]:
    """The claims of the good assertion A, with changes."""
    good = {"iss": CID, "sub": CID, "aud": ISS, "iat": NOW, "exp": NOW + 60, "jti": "j" * 22}
    return changed(good, changes)


def header_of(key: PrivateKey, typ: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JOSE header that belongs to a key, with changes."""
    return changed({"alg": key.algorithm, "kid": key.kid, "typ": typ}, changes or {})


def assertion(key: PrivateKey = CLIENT_KEY, header: Mapping[str, Any] | None = None, /, **claims: Any) -> str:
    """A[x=y]: the good assertion, freshly signed, with changes to its header and claims."""
    return compact(header_of(key, "client-authentication+jwt", header), assertion_claims(**claims), key)


def token_claims(**changes: Any) -> dict[str, Any]:
    """The claims of the good access token T, with changes."""
    good = {
        "iss": ISS,
        "sub": CID,
        "aud": RES,
        "client_id": CID,
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "t" * 22,
        "scope": "read",
    }
    return changed(good, changes)


def access_token(key: PrivateKey = AS_KEY, header: Mapping[str, Any] | None = None, /, **claims: Any) -> str:
    """T[x=y]: the good access token, freshly signed, with changes to its header and claims."""
    return compact(header_of(key, "at+jwt", header), token_claims(**claims), key)


def asking(scope: str | None = None, targets: tuple[str, ...] = ()) -> TokenRequest:
    """A request for a client's own token; its credential has been read."""
    parameters = {} if scope is None else {"scope": scope}
    return TokenRequest(grant_type="client_credentials", parameters=parameters, credentials={}, targets=targets)


def proven(client: Client = CLIENT) -> AuthenticatedClient:
    """The client, as authenticated."""
    return AuthenticatedClient(client, "private_key_jwt")


def authenticate(
    token: str,
    client: Client | None = CLIENT,
    policy: Policy = POLICY,
    now: float = NOW,
    **form: str,
) -> AuthenticatedClient:
    """BASE: send an assertion through the same steps as the token endpoint, up to authentication."""
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": token,
        **form,
    }
    request = parse_token_request(form_fields(urlencode(fields).encode()), ())
    return authenticate_client(read_credential(request), client, policy, now)


def verify(
    token: str | bytes,
    expected: Expectations = EXPECTED,
    now: float = NOW,
    keys: tuple[PublicKey, ...] = (AS_KEY.public,),
) -> Caller:
    """Verify an access token as an API does, with the given key set of its issuer."""
    jwt = parse_access_token(token, expected)
    try:
        key = jose.select_key(jwt.header, keys)
    except JoseError as error:
        raise InvalidToken(error.reason, error.hint) from None
    return check_access_token(jwt, key, expected, now)


@contextmanager
def refused(kind: type[OAuthError | VerificationError | JoseError], reason: str) -> Iterator[Any]:
    """Demand exactly this refusal, for exactly this reason: another defect must not make a row pass."""
    with pytest.raises(kind) as caught:
        yield caught
    assert type(caught.value) is kind
    assert caught.value.reason == reason


def client_refused(reason: str) -> Any:
    """Demand invalid_client for this reason."""
    return refused(InvalidClient, reason)


def token_refused(reason: str) -> Any:
    """Demand invalid_token for this reason."""
    return refused(InvalidToken, reason)


def jose_refused(reason: str) -> Any:
    """Demand a JoseError for this reason."""
    return refused(JoseError, reason)


def having(client: Client, **settings: Any) -> Client:
    """The client with these settings besides those that it has."""
    return replace(client, settings=SettingsChange.of(settings).applied(client.settings))
