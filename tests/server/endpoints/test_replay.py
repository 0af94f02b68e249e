"""AS-CA-09 to 13, JOSE-24 and the replay cases P: one (client, jti) buys one token, and nobody can spend another's."""

import itertools
import socket
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from groat.protocol.jwk import generate_private_key
from tests.server.builders import ISS, NOW, Party, base, compact
from tests.server.lab import Lab
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_refused, post


def replayed(lab: Lab, answer: Answer) -> None:
    check_ec(answer)
    assert lab.reason(answer) == "assertion_replayed"


@pytest.mark.rule("P01", "AS-CA-10", "DEMO-10")
def test_an_assertion_works_once(lab: Lab) -> None:
    """The second presentation is EC, and so is the third."""
    assertion = lab.party.assertion()
    check_ok(lab.ask(assertion))
    for _ in range(2):
        replayed(lab, lab.ask(assertion))


@pytest.mark.rule("AS-CA-10", "P02")
@pytest.mark.parametrize(
    "claims",
    [{"exp": NOW + 61}, {"exp": NOW + 300}, {"iat": NOW - 1}, {"nbf": NOW}, {"aud": [ISS]}, {"foo": 1}],
    ids=repr,
)
def test_a_jti_works_once_however_it_is_signed_again(lab: Lab, claims: dict[str, Any]) -> None:
    """The same jti in another assertion, by another key of the client too, is a replay."""
    used = lab.party.claims()
    check_ok(lab.ask(compact(lab.party.header(), used, lab.party.key)))
    replayed(lab, lab.ask(compact(lab.party.header(), {**used, **claims}, lab.party.key)))


@pytest.mark.rule("P06", "AS-CA-10")
def test_jtis_belong_to_their_client(lab: Lab) -> None:
    """The same jti from two clients is two values, and no pair of lengths runs into another."""
    for first, second in (("p06", "p06-2"), ("ab", "a")):
        one, two = lab.add_client(first), lab.add_client(second)
        check_ok(lab.ask(one.assertion(jti="same")))
        check_ok(lab.ask(two.assertion(jti="same")))
    check_ok(lab.ask(Party("ab", one.key).assertion(jti="c")))
    check_ok(lab.ask(Party("a", two.key).assertion(jti="bc")))


@pytest.mark.rule("P06")
def test_jtis_are_compared_exactly(lab: Lab) -> None:
    """Case, normal form, spaces and invisible characters make another jti."""
    cafe = "caf\u00e9"
    values = [
        cafe,
        unicodedata.normalize("NFD", cafe),
        "Caf\u00e9",
        f"{cafe} ",
        f" {cafe}",
        f"{cafe}\0",
        f"{cafe}\u200b",
    ]
    for jti in values:
        check_ok(lab.ask(lab.party.assertion(jti=jti)))
    for jti in values:
        replayed(lab, lab.ask(lab.party.assertion(jti=jti)))


@pytest.mark.rule("P05", "JOSE-24", "A06")
def test_nobody_can_spend_another_clients_jti(lab: Lab) -> None:
    """A jti seen in requests that fail before the end of authentication stays usable for its owner."""
    thief = lab.add_client("thief")
    victim = lab.party
    claims = victim.claims()
    mine = {**claims, "iss": "thief", "sub": "thief"}
    stranger = generate_private_key("ES256")
    attempts = [
        compact(victim.header(), claims, thief.key),
        compact(thief.header(), claims, thief.key),
        compact({**victim.header(), "kid": stranger.kid}, claims, stranger),
        compact(victim.header(), {**claims, "aud": "https://other.example"}, victim.key),
        compact(victim.header(), {**claims, "exp": NOW}, victim.key),
        compact(victim.header(), {**claims, "iss": "thief"}, victim.key),
        compact(victim.header(typ="at+jwt"), claims, victim.key),
        compact(victim.header(alg="none"), claims, victim.key).rpartition(".")[0] + ".",
        compact(victim.header(), claims, victim.key)[:-8] + "AAAAAAAA",
    ]
    for attempt in attempts:
        check_ec(lab.ask(attempt))
    check_ok(lab.ask(compact(thief.header(), mine, thief.key)))
    good = compact(victim.header(), claims, victim.key)
    check_ec(lab.ask(good, client_id="thief"))
    check_refused(lab.ask(good, client_secret="x"), "invalid_request")
    check_refused(lab.ask(good, grant_type="password"), "unsupported_grant_type")
    check_refused(lab.post(base(good), "text/plain"), "invalid_request")
    check_refused(lab.post(base(good), FORM, ("Authorization", "Basic x")), "invalid_request")
    check_ok(lab.ask(good))


