"""The refusals: their codes and statuses, and text that cannot break out of where it is written."""

import re
from collections.abc import Iterator

import pytest

from groat.protocol import errors
from groat.protocol.errors import (
    InsufficientScope,
    InvalidBearerRequest,
    InvalidToken,
    JoseError,
    KeysUnavailable,
    MissingToken,
    OAuthError,
    VerificationError,
)

# RFC 6749 5.2: %x20-21, %x23-5B, %x5D-7E
TEXT = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]+")
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9110 11.2 and 5.6.4, with the quoted text of RFC 6750 3: no quote, no backslash, no controls.
PARAMETER = re.compile(rf'({TOKEN})="([\x20\x21\x23-\x5B\x5D-\x7E]*)"')


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


OAUTH = [kind for kind in _tree(OAuthError) if kind is not OAuthError and kind.__module__ == errors.__name__]


def challenge(value: str) -> dict[str, str]:
    """A strict parser: one scheme, a space, auth-params with ", " between them, each name once."""
    scheme, space, rest = value.partition(" ")
    assert (scheme, space) == ("Bearer", " ")
    parameters: dict[str, str] = {}
    position = 0
    while True:
        match = PARAMETER.match(rest, position)
        assert match is not None, value
        assert match[1].lower() not in parameters, "an attribute stands twice"
        parameters[match[1].lower()] = match[2]
        position = match.end()
        if position == len(rest):
            return parameters
        assert rest[position : position + 2] == ", ", value
        position += 2


TABLE = {
    "InvalidRequest": ("invalid_request", 400),
    "NotFound": ("invalid_request", 404),
    "MethodNotAllowed": ("invalid_request", 405),
    "NotAcceptable": ("invalid_request", 406),
    "RequestTimeout": ("invalid_request", 408),
    "PayloadTooLarge": ("invalid_request", 413),
    "InvalidClient": ("invalid_client", 401),
    "InvalidGrant": ("invalid_grant", 400),
    "InvalidDpopProof": ("invalid_dpop_proof", 400),
    "UseDpopNonce": ("use_dpop_nonce", 400),
    "UnauthorizedClient": ("unauthorized_client", 400),
    "UnsupportedTokenType": ("unsupported_token_type", 400),
    "InvalidCallerToken": ("invalid_token", 401),
    "UnsupportedGrantType": ("unsupported_grant_type", 400),
    "InvalidScope": ("invalid_scope", 400),
    "InvalidTarget": ("invalid_target", 400),
    "UnsupportedResponseType": ("unsupported_response_type", 400),
    "TooManyRequests": ("temporarily_unavailable", 429),
    "TemporarilyUnavailable": ("temporarily_unavailable", 503),
    "ServerError": ("server_error", 500),
    "NotOffered": ("invalid_request", 501),
}


@pytest.mark.rule("AS-TE-21", "AS-TE-29", "AS-TE-30", "AS-TE-31")
def test_every_refusal_has_its_code_and_status() -> None:
    """The table is complete: a new refusal stands in it or fails here."""
    assert {kind.__name__: (kind.code, kind.status) for kind in OAUTH if issubclass(kind, OAuthError)} == TABLE


@pytest.mark.rule("AS-TE-22")
@pytest.mark.parametrize("kind", OAUTH, ids=lambda kind: kind.__name__)
def test_descriptions_keep_to_their_alphabet(kind: type[OAuthError]) -> None:
    """Code and description use the characters of RFC 6749 5.2, and the description never changes."""
    refusal = kind("reason", 'hint "with\r\n<script>', retry_after=7)
    assert TEXT.fullmatch(refusal.code)
    assert TEXT.fullmatch(refusal.description)
    assert refusal.description == kind.description
    assert "hint" not in refusal.description
    assert (refusal.reason, refusal.hint, refusal.retry_after) == ("reason", 'hint "with\r\n<script>', 7)
    assert str(refusal) == "reason"


@pytest.mark.rule("RS-02", "RS-03", "RS-10", "DEMO-16")
def test_without_a_token_there_is_no_error() -> None:
    """A challenge with realm only."""
    refusal = MissingToken()
    assert refusal.status == 401
    assert challenge(refusal.www_authenticate or "") == {"realm": "api"}


@pytest.mark.rule("RS-04", "RS-08", "RS-10", "RS-25")
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (InvalidBearerRequest("malformed", 'x" y\r\n'), 400, "invalid_request"),
        (InvalidToken("expired", 'x" y\r\n'), 401, "invalid_token"),
    ],
    ids=["request", "token"],
)
def test_a_refused_token_is_told_in_the_challenge(refusal: VerificationError, status: int, code: str) -> None:
    """Status, code and a fixed phrase; the hint stays in the log."""
    parameters = challenge(refusal.www_authenticate or "")
    assert refusal.status == status
    assert parameters == {"realm": "api", "error": code, "error_description": type(refusal).description}
    assert TEXT.fullmatch(parameters["error_description"])


@pytest.mark.rule("RS-09", "RS-10")
@pytest.mark.parametrize(
    ("required", "scope"),
    [(["write", "read"], "read write"), (["orders:read"], "orders:read"), (["!#[]~"], "!#[]~"), (["a", "a"], "a a")],
)
def test_insufficient_scope_names_what_is_needed(required: list[str], scope: str) -> None:
    """403 with the scope attribute, for every scope that the grammar allows."""
    refusal = InsufficientScope(required, "hint")
    assert (refusal.status, refusal.reason, refusal.hint) == (403, "scope", "hint")
    parameters = challenge(refusal.www_authenticate or "")
    assert parameters["error"] == "insufficient_scope"
    assert parameters["scope"] == scope


@pytest.mark.rule("RS-21")
def test_missing_keys_are_no_fault_of_the_caller() -> None:
    """503 without challenge, with a time to come back."""
    refusal = KeysUnavailable("hint", 9)
    assert (refusal.status, refusal.reason, refusal.code) == (503, "key_unavailable", None)
    assert (refusal.hint, refusal.retry_after) == ("hint", 9)
    assert refusal.www_authenticate is None


@pytest.mark.rule("RS-28")
def test_every_verification_error_carries_what_an_answer_needs() -> None:
    """Status, reason and header, for the whole tree."""
    found = {kind.__name__ for kind in _tree(VerificationError) if kind.__module__ == errors.__name__}
    assert found == {
        "VerificationError",
        "MissingToken",
        "InvalidBearerRequest",
        "InvalidToken",
        "InvalidProof",
        "ProofNonceRequired",
        "InsufficientScope",
        "KeysUnavailable",
        "StatusUnavailable",
        "ProofsUnavailable",
        "ReplayStoreUnavailable",
    }


def test_a_jose_error_always_has_a_hint() -> None:
    """The reason stands in for a missing sentence."""
    assert (JoseError("signature").hint, str(JoseError("signature"))) == ("signature", "signature")
    assert (JoseError("a", "b").reason, JoseError("a", "b").hint, str(JoseError("a", "b"))) == ("a", "b", "b")


@pytest.mark.rule("RS-10")
@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        'Bearer realm="a" error="b"',
        'Bearer a="b", a="c"',
        'Bearer a="b"c"',
        "Basic a=b",
        'Bearer ="b"',
    ],
)
def test_the_strict_parser_is_strict(value: str) -> None:
    """A parser that accepts anything would prove nothing."""
    with pytest.raises(AssertionError):
        challenge(value)
