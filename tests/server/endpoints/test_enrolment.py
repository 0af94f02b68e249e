"""What `/client-keys` lets strangers and registered clients cost: their signatures, and versions of the registry."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from groat.keys.invitation import Invitations
from groat.protocol.enrolment import ENDORSEMENT_TYP, PROOF_TYP, code_digest, endorsement_claims, proof_claims
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key
from groat.protocol.key_limits import LimitsChange
from groat.server import operations
from groat.server.endpoints.client_keys import CHANGES
from groat.server.http import throttle
from groat.server.http.pacing import Pacing
from groat.server.operations import store as store_operations
from tests.server.builders import ISS, NOW, Party, changed, compact
from tests.server.lab import DEFAULTS, Lab
from tests.server.wire import FORM, Answer, check_ok, check_refused, encoded, post

ORDINARY = "[throttle]\nclient_failures = 100\nsource_failures = 5\n[keys]\nrotate_every = 0\n"


def proof(key: PrivateKey, client_id: str = "billing", **changes: Any) -> str:
    claims = changed(proof_claims(client_id, ISS, key.public.jwk, NOW, None), changes)
    return sign_jwt(claims, key, PROOF_TYP)


def endorsement(by: Party, new: PrivateKey, retire_after: int | None = None, jti: str | None = None) -> str:
    claims = endorsement_claims(
        by.client_id, ISS, new.public.thumbprint, NOW, jti or secrets.token_hex(8), retire_after
    )
    return sign_jwt(claims, by.key, ENDORSEMENT_TYP)


def send(lab: Lab, *headers: tuple[str, str], **fields: str) -> Answer:
    return post(lab.address, encoded(list(fields.items())), (("Content-Type", FORM), *headers), "/client-keys")


def enrol(lab: Lab, by: Party, new: PrivateKey, retire_after: int | None = None, jti: str | None = None) -> Answer:
    return send(lab, proof=proof(new, by.client_id), endorsement=endorsement(by, new, retire_after, jti))


def version(lab: Lab) -> int:
    return lab.operate(lambda op: op.store.registry_version())


def costly(bits: int, exponent: int) -> str:
    """A proof by a key that the caller brings, as large as he likes; its signature is nobody's."""
    numbers = {"n": (1 << bits - 1) | 1, "e": exponent}
    members = {
        name: base64url_encode(value.to_bytes((value.bit_length() + 7) // 8)).decode()
        for name, value in numbers.items()
    }
    jwk = {"kty": "RSA", "alg": "RS256", **members}
    claims = proof_claims("billing", ISS, jwk, NOW, None)
    forged = compact({"alg": "RS256", "typ": PROOF_TYP}, claims, generate_private_key("ES256"))
    return f"{forged.rpartition('.')[0]}.{base64url_encode(bytes(bits // 8)).decode()}"


# Proofs by keys that the caller brings


@pytest.mark.rule("ST-7", "I14", "T9")
@pytest.mark.parametrize("kind", ["signature", "form", "exponent"])
def test_bad_proofs_are_counted(fresh_lab: Callable[..., Lab], kind: str) -> None:
    """Whatever is wrong with them: 400 at first, then 429, here and at the token endpoint; good ones are served."""
    lab = fresh_lab(ORDINARY)
    text = {
        "signature": proof(generate_private_key("ES256"))[:-8] + "AAAAAAAA",
        "form": "x",
        "exponent": costly(2048, 2**32 - 1),
    }[kind]
    answers = [send(lab, proof=text, endorsement="x") for _ in range(8)]
    assert [answer.status for answer in answers[:5]] == [400] * 5
    check_refused(answers[-1], "temporarily_unavailable", 429)
    assert lab.event(answers[0])["event"] == "client.key_refused"
    check_refused(lab.ask("a.b.c"), "temporarily_unavailable", 429)
    check_ok(lab.ask())
    assert enrol(lab, lab.party, generate_private_key("ES256")).status == 201


@pytest.mark.rule("ST-7", "I14")
def test_the_throttle_comes_before_any_proof(fresh_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    """When a source in doubt has used up its share, not even a good proof is looked at, and nothing is spent."""
    monkeypatch.setattr(throttle, "DOUBT_SHARE", 0.0)
    lab = fresh_lab(f'[server]\ntrusted_proxies = ["127.0.0.1"]\n{ORDINARY}')
    bad, good = (("X-Forwarded-For", address) for address in ("192.0.2.1", "192.0.2.2"))
    for _ in range(6):
        send(lab, bad, proof="x", endorsement="x")
    new = generate_private_key("ES256")
    fields = {"proof": proof(new), "endorsement": endorsement(lab.party, new)}
    answer = send(lab, bad, **fields)
    check_refused(answer, "temporarily_unavailable", 429)
    assert lab.event(answer)["client"] is None
    assert send(lab, good, **fields).status == 201


@pytest.mark.rule("ST-7", "I14", "KEY-15")
@pytest.mark.parametrize(("bits", "exponent"), [(8192, 65537), (4097, 65537), (4096, 2**32 + 1), (2048, 2**64 - 1)])
def test_a_key_that_costs_too_much_proves_nothing(lab: Lab, bits: int, exponent: int) -> None:
    """Refused for its size, before its signature is looked at."""
    answer = send(lab, proof=costly(bits, exponent), endorsement="x")
    check_refused(answer, "invalid_request")
    assert lab.reason(answer) == "proof_key"


@pytest.mark.rule("ST-3", "ST-7", "I14")
def test_whoever_brings_a_key_waits_his_turn(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As failures at the token endpoint do, by the name that is claimed, registered or not; it takes no place then."""
    names: list[str] = []
    wait = Pacing.next

    async def noted(pacing: Pacing, name: str) -> None:
        names.append(name)
        await wait(pacing, name)

    monkeypatch.setattr(Pacing, "next", noted)
    for name in ("billing", "nobody"):
        assert send(lab, proof=proof(generate_private_key("ES256"), name), endorsement="x").status == 401
    assert names == ["billing", "nobody"]


# Versions of the registry


@pytest.mark.rule("ST-9", "AS-CA-11", "KEY-23")
def test_an_endorsement_that_is_repeated_changes_nothing(lab: Lab) -> None:
    """The very same request is answered again, as after a lost answer: no new version, and the old key's end stays."""
    party, new = lab.add_client("repeats"), generate_private_key("ES256")
    fields = {"proof": proof(new, "repeats"), "endorsement": endorsement(party, new, 3600)}
    assert send(lab, **fields).status == 201
    before = version(lab)
    for later in (0, 20, 55):
        with lab.clock.at(NOW + later):
            answer = send(lab, **fields)
        assert (answer.status, answer.json["kid"]) == (200, new.kid)
    assert version(lab) == before
    (old, _) = sorted(
        lab.operate(lambda op: operations.list_client_keys(op, "repeats")), key=lambda key: key.kid != party.key.kid
    )
    assert old.expires_at == NOW + 3600


@pytest.mark.rule("ST-9", "AS-CA-11", "I14")
def test_an_endorsement_with_another_word_under_the_same_jti_is_refused(lab: Lab) -> None:
    """A little less `retire_after` each time: used up is used up, also where the key is there already."""
    party, new = lab.add_client("presses"), generate_private_key("ES256")
    assert enrol(lab, party, new, 100_000, "one-jti").status == 201
    before = version(lab)
    for less in range(1, 6):
        answer = enrol(lab, party, new, 100_000 - 60 * less, "one-jti")
        check_refused(answer, "invalid_client", 401)
        assert lab.reason(answer) == "enrolment_replayed"
    other = generate_private_key("ES256")
    check_refused(enrol(lab, party, other, None, "one-jti"), "invalid_client", 401)
    assert version(lab) == before


@pytest.mark.rule("ST-9", "I14", "L10")
def test_what_one_client_may_change_in_a_minute(fresh_lab: Callable[..., Lab]) -> None:
    """Fresh endorsements, each for a sooner end: some are done, the rest is 429, and other clients are not concerned."""
    lab = fresh_lab(DEFAULTS)
    party, other, new = lab.add_client("restless"), lab.add_client("calm"), generate_private_key("ES256")
    before = version(lab)
    answers = [enrol(lab, party, new, 100_000 - 60 * n, f"jti-{n}") for n in range(CHANGES + 15)]
    done = [answer for answer in answers if answer.status in (200, 201)]
    assert CHANGES <= len(done) <= CHANGES + 10  # as time goes on
    assert version(lab) - before <= len(done) + 1
    check_refused(answers[-1], "temporarily_unavailable", 429)
    assert lab.reason(answers[-1]) == "enrolment_pace"
    assert enrol(lab, other, generate_private_key("ES256")).status == 201
    unchanged = enrol(lab, party, new)  # asks for no change
    assert unchanged.status == 200
    check_ok(lab.ask(party.assertion()))


@pytest.mark.rule("ST-9", "KEY-23")
def test_an_interrupted_rotation_is_finished_by_its_repetition(lab: Lab) -> None:
    """The key is there but the old one's end is not, as after a crash in between: the same request sets it."""
    party, new = lab.add_client("halfway"), generate_private_key("ES256")
    fields = {"proof": proof(new, "halfway"), "endorsement": endorsement(party, new, 3600)}
    assert send(lab, **fields).status == 201
    forever = LimitsChange(expires_at=None)
    lab.operate(lambda op: operations.update_client_key(op, "halfway", party.key.kid, forever))
    assert send(lab, **fields).status == 200
    keys = lab.operate(lambda op: operations.list_client_keys(op, "halfway"))
    assert {key.kid: key.expires_at for key in keys}[party.key.kid] == NOW + 3600


@pytest.mark.rule("OP-4", "OP-15", "I1")
def test_a_join_code_from_before_a_restore(fresh_lab: Callable[..., Lab]) -> None:
    """Nobody knows whether it was used: refused, and the log says how its owner gets on; a new one is good."""
    lab, new = fresh_lab(), generate_private_key("ES256")
    invitations = Invitations([lab.kek])

    def join(made_at: int) -> Answer:
        code = invitations.make("billing", made_at, NOW + 600)
        return send(lab, proof=proof(new, code=code_digest(code)), code=code)

    condition = lab.operate(store_operations.fence_store)
    refused = join(NOW)
    check_refused(refused, "temporarily_unavailable", 503)
    assert lab.reason(refused) == "store_floor"
    assert "groat client invite" in lab.event(refused)["hint"]
    assert join(condition.floor).status == 201


# The audit trail


def newest(lab: Lab) -> Any:
    return lab.operate(lambda op: op.store.audit_rows(limit=1))[0]


def test_a_client_that_enrols_stands_in_the_audit_trail(lab: Lab) -> None:
    """It is the actor, and says how it came by the right; who is refused, or brings what is known, causes no row."""
    party, stranger = lab.add_client("enrolling"), Party("enrolling", generate_private_key("ES256"))
    new, before = generate_private_key("ES256"), newest(lab).seq
    assert enrol(lab, stranger, new).status == 401
    check_refused(send(lab, proof="x", code="y"), "invalid_request")
    assert newest(lab).seq == before
    right = {"proof": proof(new, "enrolling"), "endorsement": endorsement(party, new)}
    assert send(lab, **right).status == 201
    row = newest(lab)
    assert (row.seq, row.face, row.actor) == (before + 1, "enrolment", "client:enrolling by:endorsement")
    assert (row.operation, row.object) == ("client.key_enrolled", "client/enrolling")
    assert (new.kid in row.before, new.kid in row.after) == (False, True)
    assert send(lab, **right).status == 200
    assert newest(lab).seq == row.seq
