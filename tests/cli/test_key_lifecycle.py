"""The verbs of `groat key` beyond list and rotate, the timeline, and what the checks say about the ring."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import pytest

from groat.cli.timeline import axis_of, lane, next_event, span
from groat.keys.ring.keyring import PUBLISH_LEAD, KeyState, Lead, SigningKey
from groat.keys.ring.plans import relinked
from groat.protocol.jwk import PublicKey
from tests.ports import free_port

from .running import ISSUER, Home
from .test_signing_keys import age, keys

DAY: Final = 86_400
START: Final = 1_800_000_000


def key(kid: str, **changes: Any) -> SigningKey:
    """A key that was just made."""
    public = PublicKey(kid, frozenset({"ES256"}), kid, {"kid": kid}, None)
    return replace(SigningKey(public, START, START, sealed=b"private"), **changes)


def states(home: Home) -> list[str]:
    return [record["state"] for record in keys(home)]


@pytest.mark.rule("KEY-19")
def test_a_prepared_key_waits_for_its_activation(home: Home) -> None:
    """It is published and has no date; activated, it signs the lead after its publication."""
    (first,) = keys(home)
    (held,) = home.ok("--json", "key", "prepare").json
    assert (held["state"], held["activates_at"]) == ("pending", None)
    age(home, 100)
    fresh, outgoing = home.ok("--json", "key", "activate", held["kid"]).json
    assert (fresh["kid"], outgoing["kid"]) == (held["kid"], first["kid"])
    assert fresh["activates_at"] - fresh["created_at"] == PUBLISH_LEAD
    assert home("key", "activate", held["kid"]).code == 3


@pytest.mark.rule("KEY-19", "KEY-21")
def test_an_activation_at_once_asks_first(home: Home) -> None:
    """Verifiers may not know the key, so somebody has to say yes; the checks then say for how long."""
    age(home, 100)
    (held,) = home.ok("--json", "key", "prepare").json
    assert home("--no-input", "key", "activate", "--now", held["kid"]).code == 2
    home.ok("--yes", "key", "activate", "--now", held["kid"])
    assert states(home) == ["active", "retiring"] or states(home) == ["retiring", "active"]
    done = home("config", "check")
    assert (done.code, "KEY-19" in done.err, "unsafe key ring" in done.out) == (7, True, True)


@pytest.mark.rule("KEY-20", "KEY-21")
def test_retiring_the_active_key_is_a_rotation_or_at_once_a_taint(home: Home) -> None:
    """Planned, the successor is published first; at once, the key signs no more and stays for its tokens."""
    (first,) = keys(home)
    fresh, _ = home.ok("--json", "key", "retire", first["kid"]).json
    assert states(home) == ["active", "pending"]
    tainted, heir = home.ok("--json", "key", "retire", "--now", first["kid"]).json
    assert (tainted["state"], heir["kid"], heir["state"]) == ("retiring", fresh["kid"], "active")
    assert home("key", "retire", "nobody").code == 3


@pytest.mark.rule("KEY-20")
def test_retiring_a_pending_key_withdraws_it(home: Home) -> None:
    """It never signed, so it may go; the active one stays in office."""
    (held,) = home.ok("--json", "key", "prepare").json
    home.ok("key", "retire", held["kid"])
    assert sorted(states(home)) == ["active", "removed"]


@pytest.mark.rule("KEY-13", "KEY-19")
def test_a_rotation_does_not_swap_the_algorithm_of_a_published_key(home: Home) -> None:
    """The key that stands by takes over as it is; the error says how to get another."""
    home.ok("key", "prepare")
    done = home("key", "rotate", "--alg", "PS256")
    assert (done.code, "groat key prepare --alg PS256" in done.err) == (3, True)
    home.ok("key", "rotate")


@pytest.mark.rule("T7", "KEY-14")
def test_the_key_encryption_key_changes_without_downtime(home: Home) -> None:
    """Two files open, one seals; after `reseal` the old one can go, and before it, it cannot."""
    data = home.directory / "data"
    home.ok("key", "prepare")
    (data / "key-encryption.key").rename(data / "old.key")
    home.file("data/key-encryption.key", "B" * 42 + "A\n")
    assert "cannot be unsealed" in home("config", "check").err
    both = {"GROAT_KEYS__OTHER_ENCRYPTION_KEY_FILES": "data/old.key"}
    home.ok("config", "check", **both)
    assert len(home.ok("--json", "key", "reseal", **both).json) == 2
    done = home.ok("--json", "key", "reseal", **both)
    assert (done.json, "sealed by" in done.err) == ([], True)
    (data / "old.key").unlink()
    home.ok("config", "check")
    home.ok("key", "rotate")


@pytest.mark.rule("KEY-19", "KEY-20")
def test_the_timeline_as_json_has_the_spans_and_the_faults(home: Home) -> None:
    """What a dashboard needs to draw it, and what the checker found."""
    document = home.ok("--json", "key", "timeline").json
    assert (document["publish_lead"], document["keep"], document["rotate_every"]) == (PUBLISH_LEAD, 660, 30 * DAY)
    assert (document["faults"], len(document["keys"])) == ([], 1)
    age(home, 31 * DAY)
    (fault,) = home.ok("--json", "key", "timeline").json["faults"]
    assert fault["rule"] == "KEY-22"
    assert "no successor" in home.ok("key", "timeline").out


def test_the_timeline_shows_a_lane_for_each_published_key(home: Home) -> None:
    """Kid, state, lane and next event of each, the axis, the legend and the verdict."""
    home.ok("key", "rotate")
    lines = home.ok("key", "timeline", COLUMNS="100").out.splitlines()
    first, fresh = keys(home)
    assert lines[0].startswith(f"{first['kid'][:10]} active")
    assert lines[1].startswith(f"{fresh['kid'][:10]} pending")
    assert "█" in lines[0] and "▒" in lines[0] and "░" in lines[1] and "█" in lines[1]  # noqa: PT018
    assert "signs in 1 h" in lines[1]
    assert lines[-1].startswith("safe:")
    assert all(len(line) <= 100 for line in lines)


def test_lanes_agree_with_the_clock() -> None:
    """Each cell shows the state of its moment; a spell that is too short to see has one cell."""
    first = key("k1")
    both = relinked((first,), START, Lead(token_lifetime=600), key("k2", activates_at=START + 30 * DAY))[::-1]
    now = START + 10 * DAY
    axis = axis_of(both, now, 60)
    old, heir = (lane(one, axis, now).plain for one in both)
    assert (old.count("▒"), old.count("░"), heir.count("▒")) == (1, 0, 0)
    assert old.index("▒") == heir.index("█") == axis.cell(START + 30 * DAY)
    assert old.index("┃") == heir.index("┃") == axis.cell(now)
    revoked = replace(both[0], retires_at=now - 60, removes_at=now - 60)
    assert revoked.state(now) is KeyState.REMOVED
    assert lane(revoked, axis, now).plain.rstrip().endswith("┃")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3960, "1 h 6 min"), (90_061, "1 d 1 h")]
)
def test_spans_are_said_in_two_units(seconds: int, text: str) -> None:
    """More would be noise."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "no end planned"),
        ({"activates_at": START + 90}, "signs in 1 min 30 s"),
        ({"retires_at": START + 60, "removes_at": START + 90}, "retires in 1 min"),
        ({"retires_at": START - 60, "removes_at": START + 60}, "removed in 1 min"),
        ({"retires_at": START - 60, "removes_at": START - 1}, "removed"),
        ({"retires_at": START - 60, "removes_at": START - 60}, "revoked"),
    ],
)
def test_what_a_key_does_next(changes: dict[str, Any], text: str) -> None:
    """In words, next to its lane."""
    assert next_event(key("k", **changes), START) == text


