"""The life of a client's keys from the command line: limits, lists, verdicts, and rotation that ends by itself."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from groat.cli.instants import from_now, instant
from groat.keys.files import read_private_key
from groat.protocol.jwk import PrivateKey, generate_private_key
from tests.ports import free_port

from .running import AUDIENCE, Home
from .test_enrolment import Site, running_site

NOW = 1_800_000_000
DAY = 86400
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "client-keys.md"
ALLOW = ("--allow", "orders=orders:read")


@pytest.fixture(scope="module")
def site(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server where enrolled keys count for thirty days."""
    with running_site(furnished, tmp_path_factory.mktemp("life"), GROAT_CLIENTS__KEY_LIFETIME="30d") as site:
        yield site


def keys(home: Home, client_id: str) -> dict[str, dict[str, Any]]:
    """What the list says, by kid."""
    return {key["kid"]: key for key in home.ok("--json", "client", "key", "list", client_id).json}


def public(home: Home, name: str, key: PrivateKey | None = None) -> str:
    """Write a public key; returns its kid."""
    key = key or generate_private_key("ES256")
    home.file(name, json.dumps(dict(key.public.jwk)))
    return key.kid


def token(site: Site, client_id: str, file: str) -> int:
    """The exit code of asking for a token."""
    words = ("--client-id", client_id, "--key", file, "--resource", AUDIENCE, "--scope", "orders:read")
    return site.home("token", "get", "--issuer", site.issuer, *words).code


# Instants


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90d", NOW + 90 * DAY),
        ("0s", NOW),
        ("15m", NOW + 900),
        ("2h", NOW + 7200),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T08:00Z", 1_800_000_000),
        ("2027-01-15 09:00:00+01:00", 1_800_000_000),
        ("2027-01-15t08:00:00.25z", 1_800_000_000),
    ],
)
def test_instants(text: str, at: int) -> None:
    """RFC 3339 with its offset, or a time from now."""
    assert instant(text, NOW + 0.5) == at


@pytest.mark.parametrize(
    "text",
    ["", "90", "-1d", "1w", "1.5h", "tomorrow", "2027-01-15", "2027-01-15T08:00:00", "2027-13-15T08:00:00Z", "8d8d"],
)
def test_what_is_no_instant(text: str) -> None:
    """Nobody guesses a unit or an offset."""
    with pytest.raises(ValueError, match=r".+"):
        instant(text, NOW)


def test_instants_for_people() -> None:
    """How long ago, or how long till then."""
    assert [from_now(at, NOW, "never") for at in (None, NOW, NOW - 300, NOW + 3 * DAY)] == [
        "never", "1 s ago", "5 min ago", "in 3 d"]  # fmt: skip


# Limits


@pytest.mark.rule("KEY-23")
def test_limits_are_given_changed_and_taken_back(home: Home) -> None:
    """At registration, with a further key, and later; the list says what state each key is in."""
    home.ok("client", "add", "c", *ALLOW, "--new-key", "c.json", "--key-expires", "2d",
            "--key-not-before", "2026-01-01T00:00Z")  # fmt: skip
    first = read_private_key(home.directory / "c.json").kid
    second = public(home, "second.jwk")
    (added,) = home.ok(
        "--json", "client", "key", "add", "c", "second.jwk", "--not-before", "1d", "--expires", "2099-12-31T00:00:00Z"
    ).json
    assert added["expires_at"] == datetime(2099, 12, 31, tzinfo=UTC).timestamp()
    listed = keys(home, "c")
    assert {kid: key["state"] for kid, key in listed.items()} == {first: "expiring", second: "not_yet_valid"}
    assert abs(listed[first]["expires_at"] - time.time() - 2 * DAY) < 30
    assert abs(listed[second]["not_before"] - time.time() - DAY) < 30
    shown = home.ok("client", "key", "list", "c").out
    assert re.search(r"ES256 +expires in (2 d|48 h) +\d+ s ago +never +no +no other key is valid", shown), shown
    assert re.search(r"valid in (24 h|1 d|86400 s|2 d)", shown), shown
    changed = home.ok("--json", "client", "key", "update", "c", second, "--clear", "not-before").json
    assert (changed["kid"], changed["not_before"], changed["expires_at"]) == (second, None, added["expires_at"])
    home.ok("client", "key", "update", "c", first, "--expires", "0s")
    assert {kid: key["state"] for kid, key in keys(home, "c").items()} == {first: "expired", second: "valid"}
    verdicts = {kid: (key["safe_to_remove"], key["why"]) for kid, key in keys(home, "c").items()}
    assert verdicts == {first: (True, "expired"), second: (False, "no other key is valid")}
    done = home.ok("client", "key", "remove", "c", first)
    assert done.err == ""


