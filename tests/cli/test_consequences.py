"""A change that takes something from clients: whom it hits is said before, asked about, or said instead (--dry-run)."""

import asyncio
import json
import os
import pty
import re
import subprocess
import time
from typing import Any

import pytest

from groat.keys import files
from groat.protocol.jwk import generate_private_key
from groat.server.store.sqlite.store import SqliteStore
from tests.certificates import Wish, issued

from .running import AUDIENCE, Home

STOCK = "https://stock.example.com"
LESS = ("api", "update", "orders", "--remove-scope", "orders:read")


@pytest.fixture
def crowd(home: Home) -> Home:
    """Beside billing, which may read: shipping reads by default and writes, and nobody else has to do with orders."""
    home.ok("api", "add", "stock", "--audience", STOCK, "--scope", "stock:read")
    for name, allow in (("shipping", "orders=orders:read,orders:write"), ("counting", "stock=stock:read")):
        home.ok("client", "add", name, "--allow", allow, "--new-key", f"{name}.key.json")
    home.ok("client", "update", "shipping", "--default-scope", "orders:read")
    return home


def state(home: Home) -> Any:
    """APIs, clients and their keys as they are."""
    return [
        home.ok("--json", *words).json
        for words in (("api", "list"), ("client", "list"), ("client", "key", "list", "--all"), ("key", "list"))
    ]


def used_just_now(home: Home, client_id: str) -> str:
    """Note a use of the client's only key; returns its kid."""
    (key,) = home.ok("--json", "client", "key", "list", client_id).json

    note(home, client_id, key["thumbprint"], int(time.time()))
    return str(key["kid"])


def used_without_a_key(home: Home, client_id: str) -> None:
    """By a certificate, or as a workload: of such a use the hour is noted, and no key."""
    note(home, client_id, "", int(time.time()) + 1)


def note(home: Home, client_id: str, thumbprint: str, at: int) -> None:
    async def write() -> None:
        store = SqliteStore.open(home.directory / "data" / "groat.db")
        await store.note_key_uses([(client_id, thumbprint, at)])
        await store.close()

    asyncio.run(write())


@pytest.mark.rule("OP-3")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (LESS, ["billing: loses orders:read", "nothing of orders is left", "shipping: loses orders:read", "default scopes orders:read"]),
        (("api", "update", "orders", "--audience", f"{AUDIENCE}/v2"), ["billing: must ask for https://orders.example.com/v2", "shipping:"]),
        (("api", "remove", "orders"), ["billing: loses orders:read", "shipping: loses orders:read orders:write"]),
        (("client", "remove", "shipping"), ["shipping: loses orders:read orders:write", "for good"]),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_who_is_hit_is_said_and_asked_about(crowd: Home, command: tuple[str, ...], said: list[str]) -> None:
    """Off a terminal nothing happens without --yes, in words and in JSON; whom it does not hit is not named."""
    before = state(crowd)
    for refused in (crowd(*command), crowd("--no-input", *command), crowd("--json", *command)):
        assert (refused.code, refused.out, "--yes" in refused.err) == (2, "", True)
        assert [words for words in said if words not in refused.err] == []
        assert "counting" not in refused.err
    assert json.loads(crowd("--json", *command).err)["error"] == "usage"
    assert state(crowd) == before
    done = crowd.ok("--yes", *command)
    assert [words for words in said if words not in done.err] == []
    assert state(crowd) != before


