"""Token Status Lists on a real socket: who stands in them, what they say, and how they are served."""

import asyncio
import base64
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from groat.protocol.access_token import Expectations, parse_access_token
from groat.protocol.errors import InvalidToken
from groat.protocol.jose import parse_jwt, verify_signature
from groat.protocol.key_set import import_key_set
from groat.protocol.listing import Listing
from groat.protocol.models import Api
from groat.protocol.status_list import KEEP, MEDIA_TYPE, PLACES, Place, Status, encode_list
from groat.server import operations
from groat.server.endpoints.places import Places
from groat.server.operations.apis import ApiWish
from groat.server.store.records import LeaseWish
from tests.server.builders import ISS, NOW, ORDERS, Party, decoded
from tests.server.endpoints.test_introspect import ask
from tests.server.lab import Lab, running
from tests.server.store.places import DEED, made
from tests.server.store.places import Place as Engine
from tests.server.wire import Answer, check_ec, check_refused
from tests.waiting import wait_until


@pytest.fixture
def lab(fresh_lab: Callable[..., Lab]) -> Lab:
    """A server of its own, whose tokens for `orders` are listed."""
    lab = fresh_lab()
    listing(lab, Listing.LIST)
    return lab


def listing(lab: Lab, status: Listing) -> None:
    lab.operate(lambda op: operations.update_api(op, "orders", ApiWish(status=status)))


def place(token: str) -> tuple[str, int]:
    """The path of the list that a token names, and its index."""
    status = decoded(token)[1]["status"]["status_list"]
    assert status["uri"].startswith(f"{ISS}/status/")
    return status["uri"].removeprefix(ISS), status["idx"]