@pytest.mark.rule("KEY-23")
def test_the_last_valid_key_needs_force(home: Home) -> None:
    """Removing it or ending it is refused in one line, done with --force, and a doubtful removal is commented on."""
    (only,) = keys(home, "billing")
    for command in (("remove", "billing", only), ("update", "billing", only, "--expires", "0s")):
        refused = home("client", "key", *command)
        assert (refused.code, len(refused.err.splitlines())) == (3, 1)
        assert "--force" in refused.err
    home.ok("client", "key", "update", "billing", only, "--expires", "90d")
    public(home, "next.jwk")
    home.ok("client", "key", "add", "billing", "next.jwk")
    done = home.ok("client", "key", "remove", "billing", only)
    assert "no other valid key was used since" in done.err
    (left,) = keys(home, "billing")
    home.ok("client", "key", "update", "billing", left, "--expires", "0s", "--force")
    home.ok("client", "key", "remove", "billing", left)
    assert keys(home, "billing") == {}


@pytest.mark.rule("KEY-23")
def test_the_list_of_all_clients(home: Home) -> None:
    """Every key of every client, or those alone that end soon; verdicts stay within each client."""
    home.ok("client", "add", "soon", *ALLOW, "--new-key", "soon.json", "--key-expires", "5d")
    home.ok("client", "add", "late", *ALLOW, "--new-key", "late.json", "--key-expires", "50d")
    everything = home.ok("--json", "client", "key", "list", "--all").json
    assert [key["client_id"] for key in everything] == ["billing", "late", "soon"]
    assert {key["why"] for key in everything} == {"no other key is valid"}
    expiring = home.ok("--json", "client", "key", "list", "--all", "--expiring").json
    assert [key["client_id"] for key in expiring] == ["soon"]
    longer = home.ok("--json", "client", "key", "list", "--all", "--expiring", GROAT_CLIENTS__KEY_WARNING="60d").json
    assert [key["client_id"] for key in longer] == ["late", "soon"]
    assert "client id" in home.ok("client", "key", "list", "--all").out
    assert home.ok("--json", "client", "key", "list", "billing", "--expiring").json == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list",), 2, "either"),
        (("list", "billing", "--all"), 2, "either"),
        (("add", "billing", "new.jwk", "--expires", "tomorrow"), 2, "90d"),
        (("add", "billing", "new.jwk", "--expires", "2027-01-15T08:00:00"), 2, "90d"),
        (("add", "billing", "new.jwk", "--expires", "0s"), 3, "expired already"),
        (("add", "billing", "new.jwk", "--expires", "1d", "--not-before", "1d"), 3, "after its not-before"),
        (("add", "billing", "new.jwk", "--expires", "999999999d"), 3, "1970 and 9999"),
        (("update", "billing", "KID"), 2, "--clear"),
        (("update", "billing", "KID", "--expires", "1d", "--clear", "expires"), 2, "one of them"),
        (("update", "billing", "nobody", "--expires", "1d"), 3, "no key nobody"),
        (("update", "nobody", "KID", "--expires", "1d"), 3, "no client nobody"),
        (("update", "billing", "KID", "--expires", "1d", "--not-before", "2d"), 3, "after its not-before"),
    ],
)
def test_slips(home: Home, words: tuple[str, ...], code: int, said: str) -> None:
    """A clear line, and nothing changes."""
    public(home, "new.jwk")
    before = keys(home, "billing")
    done = home("client", "key", *(word.replace("KID", next(iter(before))) for word in words))
    assert (done.code, said in done.err) == (code, True), done.err
    assert keys(home, "billing") == before


