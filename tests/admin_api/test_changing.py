"""Changes: by the tag of what was read, tried before they are made, with the names of those whom they hit."""

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from groat.protocol.jwk import generate_private_key
from groat.server import operations
from tests.admin_api.conftest import Admin, served
from tests.server.lab import Lab

APIS, CLIENTS, KEYS = "/admin/v1/apis", "/admin/v1/clients", "/admin/v1/keys"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def admin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    """On each engine: what is held under a version, tried and rolled back, is the engine's to keep."""
    sqlite = request.param == "sqlite"
    env = {} if sqlite else {"GROAT_STORAGE__URL": request.getfixturevalue("postgres").database()}
    with served(tmp_path_factory.mktemp("a"), **env) as ready:
        yield ready


def jwk() -> dict[str, Any]:
    return dict(generate_private_key("ES256").public.jwk)


def everything(lab: Lab) -> Any:
    """All that a change could change."""

    async def read(operator: operations.Operator) -> Any:
        store = operator.store
        clients = await store.list_clients()
        return (
            await store.registry_version(), await store.list_apis(), clients, await store.signing_keys(),
            await store.list_trusts(), [await store.client_keys(one.client_id) for one in clients],
        )  # fmt: skip

    return lab.operate(read)


def test_an_api_from_its_beginning_to_its_end(admin: Admin) -> None:
    """Added, shown at its Location, changed by its tag, removed; each answer says what became of it."""
    new = {"name": "life", "audience": "https://life.example", "scopes": ["a", "b"], "token_lifetime": 120}
    added = admin.over_socket("POST", APIS, new)
    assert added.status == 201
    place = added.header("location") or ""
    assert place == f"{APIS}/life"
    assert added.header("etag") == admin.etag(place)
    admin.lab.add_client("user", allow={"life": ["a", "b"]})
    done = admin.change("PATCH", place, {"scopes": ["a", "c"], "token_lifetime": None})
    assert (done["before"]["scopes"], done["after"]["scopes"]) == (["a", "b"], ["a", "c"])
    assert done["after"]["token_lifetime"] is None
    assert [(one["client_id"], one["scopes"]) for one in done["losses"]] == [("user", ["b"])]
    assert admin.over_socket("GET", f"{place}/resource-metadata").json["scopes_supported"] == ["a", "c"]
    gone = admin.change("DELETE", place)
    assert gone["after"] is None
    assert [one["client_id"] for one in gone["losses"]] == ["user"]
    assert admin.over_socket("GET", place).status == 404


def test_a_client_from_its_beginning_to_its_end(admin: Admin) -> None:
    """With keys, settings, claims that come and go; disabled, enabled, removed for good."""
    new = {
        "client_id": "whole/life", "allow": {"orders": ["orders:read"]}, "keys": [jwk()],
        "token_lifetime": 300, "claims": {"tenant": "a", "x": "y"}, "owner": "me", "scope_policy": "narrow",
    }  # fmt: skip
    added = admin.over_socket("POST", CLIENTS, new)
    assert added.status == 201, added.body
    place = added.header("location") or ""
    assert place == f"{CLIENTS}/whole%2Flife"
    patch = {"claims": {"x": None, "z": "1"}, "owner": None, "allow": {"stock": ["stock:read"]}}
    after = admin.change("PATCH", place, patch)["after"]
    assert (after["claims"], after["owner"], after["token_lifetime"]) == ({"tenant": "a", "z": "1"}, None, 300)
    assert after["allow"] == {"orders": ["orders:read"], "stock": ["stock:read"]}
    lost = admin.change("PATCH", place, {"allow": {"stock": None}})
    assert lost["losses"][0]["permissions"] == ["stock"]
    tag = admin.etag(place)
    disabled = admin.over_socket("POST", f"{place}/disable", if_match=tag)
    assert disabled.json["after"]["enabled"] is False
    assert disabled.json["losses"][0]["client_id"] == "whole/life"
    assert admin.over_socket("POST", f"{place}/enable", if_match=tag).status == 412
    assert admin.over_socket("POST", f"{place}/enable", if_match=disabled.header("etag") or "").status == 200
    code = admin.over_socket("POST", f"{place}/invitations", {"valid_seconds": 60})
    assert code.json["code"].startswith("groat")
    assert admin.change("DELETE", place)["after"] is None
    again = admin.over_socket("POST", CLIENTS, new)
    assert (again.status, again.json["reason"]) == (409, "admin_conflict")


