"""What the log says about an assertion or a resource that is nearly right: the difference, the clock, the issuer."""

from dataclasses import replace
from typing import Any, Final

import pytest

from groat.protocol.client_settings import AssertionAudience
from groat.protocol.differences import difference
from groat.protocol.errors import InvalidClient, InvalidTarget, JoseError
from groat.protocol.grants import decide_grant
from groat.protocol.jwk import generate_private_key
from groat.protocol.models import Api, Client, Permission, Policy
from groat.protocol.time_hints import time_hint

from .builders import (
    ABSENT,
    CID,
    CLIENT,
    CLIENT_KEY,
    FAPI2,
    ISS,
    NOW,
    POLICY,
    RES,
    TE,
    asking,
    assertion,
    authenticate,
    having,
    proven,
)

LENIENT: Final = having(CLIENT, assertion_audience=AssertionAudience.ISSUER_OR_TOKEN_ENDPOINT)


def told(client: Client | None = CLIENT, policy: Policy = POLICY, /, **claims: Any) -> tuple[str, str]:
    """Reason and hint of an assertion that is refused."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(**claims), client, policy)
    assert caught.value.hint.isprintable()
    assert caught.value.hint.isascii()
    return caught.value.reason, caught.value.hint


MS, US, NS = 1_000, 1_000_000, 1_000_000_000


@pytest.mark.rule("CL-6")
@pytest.mark.parametrize(
    ("claims", "said"),
    [
        pytest.param({"exp": (NOW + 60) * MS}, "exp looks like milliseconds", id="exp in ms"),
        pytest.param({"exp": (NOW + 60) * MS, "iat": NOW * MS}, "exp looks like milliseconds", id="both in ms"),
        pytest.param({"iat": NOW * MS}, "iat looks like milliseconds", id="iat in ms"),
        pytest.param({"nbf": NOW * MS}, "nbf looks like milliseconds", id="nbf in ms"),
        pytest.param({"exp": (NOW + 60) * US}, "exp looks like microseconds", id="exp in us"),
        pytest.param({"exp": (NOW + 60) * NS}, "exp looks like nanoseconds", id="exp in ns"),
        pytest.param({"exp": 60, "iat": ABSENT}, "exp is 60, which looks like a span", id="exp is a span"),
        pytest.param({"exp": NOW // 60 + 1}, "which looks like a span", id="exp in minutes"),
        pytest.param({"exp": NOW - 119, "iat": NOW - 179}, "clock is about 119 s behind this server's", id="behind"),
        pytest.param(
            {"exp": NOW - 119, "iat": ABSENT}, "clock is about 119 s behind this server's", id="behind, no iat"
        ),
        pytest.param({"exp": NOW + 180, "iat": NOW + 120}, "clock is about 120 s ahead of this server's", id="ahead"),
        pytest.param(
            {"exp": NOW + 180, "iat": ABSENT, "nbf": NOW + 120}, "clock is about 120 s ahead", id="nbf ahead, no iat"
        ),
        pytest.param({"exp": NOW + 309, "iat": NOW + 9}, "clock is about 9 s ahead", id="ahead within the tolerance"),
        pytest.param(
            {"exp": NOW - 7200 + 60, "iat": NOW - 7200}, "(about 2 h: a local time that was taken for UTC?)", id="zone"
        ),
        pytest.param(
            {"exp": NOW + 19800 + 60, "iat": NOW + 19800}, "(about 5.5 h: a local time", id="zone of half an hour"
        ),
    ],
)
def test_the_likely_cause_of_a_wrong_time_comes_first(claims: dict[str, Any], said: str) -> None:
    """The unit, or the clock and by how much; and no command, as a longer life would not help."""
    reason, hint = told(**claims)
    assert said in hint
    assert hint.startswith(("exp ", "iat ", "nbf ", "the caller's clock "))
    assert "groat client" not in hint
    assert reason in ("assertion_expired", "assertion_not_yet", "assertion_lifetime")


@pytest.mark.rule("CL-6", "AS-CA-08")
@pytest.mark.parametrize(
    ("claims", "said", "absent"),
    [
        pytest.param({"exp": NOW + 900}, "--max-assertion-lifetime 900", "clock", id="a quarter of an hour"),
        pytest.param({"exp": NOW + 900, "iat": ABSENT}, "--max-assertion-lifetime 900", "clock", id="no iat"),
        pytest.param({"exp": NOW + 60, "iat": NOW - 400}, "--max-assertion-lifetime 460", "clock", id="old iat"),
        pytest.param({"exp": NOW + 86400}, "no client may have more than 3600 s", "groat client", id="a day"),
        pytest.param({"exp": NOW + 2, "iat": NOW + 5}, "iat is after exp", "groat client", id="iat after exp"),
        pytest.param({"nbf": NOW + 500}, "nbf is 500 s in the future", "clock", id="only nbf ahead"),
    ],
)
def test_a_command_is_offered_where_it_helps(claims: dict[str, Any], said: str, absent: str) -> None:
    """A longer life that the client can be given, with its number; the clock is not blamed for it."""
    _, hint = told(**claims)
    assert said in hint
    assert absent not in hint


def test_other_refusals_keep_their_words() -> None:
    """Only times are explained by times."""
    assert time_hint(JoseError("claims", "jti is missing"), {"exp": 5}, NOW) == "jti is missing"


COMMAND: Final = "--assertion-audience issuer-or-token-endpoint"


@pytest.mark.rule("FO-20")
@pytest.mark.parametrize(
    ("aud", "policy", "client", "said", "offered"),
    [
        pytest.param(TE, POLICY, CLIENT, TE, True, id="token endpoint"),
        pytest.param([TE], POLICY, CLIENT, TE, True, id="token endpoint in an array"),
        pytest.param(TE, FAPI2, LENIENT, "profile fapi2 takes the issuer", False, id="token endpoint, fapi2"),
        pytest.param([ISS], FAPI2, CLIENT, "as one string", False, id="array, fapi2"),
        pytest.param(f"{ISS}/", POLICY, CLIENT, "differ by the trailing slash only", False, id="slash"),
        pytest.param(f"{ISS}:443", POLICY, CLIENT, "differ by the port only", False, id="port"),
        pytest.param("https://AS.example", POLICY, CLIENT, "differ by the capital letters only", False, id="case"),
        pytest.param("http://as.example", POLICY, CLIENT, "differ by the scheme only", False, id="scheme"),
        pytest.param(f" {ISS}", POLICY, CLIENT, "differ by the blanks around it only", False, id="blank"),
        pytest.param("https://other.example", POLICY, CLIENT, "signed for somebody else", False, id="foreign"),
        pytest.param([ISS, "https://other.example"], POLICY, CLIENT, "one audience alone", False, id="two"),
        pytest.param([ISS, TE], POLICY, LENIENT, "one audience alone", False, id="both names"),
        pytest.param(f"{TE}/", POLICY, LENIENT, "must name this issuer", False, id="slash behind the endpoint"),
    ],
)
def test_an_audience_is_named_with_its_difference(
    aud: Any, policy: Policy, client: Client, said: str, offered: bool
) -> None:
    """What was sent, what is known, how they differ; the command for the one audience that it can allow."""
    reason, hint = told(client, policy, aud=aud)
    sent = aud if isinstance(aud, str) else aud[0]
    assert (reason, said in hint) == ("assertion_audience", True), hint
    assert f'"{sent}"' in hint
    assert f'"{ISS}"' in hint
    assert (COMMAND in hint) is offered


def refused_target(target: str, *audiences: str) -> str:
    """The hint for a resource that a client of these APIs asks for."""
    apis = [Api(f"api{number}", audience, frozenset({"read"})) for number, audience in enumerate(audiences)]
    client = Client(CID, (), tuple(Permission(api, api.scopes) for api in apis))
    with pytest.raises(InvalidTarget) as caught:
        decide_grant(asking("read", (target,)), proven(client), POLICY)
    assert caught.value.reason == "resource"
    assert caught.value.hint.isascii()
    assert caught.value.hint.isprintable()
    return caught.value.hint


@pytest.mark.rule("FO-20")
@pytest.mark.parametrize(
    ("target", "what"),
    [
        (f"{RES}/", "trailing slash"),
        (f"{RES}:443", "port"),
        ("https://API.example", "capital letters"),
        ("http://api.example", "scheme"),
    ],
)
def test_a_resource_that_is_nearly_one_is_named_with_its_difference(target: str, what: str) -> None:
    """What was asked, what is granted, how they differ; no command, because the request is what must change."""
    hint = refused_target(target, "https://first.example", RES)
    assert f'"{target}"' in hint
    assert f'"{RES}" is; they differ by the {what} only' in hint
    assert "groat" not in hint


@pytest.mark.rule("FO-20")
def test_an_unknown_resource_is_in_the_hint_with_those_that_are_granted() -> None:
    """Here the command helps, if there is such an API; at most five names are shown."""
    hint = refused_target("https://unknown.example", RES)
    assert '"https://unknown.example" is unknown or not granted' in hint
    assert f'"{RES}"' in hint
    assert "groat api list" in hint
    assert f"groat client update {CID} --allow" in hint
    many = refused_target("https://unknown.example", *(f"https://{number}.example" for number in range(9)))
    assert many.count("https://") == 6
    assert "granted: none" in refused_target("https://unknown.example")
    assert "absolute URI" in refused_target("no uri\n", RES)


def test_loopback_has_three_names() -> None:
    """A browser does not care, a comparison of strings does."""
    assert difference("http://localhost:3001", "http://127.0.0.1:3001") == (
        "; they differ by the name of the loopback host only"
    )
    assert difference("http://localhost.example", "http://127.0.0.1") == ""


FOREIGN: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "GitHub": (
        {"iss": "https://token.actions.githubusercontent.com", "sub": "repo:octo/app:ref:refs/heads/main"},
        "GitHub Actions",
    ),
    "GitHub of a company": ({"iss": "https://ghe.example/_services/token", "sub": "repo:octo/app:x"}, "GitHub Actions"),
    "GitHub, long": (
        {"iss": "https://token.actions.githubusercontent.com", "sub": "repo:" + "o" * 200},
        "GitHub Actions",
    ),
    "GitHub, environment": (
        {"iss": "https://token.actions.githubusercontent.com", "sub": "repo:octo/app:environment:Our Prod"},
        "GitHub Actions",
    ),
    "Kubernetes": (
        {"iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:prod:billing"},
        "Kubernetes",
    ),
    "Kubernetes elsewhere": ({"iss": "https://k8s.example", "sub": "system:serviceaccount:a:b"}, "Kubernetes"),
    "EKS": ({"iss": "https://oidc.eks.eu-central-1.amazonaws.com/id/A", "sub": "system:serviceaccount:a:b"}, "AWS"),
    "AWS": ({"iss": "https://0a1b.tokens.sts.global.api.aws", "sub": "arn:aws:iam::1:role/x"}, "AWS"),
    "GitLab": ({"iss": "https://gitlab.com", "sub": "project_path:g/p:ref_type:branch:ref:main"}, "GitLab"),
    "GitLab elsewhere": ({"iss": "https://git.example", "sub": "project_path:g/p:ref_type:branch:ref:m"}, "GitLab"),
    "Google": ({"iss": "https://accounts.google.com", "sub": "113774264463038321964"}, "Google"),
    "Azure v1": ({"iss": "https://sts.windows.net/0f5e/", "sub": "1b2c"}, "Microsoft Entra ID"),
    "Azure v2": ({"iss": "https://login.microsoftonline.com/0f5e/v2.0", "sub": "1b2c"}, "Microsoft Entra ID"),
    "SPIFFE": ({"iss": ABSENT, "sub": "spiffe://example.org/billing"}, "SPIFFE"),
    "somebody": ({"iss": "https://idp.example", "sub": "billing-service"}, "a token of another issuer: iss"),
    "no subject": ({"iss": "https://idp.example", "sub": ABSENT}, "a token of another issuer: iss"),
}


@pytest.mark.rule("FO-21")
@pytest.mark.parametrize("platform", FOREIGN)
def test_a_token_of_another_issuer_is_called_so(platform: str) -> None:
    """Its platform, its issuer, and what works: a key of the client's own. Never a client by the name of its subject."""
    claims, name = FOREIGN[platform]
    signed = assertion(generate_private_key("ES256"), None, aud="https://groat.example", **claims)
    with pytest.raises(InvalidClient) as caught:
        authenticate(signed, None)
    hint = caught.value.hint
    assert "a token of another issuer" in hint
    assert name in hint
    assert "groat client invite NAME" in hint
    assert "client add" not in hint
    assert hint.isascii()
    assert hint.isprintable()