def test_published_keys_have_no_limits_here(home: Home) -> None:
    """Whoever publishes keys himself ends them there."""
    words = ("--jwks-uri", "https://c.example/jwks.json", "--key-expires", "1d")
    assert home("client", "add", "c", *ALLOW, *words).code == 2


# Rotation by the client itself


@pytest.mark.rule("KEY-23")
def test_rotation_that_ends_the_old_key(site: Site) -> None:
    """The current key asks for its own end; both work until then, and what is enrolled ends by the server's rule."""
    site.home.ok("client", "add", "turn", *ALLOW, "--new-key", "t1.json")
    words = ("--issuer", site.issuer, "--key", "t1.json", "--new-key", "t2.json", "--retire-old-after", "1h")
    done = site.home.ok("--json", "client", "key", "rotate", "turn", *words)
    old, new = (read_private_key(site.home.directory / file).kid for file in ("t1.json", "t2.json"))
    listed = keys(site.home, "turn")
    assert abs(listed[old]["expires_at"] - time.time() - 3600) < 30
    assert abs(listed[new]["expires_at"] - time.time() - 30 * DAY) < 30
    assert done.json["expires_at"] == listed[new]["expires_at"]
    assert "both keys work for" in done.err
    assert [token(site, "turn", file) for file in ("t1.json", "t2.json")] == [0, 0]
    site.home.ok("client", "key", "update", "turn", old, "--expires", "0s")
    assert [token(site, "turn", file) for file in ("t1.json", "t2.json")] == [4, 0]
    assert site.reason() == "key_expired"
    lost = site.home("client", "key", "rotate", "turn", "--issuer", site.issuer, "--key", "t1.json",
                     "--new-key", "t3.json")  # fmt: skip
    assert (lost.code, site.reason()) == (4, "key_expired")


@pytest.mark.rule("KEY-23")
def test_a_retirement_never_lengthens_and_never_locks_out(site: Site) -> None:
    """An earlier end stays; a repetition changes nothing; a key cannot endorse itself away, nor for one that is over."""
    site.home.ok("client", "add", "self", *ALLOW, "--new-key", "self.json", "--key-expires", "30m")
    current = read_private_key(site.home.directory / "self.json")
    new = generate_private_key("ES256")

    def enrol(key: PrivateKey, after: int) -> int:
        endorsement = site.endorsement(current, key, iss="self", retire_after=after)
        return site.post(proof=site.proof(key, None, iss="self"), endorsement=endorsement)[0]

    end = keys(site.home, "self")[current.kid]["expires_at"]
    assert enrol(new, 3600) == 201
    assert keys(site.home, "self")[current.kid]["expires_at"] == end
    assert enrol(current, 60) == 200
    assert keys(site.home, "self")[current.kid]["expires_at"] == end
    site.home.ok("client", "key", "update", "self", new.kid, "--expires", "0s")
    assert enrol(new, 60) == 200
    assert keys(site.home, "self")[current.kid]["expires_at"] == end
    site.home.ok("client", "key", "update", "self", new.kid, "--clear", "expires")
    assert enrol(new, 600) == 200
    sooner = keys(site.home, "self")[current.kid]["expires_at"]
    assert sooner < end
    assert enrol(new, 1200) == 200
    assert keys(site.home, "self")[current.kid]["expires_at"] == sooner
    assert enrol(new, 59) == 401
    assert site.reason() == "endorsement_retirement"


