"""Every refusal the RFCs name: one class, its code and its status.

    OAuthError                      the token endpoint says no (RFC 6749 5.2)
    ├── InvalidRequest              400  invalid_request
    │   ├── NotFound                404
    │   ├── MethodNotAllowed        405
    │   ├── NotAcceptable           406
    │   ├── RequestTimeout          408
    │   ├── PayloadTooLarge         413
    │   └── NotOffered              501
    ├── InvalidClient               401  invalid_client
    ├── InvalidGrant                400  invalid_grant
    ├── InvalidDpopProof            400  invalid_dpop_proof (RFC 9449 5)
    ├── UseDpopNonce                400  use_dpop_nonce (RFC 9449 8)
    ├── UnauthorizedClient          400  unauthorized_client
    ├── UnsupportedTokenType        400  unsupported_token_type (RFC 7009 2.2.1)
    ├── InvalidCallerToken          401  invalid_token (RFC 6750 3.1), of who asks about another token
    ├── UnsupportedGrantType        400  unsupported_grant_type
    ├── InvalidScope                400  invalid_scope
    ├── InvalidTarget               400  invalid_target (RFC 8707 2)
    ├── UnsupportedResponseType     400  unsupported_response_type (RFC 6749 4.1.2.1)
    ├── TooManyRequests             429  temporarily_unavailable
    ├── TemporarilyUnavailable      503  temporarily_unavailable
    └── ServerError                 500  server_error
    VerificationError               an API says no (RFC 6750 3.1)
    ├── MissingToken                401  a challenge without any error
    ├── InvalidBearerRequest        400  invalid_request
    ├── InvalidToken                401  invalid_token
    ├── InvalidProof                401  invalid_dpop_proof (RFC 9449 7.1)
    ├── ProofNonceRequired          401  use_dpop_nonce (RFC 9449 9)
    ├── InsufficientScope           403  insufficient_scope
    └── KeysUnavailable             503  no challenge: the caller did nothing wrong
        ├── StatusUnavailable       503
        └── ProofsUnavailable       503
            └── ReplayStoreUnavailable  503
    JoseError                       a JWT or a JWK breaks a rule; the caller of the rule decides what that means
    CertificateError                a certificate of a caller cannot be had from what came; the same
    ConfigError                     the operator wrote something wrong; all findings at once

`description` is a fixed phrase for the peer. `reason` (one of reasons.py) and `hint` are for the log alone, and never
hold a secret.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class OAuthError(Exception):
    """A refusal of the token endpoint, RFC 6749 5.2."""

    code: ClassVar[str]
    status: ClassVar[int] = 400
    description: ClassVar[str]

    def __init__(self, reason: str, hint: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.retry_after = retry_after

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What its answer says outside of the body, names in lower case; a kind of refusal may add its own."""
        return () if self.retry_after is None else (("retry-after", str(self.retry_after)),)


class InvalidRequest(OAuthError):
    code = "invalid_request"
    description = "The request is malformed."


class NotFound(InvalidRequest):
    status = 404
    description = "There is nothing at this path."


class MethodNotAllowed(InvalidRequest):
    """`hint`: those that are allowed, as the answer lists them."""

    status = 405
    description = "The method is not allowed here."

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*super().headers, ("allow", self.hint))


class NotAcceptable(InvalidRequest):
    status = 406
    description = "This is not served in any form that is accepted."


class NotOffered(InvalidRequest):
    status = 501
    description = "This is not offered here."


class RequestTimeout(InvalidRequest):
    status = 408
    description = "The request body did not arrive in time."


class PayloadTooLarge(InvalidRequest):
    status = 413
    description = "The request body is too large."


class InvalidClient(OAuthError):
    """`unproven`: the signature fits no key that is known of the client, or there is no such client."""

    code = "invalid_client"
    status = 401
    description = "Client authentication failed."
    unproven: bool = False


class InvalidGrant(OAuthError):
    """A grant that proves nothing: the same bytes for every cause (RFC 7523 3.1)."""

    code = "invalid_grant"
    description = "The assertion is invalid, or nobody may have a token for it."


