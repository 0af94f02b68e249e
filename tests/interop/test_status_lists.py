"""npm @sd-jwt/jwt-status-list on the lists that we serve, and our verifier's reader on the lists that it writes."""

import base64
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from groat.protocol.listing import Listing
from groat.protocol.status_list import PLACES, Status, encode_list
from groat.server import operations
from groat.server.operations.apis import ApiWish
from tests.server.lab import Lab, prepare, running
from tests.waiting import wait_until

from .processes import run_node

pytestmark = pytest.mark.usefixtures("node_peers")
STATUSES = [1, 0, 0, 1, 1, 1, 0, 1, 2, 1, 0, 0, 2, 1, 0, 1]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with running(prepare(tmp_path)) as lab:
        lab.operate(lambda op: operations.update_api(op, "orders", ApiWish(status=Listing.LIST)))
        yield lab


def body(lab: Lab) -> str:
    """The one list that there is."""
    (uri,) = lab.get("/status").json["status_lists"]
    return lab.get(uri.removeprefix(lab.config.policy.issuer)).body.decode()


@pytest.mark.rule("AS-SL-03", "AS-SL-04", "AS-SL-05")
def test_our_lists_abroad(lab: Lab) -> None:
    """A token that counts, one that was taken back, and those of a client that is disabled."""
    tokens, before = [lab.token(), lab.token()], body(lab)
    jwks = lab.get("/.well-known/jwks.json").json
    lab.operate(lambda op: operations.revoke_token(op, tokens[1]))
    wait_until(lambda: body(lab) != before)
    revoked = body(lab)
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=False))
    wait_until(lambda: body(lab) != revoked)
    lists = [(revoked, tokens[0]), (revoked, tokens[1]), (body(lab), tokens[0])]
    answers = run_node("status_list.mjs", [{"jwks": jwks, "token": token, "list": text} for text, token in lists])
    assert [(one["status"], one["bits"]) for one in answers] == [(0, 1), (1, 1), (2, 2)]
    assert {(one["ttl"], one["length"]) for one in answers} == {(30, PLACES)}


@pytest.mark.rule("AS-SL-04")
def test_both_write_the_same() -> None:
    """Bit by bit; how well it is compressed is everybody's own."""
    (answer,) = run_node("status_list.mjs", [{"statuses": STATUSES, "bits": 2}])
    bits, ours = encode_list(dict(enumerate(STATUSES)), len(STATUSES), Status.VALID)
    assert bits == 2
    assert inflated(answer["lst"]) == inflated(ours)


def inflated(lst: str) -> bytes:
    return zlib.decompress(base64.urlsafe_b64decode(lst + "=" * (-len(lst) % 4)))
