"""One program for each framework: `python -m tests.verifier.frameworks.apps.NAME PORT [PREFIX]`.

It serves, until it is ended, with the verifier of `verifier()`:

    /health      to anybody, 200
    /protected   to who has the scope orders:write, for every method: 200 and {"client": "billing"}
    /whoami      to any caller: 200 and {"client": ..., "scopes": [...]}

all of it below PREFIX where one is given, as the framework mounts an application (root_path, SCRIPT_NAME). `SERVER`
names the server that it runs in.

Variables: NONCES, the secret of nonces that proofs may have; DIALECT, how a proxy at 127.0.0.1 writes certificates; TLS, a file with the server's certificate and key, and
CALLERS, one with the certificates that callers may have (aiohttp and what runs in gunicorn).
"""

import os
import ssl
import sys
from typing import Final

from groat.verifier import Certificates, Dpop, ResourceDescription, Verifier
from groat.verifier.options import Options

SCOPES: Final = {"orders:read": "Read orders", "orders:write": "Change orders"}


def verifier() -> Verifier:
    """Trusts the issuers of ISSUERS, the last of which is out of reach, and goes by their status lists."""
    issuers, dialect = os.environ["ISSUERS"].split(","), os.environ.get("DIALECT")
    certificates = Certificates("127.0.0.1", dialect) if dialect else None
    about = ResourceDescription("Orders")
    secret = os.environ.get("NONCES")
    dpop = Dpop(nonces="optional", nonce_secret=secret) if secret else None
    audience = os.environ["AUDIENCE"]
    options: Options = {"description": about, "certificates": certificates, "dpop": dpop, "revocation": "list"}
    return Verifier(None, audience, issuers=issuers, **options)


def tls() -> ssl.SSLContext | None:
    """A server's context that asks callers for certificates, if they have one."""
    if "TLS" not in os.environ:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["TLS"])
    context.load_verify_locations(os.environ["CALLERS"])
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def port() -> int:
    return int(sys.argv[1])


def prefix() -> str:
    """The prefix, empty or such as /base."""
    return sys.argv[2] if len(sys.argv) > 2 else ""
