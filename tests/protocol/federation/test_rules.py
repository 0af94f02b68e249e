"""Rules as an operator writes them: what they mean, what is refused when it is written, and whom they choose."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.federation.claim_paths import claim_at, parse_path, written
from groat.protocol.federation.conditions import DELIMITERS, Comparison, Condition
from groat.protocol.federation.presets import check_rule, key_of, keys_of, preset_of
from groat.protocol.federation.rules import Rule, choose
from tests.protocol.builders import refused

from .platforms import GENERIC, PLATFORMS, ROLE, SVID, TENANT, in_cluster, judge, rule

KEEPS: Final = Condition.parse


@pytest.mark.rule("AS-JB-12")
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sub", ("sub",)),
        ("a.b.c", ("a", "b", "c")),
        ('"kubernetes.io".namespace', ("kubernetes.io", "namespace")),
        ('"kubernetes.io/serviceaccount/namespace"', ("kubernetes.io/serviceaccount/namespace",)),
        ('"https://sts.amazonaws.com/".principal_tags.cost-center',
         ("https://sts.amazonaws.com/", "principal_tags", "cost-center")),
    ],
)  # fmt: skip
def test_paths(text: str, path: tuple[str, ...]) -> None:
    """A dotted way into objects; names with dots stand in quotes, and are written so again."""
    assert parse_path(text) == path
    assert parse_path(written(path)) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", 'a"b', '"a', '""', "a[0]", "a b", "$.a", "a.b.c.d.e.f"])
def test_what_is_no_path(text: str) -> None:
    """No index, no expression, nothing half written."""
    with pytest.raises(ConfigError):
        parse_path(text)


@pytest.mark.rule("AS-JB-12")
@pytest.mark.parametrize(
    ("condition", "claims", "holds"),
    [
        ("a=456", {"a": "456"}, True),
        ("a=456", {"a": 456}, False),
        ("a=true", {"a": True}, False),
        ("a=x", {}, False),
        ("a=x", {"a": ["x"]}, False),
        ("a=x", {"a": "X"}, False),
        ("a=x", {"a": "x "}, False),
        ("a=None", {"a": None}, False),
        ("a.b=x", {"a": {"b": "x"}}, True),
        ("a.b=x", {"a.b": "x"}, False),
        ("a.b=x", {"a": "x"}, False),
        ('"a.b"=x', {"a.b": "x"}, True),
        ("a^=org/", {"a": "org/x"}, True),
        ("a^=org/", {"a": "organised/x"}, False),
        ("a^=org/", {"a": "Org/x"}, False),
        ("a^=org/", {"a": ["org/x"]}, False),
        ("a:=x,y", {"a": "y"}, True),
        ("a:=x,y", {"a": "x,y"}, False),
        ("a:=x,y", {"a": "z"}, False),
        ("a=b=c", {"a": "b=c"}, True),
        ("a*=x", {"a": ["w", "x"]}, True),
        ("a*=x", {"a": ["xy", "X", "x "]}, False),
        ("a*=x", {"a": [["x"], {"x": "x"}]}, False),
        ("a*=456", {"a": [456]}, False),
        ("a*=True", {"a": [True]}, False),
        ("a*=x", {"a": "x"}, False),
        ("a*=x", {"a": {"x": "x"}}, False),
        ("a*=x", {"a": []}, False),
        ("a*=x", {}, False),
        ("a.b*=x,y", {"a": {"b": ["x,y"]}}, True),
        ("a.b*=x", {"a": [{"b": ["x"]}]}, False),
    ],
)
def test_conditions(condition: str, claims: Mapping[str, Any], holds: bool) -> None:
    """Strings match strings, exactly; what is missing matches nothing."""
    parsed = Condition.parse(condition)
    assert parsed.holds(claims) is holds
    assert Condition.parse(str(parsed)) == parsed
    if not holds:
        assert parsed.explain(claims)


@pytest.mark.rule("AS-JB-12")
@pytest.mark.parametrize(
    "text",
    [
        "sub", "sub=", "sub^=", "sub:=", "sub:=a,,b", "sub=*", "sub=repo:org/*", "sub^=org", "sub^=org-", "sub^=org.",
        "sub^=repo:", "sub^=repo", "sub^=spiffe://", "sub^=spiffe:", "sub^=system:", "sub^=system:serviceaccount:",
        "sub^=arn:", "sub^=arn:aws:iam::", "sub^=https://", "sub^=/x*/", "=x", "sub~x", "sub=a\nb", f"sub={'x' * 513}",
        "a*=", "a*=*", "a*=x*", "sub*=x", "iss*=x", "azp*=x", "client_id*=x", "jti*=x", "*=x", "a**=x",
    ],
)  # fmt: skip
def test_conditions_that_cannot_be_meant(text: str) -> None:
    """No wildcards, no beginning that ends in the middle of a name, none that everybody's subject has."""
    with pytest.raises(ConfigError):
        Condition.parse(text)


