"""What type checkers know of groat.testing; nothing here is run."""

from collections.abc import Mapping
from typing import assert_type

from groat.client import MachineClient
from groat.protocol.jwk import PrivateKey
from groat.testing import FakeIssuer
from groat.verifier import Clocks, Verifier

issuer = FakeIssuer("https://auth.example.com", audience="https://orders.example.com", clocks=Clocks(now=lambda: 0.0))
assert_type(issuer, FakeIssuer)
assert_type(FakeIssuer.from_env(), FakeIssuer)
assert_type(issuer.token("billing", ["orders:read"], "https://x.test", expires_in=-1, typ=None, tenant="acme"), str)
assert_type(issuer.token(scopes="a b", key=FakeIssuer().key, claims={"typ": "Bearer"}, nbf=1.5), str)
assert_type(issuer.bad_tokens(), Mapping[str, str])
assert_type(issuer.verifier("https://x.test", cache_size=10), Verifier)
assert_type(issuer.machine("billing", scopes=["a"], timeout=1.0), MachineClient)
assert_type(issuer.register("billing"), PrivateKey)
assert_type(issuer.environment("billing"), dict[str, str])
Verifier(issuer.url, issuer.audience, http=issuer.http)

with issuer.installed() as installed, issuer.down():
    assert_type(installed, FakeIssuer)
    issuer.up()
    issuer.rotate("Ed25519", revoke=True)

# What must not pass: each of these lines is an error, and it would be one if it were none.
FakeIssuer(audience=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
issuer.token(scopes=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
issuer.token(key="billing.key.json")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
issuer.verifier(max_stall=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