def test_keys_of_a_client(admin: Admin) -> None:
    """Added, limited, listed with their states, removed; the last one only by force; never a private one."""
    admin.lab.add_client("keyed")
    place = f"{CLIENTS}/keyed/keys"
    private = generate_private_key("ES256")
    refused = admin.over_socket("POST", place, {"jwk": private.private_jwk()})
    assert refused.status == 422
    assert private.private_jwk()["d"] not in refused.body.decode()
    added = admin.over_socket("POST", place, {"jwk": dict(private.public.jwk), "expires_at": 1_900_000_000})
    assert added.status == 201
    own = added.header("location") or ""
    after = admin.change("PATCH", own, {"expires_at": None})["after"]
    assert after["expires_at"] is None
    listed = admin.over_socket("GET", place).json["items"]
    assert [one["state"] for one in listed] == ["valid", "valid"]
    assert admin.change("DELETE", own)["losses"] == []
    (last,) = admin.over_socket("GET", place).json["items"]
    alone = f"{place}/{last['kid']}"
    assert "--force" in admin.change("DELETE", alone, status=422)["detail"]
    assert admin.change("DELETE", alone, query="?force=true")["losses"][0]["client_id"] == "keyed"


def test_trusts_and_rules(admin: Admin) -> None:
    """An issuer, its tokens' rules, and what would become of a token; files of the server cannot be named."""
    new = {"name": "ci", "issuer": "https://ci.example", "jwks": {"keys": [jwk()]}, "algorithms": ["ES256"]}
    added = admin.over_socket("POST", "/admin/v1/trusts", new)
    assert added.status == 201, added.body
    file = admin.over_socket("POST", "/admin/v1/trusts", {**new, "name": "f", "jwks_file": "/etc/shadow"})
    assert (file.status, "jwks_file" in file.json["detail"]) == (422, True)
    place = "/admin/v1/trusts/ci"
    assert admin.change("PATCH", place, {"max_lifetime": 600})["after"]["max_lifetime"] == 600
    admin.lab.add_client("job")
    rule = admin.over_socket("POST", f"{CLIENTS}/job/trusts", {"trust": "ci", "match": ["sub=job-1"]})
    assert rule.status == 201, rule.body
    tested = admin.over_socket("POST", f"{place}/test", {"token": admin.operator.assertion()})
    assert (tested.status, tested.json["outcome"]) == (200, "refused")
    tag = admin.etag(place)
    assert admin.over_socket("POST", f"{place}/disable", if_match=tag).json["after"]["enabled"] is False
    removed = admin.change("DELETE", rule.header("location") or "")
    assert removed["before"]["match"] == ["sub=job-1"]
    assert admin.change("DELETE", place)["after"] is None


def test_signing_keys(admin: Admin) -> None:
    """Published, activated, rotated, retired, revoked; a revocation is named before it is done."""
    prepared = admin.over_socket("POST", KEYS, {"algorithm": "ES256"})
    assert (prepared.status, prepared.json["state"]) == (201, "pending")
    place = prepared.header("location") or ""
    tag = admin.etag(place)
    done = admin.over_socket("POST", f"{place}/activate", {"at_once": True}, if_match=tag)
    assert done.json["after"]["state"] == "active", done.body
    assert admin.over_socket("POST", f"{KEYS}/rotation").status == 200
    before = everything(admin.lab)
    tried = admin.over_socket("DELETE", f"{place}?dry_run=true").json
    assert (tried["before"]["state"], tried["after"]["state"]) == ("active", "removed")
    assert everything(admin.lab) == before
    assert admin.change("DELETE", place)["after"]["state"] == "removed"
    assert admin.over_socket("POST", KEYS, {"algorithm": "HS256"}).status == 422
    assert admin.over_socket("POST", f"{KEYS}/sealing").json["items"] == []
    assert admin.lab.token()  # and somebody signs


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", APIS, {"name": "tried", "audience": "https://tried.example"}),
        ("PATCH", f"{APIS}/orders", {"scopes": ["orders:write"]}),
        ("DELETE", f"{APIS}/orders", None),
        ("POST", CLIENTS, {"client_id": "tried", "allow": {"orders": ["orders:read"]}, "no_key": True}),
        ("PATCH", f"{CLIENTS}/billing", {"allow": {"orders": None}, "default_scopes": None}),
        ("POST", f"{CLIENTS}/billing/disable", None),
        ("DELETE", f"{CLIENTS}/billing", None),
        ("POST", f"{CLIENTS}/billing/keys", {"jwk": jwk()}),
    ],
)  # fmt: skip
def test_a_dry_run_changes_nothing_and_says_what_would_be(admin: Admin, method: str, path: str, body: Any) -> None:
    """No If-Match is needed; the store is the same to the last row, and the log says nothing of a change."""
    before, lines = everything(admin.lab), len(admin.lab.lines())
    answer = admin.over_socket(method, f"{path}?dry_run=true", body)
    assert answer.status == 200, answer.body
    plan = answer.json
    assert (plan["dry_run"], plan["changes"]) == (True, True)
    assert plan["before"] != plan["after"]
    assert everything(admin.lab) == before
    events = [json.loads(line)["event"] for line in admin.lab.lines()[lines:]]
    assert [one for one in events if one.startswith(("api.", "client.", "trust."))] == []
    if method != "POST" or path.endswith("disable"):
        assert "billing" in [one["client_id"] for one in plan["losses"]]


