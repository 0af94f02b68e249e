"""Lists and single things: what is shown, in parts, with entity tags; and requests that cannot be read."""

import json
from typing import Any

import pytest

from tests.admin_api.conftest import Admin

CLIENTS = "/admin/v1/clients"


def test_one_thing_is_shown_as_the_command_line_shows_it(admin: Admin) -> None:
    """The members are those of `groat client show --json`."""
    shown = admin.over_socket("GET", f"{CLIENTS}/billing").json
    from groat.server import operations

    record = admin.lab.operate(lambda op: operations.find_client(op, "billing"))
    assert shown == json.loads(json.dumps(record.document()))


def test_lists_come_in_parts(admin: Admin) -> None:
    """Each once, in order, with and without a filter; the cursor is a name, so that a new one in between hurts nobody."""
    for number in range(7):
        admin.lab.add_client(f"part-{number}", labels={"team": "a" if number % 2 else "b"})
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        page = admin.over_socket("GET", f"{CLIENTS}?limit=3&cursor={cursor}").json
        seen += [one["client_id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
        admin.lab.add_client(f"a-{len(seen)}")  # in front of where the reader is
    assert [one for one in seen if one.startswith("part-")] == [f"part-{number}" for number in range(7)]
    assert len(seen) == len(set(seen))
    team = admin.over_socket("GET", f"{CLIENTS}?label=team%3Da").json["items"]
    assert [one["client_id"] for one in team] == ["part-1", "part-3", "part-5"]
    assert {one["unused_since"] for one in team} == {int(admin.lab.clock.now)}
    apis = admin.over_socket("GET", "/admin/v1/apis?limit=2").json
    rest = admin.over_socket("GET", f"/admin/v1/apis?limit=2&cursor={apis['next']}").json
    assert [one["name"] for one in apis["items"] + rest["items"]][:3] == ["groat-admin", "orders", "stock"]


def test_an_id_may_hold_a_slash(admin: Admin) -> None:
    """It comes as %2F, and a path with a real one is another."""
    admin.lab.add_client("team/one")
    assert admin.over_socket("GET", f"{CLIENTS}/team%2Fone").json["client_id"] == "team/one"
    assert admin.over_socket("GET", f"{CLIENTS}/team/one").status == 404


def test_a_reader_who_knows_it_gets_304(admin: Admin) -> None:
    """The tag is strong: it changes with the document, and with nothing else."""
    path = f"{CLIENTS}/billing"
    tag = admin.etag(path)
    assert admin.over_socket("GET", path, if_none_match=tag).status == 304
    assert admin.over_socket("GET", path, if_none_match='"x"').status == 200
    assert admin.over_socket("HEAD", path).header("etag") == tag


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/admin/v1/apis?limt=3", 400, "unknown parameter `limt`"),
        ("/admin/v1/apis?limit=0", 400, "$.limit"),
        ("/admin/v1/apis?limit=2&limit=3", 400, "twice"),
        ("/admin/v1/apis?cursor=%21", 400, "cursor"),
        ("/admin/v1/clients?cursor=AA", 400, "cursor"),
        ("/admin/v1/clients/%00", 404, None),
        ("/admin/v1/clients?unused=null", 400, "$.unused"),
        ("/admin/v1/clients/nobody", 404, "no client nobody"),
        ("/admin/v1/clients?api=nobody", 404, "no API nobody"),
        ("/admin/v1/nowhere", 404, None),
        ("/admin/v1/apis/", 404, None),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(admin: Admin, path: str, status: int, words: str | None) -> None:
    """A slip in a parameter is no answer to another question."""
    answer = admin.over_socket("GET", path)
    assert answer.status == status
    problem = answer.json
    assert {"type", "title", "status", "reason", "request_id"} <= set(problem)
    assert problem["status"] == status
    assert problem["request_id"] == answer.request_id
    assert problem.get("detail") is None if words is None else words in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"name":"x","audience":"https://x.example","scops":[]}', 422, "unknown member `scops`"),
        (b'{"name":"x","audience":7}', 422, "$.audience"),
        (b'{"name":"x"}', 422, "audience"),
        (b'{"name":"x","name":"y","audience":"https://x.example"}', 400, "strict JSON"),
        (b"[]", 400, "object"),
        (b"", 400, "strict JSON"),
        (b'{"name":"a b","audience":"https://x.example"}', 422, "API name"),
        (b'{"name":"x","audience":"https://as.example/token"}', 422, "audience"),
    ],
)  # fmt: skip
def test_a_body_is_strict(admin: Admin, body: bytes, status: int, words: str) -> None:
    """Unknown members are refused by their names, and two of one name."""
    answer = admin.over_socket("POST", "/admin/v1/apis", body)
    assert (answer.status, words in answer.json["detail"]) == (status, True), answer.body


def test_bodies_are_bounded_and_typed(admin: Admin) -> None:
    """413, 415, 405; and a GET has none."""
    assert admin.over_socket("POST", "/admin/v1/apis", b"x" * 70_000).status == 413
    assert admin.over_socket("POST", "/admin/v1/apis", b"{}", content_type="text/plain").status == 415
    assert admin.over_socket("POST", "/admin/v1/apis", b"{}", content_encoding="gzip").status == 415
    assert admin.over_socket("GET", "/admin/v1/apis", b"{}").status == 400
    refused = admin.over_socket("PUT", "/admin/v1/apis", b"{}")
    assert (refused.status, refused.header("allow")) == (405, "GET, POST, HEAD")


def test_the_overview_counts(admin: Admin) -> None:
    """What there is, and that a token could be had."""
    found: dict[str, Any] = admin.over_socket("GET", "/admin/v1/overview").json
    assert found["ready"] is True
    assert found["apis"] >= 3
    assert found["clients"] >= 2
    assert found["clients_disabled"] == 0
    assert found["signing_kid"] in admin.lab.kids()
