"""Documents of clients as they lie in a store, those of earlier versions and damaged ones among them."""

import json
from typing import Any

import pytest

from groat.protocol.client_settings import DEFAULTS
from groat.server.store import StoreUnavailable
from groat.server.store.records import ClientRecord
from groat.server.store.rows import client_document, client_record

RECORD = ClientRecord("billing", {"orders": ("read",)}, 1)
# As the first version wrote it.
FIRST = (
    '{"allow": {"orders": ["read"]}, "default_scopes": [], "grant_types": ["client_credentials"], '
    '"assertion_audience": "issuer", "max_assertion_lifetime": null, "signing_alg": null, "strict_typ": false}'
)


def _row(document: str) -> dict[str, Any]:
    return {"client_id": "billing", "enabled": 1, "created_at": 1, "document": document}


def test_what_was_written_is_read() -> None:
    """By this version and by the first one, in the same words; what is new stands at the end."""
    assert client_record(_row(FIRST)) == RECORD
    assert client_document(RECORD) == FIRST.removesuffix("}") + (
        ', "jwks_uri": null, "token_lifetime": null, "scope_policy": "strict", "claims": {}, "owner": null, "labels": {}, "binding": "none", '
        '"certificates": [], "certificate_ca": [], "certificate_dns": null, "certificate_uri": null, "certificate_dn": null, '
        '"certificate_ip": null, "certificate_email": null}'
    )
    assert client_record(_row(client_document(RECORD))) == RECORD


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_scopes", "read"),
        ("assertion_audience", "everybody"),
        ("max_assertion_lifetime", 9),
        ("signing_alg", "none"),
        ("strict_typ", "yes"),
        ("jwks_uri", "http://keys.example/"),
        ("token_lifetime", 7200),
        ("scope_policy", "loose"),
        ("claims", {"sub": "somebody"}),
        ("claims", {"tenant": 1}),
        ("claims", {"tenant": "x" * 2000}),
        ("owner", 5),
        ("labels", ["env"]),
    ],
)
def test_what_no_setting_can_be_is_damage(name: str, value: object) -> None:
    """A client whose document says it is not there to be judged: that is for an operator, and for nobody to guess."""
    document = {**json.loads(client_document(RECORD)), name: value}
    with pytest.raises(StoreUnavailable, match="a client that cannot be read"):
        client_record(_row(json.dumps(document)))


def test_a_setting_that_is_missing_is_damage() -> None:
    """Its default could be laxer than what was written."""
    document = {name: value for name, value in DEFAULTS.document().items() if name != "strict_typ"}
    with pytest.raises(StoreUnavailable):
        client_record(_row(json.dumps({**document, "allow": {}})))