@pytest.mark.rule("AS-CA-12")
@pytest.mark.parametrize(
    ("fields", "code"),
    [({"scope": "nope"}, "invalid_scope"), ({"resource": "/x"}, "invalid_target")],
    ids=["scope", "target"],
)
def test_authentication_uses_up_the_jti(lab: Lab, fields: dict[str, str], code: str) -> None:
    """A request that authenticates and then fails has spent its jti: trying again needs a new assertion."""
    assertion = lab.party.assertion()
    check_refused(lab.ask(assertion, **fields), code)
    replayed(lab, lab.ask(assertion))


@pytest.mark.rule("AS-CA-12", "AS-TE-08")
def test_a_grant_that_is_not_allowed_uses_up_the_jti(lab: Lab) -> None:
    """The same for a grant that the authenticated client may not use."""
    party = lab.add_client("spent", grant_types=())
    assertion = party.assertion()
    check_refused(lab.ask(assertion), "unauthorized_client")
    replayed(lab, lab.ask(assertion))


@pytest.mark.rule("P02", "AS-CA-11")
@pytest.mark.parametrize("kind", ["same assertion", "same jti"])
def test_simultaneous_presentations_in_one_process(lab: Lab, kind: str) -> None:
    """Twenty at the same instant, in one batch of the writer: exactly one wins, and one does win."""
    claims = lab.party.claims()
    variants = [{**claims, "exp": NOW + 60 + (n if kind == "same jti" else 0)} for n in range(20)]
    bodies = [base(compact(lab.party.header(), variant, lab.party.key)) for variant in variants]
    barrier = threading.Barrier(len(bodies))

    def present(body: bytes) -> int:
        barrier.wait(10)
        return lab.post(body).status

    with ThreadPoolExecutor(len(bodies)) as pool:
        statuses = sorted(pool.map(present, bodies))
    assert statuses == [200] + [401] * 19


@pytest.mark.rule("P03")
def test_a_lost_answer_does_not_give_the_jti_back(lab: Lab) -> None:
    """A client that hangs up before the answer has spent its jti; with a new one it gets its token."""
    assertion = lab.party.assertion(jti="lost-answer")
    body = base(assertion)
    head = b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
        FORM.encode(),
        len(body),
    )
    issued = sum(b"token.issued" in line for line in lab.lines())
    with socket.create_connection(lab.address) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 5
    while sum(b"token.issued" in line for line in lab.lines()) == issued and time.monotonic() < deadline:
        time.sleep(0.01)
    replayed(lab, lab.ask(assertion))
    check_ok(lab.ask())


@pytest.mark.rule("P08", "AS-CA-10", "AS-CA-13", "F09")
def test_no_replay_at_any_second_around_expiry(lab: Lab) -> None:
    """Before, at and after exp, on clocks that run ahead or behind, a used assertion never works again."""
    assertion = lab.party.assertion(jti="around-expiry", exp=NOW + 60, iat=NOW)
    check_ok(lab.ask(assertion))
    for moment in itertools.chain(range(NOW + 58, NOW + 63), (NOW + 59.999, NOW + 70, NOW + 71, NOW + 9999)):
        with lab.clock.at(moment):
            check_ec(lab.ask(assertion))
    with lab.clock.at(NOW - 5):  # no signing key is active yet, and that is found out before the jti is looked at
        check_refused(lab.ask(assertion), "temporarily_unavailable", 503)
    replayed(lab, lab.ask(assertion))