@pytest.mark.rule("KEY-23")
def test_expired_keys_make_room(site: Site) -> None:
    """A client that rotates for ever needs no operator: at ten keys the one that expired first goes."""
    site.home.ok("client", "add", "forever", *ALLOW, "--new-key", "f.json")
    current = read_private_key(site.home.directory / "f.json")
    made = []
    for _ in range(9):
        made.append(generate_private_key("ES256"))
        answer = site.post(
            proof=site.proof(made[-1], None, iss="forever"),
            endorsement=site.endorsement(current, made[-1], iss="forever"),
        )
        assert answer[0] == 201
    last = generate_private_key("ES256")
    fields = {"proof": site.proof(last, None, iss="forever")}
    assert site.post(**fields, endorsement=site.endorsement(current, last, iss="forever"))[0] == 400
    for key, ago in ((made[3], "2026-01-02T00:00Z"), (made[5], "2026-01-01T00:00Z")):
        site.home.ok("client", "key", "update", "forever", key.kid, "--expires", ago)
    assert site.post(**fields, endorsement=site.endorsement(current, last, iss="forever"))[0] == 201
    kids = keys(site.home, "forever")
    assert len(kids) == 10
    assert made[5].kid not in kids
    assert made[3].kid in kids


@pytest.mark.parametrize("after", ["soon", "59s", "367d"])
def test_slips_of_a_host_that_rotates(site: Site, after: str) -> None:
    """Refused before a key is made."""
    words = ("--issuer", site.issuer, "--key", "billing.key.json", "--new-key", "none.json")
    done = site.home("client", "key", "rotate", "billing", *words, "--retire-old-after", after)
    assert (done.code, (site.home.directory / "none.json").exists()) == (2, False)


# The guide


def _commands() -> list[str]:
    """What the guide tells people to type, comments cut."""
    prompts = re.findall(r"^    (?:operator|host)\$ +(.+)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in prompts]


@pytest.mark.rule("KEY-23")
def test_the_guide_does_what_it_says(furnished: Path, tmp_path: Path) -> None:
    """Every command of it, in order, against a running server; only names and addresses are those of this test."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    home = Home(Path(shutil.copytree(furnished, tmp_path / "guide")), {"GROAT_SERVER__PORT": str(port)})
    home.ok("--yes", "client", "remove", "billing")
    home.env["GROAT_ISSUER"] = issuer
    said, typed = "", 0
    words = {"https://auth.example.com": issuer, "billing.": "accounts.", " billing ": " accounts "}
    with home.serving(port=port):
        for command in _commands():
            for old, new in words.items():
                command = f"{command} ".replace(old, new).strip()
            if "--jwks-uri" in command:  # one client cannot be added twice
                command = command.replace("accounts", "publisher")
            if "KID" in command:
                command = _with_kids(home, command)
            if command.startswith("groat client key add"):
                public(home, "next.jwk")
            if command.startswith("mv "):
                (home.directory / command.split()[1]).replace(home.directory / command.split()[2])
            else:
                out = home.ok(*command.removeprefix("groat ").split(), stdin=said).out
                said = "".join(re.findall(r"groat-join-\S+", out))
            typed += 1
    assert typed == len(_commands()) > 10
    assert {key["state"] for key in keys(home, "accounts").values()} == {"valid"}
    assert len(keys(home, "accounts")) == 2


def _with_kids(home: Home, command: str) -> str:
    """OLD-KID is the one that retires, NEXT-KID the one that was added last."""
    listed = keys(home, "accounts")
    (old,) = [kid for kid, key in listed.items() if key["state"] == "expiring"]
    waiting = [kid for kid, key in listed.items() if key["expires_at"] and kid != old]
    return command.replace("OLD-KID", old).replace("NEXT-KID", waiting[0] if waiting else "none")
