"""Who asks: the table of client authentication methods, one module and one row each, and what is the same for all.

Every failure is InvalidClient with one outside appearance; its reason is for the log. A method may refuse a disabled
client earlier than the table does, where order.py says when; none can let it pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from groat.protocol.client_auth import private_key_jwt, tls_certificate
from groat.protocol.client_auth.standing import disabled
from groat.protocol.client_auth.workload import read_foreign
from groat.protocol.models import AuthenticatedClient, Client, ClientRequest, Credential, Policy

Presented = TypeVar("Presented", bound=Credential)


@dataclass(frozen=True, slots=True)
class Method(Generic[Presented]):
    """A way to prove who asks, by the name that the metadata gives it (RFC 8414 2).

    `parameters`: of the form. The first is the credential, whose presence chooses the method; the others must come with
    it. A method without any is asked about every request. `read`: what is presented, as far as it can be told without
    the client; None: this is for a later row. `prove`: judge it by the registered client, or by nobody (None) at the
    same cost. Both raise InvalidClient. `also`: another name, where what is registered tells the two apart.
    """

    name: str
    parameters: tuple[str, ...]
    read: Callable[[ClientRequest], Presented | None]
    prove: Callable[[Presented, Client | None, Policy, float], AuthenticatedClient]
    also: str = ""


_ROWS: Final[tuple[Method[Any], ...]] = (
    Method(private_key_jwt.NAME, private_key_jwt.PARAMETERS, private_key_jwt.read, private_key_jwt.prove),
    Method(tls_certificate.NAME, (), tls_certificate.read, tls_certificate.prove, also=tls_certificate.SELF_SIGNED),
)
CLIENT_AUTH_METHODS: Final[Mapping[str, Method[Any]]] = MappingProxyType({row.name: row for row in _ROWS})


def read_credential(request: ClientRequest) -> Credential:
    """Find out by which method the client wants to be known, and as whom; or that another issuer is to say it.

    Raises InvalidClient, InvalidGrant.
    """
    for name in CLIENT_AUTH_METHODS:
        method = CLIENT_AUTH_METHODS[name]
        if method.parameters and method.parameters[0] not in request.credentials:
            continue
        credential: Credential | None = method.read(request)
        if credential is not None:
            return credential
    return read_foreign(request)


def authenticate_client(
    credential: Credential, client: Client | None, policy: Policy, now: float
) -> AuthenticatedClient:
    """Judge a credential against the registered client, or against nobody (`client` None).

    `now`: epoch seconds. Raises InvalidClient. Not checked: whether what may be used but once was used before.
    """
    proof: AuthenticatedClient = CLIENT_AUTH_METHODS[credential.method].prove(credential, client, policy, now)
    if not proof.client.enabled:
        raise disabled(proof.client)
    return proof