@pytest.mark.rule("P08", "JOSE-19")
def test_the_last_instant_of_an_assertion(lab: Lab) -> None:
    """An assertion works until just before exp and not from exp on."""
    with lab.clock.at(NOW + 59.999):
        check_ok(lab.ask(lab.party.assertion(exp=NOW + 60)))
    for late in (NOW + 60, NOW + 60.001, NOW + 61, NOW + 70):
        with lab.clock.at(late):
            check_ec(lab.ask(lab.party.assertion(exp=NOW + 60)))


@pytest.mark.rule("CL-2", "F09", "P08", "I1", "I13")
def test_what_was_forgotten_is_never_fresh(fresh_lab: Callable[..., Lab]) -> None:
    """What was used and forgotten gets 503 by a clock for which it is still good, and the log names the clock."""
    fresh = fresh_lab()
    assertion, later = fresh.party.assertion(exp=NOW + 60), fresh.party.assertion(exp=NOW + 120)
    check_ok(fresh.ask(assertion))
    fresh.operate(lambda op: op.store.raise_horizon(NOW + 60 + fresh.config.policy.clock_tolerance))
    assert fresh.operate(lambda op: op.store.forget_expired()) == 1
    for _ in range(2):
        answer = fresh.ask(assertion)
        assert answer.status == 503
        assert fresh.event(answer)["reason"] == "clock_behind"
        assert "clock" in fresh.event(answer)["hint"]
    check_ok(fresh.ask(later))
    replayed(fresh, fresh.ask(later))


@pytest.mark.rule("AS-CA-10", "A12")
def test_nul_does_not_cut_a_jti_short(lab: Lab) -> None:
    """Two jtis that differ behind a NUL are two jtis."""
    check_ok(lab.ask(lab.party.assertion(jti="nul\0one")))
    check_ok(lab.ask(lab.party.assertion(jti="nul\0two")))
    replayed(lab, lab.ask(lab.party.assertion(jti="nul\0one")))


@pytest.mark.rule("AS-CA-23", "AS-CA-06")
@pytest.mark.parametrize("name", ["register", "introspection", "revocation", "par"])
def test_no_other_place_is_a_door_for_assertions(lab: Lab, name: str) -> None:
    """What is no endpoint takes none, burns no jti and is not advertised, and none may be its audience."""
    metadata = lab.get("/.well-known/oauth-authorization-server").json
    assert not [member for member in metadata if member.startswith(("registration_", "pushed_"))]
    assertion = lab.party.assertion()
    assert post(lab.address, base(assertion, token="x"), target=f"/{name}").status == 404
    check_ok(lab.ask(assertion))
    aimed = lab.ask(lab.party.assertion(aud=f"{ISS}/{name}"))
    check_ec(aimed)
    assert lab.reason(aimed) == "assertion_audience"


@pytest.mark.rule("AS-CA-10", "AS-CA-23")
@pytest.mark.parametrize("name", ["introspect", "revoke"])
def test_an_assertion_is_used_up_wherever_it_was_taken(lab: Lab, name: str) -> None:
    """One that took a token back buys none, and the other way round; an endpoint is never its audience."""
    assertion, spent = lab.party.assertion(), lab.party.assertion()
    assert post(lab.address, base(assertion, token="x"), target="/revoke").status == 200
    replayed(lab, lab.ask(assertion))
    check_ok(lab.ask(spent))
    check_ec(post(lab.address, base(spent, token="x"), target="/revoke"))
    check_ec(post(lab.address, base(lab.party.assertion(aud=f"{ISS}/{name}"), token="x"), target=f"/{name}"))