class InvalidDpopProof(OAuthError):
    code = "invalid_dpop_proof"
    description = "The proof of possession is missing or invalid."


class UseDpopNonce(OAuthError):
    """`nonce`: the one to try again with; nothing of the request was used up."""

    code = "use_dpop_nonce"
    description = "The proof of possession needs the nonce of this answer."

    nonce: str = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*super().headers, ("dpop-nonce", self.nonce))


class UnauthorizedClient(OAuthError):
    code = "unauthorized_client"
    description = "The client may not use this grant type."


class UnsupportedTokenType(OAuthError):
    code = "unsupported_token_type"
    description = "Tokens of this kind cannot be revoked."


class InvalidCallerToken(OAuthError):
    """The access token of somebody who asks about another one lets him ask nothing (RFC 7662 2.3)."""

    code = "invalid_token"
    status = 401
    description = "The access token does not let its bearer ask about tokens."

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*super().headers, ("www-authenticate", f'Bearer realm="groat", error="{self.code}"'))


class UnsupportedGrantType(OAuthError):
    code = "unsupported_grant_type"
    description = "The grant type is not supported."


class InvalidScope(OAuthError):
    code = "invalid_scope"
    description = "The requested scope is malformed, unknown or not granted to the client."


class InvalidTarget(OAuthError):
    code = "invalid_target"
    description = "The requested resource is malformed, unknown or not granted to the client."


class UnsupportedResponseType(OAuthError):
    code = "unsupported_response_type"
    description = "This server has no authorization requests. Ask the token endpoint, as the client itself."


class TooManyRequests(OAuthError):
    code = "temporarily_unavailable"
    status = 429
    description = "Too many failed attempts. Try again later."


class TemporarilyUnavailable(OAuthError):
    code = "temporarily_unavailable"
    status = 503
    description = "The server cannot answer at the moment. Try again later."


class ServerError(OAuthError):
    code = "server_error"
    status = 500
    description = "The server met an unexpected condition."


class VerificationError(Exception):
    """An access token, or the request that should carry one, is refused, RFC 6750 3.1.

    Attributes:
        status: the HTTP status to answer with.
        code: the RFC 6750 error code, or None where the challenge must not carry one.
        reason: one word for logs and metrics, of `reasons.VERIFIER`.
        required: the scopes that the request needed, sorted; a machine client can ask for them (RFC 9728 5.1).
        resource_metadata: the URL that describes the API, where it is served (RFC 9728 5.1).
        tried: the scheme that the caller used, and that the error is about; Bearer where he used none.
        proof_algorithms: those of proofs, where the scheme DPoP is offered (RFC 9449 7.1).
        bearer: whether Bearer is offered.
        nonce: the one to try again with (RFC 9449 9), or None.
        www_authenticate: the value of the WWW-Authenticate header, or None where none belongs (503).
    """

    status: ClassVar[int]
    code: ClassVar[str | None] = None
    description: ClassVar[str] = ""
    realm: str = "api"
    required: tuple[str, ...] = ()
    resource_metadata: str | None = None
    tried: str = "Bearer"
    proof_algorithms: tuple[str, ...] = ()
    bearer: bool = True
    nonce: str | None = None

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    @property
    def www_authenticate(self) -> str | None:
        offered = ["Bearer"] if self.bearer or not self.proof_algorithms else []
        if self.proof_algorithms:
            # The one with the error first: some clients look at how the header begins (requests-oauth2client).
            offered.insert(0 if self.tried == "DPoP" else 1, "DPoP")
        return ", ".join(map(self._challenge, offered))

    def _challenge(self, scheme: str) -> str:
        parts = [f'realm="{self.realm}"']
        if self.code and scheme == self.tried:
            parts += [f'error="{self.code}"', f'error_description="{self.description}"']
        if self.required:
            parts.append(f'scope="{" ".join(self.required)}"')
        if self.resource_metadata is not None:
            parts.append(f'resource_metadata="{self.resource_metadata}"')
        if scheme == "DPoP":
            parts.append(f'algs="{" ".join(self.proof_algorithms)}"')
        return f"{scheme} " + ", ".join(parts)


