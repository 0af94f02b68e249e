"""Where the token stands in a request (RFC 6750 2 and 3.1)."""

import pytest

from groat.verifier import InvalidBearerRequest, MissingToken, VerificationError, bearer_token

T = "eyJ.aGk.c2ln-_~+/="


@pytest.mark.rule("RS-01", "DEMO-17")
@pytest.mark.parametrize("value", [f"Bearer {T}", f"bearer {T}", f"BEARER  {T}", f"bEaReR    {T}", f" Bearer {T}\t"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_accepted(value: str, as_bytes: bool) -> None:
    """The scheme is case-insensitive and one or more spaces follow it."""
    assert bearer_token([value.encode() if as_bytes else value]) == T


@pytest.mark.rule("RS-02", "RS-03", "RS-06", "R19")
@pytest.mark.parametrize(
    ("values", "query"),
    [
        pytest.param([], b"", id="no header"),
        pytest.param([b"Basic dXNlcjpwYXNz"], b"", id="Basic"),
        pytest.param([b"DPoP " + T.encode()], b"", id="DPoP"),
        pytest.param([b"Unknown x y z"], b"", id="unknown scheme"),
        pytest.param([b"BearerX " + T.encode()], b"", id="scheme that begins like Bearer"),
        pytest.param([b""], b"", id="empty header"),
        pytest.param(["\u00e9 x"], b"", id="not even a scheme"),
        pytest.param([], b"access_token=" + T.encode(), id="query only"),
        pytest.param([], b"a=b&access%5Ftoken=" + T.encode(), id="query only, encoded"),
    ],
)
def test_no_credentials(values: list[bytes | str], query: bytes) -> None:
    """Without Bearer credentials the challenge names no error at all."""
    with pytest.raises(MissingToken) as caught:
        bearer_token(values, query)
    assert caught.value.status == 401
    assert caught.value.www_authenticate == 'Bearer realm="api"'


@pytest.mark.rule("RS-04", "RS-05", "RS-06", "R19")
@pytest.mark.parametrize(
    ("values", "query"),
    [
        pytest.param([b"Bearer"], b"", id="scheme alone"),
        pytest.param([b"Bearer "], b"", id="scheme and space"),
        pytest.param([b"Bearer a b"], b"", id="two tokens"),
        pytest.param([b"Bearer a,b"], b"", id="comma"),
        pytest.param(["Bearer \u00e9".encode()], b"", id="UTF-8 letter in bytes"),
        pytest.param(["Bearer \u00e9"], b"", id="letter outside ASCII"),
        pytest.param(["Bearer \ud800"], b"", id="lone surrogate"),
        pytest.param([b"Bearer\ta"], b"", id="tab instead of a space"),
        pytest.param([b"Bearer a=b"], b"", id="= inside"),
        pytest.param([b'Bearer "a"'], b"", id="quotes"),
        pytest.param([b"Bearer a\n"], b"", id="newline"),
        pytest.param([b"Bearer ="], b"", id="padding alone"),
        pytest.param([b"Bearer a", b"Bearer a"], b"", id="two headers, same scheme"),
        pytest.param([b"Bearer a", b"Basic a"], b"", id="two headers, other scheme"),
        pytest.param([b"Basic a", b"Basic b"], b"", id="two headers, none of them Bearer"),
        pytest.param([b"Bearer a"], b"access_token=a", id="header and query"),
        pytest.param([b"Bearer a"], b"x&access_token", id="header and query without value"),
    ],
)
def test_malformed(values: list[bytes | str], query: bytes) -> None:
    """Malformed or repeated credentials are a bad request, not a bad token."""
    with pytest.raises(InvalidBearerRequest) as caught:
        bearer_token(values, query)
    assert caught.value.status == 400
    assert 'error="invalid_request"' in (caught.value.www_authenticate or "")


@pytest.mark.rule("RS-06")
@pytest.mark.parametrize("query", [b"", b"a=access_token", b"access_tokens=1", b"x_access_token=1&ACCESS_TOKEN=2"])
def test_other_parameters_are_no_tokens(query: bytes) -> None:
    """Only a parameter of exactly that name is a token in the query."""
    assert bearer_token([f"Bearer {T}"], query) == T


@pytest.mark.rule("RS-25")
def test_refusals_do_not_quote_the_token() -> None:
    """Neither text nor hint of a refusal contains what the request carried."""
    for values in ([f"Bearer {T} {T}"], [f"Basic {T}"], [f"Bearer {T}", f"Bearer {T}"]):
        with pytest.raises(VerificationError) as caught:
            bearer_token(values)
        assert T not in f"{caught.value!r} {caught.value} {caught.value.hint}"
