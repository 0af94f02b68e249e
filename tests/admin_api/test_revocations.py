"""Taking tokens back by the admin API, and the keys of APIs."""

import pytest

from groat.protocol.jwk import generate_private_key
from tests.admin_api.conftest import Admin

ROOT = "/admin/v1"


@pytest.mark.rule("AS-RV-06")
def test_each_kind(admin: Admin) -> None:
    """It is in force and in the list; to try it changes nothing."""
    lab = admin.lab
    lab.add_client("leaky")
    tried = admin.over_socket("POST", f"{ROOT}/clients/leaky/revoke?dry_run=true")
    assert tried.status == 200, tried
    assert (tried.json["dry_run"], tried.json["after"]["cut"]) == (True, "client/leaky")
    listed = {one["cut"] for one in admin.over_socket("GET", f"{ROOT}/revocations").json["items"]}
    assert "client/leaky" not in listed
    for path in ("clients/leaky/revoke", "apis/stock/revoke", "revocations/all"):
        answer = admin.over_socket("POST", f"{ROOT}/{path}")
        assert answer.status == 200, answer
    listed = {one["cut"] for one in admin.over_socket("GET", f"{ROOT}/revocations").json["items"]}
    assert {"client/leaky", "api/stock", "all/"} <= listed
    taken = admin.over_socket("POST", f"{ROOT}/revocations/token", {"token": "some-jti"})
    assert (taken.status, taken.json["client_id"]) == (200, "")
    for path, body in (
        ("clients/nobody/revoke", None),
        ("apis/nothing/revoke", None),
        ("trusts/nothing/revoke", None),
    ):
        assert admin.over_socket("POST", f"{ROOT}/{path}", body).status == 404, path
    assert admin.over_socket("POST", f"{ROOT}/revocations/token", {"token": "a.b.c"}).status in (400, 422)


def test_the_keys_of_an_api(admin: Admin) -> None:
    """Added, shown at its Location, removed by its tag."""
    keys = f"{ROOT}/apis/stock/keys"
    added = admin.over_socket("POST", keys, {"jwk": dict(generate_private_key("ES256").public.jwk)})
    assert added.status == 201, added
    one = added.header("location") or ""
    kid = added.json["kid"]
    assert [item["kid"] for item in admin.over_socket("GET", keys).json["items"]] == [kid]
    assert admin.over_socket("DELETE", one).status == 428
    removed = admin.over_socket("DELETE", one, if_match=admin.etag(one))
    assert (removed.status, removed.json["before"]["kid"]) == (200, kid)
    assert admin.over_socket("GET", one).status == 404