def said(answer: Answer) -> Callable[[int], int]:
    """The list as somebody else would read it (4.1 of the draft)."""
    assert answer.status == 200, answer
    held = decoded(answer.body.decode())[1]["status_list"]
    packed = zlib.decompress(base64.urlsafe_b64decode(held["lst"] + "=" * (-len(held["lst"]) % 4)))
    bits = held["bits"]
    assert len(packed) * 8 == PLACES * bits
    return lambda index: packed[index * bits // 8] >> index * bits % 8 & (1 << bits) - 1


def status_of(lab: Lab, token: str) -> int:
    path, index = place(token)
    return said(lab.get(path))(index)


def becomes(lab: Lab, token: str, status: Status) -> None:
    wait_until(lambda: status_of(lab, token) == status)


@pytest.mark.rule("AS-SL-01")
def test_which_tokens_are_listed(lab: Lab) -> None:
    """Those of the API that is switched on, and only while it is; each with a place of its own."""
    places = [place(lab.token()) for _ in range(40)]
    assert len(set(places)) == 40
    assert len({path for path, _ in places}) == 1
    assert [index for _, index in places] != sorted(index for _, index in places)
    both = lab.add_client("both", None, allow={"stock": ["stock:read"]}, default_scopes=("stock:read",))
    assert "status" not in decoded(lab.token(both.assertion()))[1]
    listing(lab, Listing.NONE)
    claims = decoded(lab.token())[1]
    assert "status" not in claims
    assert "~" not in claims["jti"]


@pytest.mark.rule("AS-SL-03", "AS-SL-06")
def test_a_list(lab: Lab) -> None:
    """Signed by a published key, of a type of its own; nothing in it is of a client, and it is nothing else."""
    path, _ = place(lab.token())
    answer = lab.get(path)
    header, claims = decoded(answer.body.decode())
    assert header == {"typ": "statuslist+jwt", "alg": "ES256", "kid": lab.kids()[0]}
    assert claims.pop("status_list").keys() == {"bits", "lst"}
    assert claims == {"sub": f"{ISS}{path}", "iat": NOW, "exp": NOW + 300, "ttl": 30}
    assert answer.header("content-type") == "application/statuslist+jwt" == MEDIA_TYPE
    assert answer.header("cache-control") == "public, max-age=3"
    (key,) = import_key_set(lab.get("/.well-known/jwks.json").json)
    verify_signature(parse_jwt(answer.body), key)
    with pytest.raises(InvalidToken, match="type"):
        parse_access_token(answer.body.decode(), Expectations(ISS, ORDERS))
    check_ec(lab.ask(answer.body.decode()))


@pytest.mark.rule("AS-SL-06")
def test_how_it_is_served(lab: Lab) -> None:
    """With its entity tag, compressed for whoever likes that; in no other form, and of no other time."""
    path, _ = place(lab.token())
    plain = lab.get(path)
    etag = str(plain.header("etag"))
    assert (lab.get(path, ("If-None-Match", etag)).status, plain.header("content-encoding")) == (304, None)
    for coding in ("gzip", "br, GZIP;q=0.5"):
        packed = lab.get(path, ("Accept-Encoding", coding))
        assert packed.header("content-encoding") == "gzip"
        assert gzip.decompress(packed.body) == plain.body
    assert lab.get(path, ("Accept-Encoding", "gzip;q=0")).body == plain.body
    for accepted in ("*/*", "application/*;q=0.1", "application/statuslist+cwt, application/statuslist+jwt"):
        assert lab.get(path, ("Accept", accepted)).status == 200
    for refused in ("application/statuslist+cwt", "application/statuslist+jwt;q=0"):
        check_refused(lab.get(path, ("Accept", refused)), "invalid_request", 406)
    check_refused(lab.get(f"{path}?time={NOW}"), "invalid_request", 501)
    for unknown in ("/status/unknown", "/status/" + "x" * 12, f"{path}/", "/status/"):
        check_refused(lab.get(unknown), "invalid_request", 404)


@pytest.mark.rule("AS-SL-09")
def test_which_lists_there_are(lab: Lab) -> None:
    """By their addresses, which the metadata lead to."""
    address = lab.get("/.well-known/oauth-authorization-server").json["status_list_aggregation_endpoint"]
    assert lab.get(address.removeprefix(ISS)).json == {"status_lists": []}
    path, _ = place(lab.token())
    assert lab.get("/status").json == {"status_lists": [f"{ISS}{path}"]}


@pytest.mark.rule("AS-SL-05", "AS-SL-07", "AS-RV-06")
def test_what_a_list_says(lab: Lab) -> None:
    """Of one token, of a client's, of all: whatever ends a token, and nothing of what came after it."""
    other = lab.add_client("other")
    first, kept, others = lab.token(), lab.token(), lab.token(other.assertion())
    body = lab.get(place(first)[0]).body
    assert lab.get(place(first)[0]).body == body
    assert ask(lab, lab.party, "/revoke", token=first).status == 200
    becomes(lab, first, Status.INVALID)
    jti = decoded(others)[1]["jti"]
    lab.operate(lambda op: operations.revoke_token(op, jti))
    becomes(lab, others, Status.INVALID)
    assert status_of(lab, kept) == Status.VALID
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=False))
    becomes(lab, kept, Status.SUSPENDED)
    lab.operate(lambda op: operations.enable_client(op, "billing", enabled=True))
    becomes(lab, kept, Status.VALID)
    lab.operate(lambda op: operations.revoke_client_tokens(op, "billing"))
    after = lab.token()
    becomes(lab, kept, Status.INVALID)
    third = lab.token(other.assertion())
    assert (status_of(lab, after), status_of(lab, third)) == (Status.VALID, Status.VALID)
    lab.operate(lambda op: operations.remove_client(op, "other"))
    becomes(lab, third, Status.INVALID)


