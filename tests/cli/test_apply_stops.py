"""What is stopped, by hand or by files: the files that say nothing of it, and the clients that nothing lets in any more."""

import pytest

from .running import Home
from .test_apply import REGISTRY, public_key

TRUST = '\n[trusts.ci]\nissuer = "https://ci.example.com"\ndiscovery = true\n'


def enabled(home: Home) -> tuple[bool, bool]:
    """Of the client and of the trust."""
    client, trust = home.ok("--json", "client", "show", "billing").json, home.ok("--json", "trust", "show", "ci").json
    return client["enabled"], trust["enabled"]


def with_word(word: str) -> str:
    return REGISTRY.replace("[clients.billing]", f"[clients.billing]\n{word}") + TRUST + word


def test_a_stop_by_hand_outlives_files_that_say_nothing_of_it(home: Home) -> None:
    """They go on to be applied, and name what stays disabled; the files may say otherwise."""
    home.file("registry.toml", REGISTRY + TRUST)
    home.ok("apply", "-f", "registry.toml")
    assert enabled(home) == (True, True)
    home.ok("--yes", "client", "disable", "billing")
    home.ok("--yes", "trust", "disable", "ci")
    assert home("diff", "-f", "registry.toml").code == 0
    done = home.ok("--json", "apply", "-f", "registry.toml").json
    assert (done["outcome"], done["stopped"]) == ("unchanged", ["client/billing", "trust/ci"])
    home.file("registry.toml", REGISTRY.replace("allow", 'owner = "team billing"\nallow') + TRUST)
    said = home.ok("apply", "-f", "registry.toml")
    assert said.out.endswith("changed: 0 added, 1 changed, 0 removed\n")
    assert "disabled, and left so: client/billing, trust/ci. No file says enabled = true" in said.err
    assert enabled(home) == (False, False)
    home.file("registry.toml", with_word("enabled = true"))
    assert home.ok("--json", "apply", "-f", "registry.toml").json["stopped"] == []
    assert enabled(home) == (True, True)


def test_what_is_exported_keeps_what_is_stopped(home: Home) -> None:
    """A file of a registry says of what is disabled that it is, so that a new store is as safe as this one."""
    home.file("registry.toml", with_word("enabled = false"))
    home.ok("--yes", "apply", "-f", "registry.toml")
    assert enabled(home) == (False, False)
    assert home.ok("export").out.count("enabled = false") == 2


JOB = """
[clients.job]
allow = {orders = ["orders:read"]}
keys = []

[[clients.job.rules]]
trust = "ci"
match = ["sub=job"]
"""


@pytest.fixture
def trusting(home: Home) -> Home:
    """With a client that comes by a rule alone."""
    home.file("registry.toml", REGISTRY + JOB + TRUST)
    home.ok("apply", "-f", "registry.toml")
    return home


def test_a_trust_that_is_disabled_names_whom_it_leaves_outside(trusting: Home) -> None:
    """Tried, done by hand, and by files, which want a word for it; who has a key besides loses nothing."""
    tried = trusting("--json", "trust", "disable", "ci", "--dry-run")
    assert (tried.code, [one["client_id"] for one in tried.json["losses"]]) == (7, ["job"])
    trusting.file("registry.toml", REGISTRY + JOB + TRUST + "enabled = false\n")
    refused = trusting("apply", "-f", "registry.toml")
    assert (refused.code, "job: loses orders:read" in refused.err) == (2, True)
    public_key(trusting, "job.jwk.json")
    with_key = JOB.replace("keys = []", 'keys = ["job.jwk.json"]')
    trusting.file("registry.toml", REGISTRY + with_key + TRUST + "enabled = false\n")
    done = trusting.ok("--json", "apply", "-f", "registry.toml").json
    assert (done["losses"], done["changed"]) == ([], 2)
    trusting.ok("trust", "enable", "ci")
    assert "loses" not in trusting.ok("trust", "disable", "ci").err


def test_whoever_removes_a_key_hears_of_rules(trusting: Home) -> None:
    """They are another way in, and stay."""
    kid = public_key(trusting, "job.jwk.json")
    trusting.ok("client", "key", "add", "job", "job.jwk.json")
    removed = trusting.ok("client", "key", "remove", "job", kid, "--force")
    assert "workloads are this client still, by rules about ci: groat client trust list job" in removed.err
