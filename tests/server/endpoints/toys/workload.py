"""A toy method beside private_key_jwt, by the same parameters: a platform asserts for its workloads, `iss` is the platform."""

from groat.protocol import jose
from groat.protocol.client_auth import Method
from groat.protocol.errors import InvalidClient, JoseError
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import (
    AuthenticatedClient,
    Client,
    ClientRequest,
    Credential,
    OneTimeKind,
    OneTimeValue,
    Policy,
)
from groat.protocol.passing import passing

NAME = "workload"
PLATFORM = "https://platform.example"
PLATFORM_KEY = generate_private_key("ES256")


@passing()
class Statement(Credential):
    """What the platform says of the client, whose id its `sub` ends in."""

    jwt: jose.UnverifiedJwt


def read(request: ClientRequest) -> Statement | None:
    """An assertion of the platform; any other is for the rows below."""
    try:
        jwt = jose.parse_jwt(request.credentials["client_assertion"])
    except JoseError:
        return None
    if jwt.claims.get("iss") != PLATFORM:
        return None
    return Statement(NAME, str(jwt.claims["sub"]).removeprefix("workload:"), jwt)


def prove(credential: Statement, client: Client | None, policy: Policy, now: float) -> AuthenticatedClient:
    try:
        jose.verify_signature(credential.jwt, PLATFORM_KEY.public)
    except JoseError:
        raise InvalidClient("assertion_signature", "not signed by the platform") from None
    if client is None:
        raise InvalidClient("client_unknown", "no such workload")
    claims = credential.jwt.claims
    once = OneTimeValue(OneTimeKind.ASSERTION, client.client_id, f"{PLATFORM} {claims['jti']}", claims["exp"], now)
    return AuthenticatedClient(client, NAME, once=once)


ROW = Method(NAME, ("client_assertion", "client_assertion_type"), read, prove)
