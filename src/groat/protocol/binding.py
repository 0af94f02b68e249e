"""What a token is bound to: nothing, a key, or a certificate. What two places say of it follows from one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from groat.protocol.errors import JoseError
from groat.protocol.jwk import base64url_decode

SHA256_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Who may present a token: whoever has it, or the holder of a key (RFC 9449 6.1) or a certificate (RFC 8705 3.1).

    `jkt`, `x5t_s256`: the SHA-256 thumbprint of the one or of the other, in base64url; at most one of them. Raises
    JoseError for what is no such thumbprint, and for both. Not checked: whether anybody has proven anything.
    """

    jkt: str | None = None
    x5t_s256: str | None = None
    # How the token is presented (RFC 6749 7.1): one that is bound to a certificate goes as a bearer token. No property,
    # because each answer of the token endpoint asks for it.
    token_type: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_type", "Bearer" if self.jkt is None else "DPoP")
        if self.jkt is not None and self.x5t_s256 is not None:
            raise JoseError("binding", "a token is bound to a key or to a certificate, not to both")
        for thumbprint in (self.jkt, self.x5t_s256):
            if thumbprint is not None and len(base64url_decode(thumbprint)) != SHA256_BYTES:
                raise JoseError("binding", f"a thumbprint has {SHA256_BYTES} bytes")

    @property
    def kind(self) -> str:
        """What proves it: "dpop" or "mtls"; empty where nothing has to be proven."""
        if self.jkt is not None:
            return "dpop"
        return "" if self.x5t_s256 is None else "mtls"

    @property
    def thumbprint(self) -> str:
        """That of the key or certificate; empty where there is none."""
        return self.jkt or self.x5t_s256 or ""

    @property
    def cnf(self) -> Mapping[str, str] | None:
        """The claim of that name (RFC 7800 3.1); None where there is nothing to confirm."""
        if self.jkt is not None:
            return {"jkt": self.jkt}
        return None if self.x5t_s256 is None else {"x5t#S256": self.x5t_s256}


UNBOUND: Final = Confirmation()
_MEMBERS: Final = {"jkt": "jkt", "x5t#S256": "x5t_s256"}


def read_confirmation(cnf: Any) -> Confirmation:
    """What a claim `cnf` says. Raises JoseError unless it is one thing that can be proven (RFC 7800 3.1).

    Several members might be several proofs to ask for, and an unknown one is a demand that nobody here understands.
    """
    if not isinstance(cnf, dict) or len(cnf) != 1:
        raise JoseError("binding", "cnf must be an object with one member")
    ((name, value),) = cnf.items()
    if name not in _MEMBERS or not isinstance(value, str):
        raise JoseError("binding", "cnf has another confirmation than jkt and x5t#S256, which cannot be checked here")
    return _confirmation(name, value)


def bound_to_key(thumbprint: str) -> Confirmation:
    """By the key of this thumbprint, which somebody has proven to hold."""
    return _confirmation("jkt", thumbprint)


@lru_cache(
    maxsize=512
)  # a client's tokens are bound to the same key again and again; what is no thumbprint is not kept
def _confirmation(name: str, thumbprint: str) -> Confirmation:
    try:
        return Confirmation(**{_MEMBERS[name]: thumbprint})
    except JoseError as error:
        raise JoseError("binding", f"the thumbprint in cnf is none: {error.hint}") from None


class Binding(StrEnum):
    """What somebody demands that tokens are bound to."""

    NONE = "none"  # they may be
    DPOP = "dpop"
    MTLS = "mtls"
    ANY = "any"  # either

    def met_by(self, confirmation: Confirmation) -> bool:
        """Whether a token with this confirmation is bound as demanded."""
        held = (Binding.DPOP, confirmation.jkt), (Binding.MTLS, confirmation.x5t_s256)
        return self is Binding.NONE or any(found and self in (kind, Binding.ANY) for kind, found in held)

    def implies(self, other: "Binding") -> bool:
        """Whether whatever meets this demand meets the other one as well."""
        return other is Binding.NONE or self is other or (other is Binding.ANY and self is not Binding.NONE)
