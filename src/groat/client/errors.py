"""Everything that can go wrong for a caller: one class per thing the caller may do about it.

    ClientError                     no token, or no answer to trust
    ├── KeyUnusable                 the key file, signer or workload token cannot be used
    ├── EnvironmentUnusable         a variable names a proxy or certificates that cannot be used
    ├── MetadataInvalid             the metadata is not this issuer's, or offers nothing that we can do
    ├── ServerUnreachable           no answer: connection, TLS, timeout, 429 or 5xx without an OAuth error
    ├── TokenRequestRefused         the server answered with an OAuth error (RFC 6749 5.2)
    ├── TokenResponseInvalid        the answer breaks RFC 6749 5.1: a redirect, no JSON, too large, unknown token_type
    │   └── ScopeNarrowed           a good token that grants less than was asked for
    ├── OriginNotAllowed            the request goes where the token must not go
    ├── IssuerNotTrusted            the API takes tokens of other issuers only; raised by `check_api` alone
    ├── InsufficientScope           the API wants more scopes (RFC 6750 3.1); raised by `raise_for_scope` alone
    └── ClientClosed                the MachineClient was closed
    ConfigError                     wrong arguments or environment; see groat.protocol.errors
    └── HttpClientMissing           neither httpx2 nor httpx is installed; also an ImportError

None of them carries a token, an assertion or a key. Text that came from a server is made printable, cut, and long
base64url runs in it are masked, because some servers quote what they refuse.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Self

from groat.protocol.errors import ConfigError
from groat.protocol.jwk import printable

MAX_FOREIGN_CHARS: Final = 200
_REQUEST_IDS: Final = ("x-request-id", "x-correlation-id", "x-ms-request-id")
_LIKE_A_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{40,}(?:\.[A-Za-z0-9_-]*)*")


class ClientError(Exception):
    """The root; `hint` says what to do, `transient` whether the same call may succeed later.

    `retry_after`: seconds that the server asked to be left alone, or None. `request_id`: what the server calls the
    request in its own log, printable, or None.
    """

    request_id: str | None = None

    def __init__(
        self, message: str, *, hint: str = "", transient: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.transient = transient
        self.retry_after = retry_after

    def __str__(self) -> str:
        said = f"{self.args[0]} ({self.hint})" if self.hint else str(self.args[0])
        return f"{said} [request id {self.request_id}]" if self.request_id else said

    def about(self, request_id: str | None) -> Self:
        """The same error, for the request that the server gave this id."""
        self.request_id = request_id
        return self


class KeyUnusable(ClientError):
    """The client cannot prove who it is: no key, an unsafe key, or a key for another algorithm."""


class EnvironmentUnusable(ClientError):
    """A variable of the environment names a proxy or certificates that cannot be used; nothing was sent."""


class MetadataInvalid(ClientError):
    """The authorization server's metadata cannot be used (RFC 8414 3.3); nothing was signed or sent."""


class ServerUnreachable(ClientError):
    """No answer from the authorization server. `status`: its HTTP status, or None if there was none at all."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        transient: bool = True,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint, transient=transient, retry_after=retry_after)
        self.status = status


class TokenRequestRefused(ClientError):
    """An OAuth error answer. `code`: the RFC 6749 5.2 code; `description`: the server's text; `status`: HTTP."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        description: str = "",
        status: int = 400,
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        transient = status == 429 or status >= 500
        super().__init__(message, hint=hint, transient=transient, retry_after=retry_after)
        self.code = code
        self.description = description
        self.status = status


class TokenResponseInvalid(ClientError):
    """The answer is no token response. `status`: its HTTP status."""

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class ScopeNarrowed(TokenResponseInvalid):
    """The server granted less than was asked (RFC 6749 5.1). `granted` and `missing`: sorted scope names."""

    def __init__(self, message: str, *, granted: Iterable[str] = (), missing: Iterable[str] = ()) -> None:
        super().__init__(message, hint="ask for less, or pass allow_narrowed_scope=True", status=200)
        self.granted = tuple(sorted(granted))
        self.missing = tuple(sorted(missing))


class OriginNotAllowed(ClientError):
    """A request would carry the token to an origin that it is not for; nothing was sent."""


class InsufficientScope(ClientError):
    """An API answered 403 insufficient_scope. `required`: the scopes that its challenge names, sorted; maybe none."""

    def __init__(self, message: str, *, required: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.required = tuple(sorted(required))


class IssuerNotTrusted(ClientError):
    """The API's metadata list other issuers than the client's (RFC 9728). `issuers`: as listed; none was asked."""

    def __init__(self, message: str, *, issuers: Iterable[str] = ()) -> None:
        super().__init__(
            message, hint="the API's operator adds this issuer, or the client is configured for one of those"
        )
        self.issuers = tuple(issuers)


class ClientClosed(ClientError):
    """The MachineClient was closed."""


class HttpClientMissing(ConfigError, ImportError):
    """No HTTP library; both halves of the name are true: an installation mistake, found by an import."""

    def __init__(self) -> None:
        super().__init__('groat.client needs httpx2 (or httpx): pip install "groat[client]"')

    def __reduce__(self) -> tuple[type["HttpClientMissing"], tuple[()]]:
        return HttpClientMissing, ()


def request_id(headers: Mapping[str, str]) -> str | None:
    """What a server calls a request in its log: printable, at most 64 characters. Names in lower case, or in any."""
    found = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    return None if found is None else printable(found)


def foreign(text: str) -> str:
    """A server's text for our errors and logs: printable ASCII, at most 200 characters, secrets masked.

    Not recognized: a secret shorter than 40 characters.
    """
    masked = _LIKE_A_SECRET.sub("***", text)
    return "".join(printable(masked[at : at + 64]) for at in range(0, min(len(masked), MAX_FOREIGN_CHARS), 64))
