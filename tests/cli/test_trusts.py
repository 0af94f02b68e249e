"""`groat trust` and `groat client trust`: whose tokens are taken, which client a workload is, and why it is none."""

import json
import os
import pty
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.protocol.key_set import public_key_set
from tests.protocol.builders import changed, compact

from .running import ISSUER, Home

CLUSTER: Final = "https://kubernetes.default.svc.cluster.local"
KEY: Final = generate_private_key("RS256", 2048)
OTHER: Final = generate_private_key("RS256", 2048)
CI: Final = ("--issuer", "https://ci.example", "--discovery")
ACCOUNT: Final = "sub=system:serviceaccount:billing:worker"


def pod_token(key: PrivateKey = KEY, account: str = "worker", **changes: Any) -> str:
    """What the kubelet writes into a pod."""
    now = int(time.time())
    claims = {
        "aud": [ISSUER],
        "exp": now + 3500,
        "iat": now - 100,
        "nbf": now - 100,
        "iss": CLUSTER,
        "jti": "a9a186b9-58c4-4000-b767-e55399d278dd",
        "kubernetes.io": {
            "namespace": "billing",
            "pod": {"name": "p", "uid": "8597bc3b"},
            "serviceaccount": {"name": account, "uid": "u"},
        },
        "sub": f"system:serviceaccount:billing:{account}",
    }
    return compact({"alg": "RS256", "kid": KEY.kid}, changed(claims, changes), key)


@pytest.fixture
def trusting(home: Home) -> Home:
    """With a cluster whose set was copied, and a client of which a service account is one."""
    home.file("cluster.json", json.dumps(public_key_set([KEY.public])))
    home.ok("trust", "add", "prod", "--issuer", CLUSTER, "--preset", "kubernetes", "--jwks", "cluster.json")
    home.ok("client", "add", "worker", "--allow", "orders=orders:read", "--no-key")
    return home


def add_rule(home: Home, *arguments: str, client: str = "worker") -> str:
    return home.ok("-q", "client", "trust", "add", client, "prod", *arguments).out.strip()


def explain(home: Home, token: str, *arguments: str) -> tuple[int, Any]:
    done = home("--json", "trust", "test", "prod", "--token", "-", *arguments, stdin=token)
    return done.code, done.json


@pytest.mark.rule("AS-JB-06")
def test_a_trust_is_shown_as_it_was_written(trusting: Home) -> None:
    """With what its preset says where nothing was said; later changes stand beside what stays."""
    shown = trusting.ok("--json", "trust", "show", "prod").json
    assert shown | {"created_at": 0} == {
        "name": "prod", "issuer": CLUSTER, "preset": "kubernetes", "keys": "copied", "ca_file": None,
        "token_file": None, "algorithms": ["RS256", "ES256"], "audiences": [], "max_lifetime": 3600,
        "replay": "auto", "uses": ["authentication", "grant"], "review": None, "enabled": True,
        "created_at": 0,
    }  # fmt: skip
    changes = ("--audience", "api://groat", "--max-lifetime", "10m", "--grant-only", "--alg", "ES256")
    source = ("--jwks-uri", "https://10.0.0.1/openid/v1/jwks", "--ca", "/etc/ca.crt", "--token-file", "/run/token")
    changed_trust = trusting.ok("--json", "trust", "update", "prod", *changes, *source).json
    assert changed_trust == shown | {
        "audiences": ["api://groat"], "max_lifetime": 600, "uses": ["grant"], "algorithms": ["ES256"],
        "keys": "https://10.0.0.1/openid/v1/jwks", "ca_file": "/etc/ca.crt", "token_file": "/run/token",
    }  # fmt: skip
    assert trusting.ok("--json", "trust", "list").json == [changed_trust]
    asks = (
        "--review",
        "https://10.0.0.1:6443",
        "--review-token-file",
        "/run/review-token",
        "--review-ca",
        "/etc/ca.crt",
    )
    asking = trusting.ok("--json", "trust", "update", "prod", *asks).json
    assert asking["review"] == {"server": asks[1], "token_file": asks[3], "ca_file": asks[5]}
    assert trusting.ok("--json", "trust", "update", "prod", "--replay", "bind").json == asking | {"replay": "bind"}
    assert trusting.ok("--json", "trust", "update", "prod", "--no-review", "--replay", "auto").json == changed_trust
    assert trusting.ok("--json", "trust", "disable", "prod").json == changed_trust | {"enabled": False}
    assert trusting.ok("--json", "trust", "update", "prod", "--max-lifetime", "20m").json["enabled"] is False
    assert trusting.ok("--json", "trust", "enable", "prod").json["enabled"] is True
    assert "10m" in trusting.ok("trust", "update", "prod", "--max-lifetime", "10m").out


