"""Every algorithm that `groat init` takes, from the first command to an accepted token."""

from pathlib import Path

import pytest

from groat.protocol import jose
from groat.protocol.jwk import ALGORITHM_NAMES
from groat.verifier import Verifier
from tests.ports import free_port

from .running import AUDIENCE, ISSUER, Home


@pytest.mark.rule("AT-09", "RS-15", "AS-MD-08", "KEY-13")
@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_every_algorithm_of_init_is_accepted_by_a_plain_verifier(tmp_path: Path, algorithm: str) -> None:
    """init, client add, serve, token get, and a Verifier that was told nothing about algorithms."""
    home = Home(tmp_path, {"GROAT_SERVER__PORT": str(free_port())})
    home.ok("init", "--issuer", ISSUER, "--algorithm", algorithm)
    home.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read")
    home.ok("client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "key.json", "--alg", algorithm,
            "--rsa-bits", "2048")  # fmt: skip
    with home.serving(port=int(home.env["GROAT_SERVER__PORT"])) as server:
        got = home.ok("token", "get", "--local", "--client-id", "billing", "--key", "key.json", "--scope", "orders:read",
                      "--print-token")  # fmt: skip
        verifier = Verifier(issuer=ISSUER, audience=AUDIENCE, jwks_uri=f"{server.url}/.well-known/jwks.json")
        caller = verifier.verify(got.out.strip(), ["orders:read"])
        assert home.ok("token", "verify", "--local", got.out.strip(), "--audience", AUDIENCE).code == 0
    assert (caller.client_id, caller.is_client) == ("billing", True)
    assert jose.parse_jwt(got.out.strip()).header.algorithm is ALGORITHM_NAMES[algorithm]
