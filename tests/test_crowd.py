"""The crowd that `make scale` fills a database with: a real server must find in it what it would have made itself."""

import json
import urllib.request

import pytest

from benchmarks.crowd import Crowd
from benchmarks.load.driver import presign_bodies
from benchmarks.scaling import PLACES
from benchmarks.servers import RESOURCE, SCOPE
from groat.protocol.jwk import generate_private_key


@pytest.mark.parametrize("store", PLACES)
def test_a_server_serves_the_crowd(store: str) -> None:
    """Silent clients, remembered uses and callers are there, and a caller gets a token."""
    with PLACES[store]() as place:
        crowd = Crowd(place.database_url, place.password)
        (name,) = crowd.add_callers("few", [key := generate_private_key("ES256")])
        crowd.grow_clients(20)
        crowd.grow_uses(50)
        body = place.directory / "body"
        presign_bodies(body, 1, client_id=name, private_jwk=key.private_jwk(), alg="ES256", issuer=place.issuer,
                       resource=RESOURCE, scope=SCOPE)  # fmt: skip
        with place.serve():
            request = urllib.request.Request(place.token_url, body.read_bytes().strip())
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert json.load(answer)["token_type"] == "Bearer"
        with crowd._open() as connection:
            counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                      for table in ("clients", "client_keys", "used_once")]  # fmt: skip
    assert counts == [21, 21, 51]
