"""What callers of an API hold in tests, so that tokens can be bound to it: a key for proofs, and a certificate."""

import base64
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import time as wall  # by this name, because libraries that freeze time replace it in modules
from typing import Any
from urllib.parse import quote

from groat.protocol import jose, strict_json
from groat.protocol.certificate_headers import DIALECTS
from groat.protocol.client_certificate import certificate_thumbprint
from groat.protocol.dpop import PROOF_TYP, token_hash
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import base64url_encode, generate_private_key

_LABELS = ("kid", "use", "alg")  # of our JWKs, and of no use in a proof


class DpopKey:
    """The key of a caller who proves that he holds it (RFC 9449).

        key = DpopKey()
        token = issuer.token("billing", ["orders:read"], dpop_key=key)
        api.get("/orders", headers=key.headers(token, "GET", "https://orders.example.com/orders"))

    `now`: epoch seconds; by default `time.time`, frozen or not.
    """

    def __init__(self, algorithm: str = "ES256", *, now: Callable[[], float] | None = None) -> None:
        self._key = generate_private_key(algorithm)
        self._now = now

    @property
    def thumbprint(self) -> str:
        """What `cnf.jkt` of a token says that is bound to it."""
        return self._key.public.thumbprint

    def proof(self, method: str, url: str, token: str | None = None, **changes: Any) -> str:
        """A new proof for one request. `url`: as callers write it; `token`: what goes with it.

        Further keywords are claims that are added, or replace those of a good proof (`iat=`, `jti=`, `nonce=`, ...);
        None leaves one out.
        """
        now = wall() if self._now is None else self._now()
        claims: dict[str, Any] = {
            "jti": secrets.token_hex(16),
            "htm": method,
            "htu": url.partition("#")[0].partition("?")[0],
            "iat": int(now),
            "ath": None if token is None else token_hash(token),
            **changes,
        }
        jwk = {name: value for name, value in self._key.public.jwk.items() if name not in _LABELS}
        header = strict_json.dumps({"typ": PROOF_TYP, "alg": self._key.algorithm, "jwk": jwk})
        kept = {name: value for name, value in claims.items() if value is not None}
        data = jose.signing_input(base64url_encode(header), strict_json.dumps(kept))
        return (data + b"." + base64url_encode(jose.sign(data, self._key))).decode("ascii")

    def headers(self, token: str, method: str, url: str, **changes: Any) -> dict[str, str]:
        """What a request carries: the token under the scheme DPoP, and a new proof."""
        return {"Authorization": f"DPoP {token}", "DPoP": self.proof(method, url, token, **changes)}


class CallerCertificate:
    """A certificate that a caller shows in the TLS handshake (RFC 8705): self-signed, good for an hour either way.

        mine = CallerCertificate()
        token = issuer.token("billing", ["orders:read"], certificate=mine.pem)
        api.get("/orders", headers={"Authorization": f"Bearer {token}", **mine.headers("nginx")})

    `pem`, `der`: the certificate; `key_pem`: its key, for tests over real TLS.
    """

    def __init__(self, common_name: str = "test-client") -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        encoding, plain = serialization.Encoding, serialization.NoEncryption()
        certificate = made.sign(key, hashes.SHA256())
        self.der = certificate.public_bytes(encoding.DER)
        self.pem = certificate.public_bytes(encoding.PEM).decode()
        self.key_pem = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()

    @property
    def thumbprint(self) -> str:
        """What `cnf."x5t#S256"` of a token says that is bound to it."""
        return certificate_thumbprint(self.der)

    def headers(self, dialect: str) -> dict[str, str]:
        """What a proxy of this dialect writes, for an API whose `Certificates` names it. Raises ConfigError."""
        if dialect not in DIALECTS:
            raise ConfigError(f"the dialects are {', '.join(DIALECTS)}")
        body = base64.b64encode(self.der).decode()
        values = {
            "rfc9440": f":{body}:",
            "nginx": quote(self.pem, safe=""),
            "envoy": f'Cert="{quote(self.pem, safe="")}"',
        }
        return {DIALECTS[dialect].header.decode(): values.get(dialect, body)}


__all__ = ["CallerCertificate", "DpopKey"]