@pytest.mark.rule("FO-21", "I16")
def test_it_is_called_so_whoever_is_registered() -> None:
    """The claims alone decide: the same words for a name that is registered and for one that is not."""
    claims = {"iss": "https://idp.example", "sub": CID}
    signed = assertion(generate_private_key("ES256"), None, **claims)
    hints = set()
    for client in (CLIENT, None, replace(CLIENT, keys=())):
        with pytest.raises(InvalidClient) as caught:
            authenticate(signed, client)
        hints.add(caught.value.hint)
    assert len(hints) == 1


@pytest.mark.rule("FO-21")
def test_a_client_that_signs_for_itself_is_no_platform() -> None:
    """Also where its id is a URL, or looks like a platform's subject."""
    for name in ("https://client.example", "repo:octo/app", "spiffe://example.org/x"):
        with pytest.raises(InvalidClient) as caught:
            authenticate(assertion(iss=name, sub=name), None)
        assert "another issuer" not in caught.value.hint
    reason, hint = told(iss="somebody-else")
    assert (reason, '"somebody-else"' in hint) == ("assertion_issuer", True)
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(sub="a b", iss="a b"))
    assert "sub must be the client id" in caught.value.hint


@pytest.mark.rule("FO-21")
def test_an_access_token_is_called_so() -> None:
    """By its typ, which is shown."""
    with pytest.raises(InvalidClient) as caught:
        authenticate(assertion(CLIENT_KEY, {"typ": "at+jwt"}))
    assert 'is "at+jwt": an access token is no assertion' in caught.value.hint
