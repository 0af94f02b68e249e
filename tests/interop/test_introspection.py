"""Other people's libraries as the API that asks `POST /introspect`: oauth4webapi and openid-client."""

from pathlib import Path

import pytest

from groat.client import MachineClient
from groat.keys.files import read_private_key
from groat.protocol.jwk import generate_private_key

from .processes import RESOURCE, SCOPES, groat_server, run_node

pytestmark = pytest.mark.usefixtures("node_peers")


@pytest.mark.rule("AS-IN-11", "AS-RV-06")
def test_libraries_that_ask(tmp_path: Path) -> None:
    """A token that counts, one that was taken back, garbage: each library hears the same."""
    with groat_server(tmp_path, "ES256") as server:
        server.run("api", "key", "add", "orders", "--new-key", "api.key.json")
        key = generate_private_key("ES256")
        server.add_client("billing", [dict(key.public.jwk)])
        with MachineClient(server.issuer, "billing", key) as client:
            tokens = [client.token(resource=RESOURCE, scopes=[scope]).value for scope in SCOPES]
        (tmp_path / "token.txt").write_text(tokens[1])
        (tmp_path / "token.txt").chmod(0o600)
        server.run("revoke", "token", "token.txt")
        mine = read_private_key(tmp_path / "api.key.json")
        asked = {
            "issuer": server.issuer,
            "client_id": "orders",
            "private_jwk": dict(mine.private_jwk()),
            "alg": "ES256",
        }
        answers = run_node("introspect.mjs", [{**asked, "tokens": [*tokens, "garbage"]}])
    assert len(answers) == 3, answers
    good, *bad = answers
    for library in ("oauth4webapi", "openid_client"):
        heard = good[library]
        assert (heard["active"], heard["client_id"], heard["scope"]) == (True, "billing", SCOPES[0]), library
        assert [one[library] for one in bad] == [{"active": False}] * 2, library
