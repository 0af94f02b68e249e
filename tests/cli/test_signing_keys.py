"""`groat key`: the issuer's signing keys as an operator sees and moves them."""

import json
import sqlite3
import time
from typing import Any

import pytest

from groat.keys.ring.keyring import CLOCK_SKEW, PUBLISH_LEAD
from groat.protocol.jwk import PRIVATE_MEMBERS
from groat.protocol.key_set import import_key_set

from .running import Home


def keys(home: Home) -> list[Any]:
    """Every signing key as JSON."""
    listed: list[Any] = home.ok("--json", "key", "list").json
    return listed


def age(home: Home, seconds: int) -> None:
    """Move every instant of every signing key into the past, as if that much time had gone by."""
    with sqlite3.connect(home.directory / "data" / "groat.db") as connection:
        connection.execute(
            "UPDATE signing_keys SET created_at = created_at - ?, activates_at = activates_at - ?,"
            " retires_at = retires_at - ?, removes_at = removes_at - ?",
            (seconds,) * 4,
        )
    connection.close()


@pytest.mark.rule("KEY-10", "KEY-12")
def test_the_first_key_is_listed(home: Home) -> None:
    """It signs, and shows its public half only."""
    (key,) = keys(home)
    assert key.keys() == {
        "kid", "algorithm", "state", "created_at", "activates_at", "retires_at", "removes_at", "jwk"
    }  # fmt: skip
    assert (key["state"], key["retires_at"], key["removes_at"]) == ("active", None, None)
    assert key["created_at"] == key["activates_at"] <= time.time()
    assert key["jwk"]["kid"] == key["kid"]
    assert not PRIVATE_MEMBERS & key["jwk"].keys()
    assert home.ok("-q", "key", "list").out == f"{key['kid']}\n"


@pytest.mark.rule("KEY-19", "KEY-20")
def test_a_rotation_publishes_first_and_keeps_the_old_key(home: Home) -> None:
    """The new key waits for the lead; the old one signs until then, and is published beyond it."""
    (first,) = keys(home)
    done = home.ok("--json", "key", "rotate")
    fresh, outgoing = done.json
    assert (fresh["state"], outgoing["state"], outgoing["kid"]) == ("pending", "active", first["kid"])
    assert fresh["activates_at"] == fresh["created_at"] + PUBLISH_LEAD == outgoing["retires_at"]
    assert outgoing["removes_at"] - outgoing["retires_at"] == 600 + CLOCK_SKEW
    assert done.err in {f"{fresh['kid']} signs in {minutes} min\n" for minutes in (65, 66)}
    assert [key["kid"] for key in keys(home)] == [first["kid"], fresh["kid"]]


@pytest.mark.rule("KEY-19", "KEY-20", "AS-MD-15")
def test_a_rotation_runs_by_itself(home: Home) -> None:
    """As time goes by the keys change their states, and nobody has to do anything."""
    home.ok("key", "rotate")
    seen = []
    for step in (0, PUBLISH_LEAD - 60, 60, 600, 60):
        age(home, step)
        seen.append([key["state"] for key in keys(home)])
    assert seen == [
        ["active", "pending"],
        ["active", "pending"],
        ["retiring", "active"],
        ["retiring", "active"],
        ["removed", "active"],
    ]
    assert len(json.loads(home.ok("key", "export").out)["keys"]) == 1


@pytest.mark.rule("KEY-19")
def test_a_second_rotation_waits(home: Home) -> None:
    """It is refused while a successor is on its way, and changes nothing."""
    home.ok("key", "rotate")
    before = keys(home)
    done = home("key", "rotate")
    assert (done.code, done.out) == (3, "")
    assert "takes over by itself" in done.err
    assert keys(home) == before


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize("algorithm", ["Ed25519", "EdDSA", "ES384", "PS256"])
def test_a_rotation_may_change_the_algorithm(home: Home, algorithm: str) -> None:
    """From the next key on."""
    fresh, _ = home.ok("--json", "key", "rotate", "--alg", algorithm).json
    assert fresh["algorithm"] == {"EdDSA": "Ed25519"}.get(algorithm, algorithm)


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize("algorithm", ["HS256", "none", "FOO", ""])
def test_a_rotation_to_an_unknown_algorithm_is_a_slip(home: Home, algorithm: str) -> None:
    """Usage, not a bug; nothing is changed."""
    done = home("key", "rotate", "--alg", algorithm)
    assert (done.code, done.out) == (2, "")
    assert "ES256" in done.err
    assert len(keys(home)) == 1