@pytest.mark.rule("OP-3")
@pytest.mark.parametrize(
    ("command", "hit"),
    [
        (LESS, {"billing": ["orders"], "shipping": []}),
        (("api", "update", "orders", "--audience", f"{AUDIENCE}/v2"), {"billing": [], "shipping": []}),
        (("api", "remove", "orders"), {"billing": ["orders"], "shipping": ["orders"]}),
        (("client", "remove", "shipping"), {"shipping": ["orders"]}),
        (("client", "disable", "shipping"), {"shipping": ["orders"]}),
        (("client", "update", "shipping", "--allow", "stock=stock:read", "--allow", "orders=orders:read"), {"shipping": []}),
        (("api", "update", "orders", "--scope", "orders:new"), {}),
        (("api", "remove", "stock"), {"counting": ["stock"]}),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_dry_run_names_them_and_changes_nothing(
    crowd: Home, command: tuple[str, ...], hit: dict[str, list[str]]
) -> None:
    """Exit code 7 says that something would change; the clients are on standard output, for programs in JSON."""
    before = state(crowd)
    found = crowd("--json", *command, "--dry-run")
    assert (found.code, found.json["outcome"], found.err) == (7, "would change", "")
    assert {loss["client_id"]: loss["permissions"] for loss in found.json["losses"]} == hit
    people = crowd(*command, "--dry-run")
    assert (people.code, people.err) == (7, "")
    assert [name for name in hit if f"{name}: " not in people.out] == []
    assert crowd("-q", *command, "--dry-run").out.split() == [*hit]
    assert state(crowd) == before


@pytest.mark.rule("OP-3")
def test_scopes_and_default_scopes_are_told_apart(crowd: Home) -> None:
    """What a program needs to give it all back."""
    losses = crowd("--json", *LESS, "--dry-run").json["losses"]
    assert losses == [
        {"client_id": "billing", "scopes": ["orders:read"], "default_scopes": [], "permissions": ["orders"], "why": ""},
        {
            "client_id": "shipping",
            "scopes": ["orders:read"],
            "default_scopes": ["orders:read"],
            "permissions": [],
            "why": "",
        },
    ]
    assert crowd.ok("--json", "--yes", *LESS).json["losses"] == losses


@pytest.mark.rule("OP-3")
@pytest.mark.parametrize(
    "command",
    [
        ("api", "update", "orders", "--scope", "orders:read"),
        ("api", "update", "orders", "--audience", AUDIENCE),
        ("client", "update", "billing", "--allow", "orders=orders:read"),
    ],
    ids=" ".join,
)
def test_a_dry_run_without_a_difference_is_0(crowd: Home, command: tuple[str, ...]) -> None:
    """So that it can be asked in a loop until there is nothing left to do."""
    done = crowd("--json", *command, "--dry-run")
    assert (done.code, done.json["outcome"], done.json["losses"]) == (0, "unchanged", [])


@pytest.mark.rule("OP-3")
@pytest.mark.parametrize(
    "arguments", [("--scope", "new"), ("--remove-scope", "orders:spare"), ("--audience", AUDIENCE)]
)
def test_what_hits_nobody_is_not_asked_about(crowd: Home, arguments: tuple[str, ...]) -> None:
    """A scope that nobody has can go, one can come, and the same audience is no change."""
    crowd.ok("api", "update", "orders", "--scope", "orders:spare")
    done = crowd.ok("--json", "api", "update", "orders", *arguments)
    assert (done.err, "losses" in done.json) == ("", False)


@pytest.mark.rule("OP-3")
def test_a_client_that_came_meanwhile_was_not_agreed_to(crowd: Home) -> None:
    """Between the question and the answer another client got the scope: nothing is done, and it says so."""
    ours, theirs = pty.openpty()
    process = crowd.start(*LESS, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(theirs)
    assert process.stderr is not None
    asked = b""
    while b"[y/N]" not in asked:
        asked += process.stderr.read1(1000)  # type: ignore[attr-defined]
    assert b"billing: loses orders:read" in asked
    crowd.ok("client", "update", "counting", "--allow", "orders=orders:read")
    os.write(ours, b"y\n")
    _, err = process.communicate(timeout=20)
    os.close(ours)
    assert (process.returncode, b"other clients" in err) == (3, True)
    assert "orders:read" in crowd.ok("--json", "api", "show", "orders").json["scopes"]


@pytest.mark.rule("OP-3")
def test_an_api_without_scopes_is_lost_too(home: Home) -> None:
    """Its name grants something by itself, and a new API of that name must not inherit it."""
    home.ok("api", "add", "bare", "--audience", "urn:example:bare")
    home.ok("client", "add", "odd", "--allow", "bare=", "--new-key", "odd.json")
    assert [loss["permissions"] for loss in home("--json", "api", "remove", "bare", "--dry-run").json["losses"]] == [
        ["bare"]
    ]
    home.ok("--yes", "api", "remove", "bare")
    assert home.ok("--json", "client", "show", "odd").json["allow"] == {}


@pytest.mark.rule("OP-3")
def test_settings_that_leave_no_key_are_said(home: Home) -> None:
    """Another algorithm than that of its only key, and no jwks_uri any more, lock a client out as much."""
    alg = ("client", "update", "billing", "--signing-alg", "PS256")
    (loss,) = home("--json", *alg, "--dry-run").json["losses"]
    assert (loss["permissions"], loss["why"]) == (["orders"], "none of its keys and certificates counts any more")
    assert "billing: loses orders:read" in home.ok(*alg).err
    home.ok("client", "add", "own", "--allow", "orders=orders:read", "--jwks-uri", "https://own.example.com/jwks")
    found = home("--json", "client", "update", "own", "--jwks-uri", "", "--dry-run")
    assert [loss["client_id"] for loss in found.json["losses"]] == ["own"]
    assert home.ok("client", "update", "own", "--strict-typ").err == ""


@pytest.mark.rule("OP-3")
def test_a_certificate_is_a_proof_like_a_key(home: Home) -> None:
    """Who has no other loses everything with it; a key beside it is not the last proof."""
    home.file("own.pem", issued(Wish("CN=own")).pem.decode())
    home.ok("client", "add", "own", "--allow", "orders=orders:read", "--certificate", "own.pem")
    less = ("client", "update", "own", "--clear", "certificate")
    (loss,) = home("--json", *less, "--dry-run").json["losses"]
    assert (loss["client_id"], loss["permissions"]) == ("own", ["orders"])
    home.ok("client", "update", "billing", "--certificate", "own.pem")
    (key,) = home.ok("--json", "client", "key", "list", "billing").json
    assert home("--json", "client", "key", "remove", "billing", key["kid"], "--dry-run").json["losses"] == []
    home.ok("client", "key", "remove", "billing", key["kid"])  # without --force


@pytest.mark.rule("OP-3")
def test_a_client_key_that_is_in_use(home: Home) -> None:
    """The dry run says who uses it; the last valid one would take everything."""
    kid = used_just_now(home, "billing")
    found = home("--json", "client", "key", "remove", "billing", kid, "--dry-run")
    (loss,) = found.json["losses"]
    assert (found.code, loss["permissions"], loss["why"]) == (7, ["orders"], "it has no other valid key")
    home.file("next.pem", files.public_key_pem(generate_private_key("ES256").public))
    home.ok("client", "key", "add", "billing", "next.pem")
    (loss,) = home("--json", "client", "key", "remove", "billing", kid, "--dry-run").json["losses"]
    assert (loss["permissions"], re.fullmatch(r"it used this key \d+ s ago", loss["why"]) is not None) == ([], True)
    assert "billing: it used this key" in home.ok("client", "key", "remove", "billing", kid).err


@pytest.mark.rule("OP-3")
def test_the_end_of_a_signing_key_names_who_holds_its_tokens(crowd: Home) -> None:
    """Those who used their key within a token's lifetime, and those whose uses nobody notes; to retire hits nobody."""
    used_just_now(crowd, "shipping")
    crowd.ok("client", "add", "pod", "--allow", "stock=stock:read", "--no-key")
    crowd.ok("client", "add", "idle", "--allow", "stock=stock:read", "--no-key")
    used_without_a_key(crowd, "pod")
    crowd.ok("client", "add", "own", "--allow", "stock=stock:read", "--jwks-uri", "https://own.example.com/jwks")
    (kid,) = [key["kid"] for key in crowd.ok("--json", "key", "list").json if key["state"] == "active"]
    found = crowd("--json", "key", "revoke", "--dry-run", "--", kid)
    assert (found.code, [loss["client_id"] for loss in found.json["losses"]]) == (7, ["own", "pod", "shipping"])
    refused = crowd("key", "revoke", "--", kid)
    assert (refused.code, "shipping: the tokens that it has are refused" in refused.err) == (2, True)
    retired = crowd("--json", "key", "retire", "--dry-run", "--", kid)
    assert (retired.code, retired.json["losses"]) == (7, [])
    assert crowd("key", "revoke", "--dry-run", "nobody").code == 3
    assert [key["state"] for key in crowd.ok("--json", "key", "list").json] == ["active"]


@pytest.mark.rule("OP-3")
def test_many_are_counted(home: Home) -> None:
    """A question that fills the screen is not read: twenty by name, the rest by number."""
    for number in range(22):
        home.file("k.pem", files.public_key_pem(generate_private_key("ES256").public))
        home.ok("client", "add", f"c{number:02}", "--allow", "orders=orders:read", "--public-key", "k.pem")
    refused = home(*LESS)
    assert ("c18: loses" in refused.err, "c19" in refused.err, "and 3 more" in refused.err) == (True, False, True)
    assert len(home("--json", *LESS, "--dry-run").json["losses"]) == 23