@pytest.mark.rule("AS-JB-12")
@pytest.mark.parametrize(
    ("preset", "conditions", "said"),
    [
        ("", ("groups*=admins",), "pin the subject"),
        ("", ("project_id*=20",), "pin the subject"),
        ("entra", (f"tid={TENANT}", "roles*=worker"), "oid"),
        ("gitlab", ("project_id*=20", "namespace_id=72"), "project_id"),
        ("kubernetes", ('"kubernetes.io".namespace*=billing', "sub=system:serviceaccount:billing:worker"), "no claim"),
        ("github", ("repository_id=74", "repository_owner_id=65", "environment*=prod"), "no claim of github is a list"),
    ],
)
def test_a_list_pins_nobody(preset: str, conditions: tuple[str, ...], said: str) -> None:
    """Many stand in a group: to be in one is a further demand, never the one that names somebody."""
    platform = PLATFORMS[preset] if preset else GENERIC
    with pytest.raises(ConfigError, match=said):
        check_rule(rule(*conditions), platform.trust)
    good = Condition.parse("groups*=admins")
    if preset not in ("kubernetes", "github"):
        check_rule(replace(platform.rule, conditions=(*platform.rule.conditions, good)), platform.trust)


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_prefix_matches_whole_names_only(prefix: str, value: str) -> None:
    """Whatever is written and whatever comes: what matches begins with the prefix, which ends in a delimiter."""
    try:
        condition = Condition(("a",), Comparison.STARTS, (prefix,))
    except ConfigError:
        return
    assert condition.holds({"a": value}) is value.startswith(prefix)
    assert prefix[-1] in DELIMITERS
    assert not condition.holds({"a": prefix[:-1] + "x"})


GOOD: Final = {
    "kubernetes": [
        ["sub=system:serviceaccount:billing:worker"],
        ["sub:=system:serviceaccount:billing:worker,system:serviceaccount:billing:cron"],
        ["sub^=system:serviceaccount:billing:"],
        ['"kubernetes.io".namespace=billing'],
        ['"kubernetes.io".serviceaccount.uid=14ee3fa4-a7e2-420f-9f9a-dbc4507c3798'],
        ['"kubernetes.io".namespace=billing', '"kubernetes.io".serviceaccount.name=worker'],
    ],
    "github": [
        ["repository_owner_id=65", "repository_id=74", "ref=refs/heads/main"],
        ["repository_owner_id=65", "repository_id:=74,75", "environment=prod"],
        ["repository_owner_id=65", "repository_id=74", "ref^=refs/heads/"],
        ["repository_owner_id=65", "repository_id=74", "job_workflow_ref=o/r/.github/workflows/w.yml@refs/heads/main"],
    ],
    "gitlab": [["project_id=20", "namespace_id=72"], ["project_id=20", "namespace_id=72", "ref_protected=true"]],
    "aws": [[f"sub={ROLE}"], [f"sub:={ROLE},{ROLE}2"], ["sub=arn:aws-cn:iam::123456789012:role/path/Name"]],
    "google": [["sub=112179062720391305885"]],
    "entra": [[f"tid={TENANT}", "oid=aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"], [f"tid={TENANT}", "sub=x"]],
    "spiffe": [[f"sub={SVID}"], ["sub^=spiffe://prod.example/ns/billing/"]],
    "generic": [["sub=x"], ["sub^=org/"], ["repository_id=7"], ["project.id=7"]],
}
STRANGERS: Final = {
    "kubernetes": [
        ['"kubernetes.io".serviceaccount.name=worker'],
        ['"kubernetes.io".pod.name=x'],
        ["aud=x"],
        ["sub=worker"],
        ["sub=system:serviceaccount:billing:default"],
        ["sub^=system:serviceaccount:billing:worker/"],
        ["sub=system:serviceaccount:billing"],
        ['"kubernetes.io".namespace=billing', '"kubernetes.io".serviceaccount.name=default'],
    ],
    "github": [
        ["repository=octo-org/octo-repo", "ref=refs/heads/main"],
        ["repository_id=74", "ref=refs/heads/main"],
        ["repository_owner_id=65", "ref=refs/heads/main"],
        ["repository_owner_id=65", "repository_id=74"],
        ["repository_owner_id=65", "repository_id=74", "ref=main"],
        ["repository_owner_id=octo", "repository_id=74", "ref=refs/heads/main"],
        ["sub=repo:octo-org/octo-repo:ref:refs/heads/main"],
        ["sub^=repo:octo-org/", "repository_owner_id=65", "repository_id=74", "ref=refs/heads/main"],
        ["repository_owner=octo-org", "ref=refs/heads/main"],
    ],
    "gitlab": [
        ["project_path=my-group/my-project"],
        ["project_id=20"],
        ["namespace_id=72"],
        ["project_id=my-project", "namespace_id=72"],
        ["project_id=20", "namespace_id=72", "ref_protected=yes"],
        ["sub=project_path:my-group/my-project:ref_type:branch:ref:main"],
    ],
    "aws": [
        ["sub^=arn:aws:iam::123456789012:role/"],
        ["sub=DataProcessingRole"],
        ["sub=arn:aws:sts::123456789012:assumed-role/R/s"],
        ['"https://sts.amazonaws.com/".aws_account=123456789012'],
    ],
    "google": [
        ["email=worker@my-project.iam.gserviceaccount.com"],
        ["sub=worker@my-project.iam.gserviceaccount.com"],
        ["google.compute_engine.project_id=my-project"],
    ],
    "entra": [
        [f"tid={TENANT}"],
        ["oid=aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"],
        ["tid=bbbbbbbb-0000-cccc-1111-dddd2222eeee", "oid=aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb"],
        [f"tid={TENANT}", "azp=x"],
        [f"tid={TENANT}", "oid=AAAAAAAA-0000-1111-2222-BBBBBBBBBBBB"],
    ],
    "spiffe": [
        ["sub^=spiffe://prod.example/"],
        ["sub=spiffe://prod.example"],
        ["sub=spiffe://dev.example/ns/billing"],
        ["sub=spiffe://prod.example/a/../b"],
        ["sub^=spiffe://prod.example/ns:"],
        ["aud=x"],
    ],
    "generic": [["ref=main"], ["repository=o/r"], ["email=x@example.com"], ["repository_id^=7/"]],
}  # fmt: skip