@pytest.mark.rule("OPS-06", "AS-MD-14")
def test_the_doctor_finds_a_healthy_server(home: Home) -> None:
    """All checks pass; exit code 0; JSON has one object a check."""
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving(port=port) as server:
        rows = home.ok("--json", "doctor", "server", "--url", server.url).json
        assert [row["check"] for row in rows] == [
            "health", "readiness", "store", "clock", "metadata", "key_set", "caching", "revocations", "ring",
            "client_key_sets", "trusts", "client_keys", "audit", "admin",
        ]  # fmt: skip
        assert {row["outcome"] for row in rows} == {"ok"}
        assert "2 s by the feed, 31 s by status lists" in rows[7]["detail"]
        home.ok("trust", "add", "ci", "--issuer", "https://ci.example", "--jwks-file", "/nowhere/ci.json")
        done = home("--json", "doctor", "server", "--url", server.url)
        failed = [(row["check"], row["detail"]) for row in json.loads(done.out) if row["outcome"] == "failed"]
        assert failed == [("trusts", "ci: /nowhere/ci.json cannot be read: No such file or directory")]
        home.ok("trust", "disable", "ci")
        assert home("doctor", "server", "--url", server.url).code == 0


@pytest.mark.rule("OPS-06", "KEY-22")
@pytest.mark.parametrize(
    ("settings", "failed"),
    [
        ({"GROAT_ISSUER": "https://other.example"}, ["metadata"]),
        ({"GROAT_KEYS__JWKS_MAX_AGE": "60"}, ["caching"]),
        ({"GROAT_STORAGE__URL": "sqlite:///other/data/groat.db"}, ["key_set"]),
    ],
    ids=["another issuer", "another max-age", "another store"],
)
def test_the_doctor_finds_what_is_wrong(home: Home, settings: dict[str, str], failed: list[str]) -> None:
    """A server that runs with other settings than this host has; exit code 7."""
    other = Home(home.directory / "other")
    other.directory.mkdir()
    other.ok("init", "--issuer", ISSUER)
    port = free_port()
    home.env["GROAT_SERVER__PORT"] = str(port)
    with home.serving(port=port) as server:
        done = home("--json", "doctor", "server", "--url", server.url, **settings)
    assert done.code == 7
    assert [row["check"] for row in json.loads(done.out) if row["outcome"] == "failed"] == failed


