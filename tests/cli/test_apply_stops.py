"""What somebody has stopped by hand, and the files that say nothing of it, or something."""

from .running import Home
from .test_apply import REGISTRY

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
