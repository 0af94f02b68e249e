"""The clients of a plan: each with a key of its own for assertions and another one for proofs, or a certificate."""

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from .signing import Key, changed
from .wire import Reply, Site

SCOPE: Final = "orders:read"
RESOURCE: Final = "/protected?day=1"  # a query, so that proofs with and without it are told apart
_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is tested: an authorization server and an API."""

    server: Site
    api: Site

    @property
    def token_endpoint(self) -> str:
        return f"{self.server.url}/token"


@dataclass(frozen=True)
class Party:
    """One client of a plan.

    `certificate`: a PEM file, with its key, that it shows wherever it connects; `by_certificate`: which says who it is,
    in place of an assertion; `binds_to_it`: and which its tokens are bound to, in place of the key of its proofs.
    """

    name: str
    plan: Plan
    key: Key = field(repr=False)
    proving: Key = field(repr=False)
    certificate: Path | None = None
    by_certificate: bool = False
    binds_to_it: bool = False

    def assertion(self, claims: Changes | None = None, key: Key | None = None) -> str:
        """A good one but for these claims."""
        now = int(time.time())
        good = {"iss": self.name, "sub": self.name, "aud": self.plan.server.url, "iat": now, "exp": now + 60}
        signer = key or self.key
        header = {"alg": signer.algorithm, "kid": self.key.kid, "typ": "JWT"}
        return signer.sign(header, changed({**good, "jti": uuid4().hex}, claims))

    def proof(
        self,
        url: str,
        header: Changes | None = None,
        claims: Changes | None = None,
        *,
        method: str = "GET",
        key: Key | None = None,
        algorithm: str | None = None,
    ) -> str:
        """A good proof but for these members and claims; `algorithm`: what it is really signed with."""
        signer = key or self.proving
        first = {"typ": "dpop+jwt", "alg": signer.algorithm, "jwk": signer.public}
        good = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(time.time())}
        return signer.sign(changed(first, header), changed(good, claims), algorithm)

    def token_proof(self, claims: Changes | None = None) -> str:
        """For the token endpoint."""
        return self.proof(self.plan.token_endpoint, claims=claims, method="POST")

    def ask(self, fields: Changes | None = None, proofs: Sequence[str] | None = None) -> Reply:
        """A token request, good but for these fields of its form and these proofs."""
        good = {"grant_type": "client_credentials", "scope": SCOPE}
        if self.by_certificate:
            good["client_id"] = self.name
        else:
            good |= {"client_assertion_type": _BEARER, "client_assertion": self.assertion()}
        own = [] if self.binds_to_it else [self.token_proof()]
        shown = own if proofs is None else proofs
        headers = [("Content-Type", "application/x-www-form-urlencoded"), *(("DPoP", one) for one in shown)]
        form = urlencode(changed(good, fields)).encode()
        return self.plan.server.ask("POST", "/token", headers, form, self.certificate)

    def token(self) -> str:
        """A bound access token."""
        reply = self.ask()
        assert reply.status == 200, reply.json
        assert reply.json["token_type"] == ("Bearer" if self.binds_to_it else "DPoP")
        return str(reply.json["access_token"])

    def call_proof(self, token: str, header: Changes | None = None, claims: Changes | None = None, **how: Any) -> str:
        """For the API, with the hash of the token."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")
        return self.proof(self.plan.api.url + "/protected", header, {"ath": digest, **(claims or {})}, **how)

    def call(
        self,
        token: str,
        proofs: Sequence[str] | None = None,
        scheme: str | None = "DPoP",
        name: str = "DPoP",
        target: str = RESOURCE,
        more: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """A request to the API; `scheme` None leaves Authorization out."""
        shown = [self.call_proof(token)] if proofs is None else proofs
        headers = [(name, one) for one in shown]
        if scheme is not None:
            headers.append(("Authorization", f"{scheme} {token}"))
        return self.plan.api.ask("GET", target, [*headers, *more], certificate=self.certificate)
