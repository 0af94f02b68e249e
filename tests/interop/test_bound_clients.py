"""Other people's clients with proofs of possession (DPoP), at our server and at the example API."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any, Final

import pytest
import requests
from requests_oauth2client import DPoPKey, OAuth2Client, PrivateKeyJwt

from .bound import ALGORITHMS, BOUND_CLIENT, BoundPlace, bound_place
from .foreign_keys import private_jwk
from .processes import SCOPES, run_node

pytestmark = pytest.mark.slow

PlaceOf = Callable[[str], BoundPlace]
NODE: Final = ("oauth4webapi", "openid_client")
NONCES: Final = ("off", "required")


@pytest.fixture(scope="module")
def place_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaceOf]:
    """A server and an API by what both do of nonces."""
    with ExitStack() as stack:

        @cache
        def start(nonces: str) -> BoundPlace:
            return stack.enter_context(bound_place(tmp_path_factory.mktemp(f"bound-{nonces}"), nonces))

        yield start


def check_calls(lines: list[dict[str, Any]]) -> None:
    """A bound token, and two calls that were let in."""
    token, *calls = lines
    assert token.get("token_type", "").lower() == "dpop", lines
    assert [(call["status"], call["body"]["client"]) for call in calls] == [(200, BOUND_CLIENT)] * 2


@pytest.mark.usefixtures("node_peers")
@pytest.mark.rule("AS-DP-09", "AS-DP-10", "AS-DP-17", "RS-DP-01", "RS-DP-08")
@pytest.mark.parametrize("nonces", NONCES)
@pytest.mark.parametrize("library", NODE)
def test_npm_clients_get_bound_tokens_and_call(place_of: PlaceOf, library: str, nonces: str) -> None:
    """Every algorithm of proofs that both know, with nonces of neither and of both."""
    lines = run_node(f"bound_call_{library}.mjs", [place_of(nonces).wish()])
    assert len(lines) == 3 * len(ALGORITHMS), lines
    for at in range(0, len(lines), 3):
        check_calls(lines[at : at + 3])


@pytest.mark.rule("AS-DP-09", "AS-DP-10", "RS-DP-01", "RS-DP-07", "RS-DP-08")
@pytest.mark.parametrize("proofs", ["ES256", "PS256"])
@pytest.mark.parametrize("nonces", NONCES)
def test_requests_oauth2client(place_of: PlaceOf, nonces: str, proofs: str) -> None:
    """It looks for its scheme where the challenge begins, and repeats by itself."""
    place = place_of(nonces)
    method = PrivateKeyJwt(BOUND_CLIENT, private_jwk(BOUND_CLIENT, "ES256"), aud=place.server.issuer)
    client = OAuth2Client(place.server.token_endpoint, auth=method, testing=True, dpop_bound_access_tokens=True)
    token = client.client_credentials(scope=SCOPES[0], resource=place.api, dpop_key=DPoPKey.generate(proofs))
    assert token.token_type == "DPoP"
    for _ in range(2):
        answer = requests.get(f"{place.api}/protected?day=1", auth=token, timeout=20)
        assert (answer.status_code, answer.json()["client"]) == (200, BOUND_CLIENT)
