"""What a token is bound to: token_type and cnf follow from one value, and what is bound is not taken for a bearer token."""

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import groat.keys
import groat.protocol
import groat.server
from groat.protocol import jose
from groat.protocol.access_token import TYP, access_token_claims
from groat.protocol.binding import UNBOUND, Confirmation
from groat.protocol.errors import JoseError
from groat.protocol.grants import decide_grant
from groat.protocol.jwk import base64url_encode
from groat.protocol.models import Grant

from .builders import AS_KEY, NOW, POLICY, asking, jose_refused, proven, verify

THUMBPRINT = base64url_encode(bytes(range(32))).decode()
KEY, CERTIFICATE = Confirmation(jkt=THUMBPRINT), Confirmation(x5t_s256=THUMBPRINT)


@pytest.mark.parametrize(
    ("confirmation", "token_type", "cnf"),
    [
        (UNBOUND, "Bearer", None),
        (KEY, "DPoP", {"jkt": THUMBPRINT}),
        (CERTIFICATE, "Bearer", {"x5t#S256": THUMBPRINT}),
    ],
)
def test_what_follows_from_a_confirmation(
    confirmation: Confirmation, token_type: str, cnf: Mapping[str, str] | None
) -> None:
    """RFC 9449 5 names the type of a token that is bound to a key; one bound to a certificate stays a bearer token."""
    assert (confirmation.token_type, confirmation.cnf) == (token_type, cnf)


@pytest.mark.parametrize("thumbprint", ["", "abc", THUMBPRINT[:-2], THUMBPRINT + "AA", THUMBPRINT + "=", "é" * 43])
@pytest.mark.parametrize("member", ["jkt", "x5t_s256"])
def test_a_thumbprint_is_that_of_sha256(member: str, thumbprint: str) -> None:
    """Nothing shorter, longer or padded can be what a token is bound to."""
    with pytest.raises(JoseError):
        Confirmation(**{member: thumbprint})


def test_a_token_is_bound_to_one_thing() -> None:
    """A key and a certificate at once is refused: nobody would know which of them counts."""
    with jose_refused("binding"):
        Confirmation(jkt=THUMBPRINT, x5t_s256=THUMBPRINT)


def _issued(grant: Grant) -> str:
    data = jose.signing_input(
        jose.encode_header("ES256", AS_KEY.kid, TYP), access_token_claims(grant, POLICY, NOW, "j")
    )
    return f"{data.decode()}.{base64url_encode(jose.sign(data, AS_KEY)).decode()}"


@pytest.mark.parametrize("confirmation", [KEY, CERTIFICATE], ids=["key", "certificate"])
def test_a_bound_token_says_so(confirmation: Confirmation) -> None:
    """In cnf, which the caller has as confirmation; and the same grant without a binding has none."""
    grant = decide_grant(asking(), proven(), POLICY)
    bound = _issued(replace(grant, confirmation=confirmation))
    assert verify(bound).confirmation == confirmation
    assert verify(_issued(grant)).confirmation is None


def _constants(path: Path) -> set[Any]:
    return {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}


def test_one_place_says_which_type_a_token_has() -> None:
    """Who writes tokens asks the confirmation; the schemes of challenges are other words in other places."""
    roots = [Path(room.__file__ or "").parent for room in (groat.protocol, groat.keys, groat.server)]
    files = {path.name for root in roots for path in root.rglob("*.py") if "Bearer" in _constants(path)}
    # The others have the scheme that a caller tried, and that of the admin API's challenges.
    assert files == {"binding.py", "errors.py", "admin_refusals.py"}