class MissingToken(VerificationError):
    """Nobody said who he is; the challenge names no error, since nothing was wrong with what he said (RFC 6750 3.1)."""

    status = 401

    def __init__(self, hint: str = "") -> None:
        super().__init__("missing", hint)


class InvalidBearerRequest(VerificationError):
    """A token is there, but not in the one way that a request may carry it (RFC 6750 2)."""

    status = 400
    code = "invalid_request"
    description = "The request carries its access token in a malformed way."


class InvalidToken(VerificationError):
    """The token proves nothing here: its form, signature, issuer, audience, time or kind (RFC 9068 4)."""

    status = 401
    code = "invalid_token"
    description = "The access token is invalid or has expired."


class InvalidProof(VerificationError):
    """The token is bound to a key, and the proof that came with it is none, or none for this request."""

    status = 401
    code = "invalid_dpop_proof"
    description = "The proof of possession is missing or invalid."


class ProofNonceRequired(VerificationError):
    """The proof needs the nonce of this answer; nothing was used up."""

    status = 401
    code = "use_dpop_nonce"
    description = "The proof of possession needs the nonce of this answer."


class InsufficientScope(VerificationError):
    """The token is good but grants too little; `required` names what is needed (RFC 6750 3.1)."""

    status = 403
    code = "insufficient_scope"
    description = "The access token does not grant the required scope."

    def __init__(self, required: Iterable[str], hint: str = "") -> None:
        super().__init__("scope", hint)
        self.required = tuple(sorted(required))


class KeysUnavailable(VerificationError):
    """The issuer's keys cannot be had just now: 503 and Retry-After (seconds), never 401.

    `request_id`: what the issuer calls the request that failed, where it answered one; it stands in the hint, too.
    """

    status = 503

    def __init__(self, hint: str = "", retry_after: int = 5, request_id: str | None = None) -> None:
        super().__init__("key_unavailable", hint)
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def www_authenticate(self) -> None:
        return None


class StatusUnavailable(KeysUnavailable):
    """Nobody can tell just now whether the token was taken back: 503, unless the API chose to accept it."""

    def __init__(self, hint: str = "", retry_after: int = 5, request_id: str | None = None) -> None:
        super().__init__(hint, retry_after, request_id)
        self.reason = "status_unknown"


class ProofsUnavailable(KeysUnavailable):
    """No proof can be checked just now, because there is no room to remember it: 503, never accepted."""

    def __init__(self, hint: str = "", retry_after: int = 5) -> None:
        super().__init__(hint, retry_after)
        self.reason = "dpop_full"


class ReplayStoreUnavailable(ProofsUnavailable):
    """Where processes remember proofs together cannot be asked: 503, never accepted."""

    def __init__(self, hint: str = "", retry_after: int = 5) -> None:
        super().__init__(hint, retry_after)
        self.reason = "dpop_store"


class JoseError(Exception):
    """A JWT or JWK breaks a rule; `reason` is one word, `hint` a sentence without any secret."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(hint or reason)
        self.reason = reason
        self.hint = hint or reason


class CertificateError(Exception):
    """No certificate can be had from what came: `reason` is one word, `hint` a sentence.

    "malformed": the bytes are no certificate. "header": a proxy writes it in another way than it should. "dialect": it
    lets a header of another dialect through, which a caller may have written.
    """

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(hint)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in a configuration: where it stands, what is wrong, what would be right.

    `setting`: which one it is about, where whoever found it knows; a reader of files can then say where it stands.
    """

    message: str
    file: str | None = None
    line: int | None = None
    setting: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else ""
        return f"{place}{self.message}" if place or not self.file else f"{self.file}: {self.message}"


class ConfigError(Exception):
    """The operator wrote something wrong; carries every finding, not only the first."""

    def __init__(self, *findings: Finding | str) -> None:
        self.findings = tuple(f if isinstance(f, Finding) else Finding(f) for f in findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))