def _each(table: Mapping[str, list[list[str]]]) -> list[tuple[str, list[str]]]:
    return [(name, conditions) for name, rows in table.items() for conditions in rows]


@pytest.mark.rule("AS-JB-12")
@pytest.mark.parametrize(("name", "conditions"), _each(GOOD))
def test_rules_that_name_somebody(name: str, conditions: list[str]) -> None:
    """Each of these can match nobody but whom it means."""
    check_rule(rule(*conditions), PLATFORMS[name].trust)


@pytest.mark.rule("AS-JB-12", "AS-WI-06", "AS-WI-09", "AS-WI-10", "AS-WI-11")
@pytest.mark.parametrize(("name", "conditions"), _each(STRANGERS))
def test_rules_that_could_match_a_stranger(name: str, conditions: list[str]) -> None:
    """They are refused when they are written, with a sentence on what to pin instead."""
    with pytest.raises(ConfigError) as caught:
        check_rule(rule(*conditions), PLATFORMS[name].trust)
    assert len(str(caught.value)) > 20


@pytest.mark.rule("AS-WI-02", "AS-WI-06")
def test_what_an_operator_may_allow() -> None:
    """The account `default`, and names of repositories; each for its own platform."""
    by_name = ("repository=octo-org/octo-repo", "ref=refs/heads/main")
    check_rule(rule(*by_name, allows=frozenset({"names"})), PLATFORMS["github"].trust)
    default = "sub=system:serviceaccount:billing:default"
    check_rule(rule(default, allows=frozenset({"default"})), PLATFORMS["kubernetes"].trust)
    for name, allowed in (("kubernetes", "names"), ("github", "default"), ("generic", "names"), ("generic", "all")):
        with pytest.raises(ConfigError):
            check_rule(rule("sub=x", allows=frozenset({allowed})), PLATFORMS[name].trust)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rule("r", "ci", "c", ()),
        lambda: Rule("r", "ci", "c", tuple(KEEPS(f"a{number}=x") for number in range(21))),
        lambda: rule("sub=x", copied=(("exp",),)),
        lambda: rule("sub=x", copied=(("aud",),)),
        lambda: rule("sub=x", copied=tuple((f"c{number}",) for number in range(21))),
    ],
)
@pytest.mark.rule("AS-JB-17")
def test_rules_that_cannot_be_meant(make: Any) -> None:
    """None without conditions, none with too many, and what says something about the foreign token is not copied."""
    with pytest.raises(ConfigError):
        make()


def _choose(rules: list[Rule], client_id: str | None = None) -> Rule:
    return choose(rules, {"sub": "x", "ref": "main"}, client_id, {}).rule