@pytest.mark.rule("AS-SL-05", "AS-RV-06")
@pytest.mark.parametrize("cause", ["api", "all", "removed"])
def test_a_whole_list_ends(lab: Lab, cause: str) -> None:
    """With its API's tokens; those from then on stand in another one."""
    token = lab.token()
    causes: dict[str, Callable[[operations.Operator], Any]] = {
        "api": lambda op: operations.revoke_api_tokens(op, "orders"),
        "all": operations.revoke_all_tokens,
        "removed": lambda op: operations.remove_api(op, "orders"),
    }
    lab.operate(causes[cause])
    becomes(lab, token, Status.INVALID)
    if cause != "removed":
        after = lab.token()
        assert place(after)[0] != place(token)[0]
        assert status_of(lab, after) == Status.VALID


@pytest.mark.rule("AS-SL-07")
def test_the_same_bytes(lab: Lab) -> None:
    """Until half of the time is over, whatever else is changed meanwhile."""
    path, _ = place(lab.token())
    body = lab.get(path).body
    lab.add_client("another")
    lab.operate(lambda op: operations.revoke_client_tokens(op, "another"))
    with lab.clock.at(NOW + 149):
        assert lab.get(path).body == body
    with lab.clock.at(NOW + 150):
        assert decoded(lab.get(path).body.decode())[1]["iat"] == NOW + 150


@pytest.mark.rule("AS-SL-08")
def test_the_life_of_a_list(lab: Lab) -> None:
    """It takes tokens for as long as one lives, and is there until the last of them is over."""
    path, _ = place(lab.token())
    for later, same in ((599, True), (600, False)):
        with lab.clock.at(NOW + later):
            party = Party("billing", lab.party.key, NOW + later)
            assert (place(lab.token(party.assertion()))[0] == path) is same
    for later, status in ((600 + KEEP - 1, 200), (600 + KEEP, 404)):
        with lab.clock.at(NOW + later):
            assert lab.get(path).status == status


@pytest.mark.rule("AS-SL-07")
def test_at_every_replica(lab: Lab) -> None:
    """What one has taken back is in the list that another serves."""
    token = lab.token()
    here = lab.address
    with running(lab):
        assert lab.address != here
        assert status_of(lab, token) == Status.VALID
        second = lab.token()
        there, lab.address = lab.address, here
        assert place(second)[0] == place(token)[0]
        assert place(second) != place(token)
        lab.operate(lambda op: operations.revoke_client_tokens(op, "billing"))
        for lab.address in (here, there):
            becomes(lab, token, Status.INVALID)
            becomes(lab, second, Status.INVALID)
        lab.address = here


# Places


@pytest.mark.rule("AS-SL-02")
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_no_place_is_leased_twice(request: pytest.FixtureRequest, tmp_path: Any, engine: str) -> None:
    """By however many replicas at once; a list that is full, closed, of another cut or from before a floor is over."""
    request.param = engine
    place: Engine = made(request, tmp_path)

    def wish(n: int, **changed: Any) -> LeaseWish:
        return LeaseWish("orders", 0, 256, NOW, f"{n:012}", 600, 4000)._replace(**changed)

    async def work() -> None:
        async with place.store() as one, place.store() as two:
            first = await one.lease(wish(0))
            assert first == ("0" * 12, 0, 256, NOW + 600)
            leases = await asyncio.gather(*((one, two)[n % 2].lease(wish(n)) for n in range(1, 21)))
            assert {lease.list_id for lease in leases} == {first.list_id}
            assert sorted(lease.start for lease in leases) == [256 * n for n in range(1, 21)]
            others: list[dict[str, Any]] = [{"api": "a"}, {"not_before": 9}, {"now": NOW + 600}, {"size": PLACES}]
            for n, other in enumerate(others, 31):
                assert (await two.lease(wish(n, **other)))[:2] == (f"{n:012}", 0)
            assert len(await one.status_lists(NOW + 3999)) == 5
            assert len(await one.status_lists(NOW + 4000)) == 1
            await one.raise_floor(DEED, NOW + 700)  # of what was leased before it a restored store knows not all
            assert (await two.lease(wish(40)))[:2] == (f"{40:012}", 0)
            assert (await two.lease(wish(41)))[:2] == (f"{40:012}", 256)
            await one.raise_horizon(NOW + 4000)
            await one.forget_expired()
            assert len(await one.status_lists(0)) == 2

    asyncio.run(work())