@pytest.mark.rule("AS-JB-06", "AS-JB-07", "AS-WI-11")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("x", "--issuer", CLUSTER, "--jwks", "cluster.json"), 3, "exists"),
        (("prod", "--issuer", "https://other.example", "--jwks", "cluster.json"), 3, "exists"),
        (("x", "--issuer", ISSUER, "--jwks", "cluster.json"), 3, "this server itself"),
        (("x", "--issuer", "http://ci.example", "--jwks", "cluster.json"), 3, "https"),
        (("x", "--issuer", "https://ci.example"), 2, "--jwks"),
        (("x", "--issuer", "https://ci.example", "--jwks", "cluster.json", "--discovery"), 2, "one of"),
        (("x", "--issuer", "https://ci.example", "--jwks", "missing.json"), 3, "missing.json"),
        (("x", "--issuer", "https://ci.example", "--jwks", "empty.json"), 3, "no key"),
        (("x", "--issuer", "https://ci.example", "--jwks", "private.json"), 3, "private"),
        (("x", "--issuer", "https://ci.example", "--jwks", "text.json"), 3, "key set"),
        (("x", "--issuer", "https://ci.example", "--jwks-file", "cluster.json"), 3, "absolute"),
        (("x", "--issuer", "https://ci.example", "--jwks-uri", "http://ci.example/keys"), 3, "https"),
        (("x", "--issuer", "https://ci.example", "--discovery", "--ca", "/etc/ca.pem"), 3, "jwks_uri"),
        (("x", "--issuer", "https://ci.example", "--ca", "/etc/ca.pem"), 2, "--jwks-uri"),
        (("x", "--issuer", "https://ci.example", "--discovery", "--replay", "often"), 2, "'once', 'bind', 'reuse', 'auto'"),
        (("x", "--issuer", "https://ci.example", "--discovery", "--max-lifetime", "2d"), 3, "86400"),
        (("x", *CI, "--review", "https://10.0.0.1", "--review-token-file", "/run/t"), 3, "preset kubernetes"),
        (("x", *CI, "--review", "https://10.0.0.1"), 2, "--review-token-file"),
        (("x", *CI, "--review-ca", "/etc/ca.crt"), 2, "--review"),
        (("x", *CI, "--review", "http://10.0.0.1", "--review-token-file", "/run/t"), 3, "https"),
        (("x", *CI, "--review", "https://10.0.0.1/apis", "--review-token-file", "/run/t"), 3, "without a path"),
        (("x", *CI, "--review", "https://10.0.0.1", "--review-token-file", "t"), 3, "absolute"),
        (("x", *CI, "--no-review", "--review", "https://10.0.0.1"), 2, "--no-review"),
        (("x", "--issuer", "spiffe://prod.example", "--discovery", "--preset", "spiffe"), 3, "no discovery"),
        (("x", "--issuer", "spiffe://prod.example", "--jwks", "cluster.json", "--preset", "spiffe"), 3, "no key"),
        (("x", "--issuer", "spiffe://prod.example", "--jwks", "cluster.json"), 3, "--preset spiffe"),
        (("x", "--issuer", "https://ci.example", "--discovery", "--grant-only", "--authentication-only"), 2, "nothing"),
        (
            ("x", "--issuer", "https://login.microsoftonline.com/common/v2.0", "--discovery", "--preset", "entra"),
            3, "tenant",
        ),
    ],
)  # fmt: skip
def test_trusts_that_are_refused(trusting: Home, arguments: tuple[str, ...], code: int, said: str) -> None:
    """When they are written, with what is wrong; nothing is left behind."""
    trusting.file("empty.json", '{"keys": []}')
    trusting.file("private.json", json.dumps({"keys": [KEY.private_jwk()]}))
    trusting.file("text.json", "no JSON")
    done = trusting("trust", "add", *arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    assert KEY.private_jwk()["d"] not in done.err
    assert trusting.ok("-q", "trust", "list").out.split() == ["prod"]


@pytest.mark.rule("AS-JB-12", "AS-WI-02")
def test_rules_are_written_listed_and_removed(trusting: Home) -> None:
    """And refused, with what to pin instead, where a stranger could be meant."""
    strangers = ('"kubernetes.io".serviceaccount.name=worker', "sub^=system:serviceaccount:", "sub=*")
    for stranger in strangers:
        done = trusting("client", "trust", "add", "worker", "prod", "--match", stranger)
        assert done.code == 3
        assert "pin" in done.err or "name whose it is" in done.err or "wildcards" in done.err, done.err
    default = "sub=system:serviceaccount:billing:default"
    assert "--allow-default" in trusting("client", "trust", "add", "worker", "prod", "--match", default).err
    first = add_rule(trusting, "--match", ACCOUNT, "--copy", '"kubernetes.io".pod.uid')
    second = add_rule(trusting, "--match", default, "--allow-default")
    (one, two) = sorted(
        trusting.ok("--json", "client", "trust", "list", "worker").json, key=lambda row: len(row["copy"])
    )
    assert two | {"created_at": 0} == {
        "rule": first, "client": "worker", "trust": "prod", "match": [ACCOUNT], "copy": ['"kubernetes.io".pod.uid'],
        "allow": [], "created_at": 0,
    }  # fmt: skip
    assert (one["rule"], one["allow"]) == (second, ["default"])
    for unknown in (("nobody", first), ("worker", "r-0"), ("billing", first)):
        assert trusting("client", "trust", "remove", *unknown).code == 3
    trusting.ok("client", "trust", "remove", "worker", second)
    assert trusting.ok("-q", "client", "trust", "list", "worker").out.split() == [first]
    assert trusting("client", "trust", "add", "worker", "nothing", "--match", ACCOUNT).code == 3
    assert trusting("client", "trust", "add", "nobody", "prod", "--match", ACCOUNT).code == 3


@pytest.mark.rule("AS-WI-06")
def test_names_of_repositories_with_a_warning(home: Home) -> None:
    """Only where it is said so, and never without a word."""
    issuer = "https://token.actions.githubusercontent.com"
    home.ok("trust", "add", "github", "--issuer", issuer, "--preset", "github", "--discovery")
    by_name = ("--match", "repository=octo-org/octo-repo", "--match", "ref=refs/heads/main")
    refused = home("client", "trust", "add", "billing", "github", *by_name)
    assert refused.code == 3
    assert "repository_owner_id" in refused.err
    assert "warning" in home.ok("client", "trust", "add", "billing", "github", *by_name, "--allow-names").err


@pytest.mark.rule("AS-JB-18", "AS-JB-16")
def test_a_token_is_explained_offline(trusting: Home) -> None:
    """Which client and rule; or which check failed, and how the nearest rule differs. Exit 6 for a refused one."""
    code, found = explain(trusting, pod_token())
    assert (code, found["reason"], found["hint"]) == (6, "workload_rule", "no rule is about this subject")
    first = add_rule(trusting, "--match", ACCOUNT, "--copy", '"kubernetes.io".namespace')
    assert explain(trusting, pod_token()) == (
        0,
        {
            "trust": "prod", "outcome": "accepted", "signature": "good", "client_id": "worker", "rule": first,
            "workload": {'"kubernetes.io".namespace': "billing"}, "counts": "auto",
        },
    )  # fmt: skip
    code, found = explain(trusting, pod_token(account="cron"))
    assert (code, found["reason"], found["signature"]) == (6, "workload_rule", "good")
    assert f"rule {first} of client worker" in found["hint"]
    for token, reason in (
        (pod_token(OTHER), "workload_signature"),
        (pod_token(aud=["https://other.example"]), "workload_audience"),
        (pod_token(exp=1), "workload_expired"),
        (pod_token(iss="https://other.example"), "workload_issuer"),
    ):
        code, found = explain(trusting, token)
        assert (code, found["reason"]) == (6, reason)
        assert token.split(".")[2] not in json.dumps(found)
    add_rule(trusting, "--match", ACCOUNT, client="billing")
    assert explain(trusting, pod_token())[1]["reason"] == "workload_ambiguous"
    assert explain(trusting, pod_token(), "--client", "billing")[1]["client_id"] == "billing"
    assert explain(trusting, pod_token(), "--client", "nobody")[1]["reason"] == "workload_client"
    trusting.ok("trust", "disable", "prod")
    assert "disabled" in explain(trusting, pod_token())[1]["hint"]
    assert trusting("trust", "test", "prod", "--token", "-", stdin="a.b").code == 3
    assert trusting("trust", "test", "nothing", "--token", "-", stdin=pod_token()).code == 3


@pytest.mark.rule("AS-JB-18")
def test_a_client_that_gets_no_token_is_said(trusting: Home) -> None:
    """The last thing that the server looks at: a rule that is met is not enough."""
    add_rule(trusting, "--match", ACCOUNT)
    trusting.ok("--yes", "client", "disable", "worker")
    code, found = explain(trusting, pod_token())
    assert (code, found["outcome"], found["reason"]) == (6, "refused", "workload_disabled")
    assert found["hint"] == "groat client enable worker"
    trusting.ok("client", "enable", "worker")
    assert explain(trusting, pod_token())[0] == 0


@pytest.mark.rule("AS-JB-18")
def test_an_svid_is_explained_as_one(home: Home) -> None:
    """By its subject alone, whatever it says of its issuer, where its trust is for authentication only."""
    (jwk,) = public_key_set([KEY.public])["keys"]
    home.file("bundle.json", json.dumps({"keys": [jwk | {"use": "jwt-svid"}]}))
    home.ok(
        "trust", "add", "mesh", "--issuer", "spiffe://prod.example", "--preset", "spiffe", "--jwks", "bundle.json",
        "--authentication-only",
    )  # fmt: skip
    now = int(time.time())
    claims = {"sub": "spiffe://prod.example/billing", "aud": [ISSUER], "exp": now + 200, "iat": now}
    rule = ("client", "trust", "add", "billing", "mesh", "--match", "sub=spiffe://prod.example/billing")
    home.ok(*rule)
    for extra in ({}, {"iss": "https://oidc.prod.example"}):
        token = compact({"alg": "RS256", "kid": KEY.kid, "typ": "JWT"}, claims | extra, KEY)
        done = home("--json", "trust", "test", "mesh", "--token", "-", stdin=token)
        assert (done.code, done.json["outcome"]) == (0, "accepted"), done.json


def test_keys_of_a_file_are_read_and_others_not_fetched(trusting: Home) -> None:
    """A file is read each time; a URL is not asked, and the answer says that no signature was looked at."""
    add_rule(trusting, "--match", ACCOUNT)
    file = trusting.file("rotating.json", json.dumps(public_key_set([OTHER.public])), 0o644)
    trusting.ok("trust", "update", "prod", "--jwks-file", str(file))
    assert explain(trusting, pod_token())[1]["reason"] == "workload_key"
    file.write_text(json.dumps(public_key_set([OTHER.public, KEY.public])))
    assert explain(trusting, pod_token())[1]["signature"] == "good"
    trusting.ok("trust", "update", "prod", "--jwks-uri", "https://keys.invalid/set")
    done = trusting("--json", "trust", "test", "prod", "--token", "-", stdin=pod_token(OTHER))
    assert (done.code, done.json["signature"]) == (0, "not checked")
    assert "not checked" in done.err


def test_a_trust_goes_with_its_rules(trusting: Home) -> None:
    """After a question that names the clients; nobody answers it in a pipe."""
    add_rule(trusting, "--match", ACCOUNT)
    asked = trusting("trust", "remove", "prod")
    assert (asked.code, "worker" in asked.err) == (2, True)
    assert trusting.ok("--yes", "--json", "trust", "remove", "prod").json["rules"]
    assert trusting.ok("-q", "client", "trust", "list", "worker").out == ""
    assert trusting("trust", "show", "prod").code == 3


@pytest.mark.rule("OP-3")
def test_who_loses_by_a_trust_is_said_first(trusting: Home) -> None:
    """What a client without a key loses is everything; one with a key loses its rule. A dry run changes nothing."""
    rules = [add_rule(trusting, "--match", ACCOUNT), add_rule(trusting, "--match", ACCOUNT, client="billing")]
    asked = trusting("trust", "remove", "prod")
    assert asked.code == 2
    assert f"worker: loses orders:read; nothing of orders is left to it; without rule {rules[0]}" in asked.err
    assert f"billing: rule {rules[1]} goes along" in asked.err
    found = trusting("--json", "trust", "remove", "prod", "--dry-run")
    assert found.code == 7
    assert {one["client_id"]: one["permissions"] for one in found.json["losses"]} == {
        "billing": [],
        "worker": ["orders"],
    }
    assert trusting.ok("-q", "trust", "list").out.split() == ["prod"]
    done = trusting.ok("--yes", "--json", "trust", "remove", "prod").json
    assert (done["outcome"], done["losses"]) == ("removed", found.json["losses"])


@pytest.mark.rule("OP-3")
def test_a_rule_that_came_meanwhile_was_not_agreed_to(trusting: Home) -> None:
    """Between the question and the answer another client got a rule: nothing is done, and it says so."""
    add_rule(trusting, "--match", ACCOUNT)
    ours, theirs = pty.openpty()
    process = trusting.start("trust", "remove", "prod", stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(theirs)
    assert process.stderr is not None
    asked = b""
    while b"[y/N]" not in asked:
        asked += process.stderr.read1(1000)  # type: ignore[attr-defined]
    assert b"worker: loses orders:read" in asked
    add_rule(trusting, "--match", ACCOUNT, client="billing")
    os.write(ours, b"y\n")
    _, err = process.communicate(timeout=20)
    os.close(ours)
    assert (process.returncode, b"other clients" in err) == (3, True)
    assert trusting.ok("-q", "trust", "list").out.split() == ["prod"]


@pytest.mark.rule("OP-3")
def test_the_last_rule_of_a_client_without_a_key(trusting: Home) -> None:
    """Is its last key; not the last but one, nor one of a disabled trust, nor one of a client with a key."""
    first, second = add_rule(trusting, "--match", ACCOUNT), add_rule(trusting, "--match", ACCOUNT, client="billing")
    cron = add_rule(trusting, "--match", "sub=system:serviceaccount:billing:cron")
    assert "loses" not in trusting.ok("client", "trust", "remove", "worker", cron).err
    assert "loses" not in trusting.ok("client", "trust", "remove", "billing", second).err
    trusting.ok("trust", "disable", "prod")
    assert trusting("--json", "client", "trust", "remove", "worker", first, "--dry-run").json["losses"] == []
    trusting.ok("trust", "enable", "prod")
    found = trusting("--json", "client", "trust", "remove", "worker", first, "--dry-run")
    assert (found.code, found.json["losses"][0]["permissions"]) == (7, ["orders"])
    done = trusting.ok("client", "trust", "remove", "worker", first)
    assert f"worker: loses orders:read; nothing of orders is left to it; without rule {first}" in done.err
    assert trusting.ok("-q", "client", "trust", "list", "worker").out == ""


def test_a_client_without_a_key(trusting: Home) -> None:
    """It is registered with none, and with nothing else that would be a key."""
    assert trusting.ok("-q", "client", "key", "list", "worker").out == ""
    for more in (("--new-key", "k.json"), ("--jwks-uri", "https://k.example/k"), ("--key-expires", "90d")):
        assert trusting("client", "add", "other", "--allow", "orders=orders:read", "--no-key", *more).code == 2
    assert not (trusting.directory / "k.json").exists()


def test_trusts_come_back_with_a_backup(trusting: Home) -> None:
    """And a backup of a version that had none is restored all the same."""
    rule = add_rule(trusting, "--match", ACCOUNT)
    trusting.ok("store", "backup", "now.db")
    trusting.ok("--yes", "trust", "remove", "prod")
    trusting.ok("--yes", "store", "restore", "now.db")
    assert trusting.ok("-q", "client", "trust", "list", "worker").out.split() == [rule]
    _without_trusts(trusting.directory / "now.db")
    asked = trusting("store", "restore", "now.db")
    assert asked.code == 2
    assert "trust prod is not in the backup" in asked.err
    assert f"rule {rule} of client worker (trust prod) is not in the backup" in asked.err
    trusting.ok("--yes", "store", "restore", "now.db")
    assert trusting.ok("-q", "trust", "list").out == ""
    assert "billing" in trusting.ok("-q", "client", "list").out.split()


def test_a_restore_says_whose_tokens_it_lets_in_again(trusting: Home) -> None:
    """Trusts that were disabled or removed since and rules that were removed, as it does of clients and keys."""
    rule = add_rule(trusting, "--match", ACCOUNT)
    trusting.ok("store", "backup", "then.db")
    assert "trust" not in trusting("store", "restore", "then.db").err.partition("exists.")[2]
    trusting.ok("trust", "disable", "prod")
    trusting.ok("--yes", "client", "trust", "remove", "worker", rule)
    other = add_rule(trusting, "--match", "sub=system:serviceaccount:billing:cron")
    asked = trusting("store", "restore", "then.db").err
    assert "trust prod was removed or disabled since, and its tokens are taken again" in asked
    assert f"rule {rule} of client worker (trust prod) was removed since, and counts again" in asked
    assert f"rule {other} of client worker (trust prod) is not in the backup" in asked
    assert "trust prod is not" not in asked
    trusting.ok("--yes", "trust", "remove", "prod")
    asked = trusting("store", "restore", "then.db").err
    assert "trust prod was removed or disabled since" in asked
    _damage(trusting.directory / "then.db")
    assert "tables are missing" in trusting("store", "restore", "then.db").err


def _damage(path: Path) -> None:
    """Of this schema, without a table that it has."""
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE trust_rules")
    connection.close()


def _without_trusts(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE trust_rules; DROP TABLE trusts; PRAGMA user_version=1")
    connection.close()