@pytest.mark.rule("AS-JB-13")
def test_one_workload_may_be_several_clients() -> None:
    """Then it must say which; one that it is not is refused, and the order of the rules changes nothing."""
    rules = [rule("sub=x", name="r-1", client="a"), rule("ref=main", name="r-2", client="b"), rule("sub=y", name="r-3")]
    for given_order in (rules, rules[::-1]):
        with refused(JoseError, "ambiguous"):
            _choose(given_order)
        assert _choose(given_order, "a").client_id == "a"
        assert _choose(given_order, "b").client_id == "b"
        for stranger in ("billing", "unknown"):
            with refused(JoseError, "client"):
                _choose(given_order, stranger)


@pytest.mark.rule("AS-JB-13")
def test_many_rules_of_one_client() -> None:
    """They lead to one client, by the first rule that fits."""
    rules = [rule("sub=x", name="r-2"), rule("ref=main", name="r-1"), rule("sub=y", name="r-0")]
    for given_order in (rules, rules[::-1]):
        assert _choose(given_order).rule_id == "r-1"


@pytest.mark.rule("AS-JB-16")
def test_the_nearest_rule_is_told() -> None:
    """The one of which least is missing, with the claim that failed, what it is and what it must be."""
    github = PLATFORMS["github"]
    with refused(JoseError, "rule") as caught:
        judge(github, github.token(ref="refs/heads/dev"))
    hint = caught.value.hint
    assert hint == 'nearest is rule r-1 of client billing: ref is "refs/heads/dev" and must be "refs/heads/main"'
    with refused(JoseError, "rule") as caught:
        _choose([rule("sub=y", "ref=dev", name="r-1"), rule("sub=y", "ref=main", name="r-2")])
    assert "r-2" in caught.value.hint
    with refused(JoseError, "rule") as caught:
        _choose([])
    assert caught.value.hint == "no rule is about this subject"


@pytest.mark.rule("AS-JB-17")
def test_copied_claims() -> None:
    """Strings and numbers, by their whole names; one that is missing is left out, and all are short."""
    copied = (("kubernetes.io", "namespace"), ("kubernetes.io", "pod", "uid"), ("runs",), ("absent",))
    kubernetes = PLATFORMS["kubernetes"]
    own = rule(*map(str, kubernetes.rule.conditions), copied=copied)
    claims = {**kubernetes.claims, "runs": 7}
    assert choose([own], claims, None, {}).workload == {
        '"kubernetes.io".namespace': "billing",
        '"kubernetes.io".pod.uid': "8597bc3b-7219-47dc-9d9d-a4a6bfeb8d94",
        "runs": 7,
    }
    wrong: tuple[Any, ...] = ([1], {}, True, "x" * 1024)
    for odd in wrong:
        with refused(JoseError, "copy"):
            choose([own], {**claims, "runs": odd}, None, {})


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_rule_is_found_by_the_token_that_it_fits(name: str) -> None:
    """Among many rules only those of a few keys are looked at; the fitting one is always among them."""
    platform = PLATFORMS[name]
    preset = preset_of(platform.trust)
    assert key_of(platform.rule, preset), "a usual rule has a key of its own"
    for conditions in GOOD[name]:
        own = rule(*conditions)
        claims = {**platform.claims, "repository_id": "74", "namespace_id": "72"}
        if all(condition.holds(claims) for condition in own.conditions):
            assert key_of(own, preset) in keys_of(claims, preset)
    assert key_of(platform.rule, preset) not in keys_of({**platform.claims, **platform.stranger}, preset)


@given(st.dictionaries(st.sampled_from(["sub", "project_id", "x"]), st.one_of(st.text(max_size=3), st.integers())))
def test_no_fitting_rule_is_missed(claims: dict[str, Any]) -> None:
    """Whatever the claims: a rule that fits has a key under which this token looks."""
    preset = preset_of(PLATFORMS["gitlab"].trust)
    for value in filter(lambda value: isinstance(value, str) and value, claims.values()):
        for name in ("sub", "project_id"):
            try:
                own = rule(f"{name}={value}")
            except ConfigError:
                continue
            if own.conditions[0].holds(claims):
                assert key_of(own, preset) in keys_of(claims, preset)


def test_a_way_through_something_that_is_no_object() -> None:
    """Leads nowhere."""
    assert claim_at({"a": [{"b": 1}]}, ("a", "b")) is None
    assert claim_at({"a": {"b": None}}, ("a", "b", "c")) is None
    assert in_cluster()["namespace"] == "billing"


@pytest.mark.rule("AS-JB-16")
def test_what_a_request_names_is_shown_in_bounds() -> None:
    """A hint is one line of printable ASCII, however long and odd the name is that came with the token."""
    with refused(JoseError, "client") as caught:
        _choose([rule("sub=x")], "\u202e\n" * 30_000)
    assert len(caught.value.hint) < 1000
    assert caught.value.hint.isascii()
    assert caught.value.hint.isprintable()
