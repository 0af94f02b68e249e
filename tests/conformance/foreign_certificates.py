"""The other side of the client plan with mutual TLS: an issuer, its alias that asks for certificates, and an API that does.

Like `foreign_server`, they fail the test when they are left, for whatever is not as the plan wants it.
"""

import ssl
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.certificates import serving
from tests.client.servers import Reply, Seen, Server

from .foreign_server import CLIENT, PATH, Witness

WELL_KNOWN: Final = f"/.well-known/oauth-authorization-server{PATH.rstrip('/')}"
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Ordinary(Server):
    """The issuer's own host: it has the metadata, and is asked for no token by who has a certificate."""

    def __init__(self, tls: ssl.SSLContext, alias: "Asking", methods: list[str]) -> None:
        super().__init__(tls)
        self._alias, self._methods = alias, methods
        alias.issuer = self.url + PATH

    def answer(self, request: Seen) -> Reply:
        assert request.target == WELL_KNOWN
        issuer = self.url + PATH
        document = {
            "issuer": issuer,
            "token_endpoint": f"{issuer}token",
            "jwks_uri": f"{issuer}jwks",
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": self._methods,
            "token_endpoint_auth_signing_alg_values_supported": ["PS256", "ES256"],
            "tls_client_certificate_bound_access_tokens": True,
            "mtls_endpoint_aliases": {"token_endpoint": f"{self._alias.url}{PATH}mtls/token"},
        }
        return Reply(200, document, _JSON)


class Certified(Server):
    """Asks for certificates, and wants that of the client at every request."""

    def __init__(self, both: Path, leaf: Path, witness: Witness) -> None:
        context = serving(both)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(leaf)
        super().__init__(context)
        self.witness, self._leaf = witness, ssl.PEM_cert_to_DER_cert(leaf.read_text())

    def handle(self, request: Seen) -> Reply:
        assert request.certificate == self._leaf, "another certificate than the client's, or none"
        assert request.header("dpop") is None
        return super().handle(request)


class Asking(Certified):
    """The token endpoint at the alias. `issuer`: whom assertions are for, which is not this host."""

    issuer = ""

    def answer(self, request: Seen) -> Reply:
        assert (request.method, request.target) == ("POST", f"{PATH}mtls/token")
        form = request.form
        assert form["grant_type"] == "client_credentials"
        if "client_assertion" in form:
            self.witness.assertion(form["client_assertion"], self.issuer)
        else:
            assert form["client_id"] == CLIENT
        token = uuid4().hex
        self.witness.tokens[token] = "by certificate"
        body = {"access_token": token, "token_type": self.witness.rules.token_type, "expires_in": 300}
        return Reply(200, {**body, "scope": form["scope"]}, _JSON)


class CertifiedResource(Certified):
    """The API: a bearer token, over a connection of the same client."""

    def answer(self, request: Seen) -> Reply:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        assert scheme == "Bearer"
        assert token in self.witness.tokens
        return Reply(200, {"accounts": []}, _JSON)