def test_a_dry_run_finds_what_a_change_would_meet(admin: Admin) -> None:
    """What only the tables know is found, because they are asked."""
    taken = {"name": "other-name", "audience": "https://orders.example"}
    admin.lab.add_client("removed-one")
    admin.lab.operate(lambda op: operations.remove_client(op, "removed-one"))
    gone = {"client_id": "removed-one", "allow": {}, "no_key": True}
    for path, body in ((APIS, taken), (CLIENTS, gone)):
        tried, done = (admin.over_socket("POST", f"{path}{query}", body) for query in ("?dry_run=true", ""))
        assert (tried.status, tried.json["detail"]) == (done.status, done.json["detail"])
        assert tried.status == 409


def test_a_change_needs_the_tag_of_now(admin: Admin) -> None:
    """428 without, 412 with one of before, or a weak one; * means whatever it is."""
    path = f"{CLIENTS}/tagged"
    admin.lab.add_client("tagged")
    tag = admin.etag(path)
    assert admin.over_socket("PATCH", path, {"owner": "a"}).status == 428
    assert admin.over_socket("DELETE", path).status == 428
    assert admin.over_socket("PATCH", path, {"owner": "a"}, if_match=f"W/{tag}").status == 412
    assert admin.over_socket("PATCH", path, {"owner": "a"}, if_match=f'"x", {tag}').status == 200
    assert admin.over_socket("PATCH", path, {"owner": "b"}, if_match=tag).status == 412
    assert admin.over_socket("PATCH", f"{path}?dry_run=true", {"owner": "b"}, if_match=tag).status == 412
    assert admin.over_socket("DELETE", path, if_match="*").status == 200
    assert admin.over_socket("DELETE", path, if_match="*").status == 404


def test_of_two_at_once_one_is_told(admin: Admin) -> None:
    """Both read the same, both write: one change is made and the other one refused, never lost."""
    path = f"{CLIENTS}/contended"
    admin.lab.add_client("contended")
    for round_ in range(5):
        tag, statuses = admin.etag(path), list[int]()

        def write(owner: str, tag: str = tag, statuses: list[int] = statuses) -> None:
            statuses.append(admin.over_socket("PATCH", path, {"owner": owner}, if_match=tag).status)

        threads = [threading.Thread(target=write, args=(f"{round_}-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 412, 412, 412]


def test_another_thing_that_moves_hurts_nobody(admin: Admin) -> None:
    """The tag is of this client; the registry moves with every change of others, and the change is judged again."""
    path = f"{CLIENTS}/quiet"
    admin.lab.add_client("quiet")
    tag = admin.etag(path)
    admin.lab.add_client("noisy")
    assert admin.over_socket("PATCH", path, {"owner": "a"}, if_match=tag).status == 200


def test_the_audit_trail_says_who_it_was(admin: Admin) -> None:
    """By a token the client and which token, over the socket the user; one that was only tried leaves no row."""

    async def last(operator: operations.Operator) -> tuple[str, str]:
        rows = [row async for part in operator.store.read_all("audit") for row in part]
        newest = max(rows, key=lambda row: int(row["seq"]))
        return newest["actor"], newest["face"]

    new = {"name": "audited", "audience": "https://audited.example"}
    assert admin.by_token(admin.token("groat:write"), "POST", APIS, new).status == 201
    actor, face = admin.lab.operate(last)
    assert actor.startswith("client:ops token:")
    assert face == "api"
    admin.over_socket("DELETE", f"{APIS}/audited?dry_run=true")
    assert admin.lab.operate(last) == (actor, face)
    admin.change("DELETE", f"{APIS}/audited")
    rows = admin.over_socket("GET", "/admin/v1/audit?object=api/audited").json["items"]
    assert [(row["operation"], row["face"]) for row in rows] == [("api.removed", "socket"), ("api.added", "api")]
    assert rows[0]["before"]["audience"] == "https://audited.example"
    seen: list[int] = []
    cursor = ""
    while True:
        page = admin.over_socket("GET", f"/admin/v1/audit?limit=4&cursor={cursor}").json
        seen += [row["seq"] for row in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == list(range(seen[0], 0, -1))
    assert admin.over_socket("GET", "/admin/v1/audit?cursor=eHg").status == 400
    assert admin.lab.operate(last) == (f"uid:{os.geteuid()}", "socket")
