"""For your own tests: an issuer in memory. No server, no socket, no thread of its own; `pip install groat` is enough.

    from groat.testing import FakeIssuer

    issuer = FakeIssuer()
    caller = issuer.verifier().verify(issuer.token("billing", ["orders:read"]))

pytest has it as the fixture `groat_issuer`, without any import (`groat.pytest_plugin`).
"""

from groat.testing.callers import CallerCertificate, DpopKey
from groat.testing.issuer import FakeIssuer

__all__ = ["CallerCertificate", "DpopKey", "FakeIssuer"]