@pytest.mark.rule("AS-SL-02")
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_replicas_that_are_killed(request: pytest.FixtureRequest, tmp_path: Any, engine: str) -> None:
    """100,000 places at four of them, now and then without one that begins anew: no place twice, few writes."""
    request.param = engine
    place: Engine = made(request, tmp_path)
    api, drawn, chance = Api("orders", ORDERS, frozenset(), listed=True), Counter[Place](), random.Random(7)

    async def replica(store: Any, count: int) -> int:
        places, left, kills = Places(store, lambda: NOW), 0, 0
        for _ in range(count):
            if not left:
                places, left, kills = Places(store, lambda: NOW), chance.randrange(1, 9000), kills + 1
            left -= 1
            drawn[await places.next(api, NOW, 600)] += 1
        return kills

    async def work() -> None:
        async with place.store() as one, place.store() as two, place.store() as three, place.store() as four:
            kills = sum(await asyncio.gather(*(replica(store, 25_000) for store in (one, two, three, four))))
            assert kills > 8
            assert len(await one.status_lists(NOW)) <= 4  # opened by as many at once, at most

    asyncio.run(work())
    assert len(drawn) == drawn.total() == 100_000


# How a list is written

SIXTEEN: Final = "1001110111000101"


@pytest.mark.rule("AS-SL-04")
def test_sixteen_statuses() -> None:
    """The first of them is the least bit of the first byte."""
    statuses = {n: int(bit) for n, bit in enumerate(SIXTEEN)}
    assert encode_list(statuses, 16) == (1, "eNrbuRgAAhcBXQ")


# draft-ietf-oauth-status-list-21, appendix C.1 (IETF Trust, Revised BSD licence for code components).
APPENDIX: Final = (0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345)
APPENDIX_LST: Final = (
    "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogE"
    "AAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAA"
    "A7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAA"
    "ACAZC8L2AEb"
)


@pytest.mark.rule("AS-SL-04")
def test_the_vectors_of_the_draft() -> None:
    """A full list, and the example with two bits (4.1, 4.2), which has a status that we never write."""
    bits, lst = encode_list(dict.fromkeys(APPENDIX, 1))
    assert bits == 1
    assert inflated(lst) == inflated(APPENDIX_LST)
    statuses = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
    assert encode_list(dict(enumerate(statuses)), 12) == (2, "eNo76fITAAPfAgc")


def inflated(lst: str) -> bytes:
    return zlib.decompress(base64.urlsafe_b64decode(lst + "=" * (-len(lst) % 4)))


@pytest.mark.rule("AS-SL-04", "AS-SL-05")
def test_two_bits() -> None:
    """As soon as one is suspended; a list that is over as a whole has one."""
    bits, lst = encode_list({0: 1, 1: 2, 5: 2}, 8)
    assert bits == 2
    assert zlib.decompress(base64.urlsafe_b64decode(lst + "==")) == bytes([0b00001001, 0b00001000])
    bits, lst = encode_list({}, 16, Status.INVALID)
    assert (bits, zlib.decompress(base64.urlsafe_b64decode(lst + "=="))) == (1, b"\xff\xff")


def test_a_place_and_its_jti() -> None:
    """Each says the other; of other tokens there is none."""
    place = Place("abcdefghij_-", 1048575)
    assert Place.of(place.jti("x" * 22)) == place
    assert len(place.jti("x" * 22)) <= 43
    for other in ("x" * 22, "x" * 22 + "~abcdefghij_-~01", "proof of possession " + place.jti("x" * 22), ""):
        assert Place.of(other) is None
