"""`groat apply` and `groat diff`: the registry becomes what files say, all at once or not at all."""

import contextlib
import json
import os
import pty
import re
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from groat.keys.files import write_key_pair
from groat.protocol.jwk import generate_private_key
from tests.certificates import Wish, issued

from .running import Home

REGISTRY = """
[apis.orders]
audience = "https://orders.example.com"
scopes = ["orders:read", "orders:write"]

[clients.billing]
allow = {orders = ["orders:read"]}
"""
MORE = """
[apis.stock]
audience = "https://stock.example.com"
scopes = ["stock:read"]
token_lifetime = "15m"
binding = "dpop"

[clients.shipping]
allow = {stock = ["stock:read"], orders = ["orders:write"]}
keys = ["shipping.jwk.json"]
owner = "team shipping"
claims = {tenant = "acme"}
default_scopes = ["stock:read"]
enabled = false

[clients.deploy]
allow = {orders = ["orders:write"]}
keys = []

[[clients.deploy.rules]]
trust = "ci"
match = ["sub=robot"]

[trusts.ci]
issuer = "https://ci.example.com"
discovery = true
"""


def public_key(home: Home, name: str) -> str:
    """A new public key in a file; returns its kid."""
    key = generate_private_key("ES256").public
    home.file(name, json.dumps(dict(key.jwk)))
    return key.kid


def state(home: Home) -> Any:
    """All that is registered, and the version of the registry."""
    lists = (("api", "list"), ("client", "list"), ("client", "key", "list", "--all"), ("trust", "list"))
    version = home.ok("--json", "store", "show").json["registry_version"]
    return [version, *(home.ok("--json", *words).json for words in lists)]


@pytest.fixture
def wished(home: Home) -> Home:
    """The furnished installation, and files that want more of it."""
    public_key(home, "shipping.jwk.json")
    home.file("registry.toml", REGISTRY + MORE)
    return home


def test_the_registry_becomes_what_the_file_says(wished: Home) -> None:
    """Every kind of object at once, in one step of the registry; the second time nothing is left to do."""
    before = state(wished)[0]
    done = wished.ok("--json", "apply", "-f", "registry.toml").json
    assert (done["outcome"], done["added"], done["changed"], done["removed"]) == ("changed", 4, 0, 0)
    shipping = wished.ok("--json", "client", "show", "shipping").json
    assert (shipping["allow"]["stock"], shipping["owner"], shipping["enabled"]) == (
        ["stock:read"],
        "team shipping",
        False,
    )
    stock = wished.ok("--json", "api", "show", "stock").json
    assert (stock["token_lifetime"], stock["binding"]) == (900, "dpop")
    (rule,) = wished.ok("--json", "client", "trust", "list", "deploy").json
    assert (rule["trust"], rule["match"]) == ("ci", ["sub=robot"])
    after = state(wished)
    assert after[0] == before + 1
    again = wished.ok("--json", "apply", "-f", "registry.toml").json
    assert (again["outcome"], again["differences"], again["losses"]) == ("unchanged", [], [])
    assert state(wished) == after


def test_a_dry_run_and_diff_tell_it_and_change_nothing(wished: Home) -> None:
    """Exit code 7 says that something would change, 0 that nothing would."""
    before = state(wished)
    for command in (("apply", "--dry-run"), ("diff",)):
        found = wished("--json", *command, "-f", "registry.toml")
        assert (found.code, found.json["outcome"]) == (7, "would change")
        assert [one["object"] for one in found.json["differences"]] == [
            "api/stock", "client/deploy", "client/shipping", "trust/ci",
        ]  # fmt: skip
        assert (found.json["differences"][0]["file"], found.json["differences"][0]["line"]) == ("registry.toml", 9)
    assert wished("-q", "diff", "-f", "registry.toml").out.split() == [
        "api/stock", "client/deploy", "client/shipping", "trust/ci",
    ]  # fmt: skip
    assert state(wished) == before
    wished.ok("apply", "-f", "registry.toml")
    assert wished.ok("diff", "-f", "registry.toml").out == "unchanged: 0 added, 0 changed, 0 removed\n"