@pytest.mark.rule("OPS-06")
def test_the_doctor_looks_at_the_admin_api_and_the_trail(home: Home) -> None:
    """A listener that is not there, and a row that somebody changed, are found; at an address it need not have a token."""
    port, admin = free_port(), free_port()
    home.env |= {"GROAT_SERVER__PORT": str(port), "GROAT_ADMIN__LISTEN": f"0.0.0.0:{admin}"}

    def found(**env: str) -> dict[str, tuple[str, str]]:
        rows = home("--json", "doctor", "server", "--url", server.url, **env).json
        return {row["check"]: (row["outcome"], row["detail"]) for row in rows}

    with home.serving(port=port) as server:
        assert found()["admin"] == ("ok", f"answers at http://localhost:{admin}")
        elsewhere = found(GROAT_ADMIN__LISTEN=f"127.0.0.1:{free_port()}")
        assert elsewhere["admin"][0] == "failed"
        with closing(sqlite3.connect(home.directory / "data" / "groat.db")) as connection:
            connection.execute("UPDATE audit SET actor = 'user:eve uid:1' WHERE seq = 2")
            connection.commit()
        outcome, detail = found()["audit"]
        assert (outcome, detail.startswith("row 2 was changed")) == ("failed", True)


@pytest.mark.rule("OPS-06")
def test_the_doctor_looks_from_outside(home: Home) -> None:
    """From a host without the store and without a configuration: the issuer's name is all that it needs."""
    port = free_port()
    home.env |= {"GROAT_SERVER__PORT": str(port), "GROAT_ISSUER": f"http://127.0.0.1:{port}"}
    (home.directory / "outside").mkdir()
    with home.serving(port=port):
        outside = Home(home.directory / "outside", {"GROAT_ISSUER": home.env["GROAT_ISSUER"]})
        rows = outside.ok("--json", "doctor", "server", "--outside").json
        asked = ["health", "readiness", "clock", "metadata", "key_set", "caching", "revocations"]
        assert [row["check"] for row in rows] == asked
        assert {row["outcome"] for row in rows} == {"ok"}
    assert outside("doctor", "server", "--outside").code == 5


@pytest.mark.rule("OPS-06")
def test_the_doctor_says_when_nobody_answers(home: Home) -> None:
    """Exit code 5 and the address."""
    url = f"http://127.0.0.1:{free_port()}"
    done = home("doctor", "server", "--url", url)
    assert (done.code, f"{url} does not answer" in done.out) == (5, True)
