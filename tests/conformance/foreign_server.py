"""The other side of the client plan: an authorization server and an API on https that look at everything they are sent.

Assertions, proofs and tokens are read by joserfc. What is not as the plan wants it fails the test when the server is left.
"""

import base64
import hashlib
import json
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from joserfc import jws
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry

from tests.client.servers import Reply, Seen, Server

PATH: Final = "/test/a/groat/"  # the suite's issuers have one, with its slash
CLIENT: Final = "suite-client"
_ALGORITHMS: Final = JWSRegistry(algorithms=["PS256", "ES256"])
_ALGORITHMS.max_header_length = 1024  # of a proof with an RSA key; joserfc's 512 are for those without
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


@dataclass
class Rules:
    """How a module differs from the others."""

    token_type: str = "DPoP"
    nonces: bool = True
    well_known: str = f"/.well-known/oauth-authorization-server{PATH.rstrip('/')}"


@dataclass
class Witness:
    """What both sides know: which tokens are whose, and everything that must not come twice."""

    key: Key = field(repr=False)
    rules: Rules
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    seen: set[tuple[str, str]] = field(default_factory=set, repr=False)
    refused: Counter[str] = field(default_factory=Counter)

    def once(self, kind: str, value: str) -> None:
        assert (kind, value) not in self.seen, f"the same {kind} came twice"
        self.seen.add((kind, value))

    def assertion(self, text: str, issuer: str) -> None:
        """private_key_jwt by the rules of FAPI 2.0: the issuer alone as the audience, a string."""
        claims = json.loads(jws.deserialize_compact(text, self.key, registry=_ALGORITHMS).payload)
        assert (claims["iss"], claims["sub"], claims["aud"]) == (CLIENT, CLIENT, issuer)
        assert time.time() < claims["exp"] < time.time() + 300
        self.once("assertion", claims["jti"])

    def proof(self, request: Seen, url: str, token: str | None) -> tuple[str, str | None]:
        """Thumbprint of the key, and the nonce, of the one proof for this request (RFC 9449 4.2)."""
        text = request.header("dpop")
        assert text is not None
        header = json.loads(base64.urlsafe_b64decode(text.partition(".")[0] + "=="))
        assert header["typ"] == "dpop+jwt"
        assert not header["jwk"].keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
        key = JWKRegistry.import_key(header["jwk"])
        assert not key.is_private
        claims = json.loads(jws.deserialize_compact(text, key, registry=_ALGORITHMS).payload)
        assert (claims["htm"], claims["htu"]) == (request.method, url)
        assert abs(claims["iat"] - time.time()) < 10
        self.once("proof", claims["jti"])
        digest = base64.urlsafe_b64encode(hashlib.sha256((token or "").encode()).digest()).decode().rstrip("=")
        assert claims.get("ath") == (digest if token else None)
        return key.thumbprint(), claims.get("nonce")


class Demanding(Server):
    """Demands in each proof the nonce that it gave last, where its rules want that; each answer brings another one."""

    def __init__(self, witness: Witness, tls: ssl.SSLContext) -> None:
        super().__init__(tls)
        self.witness, self.nonce = witness, uuid4().hex

    def stale(self, shown: str | None) -> bool:
        if not self.witness.rules.nonces:
            assert shown is None
            return False
        fits, self.nonce = shown == self.nonce, uuid4().hex
        self.witness.refused[type(self).__name__] += not fits
        return not fits

    @property
    def headers(self) -> dict[str, str]:
        return {**_JSON, **({"DPoP-Nonce": self.nonce} if self.witness.rules.nonces else {})}


class Issuer(Demanding):
    """The authorization server, at a path."""

    @property
    def issuer(self) -> str:
        return self.url + PATH

    def answer(self, request: Seen) -> Reply:
        if request.target == self.witness.rules.well_known:
            return Reply(200, self._metadata(), _JSON)
        if request.target != f"{PATH}token":
            return Reply(404)
        form = request.form
        assert form["grant_type"] == "client_credentials"
        assert form["client_assertion_type"].endswith(":jwt-bearer")
        self.witness.assertion(form["client_assertion"], self.issuer)
        thumbprint, nonce = self.witness.proof(request, f"{self.issuer}token", None)
        if self.stale(nonce):
            return Reply(400, {"error": "use_dpop_nonce"}, self.headers)
        token = uuid4().hex
        self.witness.tokens[token] = thumbprint
        body = {"access_token": token, "token_type": self.witness.rules.token_type, "expires_in": 300}
        return Reply(200, {**body, "scope": form["scope"]}, self.headers)

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}token",
            "jwks_uri": f"{self.issuer}jwks",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["PS256", "ES256"],
            "dpop_signing_alg_values_supported": ["PS256", "ES256"],
        }


class Resource(Demanding):
    """The API."""

    def answer(self, request: Seen) -> Reply:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        assert scheme == "DPoP"
        thumbprint, nonce = self.witness.proof(request, self.url + request.path, token)
        assert thumbprint == self.witness.tokens[token], "another key than the one that the token is bound to"
        if self.stale(nonce):
            return Reply(401, {}, {**self.headers, "WWW-Authenticate": 'DPoP error="use_dpop_nonce"'})
        return Reply(200, {"accounts": []}, self.headers)