@pytest.mark.rule("KEY-13")
def test_a_rotation_keeps_to_the_profile(home: Home) -> None:
    """An algorithm that the profile forbids is an error of input."""
    done = home("key", "rotate", "--alg", "ES384", GROAT_PROFILE="fapi2")
    assert (done.code, "outside profile fapi2" in done.err) == (3, True)


@pytest.mark.rule("KEY-21")
def test_a_revoked_key_is_replaced_at_once(home: Home) -> None:
    """It is gone from signing and from the JWKS, and a new one signs from the same second."""
    (first,) = keys(home)
    gone, fresh = home.ok("--json", "--yes", "key", "revoke", "--", first["kid"]).json
    assert (gone["kid"], gone["state"], fresh["state"]) == (first["kid"], "removed", "active")
    exported = json.loads(home.ok("key", "export").out)
    assert [key["kid"] for key in exported["keys"]] == [fresh["kid"]]


@pytest.mark.rule("KEY-21")
def test_revoking_the_active_key_promotes_the_pending_one(home: Home) -> None:
    """The next rotation is then possible again."""
    fresh, outgoing = home.ok("--json", "key", "rotate").json
    home.ok("--yes", "key", "revoke", "--", outgoing["kid"])
    assert {key["kid"]: key["state"] for key in keys(home)} == {fresh["kid"]: "active", outgoing["kid"]: "removed"}
    home.ok("key", "rotate")


@pytest.mark.rule("KEY-21")
def test_revoking_the_pending_key_leaves_no_gap(home: Home) -> None:
    """The active key does not retire for a successor that is gone."""
    fresh, outgoing = home.ok("--json", "key", "rotate").json
    home.ok("--yes", "key", "revoke", "--", fresh["kid"])
    age(home, 2 * PUBLISH_LEAD)
    assert {key["kid"]: key["state"] for key in keys(home)} == {fresh["kid"]: "removed", outgoing["kid"]: "active"}


@pytest.mark.rule("KEY-21")
@pytest.mark.parametrize("kid", ["nobody", ""])
def test_an_unknown_kid_is_not_revoked(home: Home, kid: str) -> None:
    """Exit code 3 and the kid."""
    done = home("--yes", "key", "revoke", kid)
    assert (done.code, done.out) == (3, "")
    assert "no published key has kid" in done.err


@pytest.mark.rule("KEY-21", "T7")
def test_a_revocation_needs_the_right_key_encryption_key(home: Home) -> None:
    """Sealed with another one, the replacement could sign nothing; then nothing is changed."""
    (first,) = keys(home)
    home.file("data/key-encryption.key", "A" * 43 + "\n")
    done = home("--yes", "key", "revoke", "--", first["kid"])
    assert done.code == 3
    assert "cannot be unsealed" in done.err
    assert [key["state"] for key in keys(home)] == ["active"]


@pytest.mark.rule("KEY-12", "AS-MD-13")
def test_the_exported_set_is_public(home: Home) -> None:
    """It is the JWKS: every published key, with kid, use and alg, and no private member."""
    home.ok("key", "rotate", "--alg", "PS256")
    document = json.loads(home.ok("key", "export").out)
    assert sorted(key.algorithm for key in import_key_set(document)) == ["ES256", "PS256"]
    for key in document["keys"]:
        assert key.keys() >= {"kty", "kid", "use", "alg"}
        assert not PRIVATE_MEMBERS & key.keys()


@pytest.mark.rule("KEY-06", "KEY-12")
def test_one_key_is_exported_as_jwk_or_pem(home: Home) -> None:
    """The only one, or the one that is named."""
    jwk = json.loads(home.ok("key", "export", "--format", "jwk").out)
    assert home.ok("key", "export", "--format", "pem").out.startswith("-----BEGIN PUBLIC KEY-----\n")
    home.ok("key", "rotate")
    for form in ("jwk", "pem"):
        done = home("key", "export", "--format", form)
        assert (done.code, "name one published key" in done.err) == (3, True)
    assert json.loads(home.ok("key", "export", "--format", "jwk", "--", jwk["kid"]).out) == jwk
    assert home("key", "export", "nobody").code == 3
