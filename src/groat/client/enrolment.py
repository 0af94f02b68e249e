"""Registering one's own next key: the pair is made here, and its private half stays here."""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from groat.client.errors import TokenRequestRefused, TokenResponseInvalid, foreign
from groat.client.token_endpoint import FORM_HEADERS
from groat.client.wire import Answer, Outgoing, Transport
from groat.protocol import strict_json
from groat.protocol.enrolment import ENDORSEMENT_TYP, PROOF_TYP, endorsement_claims, proof_claims
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import MAX_KID_CHARS, PrivateKey
from groat.protocol.uris import issuer_fault

DEADLINE: Final = 15.0
JTI_BYTES: Final = 16
# What a host gets wrong most easily, and the server's answer may not tell.
_NAMED_OTHERWISE: Final = (
    "the issuer must be written as the server writes it, with or without a final slash; this host's clock must be right"
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One client at one authorization server. `issuer`: as the server writes it; `now`: its clock must about agree.

    Raises ConfigError for an issuer that is no https URL (http is for loopback), ClientError for what the server says.
    """

    issuer: str
    client_id: str
    transport: Transport

    def by_code(self, key: PrivateKey, code: str) -> dict[str, Any]:
        """Register the key with a join code; returns client_id, kid and, where it ends by itself, expires_at."""
        return self._send({"proof": self._proof(key, code), "code": code})

    def by_key(self, key: PrivateKey, current: PrivateKey, retire_after: int | None = None) -> dict[str, Any]:
        """Register the key with the endorsement of the current one; returns the same as `by_code`.

        `retire_after`: in how many seconds the current one is to end; None leaves it as it is.
        """
        jti, thumbprint = secrets.token_urlsafe(JTI_BYTES), key.public.thumbprint
        claims = endorsement_claims(self.client_id, self.issuer, thumbprint, int(time.time()), jti, retire_after)
        endorsement = sign_jwt(claims, current, ENDORSEMENT_TYP)
        return self._send({"proof": self._proof(key, None), "endorsement": endorsement})

    def _proof(self, key: PrivateKey, code: str | None) -> str:
        claims = proof_claims(self.client_id, self.issuer, key.public.jwk, int(time.time()), code)
        return sign_jwt(claims, key, PROOF_TYP)

    def _send(self, fields: dict[str, str]) -> dict[str, Any]:
        if fault := issuer_fault(self.issuer):
            raise ConfigError(fault)
        url = self.issuer.rstrip("/") + "/client-keys"
        request = Outgoing("POST", url, FORM_HEADERS, urlencode(fields).encode())
        answer = self.transport.exchange(request, self.transport.until(DEADLINE))
        document = _document(answer)
        if answer.status in (200, 201):
            return _registered(document)
        code, description = (foreign(str(document.get(name) or "")) for name in ("error", "error_description"))
        hint = _NAMED_OTHERWISE if code == "invalid_request" else ""
        raise TokenRequestRefused(
            f"{self.issuer} refused the key", code=code, description=description, status=answer.status, hint=hint
        ).about(answer.request_id)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        return strict_json.loads_object(answer.body)
    except JoseError:
        said = f"the answer ({answer.status}) is no JSON object"
        raise TokenResponseInvalid(said, status=answer.status).about(answer.request_id) from None


def _registered(document: dict[str, Any]) -> dict[str, Any]:
    """What an answer may tell: names as printable text, an instant as a number, and nothing else."""
    given = {name: document[name] for name in ("client_id", "kid") if isinstance(document.get(name), str)}
    names = {name: ascii(value[:MAX_KID_CHARS])[1:-1] for name, value in given.items()}
    ends = document.get("expires_at")
    return {**names, "expires_at": ends} if type(ends) in (int, float) else names