CHANGED = REGISTRY.replace('["orders:read", "orders:write"]', '["orders:read", "orders:new"]').replace(
    '{orders = ["orders:read"]}', '{orders = ["orders:new"]}\ntoken_lifetime = "5m"'
)


def test_what_differs_is_shown_member_by_member(home: Home) -> None:
    """For people without colours where nobody looks; what the file does not have is mentioned and left alone."""
    home.ok("api", "add", "stock", "--audience", "https://stock.example.com", "--scope", "stock:read")
    home.file("registry.toml", CHANGED)
    found = home("diff", "-f", "registry.toml")
    assert found.out.splitlines() == [
        "~ api/orders  registry.toml:2",
        "    scopes  - orders:write",
        "    scopes  + orders:new",
        "~ client/billing  registry.toml:6",
        "    allow.orders  - orders:read",
        "    allow.orders  + orders:new",
        "    token_lifetime  + 5m",
        "would change: 0 added, 2 changed, 0 removed",
    ]
    assert "in no file, and left alone: api/stock. --prune removes what no file has" in found.err
    assert "billing: loses orders:read" in found.err


def on_a_terminal(
    home: Home, *arguments: str, answer: bytes = b"", env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run it with a terminal for all streams; returns the exit code and all that was shown."""
    mine, its = pty.openpty()
    process = home.start(*arguments, stdin=its, stdout=its, stderr=its, env={"TERM": "xterm", **(env or {})})
    os.close(its)
    shown = b""
    if answer:
        while b"[y/N]" not in shown:
            shown += os.read(mine, 4096)
        os.write(mine, answer)
    try:
        while piece := os.read(mine, 4096):
            shown += piece
    except OSError:  # nobody writes there any more
        pass
    os.close(mine)
    return process.wait(30), shown.decode()


def test_colours_are_for_terminals_that_want_them(home: Home) -> None:
    home.file("registry.toml", CHANGED)
    code, shown = on_a_terminal(home, "diff", "-f", "registry.toml")
    assert (code, "\x1b[33m~ api/orders\x1b[0m" in shown, "\x1b[31m" in shown) == (7, True, True)
    quiet: list[tuple[tuple[str, ...], dict[str, str]]] = [(("--no-color",), {}), ((), {"NO_COLOR": "1"})]
    for arguments, env in quiet:
        _, shown = on_a_terminal(home, *arguments, "diff", "-f", "registry.toml", env=env)
        assert "\x1b[3" not in shown


def test_what_somebody_loses_is_asked_about(home: Home) -> None:
    """In a pipe nothing happens without --yes, and whoever is hit is named; on a terminal an answer counts."""
    home.file("registry.toml", CHANGED)
    before = state(home)
    for words in ((), ("--no-input",), ("--json",)):
        refused = home(*words, "apply", "-f", "registry.toml")
        assert (refused.code, "--yes" in refused.err, "billing: loses orders:read" in refused.err) == (2, True, True)
    code, shown = on_a_terminal(home, "apply", "-f", "registry.toml", answer=b"n\n")
    assert (code, "billing: loses orders:read" in shown) == (130, True)
    assert state(home) == before
    code, _ = on_a_terminal(home, "apply", "-f", "registry.toml", answer=b"y\n")
    assert (code, state(home)[0]) == (0, before[0] + 1)


def test_what_no_file_has_is_left_alone_or_goes(wished: Home) -> None:
    """With --prune it goes, and that is asked about; keys of a client whose file says nothing of keys stay."""
    wished.ok("apply", "-f", "registry.toml")
    wished.file("registry.toml", REGISTRY)
    kids = [key["kid"] for key in wished.ok("--json", "client", "key", "list", "billing").json]
    assert wished.ok("--json", "apply", "-f", "registry.toml").json["left"] == [
        "api/stock", "client/deploy", "client/shipping", "trust/ci",
    ]  # fmt: skip
    refused = wished("apply", "-f", "registry.toml", "--prune")
    assert (refused.code, "trust/ci: removed" in refused.err, "deploy: loses orders:write" in refused.err) == (
        2,
        True,
        True,
    )
    done = wished.ok("--json", "--yes", "apply", "-f", "registry.toml", "--prune").json
    assert (done["removed"], done["left"]) == (4, [])
    assert [client["client_id"] for client in wished.ok("--json", "client", "list").json] == ["billing"]
    assert [key["kid"] for key in wished.ok("--json", "client", "key", "list", "billing").json] == kids


WRONG = """
[apis.itself]
audience = "https://auth.example.com"
scopes = ["a"]

[clients.billing]
allow = {ordrs = ["orders:read"], orders = ["orders:raed"], itself = ["a"]}
default_scopes = ["orders:all"]
keys = ["shipping.jwk.json"]

[clients.shipping]
allow = {orders = ["orders:write"]}
keys = ["shipping.jwk.json"]

[clients.deploy]
keys = []
[[clients.deploy.rules]]
trust = "nobody"
match = ["sub=x"]

[trusts.ci]
issuer = "https://auth.example.com"
discovery = true

[trusts.hub]
issuer = "https://hub.example.com"
discovery = true
"max lifetime" = "1h"
"""


def test_whatever_is_wrong_is_said_at_once_and_nothing_is_done(wished: Home) -> None:
    """What files say wrong, and what the registry refuses; with file, line, and the name that was probably meant.

    What a client misses in an API that is wrong itself is no finding of its own.
    """
    wished.file("registry.toml", WRONG)
    before = state(wished)
    refused = wished("apply", "-f", "registry.toml")
    lines = refused.err.replace("groat: ", "").splitlines()
    assert refused.code == 3
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(
        f"registry.toml:{line}" for line in (2, 7, 7, 13, 17, 21, 28)
    ), lines
    for said in (
        "registry.toml:2: api itself: audience must name the API, not this authorization server",
        "registry.toml:7: client billing: no API ordrs; did you mean orders?",
        "registry.toml:7: client billing: API orders has no scope orders:raed; did you mean orders:read?",
        "registry.toml:17: client deploy: no trust nobody.",
        "registry.toml:21: trust ci: that is this server itself",
        "registry.toml:28: unknown name max lifetime; did you mean max_lifetime?",
    ):
        assert said in refused.err
    assert re.search(r"registry.toml:13: client shipping: this public key belongs to somebody else", refused.err)
    assert state(wished) == before
    assert json.loads(wished("--json", "apply", "-f", "registry.toml").err)["error"] == "invalid_input"


def test_what_is_in_each_others_way_finds_its_place(wished: Home) -> None:
    """An audience and a key that move to another name: what has them goes first, in the same change."""
    wished.ok("apply", "-f", "registry.toml")
    moved = (
        (REGISTRY + MORE)
        .replace("stock]", "store]")
        .replace("{stock", "{store")
        .replace("clients.shipping", "clients.sending")
    )
    wished.file("registry.toml", moved)
    assert wished("apply", "-f", "registry.toml").code == 3
    done = wished.ok("--json", "--yes", "apply", "-f", "registry.toml", "--prune").json
    assert (done["added"], done["removed"]) == (2, 2)
    assert wished.ok("--json", "diff", "-f", "registry.toml", "--prune").json["outcome"] == "unchanged"


def test_keys_come_change_and_go(wished: Home) -> None:
    """New ones are registered and old ones removed; a limit is one more difference; an end that is past counts."""
    wished.ok("apply", "-f", "registry.toml")
    first, second = wished.document("shipping.jwk.json")["kid"], public_key(wished, "second.jwk.json")
    both = MORE.replace(
        '["shipping.jwk.json"]',
        '[{file = "shipping.jwk.json", expires_at = "2020-01-01T00:00:00Z"}, "second.jwk.json"]',
    )
    wished.file("registry.toml", REGISTRY + both)
    wished.ok("apply", "-f", "registry.toml")
    keys = {key["kid"]: key["expires_at"] for key in wished.ok("--json", "client", "key", "list", "shipping").json}
    assert keys == {first: 1577836800, second: None}
    wished.file("registry.toml", REGISTRY + MORE.replace("shipping.jwk", "second.jwk"))
    wished.ok("apply", "-f", "registry.toml")
    assert [key["kid"] for key in wished.ok("--json", "client", "key", "list", "shipping").json] == [second]


def test_keys_of_an_api_come_and_go(home: Home) -> None:
    """By the list of its file; where that says nothing of them, they stay."""
    kids = [public_key(home, f"{name}.jwk.json") for name in ("one", "two")]

    def applied(keys: str) -> list[str]:
        home.file("registry.toml", REGISTRY.replace("[apis.orders]", f"[apis.orders]\n{keys}"))
        home.ok("apply", "-f", "registry.toml")
        assert home.ok("--json", "apply", "-f", "registry.toml").json["outcome"] == "unchanged"
        return [key["kid"] for key in home.ok("--json", "api", "key", "list", "orders").json]

    assert applied('keys = ["one.jwk.json"]') == [kids[0]]
    assert applied('keys = ["two.jwk.json"]') == [kids[1]]
    assert applied("") == [kids[1]]
    assert kids[1] in home.ok("export").out
    assert applied("keys = []") == []


def test_the_last_key_is_not_taken_without_a_word(wished: Home) -> None:
    """A client that is left without any is named; one that changes over to a rule loses nothing."""
    wished.file("registry.toml", REGISTRY + "keys = []\n")
    refused = wished("apply", "-f", "registry.toml")
    assert (refused.code, "it has no other valid key" in refused.err) == (2, True)
    rule = '[[clients.billing.rules]]\ntrust = "ci"\nmatch = ["sub=billing"]\n'
    trust = '[trusts.ci]\nissuer = "https://ci.example.com"\ndiscovery = true\n'
    wished.file("registry.toml", f"{REGISTRY}keys = []\n{rule}{trust}")
    assert wished.ok("--json", "apply", "-f", "registry.toml").json["losses"] == []


@pytest.mark.parametrize("beside", ['certificates = ["own.pem"]', 'jwks_uri = "https://own.example.com/jwks"'])
def test_what_a_client_has_beside_its_keys_counts_as_the_files_have_it(wished: Home, beside: str) -> None:
    """Whoever changes over to it loses nothing; whoever loses it together with the keys loses everything."""
    wished.file("own.pem", issued(Wish("CN=own")).pem.decode())
    wished.file("registry.toml", f"{REGISTRY}keys = []\n{beside}\n")
    assert wished.ok("--json", "apply", "-f", "registry.toml").json["losses"] == []
    public_key(wished, "own.jwk.json")
    wished.file("registry.toml", f'{REGISTRY}keys = ["own.jwk.json"]\n{beside}\n')
    wished.ok("apply", "-f", "registry.toml")
    wished.file("registry.toml", f"{REGISTRY}keys = []\n")
    refused = wished("apply", "-f", "registry.toml")
    assert (refused.code, "billing: loses orders:read" in refused.err) == (2, True)


def test_a_private_key_is_refused_by_its_file(wished: Home) -> None:
    """And nothing of it is shown."""
    key = generate_private_key("ES256")
    write_key_pair(key, wished.directory / "secret.key.json")
    wished.file("registry.toml", REGISTRY + 'keys = ["secret.key.json"]\n')
    refused = wished("apply", "-f", "registry.toml")
    assert (refused.code, "private" in refused.err) == (3, True)
    assert key.private_jwk()["d"] not in refused.err + refused.out


def test_a_store_that_is_away_still_tells_what_is_wrong_with_the_files(empty: Home) -> None:
    """Exit code 3 where the files are wrong, 5 where only the store is."""
    empty.file("groat.toml", 'issuer = "https://auth.example.com"\n[storage]\nurl = "sqlite:///nothing.db"\n')
    empty.file("registry.toml", REGISTRY)
    assert empty("apply", "-f", "registry.toml").code == 5
    empty.file("registry.toml", "[api]\n")
    wrong = empty("apply", "-f", "registry.toml")
    assert (wrong.code, "did you mean apis?" in wrong.err) == (3, True)


def test_without_the_extra_yaml_says_what_to_install(home: Home, tmp_path: Path) -> None:
    """A directory with YAML in it, on a host that has no reader of YAML."""
    home.file("registry.yaml", "apis: {}")
    blocked = tmp_path / "blocked" / "ruamel"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError('no ruamel', name='ruamel')")
    done = home.script("apply", "-f", "registry.yaml", PYTHONPATH=str(blocked.parent))
    assert (done.code, "groat[yaml]" in done.err) == (3, True)


def test_two_at_once(wished: Home) -> None:
    """Each is whole: the one that comes second starts over from what the first one left."""
    wished.file("one.toml", REGISTRY + MORE)
    wished.file("two.toml", REGISTRY + MORE.replace("team shipping", "team two").replace('"15m"', '"20m"'))
    started = [
        wished.start("--json", "apply", "-f", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("one.toml", "two.toml")
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)["outcome"] == "changed"
    shipping, stock = (
        wished.ok("--json", "client", "show", "shipping").json,
        wished.ok("--json", "api", "show", "stock").json,
    )
    assert (shipping["owner"], stock["token_lifetime"]) in [("team shipping", 900), ("team two", 1200)]


def many(home: Home, count: int) -> None:
    """A file with so many clients more."""
    clients = "".join(
        f'[clients.c{n}]\nallow = {{orders = ["orders:read"]}}\nlabels = {{n = "{n}"}}\n' for n in range(count)
    )
    home.file("registry.toml", REGISTRY + clients)


def test_a_kill_leaves_all_or_nothing(home: Home) -> None:
    """SIGKILL at one moment after the other, until one comes too late: never a part of a thousand clients."""
    many(home, 1000)
    database = home.directory / "data" / "groat.db"
    before, size = state(home)[0], database.stat().st_size + log_size(database)
    found = set()
    for wait_for in (0, 1, 50_000, 200_000, None):
        process = home.start("apply", "-f", "registry.toml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # From the write on: the log grows while the transaction is written, and is whole when it is committed.
        while process.poll() is None and (wait_for is None or log_size(database) <= size + wait_for):
            time.sleep(0.0005)
            if wait_for == 0:
                time.sleep(0.3)
                break
        process.kill()
        process.wait(30)
        count, version = (
            len(home.ok("--json", "client", "list").json),
            home.ok("--json", "store", "show").json["registry_version"],
        )
        assert (count, version) in [(1, before), (1001, before + 1)]
        found.add(count)
        size = log_size(database)
    assert found == {1, 1001}
    assert home.ok("--json", "diff", "-f", "registry.toml").json["outcome"] == "unchanged"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT operation, count(*) FROM audit WHERE face = 'apply' GROUP BY 1").fetchall()
    assert rows == [("registry.applied", 1000)]


def log_size(database: Path) -> int:
    log = database.with_name(database.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def test_an_export_is_the_registry(wished: Home, tmp_path: Path) -> None:
    """Printed or in a directory: applied to a new installation it is the same again. The signing keys stay where they are."""
    wished.ok("apply", "-f", "registry.toml")
    text = wished.ok("export").out
    wished.ok("export", "--dir", "out")
    assert sorted(path.name for path in (wished.directory / "out").iterdir()) == [
        "apis.toml",
        "clients.toml",
        "trusts.toml",
    ]
    other = Home(tmp_path / "other")
    other.directory.mkdir()
    other.ok("init", "--issuer", "https://other.example.com")
    assert other("diff", "-f", str(wished.directory / "out")).code == 7
    other.ok("apply", "-f", str(wished.directory / "out"))
    assert other.ok("export").out == text
    assert other.ok("--json", "export").json["client/deploy"]["rules"] == [{"trust": "ci", "match": ["sub=robot"]}]
    (signing,) = wished.ok("--json", "key", "list").json
    assert signing["kid"] not in text
    assert not re.search(r"\bd = ", text)
