"""Rules for a registry as data: what breaks one is named with its object, file and line, with a store and without."""

from typing import Final

import pytest

from .running import Home
from .test_apply import public_key

REGISTRY: Final = """
[apis.payments]
audience = "https://payments.example.com"
scopes = ["payments:create", "payments:approve"]
token_lifetime = "15m"

[clients.robot]
allow = {payments = ["payments:create", "payments:approve"]}
keys = [{file = "robot.jwk.json", not_before = "2020-01-01T00:00:00Z"}]

[clients.clerk]
allow = {payments = ["payments:create"]}
owner = "team money"
token_lifetime = "5m"
keys = []
"""
CHECKS: Final = {
    'never_both = ["payments:create", "payments:approve"]': ["7: client robot: it may ask for payments:create and payments:approve"],
    'required = ["owner"]': ["7: client robot: it has no owner"],
    'max_token_lifetime = "5m"': ["7: client robot: its tokens for payments live 600 s"],
    'max_key_age = "90d"': ["7: client robot: key"],
    'key_algorithms = ["Ed25519"]': ["7: client robot: key"],
    'api_binding = ["dpop", "any"]': ["2: api payments: its binding is none"],
    'required = ["owner"]\nexcept = ["client/robot"]': [],
    'max_key_age = "9000d"': [],
}  # fmt: skip


@pytest.fixture
def files(empty: Home) -> Home:
    """Files alone: neither settings nor a store."""
    public_key(empty, "robot.jwk.json")
    empty.file("registry.toml", REGISTRY)
    return empty


@pytest.mark.parametrize("check", CHECKS)
def test_what_breaks_a_rule_is_named(files: Home, check: str) -> None:
    """Without a store: exit code 3, the object, its line, the rule and its message."""
    files.file("rules.toml", f'[policies.ours]\nmessage = "Because."\n{check}\n')
    done = files("apply", "-f", "registry.toml", "--dry-run", "--offline", "--policy", "rules.toml")
    lines = done.err.splitlines()
    assert len(lines) == len(CHECKS[check]), done.err
    for line, said in zip(lines, CHECKS[check], strict=True):
        assert line.startswith(f"groat: registry.toml:{said}")
        assert line.endswith("ours: Because.")
    assert done.code == (3 if lines else 0)


WRONG: Final = """
[policies.a]
max_key_agee = "1d"
[policies.b]
required = ["ownr"]
[policies.c]
never_both = ["one"]
[policies.d]
required = ["owner"]
max_key_age = "1d"
[policy.e]
"""


def test_a_wrong_rule_passes_nothing(files: Home) -> None:
    """Each mistake with its line, and the name that was probably meant; a file without rules is one, too."""
    files.file("rules.toml", WRONG)
    done = files("apply", "-f", "registry.toml", "--dry-run", "--offline", "--policy", "rules.toml")
    assert done.code == 3
    for said in (
        "rules.toml:3: unknown name max_key_agee; did you mean max_key_age?",
        "rules.toml:5: policy b: required must be a list of settings of clients; ownr is none",
        "rules.toml:7: policy c: never_both must be a list of two scopes or more",
        "rules.toml:8: policy d needs one of max_key_age",
        "rules.toml:11: unknown name policy; a file of policies has policies",
    ):
        assert said in done.err
    files.file("rules.toml", "")
    assert files("apply", "-f", "registry.toml", "--dry-run", "--offline", "--policy", "rules.toml").code == 3


def test_the_files_alone_are_checked_as_a_store_would(files: Home) -> None:
    """What they refer to must be in them; --offline changes nothing, so it goes with --dry-run."""
    assert files.ok("-q", "apply", "-f", "registry.toml", "--dry-run", "--offline").out == "valid\n"
    files.file("registry.toml", REGISTRY + '[clients.lost]\nallow = {paymnts = ["x"]}\n')
    done = files("apply", "-f", "registry.toml", "--dry-run", "--offline")
    assert (done.code, "no API paymnts; did you mean payments?" in done.err) == (3, True)
    assert files("apply", "-f", "registry.toml", "--offline").code == 2


def test_a_key_without_a_date_has_no_age(files: Home) -> None:
    """With files alone that is said; a store knows when it was registered."""
    files.file("registry.toml", REGISTRY.replace(', not_before = "2020-01-01T00:00:00Z"', ""))
    files.file("rules.toml", '[policies.ours]\nmax_key_age = "90d"\n')
    words = ("apply", "-f", "registry.toml", "--policy", "rules.toml")
    done = files(*words, "--dry-run", "--offline")
    assert (done.code, "does not say since when it counts: not_before" in done.err) == (3, True)
    files.ok("init", "--issuer", "https://auth.example.com")
    files.ok(*words)


def test_a_rule_stops_apply(files: Home) -> None:
    """Nothing is changed, however much of it would keep the rules."""
    files.ok("init", "--issuer", "https://auth.example.com")
    files.file("rules.toml", '[policies.ours]\nrequired = ["owner"]\n')
    assert files("apply", "-f", "registry.toml", "--policy", "rules.toml").code == 3
    assert files.ok("--json", "client", "list").json == []
