"""tls_client_auth and self_signed_tls_client_auth: the certificate of the handshake says who asks (RFC 8705 2).

Which of the two it is follows from what is registered: certificates themselves, or who may sign them and for which
name. A handshake proves itself, so there is nothing to use up.
"""

from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography import x509

from groat.protocol.certificate_chain import Path, find_path, leads_to_any, time_fault
from groat.protocol.certificate_names import has_name
from groat.protocol.client_auth.standing import disabled
from groat.protocol.client_certificate import ClientCertificate, decode_base64, parse_certificate
from groat.protocol.crl import REVOKED
from groat.protocol.errors import CertificateError, InvalidClient
from groat.protocol.grammar import CLIENT_ID
from groat.protocol.grants import jwt_bearer
from groat.protocol.jwk import printable
from groat.protocol.models import AuthenticatedClient, Client, ClientRequest, Credential, Policy
from groat.protocol.passing import passing
from groat.protocol.shell import command

NAME: Final = "tls_client_auth"
SELF_SIGNED: Final = "self_signed_tls_client_auth"
SLOT_SECONDS: Final = 60  # that a path is looked for in; its own times hold to the second


@passing()
class CertificateCredential(Credential):
    """Whose certificate came with the request, by the parameter client_id (RFC 8705 2)."""

    certificate: ClientCertificate


def read(request: ClientRequest) -> CertificateCredential | None:
    """What a request without any other proof says; None where no certificate came. Raises InvalidClient."""
    certificate, assertion = request.certificate, jwt_bearer.PARAMETERS[0]
    if certificate is None or request.auth_methods or request.parameters.get(assertion):
        return None
    if request.client_id is None or CLIENT_ID.fullmatch(request.client_id) is None:
        raise InvalidClient("certificate_client", "a certificate came and nothing else: client_id must say whose it is")
    return CertificateCredential(NAME, request.client_id, certificate)


def prove(credential: CertificateCredential, client: Client | None, policy: Policy, now: float) -> AuthenticatedClient:
    """Judge the certificate: one that is registered, or that is signed for the client's one name. Raises InvalidClient.

    What nobody has registered costs the same, whoever is registered and how (`leads_to_any`).
    """
    certificate, name = credential.certificate, credential.client_id
    if client is not None and b64encode(certificate.der).decode() in client.settings.certificates:
        return _by_itself(client, certificate, now)
    try:
        if client is None:
            leads_to_any(certificate, ())
            raise _unknown(name, certificate)
        path = _path(client, certificate, int(now) // SLOT_SECONDS)
    except CertificateError as error:
        raise InvalidClient("certificate_untrusted", f"the certificate counts nothing: {error.hint}") from None
    if not path.begin <= now <= path.end:
        raise InvalidClient("certificate_untrusted", "a certificate on the way to the authority is not valid now")
    _check_revocation(path, policy, now)
    if not client.enabled:
        raise disabled(client)
    return AuthenticatedClient(client, NAME, certificate=certificate.thumbprint)


def _check_revocation(path: Path, policy: Policy, now: float) -> None:
    """Behind everything else, so that only holders of a client's own certificates learn how long it takes."""
    try:
        policy.revocations.current().check(path.chain, now)
    except CertificateError as error:
        reason = "certificate_revoked" if error.reason == REVOKED else "certificate_list"
        raise InvalidClient(reason, error.hint) from None


# What is remembered are ways that were found; a client whose registration changes is another object.
@lru_cache(maxsize=512)
def _path(client: Client, certificate: ClientCertificate, slot: int) -> Path:
    """The way to an authority of the client, if it has its name. Raises CertificateError, InvalidClient."""
    authorities = _authorities(client.settings.certificate_ca)
    if not leads_to_any(certificate, authorities):
        raise _unregistered(client, certificate)
    # Only what such an authority has signed comes as far as here.
    leaf = parse_certificate(certificate.der)
    path = find_path(certificate, authorities, min((slot + 1) * SLOT_SECONDS, leaf.not_valid_after_utc.timestamp()))
    setting, wanted = client.settings.certificate_name or ("", "")
    if not has_name(leaf, setting, wanted):
        hint = f"{setting} of {client.client_id} is {wanted}, which the certificate does not have"
        raise InvalidClient("certificate_name", f"{hint}; its subject is {printable(leaf.subject.rfc4514_string())}")
    return path


@lru_cache(maxsize=512)
def _authorities(texts: tuple[str, ...]) -> Sequence[x509.Certificate]:
    return tuple(parse_certificate(decode_base64(text.encode())) for text in texts)


def _by_itself(client: Client, certificate: ClientCertificate, now: float) -> AuthenticatedClient:
    """By a registered certificate. No chain is looked at, but its dates are (RFC 8705 2.2)."""
    if fault := time_fault(parse_certificate(certificate.der), now):
        raise InvalidClient("certificate_untrusted", f"the registered certificate is not valid now: {fault}")
    if not client.enabled:
        raise disabled(client)
    return AuthenticatedClient(client, SELF_SIGNED, certificate=certificate.thumbprint)


def _unknown(name: str, certificate: ClientCertificate) -> InvalidClient:
    offer = command("client add", name, options="--allow API=SCOPE --certificate FILE")
    hint = f"certificate {certificate.thumbprint} came; no client {printable(name)} is registered. {offer}"
    return InvalidClient("client_unknown", hint)


def _unregistered(client: Client, certificate: ClientCertificate) -> InvalidClient:
    offer = command("client update", client.client_id, options="--certificate FILE")
    hint = f"certificate {certificate.thumbprint} is not that of {client.client_id}, nor signed for it. {offer}"
    return InvalidClient("certificate_unknown", hint)
