"""What the admin API refuses, as problems of RFC 9457: one class for each status, whose reason is one of reasons.py.

    AdminRefusal
    ├── AdminMalformed         400  the request cannot be read
    ├── AdminUnauthenticated   401  nobody is known who asks; a challenge (RFC 6750 3, RFC 9449 7.1)
    ├── AdminForbidden         403  whoever asks may not do that
    ├── AdminUnknown           404  there is no such thing
    ├── AdminConflict          409  it collides with what is there
    ├── AdminStale             412  it is no more what If-Match says (RFC 9110 13.1.1)
    ├── AdminMediaType         415  the body is of another type
    ├── AdminUnprocessable     422  the request can be read, and cannot be right
    └── AdminUnmatched         428  a change without If-Match (RFC 6585 3)

Unlike those of the token endpoint these tell their cause to whoever asks (`hint`): an operator is to mend it.
"""

from typing import ClassVar

from groat.protocol.errors import OAuthError


class AdminRefusal(OAuthError):
    """`hint` is shown to whoever asks, unless `silent`; never a secret."""

    code = "invalid_request"
    silent: ClassVar[bool] = False


class AdminMalformed(AdminRefusal):
    description = "The request is malformed."


class AdminUnauthenticated(AdminRefusal):
    """`challenge`: the value of WWW-Authenticate. A stranger learns nothing more."""

    code = "invalid_token"
    status = 401
    description = "Present an access token of this server for its admin API."
    silent = True
    challenge: str = "Bearer"
    nonce: str | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        nonce = () if self.nonce is None else (("dpop-nonce", self.nonce),)
        return (*super().headers, ("www-authenticate", self.challenge), *nonce)


class AdminForbidden(AdminRefusal):
    """`challenge`: where a token lacks a scope, which it would take (RFC 6750 3.1)."""

    code = "insufficient_scope"
    status = 403
    description = "Whoever asks may not do this."
    challenge: str = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (*super().headers, ("www-authenticate", self.challenge)) if self.challenge else super().headers


class AdminUnknown(AdminRefusal):
    status = 404
    description = "There is no such thing."


class AdminConflict(AdminRefusal):
    status = 409
    description = "The change collides with what is registered."


class AdminStale(AdminRefusal):
    status = 412
    description = "It was changed since it was read."


class AdminMediaType(AdminRefusal):
    status = 415
    description = "The body must be JSON."


class AdminUnprocessable(AdminRefusal):
    status = 422
    description = "The request is well-formed, and cannot be right."


class AdminUnmatched(AdminRefusal):
    status = 428
    description = "A change needs If-Match with the ETag of what was read."
