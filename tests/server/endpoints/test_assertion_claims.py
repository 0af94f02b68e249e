"""A11 to A15: the JSON of an assertion, and what it claims."""

import json
import unicodedata
from typing import Any, Final

import pytest

from groat.protocol.errors import ConfigError
from tests.server.assertions import refused
from tests.server.builders import ABSENT, ISS, NOW, TE, Party, compact
from tests.server.lab import Lab
from tests.server.wire import check_ec, check_ok

# A11, A12: JSON


@pytest.mark.rule("A11", "JOSE-04")
@pytest.mark.parametrize(
    "data",
    [b"null", b"[]", b'"x"', b"1", b"true", b"", b"{", b"\xff", b'{"a":"\xff"}', b"\xef\xbb\xbf{}", b"{}x", b"{'a':1}",
     '{"alg":"ES256"}'.encode("utf-16"), '{"alg":"ES256"}'.encode("utf-16-le"), '{"alg":"ES256"}'.encode("utf-32")],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("where", ["header", "claims"])
def test_parts_that_are_no_utf8_object(lab: Lab, where: str, data: bytes) -> None:
    """Header and claims are UTF-8 JSON objects or nothing, however well they are signed."""
    header: Any = data if where == "header" else lab.party.header()
    claims: Any = data if where == "claims" else lab.party.claims()
    refused(lab, compact(header, claims, lab.party.key), "assertion_malformed")


def _claims_text(lab: Lab, extra: str) -> bytes:
    return (json.dumps(lab.party.claims())[:-1] + "," + extra + "}").encode()


@pytest.mark.rule("A12", "JOSE-03", "JOSE-05")
@pytest.mark.parametrize(
    "extra",
    ['"sub":"billing"', '"exp":1', '"aud":"https://as.example"', '"iss":"evil"', '"a":{"b":1,"b":1}', '"a":NaN',
     '"a":Infinity', '"a":-Infinity', '"a":1e400', '"a":' + "[" * 100 + "]" * 100, '"a":' + "[" * 2500 + "]" * 2500,
     '"a":' + "1" * 5000, '"a":"\\ud800"', '"a":"\\udfff\\ud800"', '"\\ud800":1', '"\\u0073ub":"billing"',
     '"a":1.' + "1" * 4000, '"a":-', '"a":01'],
    ids=lambda extra: extra[:24],
)  # fmt: skip
def test_json_that_two_readers_could_read_differently(lab: Lab, extra: str) -> None:
    """Repeats, NaN, depth, absurd numbers and lone surrogates are EC, never 500."""
    refused(lab, compact(lab.party.header(), _claims_text(lab, extra), lab.party.key), "assertion_malformed")


@pytest.mark.rule("A12")
@pytest.mark.parametrize("name", ["iss", "sub", "jti", "aud", "scope"])
def test_nul_in_claims(lab: Lab, name: str) -> None:
    """A NUL inside a claim is just another value: no 500 in any database, and two jtis differ by it."""
    answer = lab.ask(lab.party.assertion(**{name: "a\0b"}))
    if name in ("jti", "scope"):
        check_ok(answer)
    else:
        check_ec(answer)


@pytest.mark.rule("A12")
def test_many_unknown_members(lab: Lab) -> None:
    """A claims set full of members that nobody knows still fits the size limit or is refused by it."""
    check_ok(lab.ask(lab.party.assertion(**{f"m{n}": n for n in range(300)})))
    check_ec(lab.ask(lab.party.assertion(**{f"m{n}": n for n in range(3000)})))


# A13, A14, A15: the claims

AUDIENCES: Final[list[Any]] = [
    TE, ISS + "/", "https://AS.example", "HTTPS://as.example", "https://as.example:443", "https://as%2Eexample", "auth",
    "api", [ISS, "x"], [ISS, ISS], [], [[ISS]], {}, {"a": ISS}, None, ABSENT, 5, True, "", [5], [ISS, 5], [None],
    f"{ISS}/par", f"{ISS}/bc-authorize", "https://other.example", ISS + " ", " " + ISS, ISS + "\0", [TE], f"{ISS},{ISS}",
]  # fmt: skip


@pytest.mark.rule("A13", "AS-CA-06", "JOSE-21", "DEMO-11")
@pytest.mark.parametrize("aud", AUDIENCES, ids=repr)
def test_the_issuer_is_the_sole_audience(lab: Lab, aud: Any) -> None:
    """Anything but the issuer, exactly and alone, is EC, and the jti stays unused."""
    jti = f"aud-{AUDIENCES.index(aud)}"
    refused(lab, lab.party.assertion(aud=aud, jti=jti), "assertion_audience")
    check_ok(lab.ask(lab.party.assertion(jti=jti)))


@pytest.mark.rule("A13", "AS-CA-06")
def test_one_element_arrays_pass(lab: Lab) -> None:
    """An array of the issuer alone is as good as the string."""
    check_ok(lab.ask(lab.party.assertion(aud=[ISS])))


@pytest.mark.rule("AS-CA-06")
def test_the_token_endpoint_as_audience_is_a_setting_of_one_client(lab: Lab) -> None:
    """With the setting the token endpoint passes too, and the log counts it; nothing else does."""
    party = lab.add_client("lenient", assertion_audience="issuer-or-token-endpoint")
    answer = lab.ask(party.assertion(aud=TE))
    check_ok(answer)
    assert "token endpoint" in lab.event(answer)["hint"]
    check_ok(lab.ask(party.assertion()))
    for aud in ([ISS, TE], f"{TE}/", "https://other.example/token"):
        refused(lab, party.assertion(aud=aud), "assertion_audience")
    refused(lab, lab.party.assertion(aud=TE), "assertion_audience")


_LOOKALIKE = "b\u0456lling"  # a Cyrillic i


@pytest.mark.rule("A14", "AS-CA-04", "JOSE-25", "DEMO-05")
@pytest.mark.parametrize(
    "claims",
    [{"iss": ABSENT}, {"sub": ABSENT}, {"iss": "x"}, {"sub": "x"}, {"sub": "admin"}, {"iss": "other"}, {"sub": "other"},
     {"iss": "other", "sub": "other"}, {"iss": ["billing"]}, {"sub": ["billing"]}, {"sub": 5}, {"iss": 5}, {"sub": None},
     {"iss": "Billing"}, {"sub": "BILLING"}, {"sub": "bill"}, {"iss": "billing2"}, {"sub": "billing "}, {"iss": " billing"},
     {"iss": ISS}, {"sub": _LOOKALIKE}, {"iss": _LOOKALIKE, "sub": _LOOKALIKE}, {"sub": ""}, {"iss": ""},
     {"iss": unicodedata.normalize("NFD", "billing\u00e9")}, {"sub": "x" * 129}, {"sub": "bill\ning"}],
    ids=repr,
)  # fmt: skip
def test_iss_and_sub_are_both_the_client(lab: Lab, other: Party, claims: dict[str, Any]) -> None:
    """Both claims are present and exactly the client id; a good signature does not make up for it."""
    check_ec(lab.ask(lab.party.assertion(**claims)))


FAR: Final = 10**12
TIMES: Final[list[tuple[dict[str, Any], bool]]] = [
    ({"exp": ABSENT}, False), ({"exp": NOW}, False), ({"exp": NOW - 1}, False), ({"exp": NOW - 300}, False),
    ({"exp": NOW + 1}, True), ({"exp": NOW + 0.5}, True), ({"exp": NOW + 60.5}, True), ({"exp": NOW + 300}, True),
    ({"exp": NOW + 301}, False), ({"exp": NOW + 300.001}, False), ({"exp": NOW + 3600}, False), ({"exp": NOW + 86400}, False),
    ({"exp": 0}, False), ({"exp": -1}, False), ({"exp": FAR}, False), ({"exp": 1e12}, False), ({"exp": str(NOW + 60)}, False),
    ({"exp": True}, False), ({"exp": None}, False), ({"exp": []}, False), ({"exp": {}}, False), ({"exp": 10**30}, False),
    ({"iat": ABSENT}, True), ({"iat": NOW + 8}, True), ({"iat": NOW + 10}, True), ({"iat": NOW + 11}, False),
    ({"iat": NOW + 61}, False), ({"iat": NOW - 300}, True), ({"iat": NOW - 301}, False), ({"iat": NOW + 10, "exp": NOW + 9}, False),
    ({"iat": str(NOW)}, False), ({"iat": True}, False), ({"iat": None}, False), ({"iat": -FAR}, False),
    ({"nbf": NOW}, True), ({"nbf": NOW + 8}, True), ({"nbf": NOW + 10}, True), ({"nbf": NOW + 11}, False), ({"nbf": NOW + 61}, False),
    ({"nbf": str(NOW)}, False), ({"nbf": False}, False), ({"nbf": None}, False), ({"nbf": NOW - FAR}, True),
]  # fmt: skip


@pytest.mark.rule("A15", "AS-CA-07", "AS-CA-08", "JOSE-18", "JOSE-19", "JOSE-20", "DEMO-12")
@pytest.mark.parametrize(("claims", "good"), TIMES, ids=[repr(claims) for claims, _ in TIMES])
def test_time_claims(lab: Lab, claims: dict[str, Any], good: bool) -> None:
    """exp, iat and nbf at and around each boundary, and of every wrong type."""
    answer = lab.ask(lab.party.assertion(**claims))
    if good:
        check_ok(answer)
    else:
        check_ec(answer)


@pytest.mark.rule("AS-CA-07")
def test_a_longer_lifetime_is_a_setting_of_one_client(lab: Lab) -> None:
    """max_assertion_lifetime lets one client go up to its own limit, and no further."""
    party = lab.add_client("long-lived", max_assertion_lifetime=3600)
    check_ok(lab.ask(party.assertion(exp=NOW + 3600, iat=NOW - 3600)))
    refused(lab, party.assertion(exp=NOW + 3601), "assertion_lifetime")
    with pytest.raises(ConfigError):
        lab.add_client("too-long", max_assertion_lifetime=3601)


@pytest.mark.rule("AS-CA-09", "DEMO-10")
@pytest.mark.parametrize(
    "jti", [ABSENT, "", 5, None, [], {}, True, "x" * 257, "x" * 300, "x" * 7000], ids=lambda j: repr(j)[:9]
)
def test_jti_is_required(lab: Lab, jti: Any) -> None:
    """Absent, empty, of another type or too long: EC."""
    check_ec(lab.ask(lab.party.assertion(jti=jti)))


@pytest.mark.rule("AS-CA-09")
@pytest.mark.parametrize("jti", ["x", "x" * 256, "\U0001f600" * 256, " ", "a\r\nb"], ids=lambda j: repr(j)[:9])
def test_any_other_jti_works_once(lab: Lab, jti: str) -> None:
    """1 to 256 characters of any kind are a jti, once."""
    check_ok(lab.ask(lab.party.assertion(jti=jti)))
    refused(lab, lab.party.assertion(jti=jti), "assertion_replayed")
