"""Proofs of possession at the token endpoint (RFC 9449 5, 8), by a real server: what is bound, what is refused, what is spent."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from groat.protocol.binding import Binding
from groat.protocol.client_settings import SettingsChange
from groat.protocol.dpop_nonce import SLOT_SECONDS
from groat.protocol.jwk import generate_private_key
from groat.protocol.proof_rules import PROOF_ALGORITHMS
from groat.server import operations
from groat.server.settings.open_custody import open_nonces
from tests.proofs import ABSENT, PROOF_KEY, bare_jwk, proof
from tests.server.builders import ABSENT as UNSAID
from tests.server.builders import ISS, NOW, TE, base, decoded
from tests.server.lab import DEFAULTS, Lab, prepare, running
from tests.server.wire import FORM, Answer, check_ec, check_ok, check_refused

JKT: Final = PROOF_KEY.public.thumbprint


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A server that demands nonces."""
    directory = tmp_path_factory.mktemp("demanding")
    with running(prepare(directory, DEFAULTS + '[dpop]\nnonces = "required"\n')) as lab:
        yield lab


def ask(lab: Lab, *proofs: str, assertion: str | None = None, name: str = "DPoP", **fields: Any) -> Answer:
    """BASE with these DPoP headers."""
    return lab.post(base(assertion or lab.party.assertion(), **fields), FORM, *((name, one) for one in proofs))


def check_proof_refused(lab: Lab, answer: Answer, reason: str) -> None:
    check_refused(answer, "invalid_dpop_proof")
    assert answer.header("dpop-nonce") is None
    assert answer.header("www-authenticate") is None
    assert lab.reason(answer) == reason


def nonce_of(answer: Answer) -> str:
    """The one nonce of a challenge."""
    check_refused(answer, "use_dpop_nonce")
    nonce = answer.header("dpop-nonce")
    assert nonce
    return nonce


@pytest.mark.rule("AS-DP-09", "AS-TE-20", "AT-13", "AS-DP-21")
def test_a_proof_binds_the_token(lab: Lab) -> None:
    """token_type, cnf and the log line follow from the key; without a proof nothing changes."""
    answer = ask(lab, proof(TE, NOW))
    document = check_ok(answer)
    assert document["token_type"] == "DPoP"
    assert decoded(document["access_token"])[1]["cnf"] == {"jkt": JKT}
    assert lab.event(answer)["jkt"] == JKT
    plain = lab.ask()
    document = check_ok(plain)
    assert document["token_type"] == "Bearer"
    assert "cnf" not in decoded(document["access_token"])[1]
    assert plain.header("dpop-nonce") is None
    assert "jkt" not in lab.event(plain)
    check_refused(lab.post(b"grant_type=client_credentials&client_id=billing", FORM, ("DPoP", proof(TE, NOW))),
                  "invalid_client", 401)  # fmt: skip


@pytest.mark.rule("AS-DP-09")
def test_two_keys_of_one_client_do_not_mix(lab: Lab) -> None:
    """What is remembered of a grant never carries another request's key."""
    other = generate_private_key("Ed25519")
    for key in (PROOF_KEY, other, PROOF_KEY, other):
        token = check_ok(ask(lab, proof(TE, NOW, key)))["access_token"]
        assert decoded(token)[1]["cnf"] == {"jkt": key.public.thumbprint}
    assert "cnf" not in decoded(lab.token())[1]


@pytest.mark.rule("AS-DP-12")
def test_dpop_jkt_is_an_unknown_parameter(lab: Lab) -> None:
    """It belongs to authorization requests: what counts is the proof."""
    document = check_ok(ask(lab, proof(TE, NOW), dpop_jkt="other"))
    assert decoded(document["access_token"])[1]["cnf"] == {"jkt": JKT}


@pytest.mark.rule("AS-DP-01", "AS-DP-06")
@pytest.mark.parametrize("name", ["DPOP", "dpop", "DPoP"])
@pytest.mark.parametrize("url", [TE, f"{TE}?x#y", "HTTPS://AS.EXAMPLE:443/token"])
def test_spellings_that_work(lab: Lab, name: str, url: str) -> None:
    """Of the header's name, and of the URL."""
    check_ok(ask(lab, proof(url, NOW), name=name))


PRIVATE: Final = {**bare_jwk(PROOF_KEY), "d": PROOF_KEY.private_jwk()["d"]}
DEFECTS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "two headers": ((proof(TE, NOW), proof(TE, NOW)), "dpop_header"),
    "two in one": ((f"{proof(TE, NOW)},{proof(TE, NOW)}",), "dpop_malformed"),
    "no JWT": (("abc",), "dpop_malformed"),
    "empty": (("",), "dpop_malformed"),
    "too long": ((proof(TE, NOW, jti="j" * 10_000),), "dpop_malformed"),
    "typ": ((proof(TE, NOW, header_typ="JWT"),), "dpop_type"),
    "none": ((proof(TE, NOW, header_alg="none"),), "dpop_algorithm"),
    "no key": ((proof(TE, NOW, header_jwk=ABSENT),), "dpop_key"),
    "private key": ((proof(TE, NOW, header_jwk=PRIVATE),), "dpop_key"),
    "signature": ((proof(TE, NOW, header_jwk=bare_jwk(generate_private_key("ES256"))),), "dpop_signature"),
    "jti": ((proof(TE, NOW, jti=ABSENT),), "dpop_claims"),
    "htm": ((proof(TE, NOW, htm="post"),), "dpop_method"),
    "htu of the issuer": ((proof(ISS, NOW),), "dpop_url"),
    "htu over http": ((proof(TE.replace("https", "http"), NOW),), "dpop_url"),
    "htu with a slash": ((proof(f"{TE}/", NOW),), "dpop_url"),
    "an hour ahead": ((proof(TE, NOW + 3600),), "dpop_not_yet"),
    "an hour back": ((proof(TE, NOW - 3600),), "dpop_expired"),
}


@pytest.mark.rule("AS-DP-01", "AS-DP-02", "AS-DP-03", "AS-DP-04", "AS-DP-05", "AS-DP-06", "AS-DP-07", "AS-DP-08")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_proof_is_refused_and_spends_nothing(lab: Lab, defect: str) -> None:
    """400 with the reason in the log; the same assertion works with a good proof afterwards."""
    proofs, reason = DEFECTS[defect]
    assertion = lab.party.assertion()
    answer = ask(lab, *proofs, assertion=assertion)
    check_proof_refused(lab, answer, reason)
    assert PRIVATE["d"] not in repr(lab.event(answer))
    check_ok(ask(lab, proof(TE, NOW), assertion=assertion))


def test_the_log_says_what_was_expected(lab: Lab) -> None:
    """The URL that counts, the method, and how far the clocks are apart."""
    said = [
        (proof(f"{TE}/", NOW), f'htu is "{TE}/", expected is "{TE}"; they differ by the trailing slash only'),
        (proof(TE, NOW, htm="post"), 'htm is "post", expected is "POST"; they differ by the capital letters only'),
        (proof(TE, NOW - 90), "iat is 90 s behind this clock"),
        (proof(TE, NOW + 15), "iat is 15 s ahead of this clock"),
    ]
    for text, words in said:
        assert words in lab.event(ask(lab, text))["hint"]


@pytest.mark.rule("AS-DP-17", "AS-MD-11")
def test_the_algorithms_are_those_of_the_metadata(lab: Lab) -> None:
    """Each that is advertised works, and the others do not."""
    listed = lab.get("/.well-known/oauth-authorization-server").json["dpop_signing_alg_values_supported"]
    assert set(listed) == PROOF_ALGORITHMS | {"EdDSA"}
    for name in PROOF_ALGORITHMS:
        check_ok(ask(lab, proof(TE, NOW, generate_private_key(name, 2048))))
    check_ok(ask(lab, proof(TE, NOW, generate_private_key("Ed25519"), header_alg="EdDSA")))
    check_proof_refused(lab, ask(lab, proof(TE, NOW, generate_private_key("RS256", 2048))), "dpop_algorithm")


@pytest.mark.rule("AS-DP-14", "AS-DP-08")
def test_a_proof_works_once(lab: Lab) -> None:
    """Also with another spelling of the URL, and in the name of another client; each presentation spends its assertion."""
    other = lab.add_client("second-of-proof")
    check_ok(ask(lab, proof(TE, NOW, jti="once")))
    for text in (proof(TE, NOW, jti="once"), proof("HTTPS://AS.EXAMPLE:443/token", NOW - 1, jti="once")):
        for party in (lab.party, other):
            assertion = party.assertion()
            check_proof_refused(lab, ask(lab, text, assertion=assertion), "dpop_replayed")
            check_ec(ask(lab, assertion=assertion))
    check_ok(ask(lab, proof(TE, NOW, generate_private_key("ES256"), jti="once")))


@pytest.mark.rule("AS-DP-14")
def test_a_replayed_assertion_leaves_the_proof_unused(lab: Lab) -> None:
    """So that nobody can spend another's proof with an assertion that is used up."""
    text, used = proof(TE, NOW), lab.party.assertion()
    check_ok(lab.ask(used))
    check_ec(ask(lab, text, assertion=used))
    check_ok(ask(lab, text))


@pytest.mark.rule("AS-DP-14")
def test_fifty_presentations_of_one_proof(lab: Lab) -> None:
    """With fifty fresh assertions at once: exactly one token, and nothing else goes wrong."""
    text, barrier = proof(TE, NOW), threading.Barrier(50)
    bodies = [base(lab.party.assertion()) for _ in range(50)]

    def present(body: bytes) -> int:
        barrier.wait(10)
        return lab.post(body, FORM, ("DPoP", text)).status

    with ThreadPoolExecutor(50) as pool:
        assert sorted(pool.map(present, bodies)) == [200] + [400] * 49


@pytest.mark.rule("AS-DP-10", "AS-DP-15")
def test_nonces_are_offered(lab: Lab) -> None:
    """By default: a good proof gets one along, who has it gets none, and what comes must be good."""
    offered = ask(lab, proof(TE, NOW)).header("dpop-nonce")
    assert offered
    with_it = ask(lab, proof(TE, NOW, nonce=offered))
    check_ok(with_it)
    assert with_it.header("dpop-nonce") is None
    assert nonce_of(ask(lab, proof(TE, NOW, nonce="n"))) == offered
    check_proof_refused(lab, ask(lab, proof(TE, NOW - 3600, nonce=offered)), "dpop_expired")


@pytest.mark.rule("AS-DP-10", "AS-DP-16", "AS-DP-07")
def test_nonces_are_demanded(demanding: Lab) -> None:
    """The challenge spends nothing: the same assertion works with a new proof, whatever the caller's clock says."""
    assertion = demanding.party.assertion()
    nonce = nonce_of(ask(demanding, proof(TE, NOW), assertion=assertion))
    assert demanding.reason(ask(demanding, proof(TE, NOW))) == "dpop_nonce"
    check_ok(ask(demanding, proof(TE, NOW - 3600, nonce=nonce), assertion=assertion))
    check_ec(ask(demanding, proof(TE, NOW, nonce=nonce), assertion=assertion))
    text = proof(TE, NOW + 3600, nonce=nonce, jti="demanded")
    check_ok(ask(demanding, text))
    check_proof_refused(demanding, ask(demanding, text), "dpop_replayed")
    check_ok(demanding.ask())  # who shows no proof needs no nonce


@pytest.mark.rule("AS-DP-10", "AS-DP-15")
def test_a_nonce_ends(demanding: Lab) -> None:
    """It lasts into the next slot, which brings a new one along, and not beyond."""
    nonce = nonce_of(ask(demanding, proof(TE, NOW)))
    for seconds in (SLOT_SECONDS, 2 * SLOT_SECONDS, 601):
        with demanding.clock.at(NOW + seconds):
            demanding.party.now = NOW + seconds
            answer = ask(demanding, proof(TE, NOW + seconds, nonce=nonce))
            if seconds == SLOT_SECONDS:
                check_ok(answer)
                assert answer.header("dpop-nonce") not in (None, nonce)
            else:
                assert nonce_of(answer) != nonce
    demanding.party.now = NOW


@pytest.mark.rule("AS-DP-15")
def test_nonces_take_no_row_and_outlive_the_process(fresh_lab: Callable[..., Lab], tmp_path: Path) -> None:
    """All replicas that can open the signing keys know them, after a restart too; another deployment does not."""
    lab = fresh_lab(settings=DEFAULTS + '[dpop]\nnonces = "required"\n')
    nonce = nonce_of(ask(lab, proof(TE, NOW)))
    assert open_nonces(lab.config).current(NOW) == nonce
    with closing(sqlite3.connect(lab.database)) as connection:
        for number in range(20):
            nonce_of(ask(lab, proof(TE, NOW, nonce=f"n{number}")))
        assert connection.execute("SELECT count(*) FROM used_once").fetchone() == (0,)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    another = prepare(elsewhere)
    another.stream.close()
    assert open_nonces(another.config).current(NOW) != nonce


def test_nonces_can_be_off(fresh_lab: Callable[..., Lab]) -> None:
    """Nothing is offered, and what a caller writes there counts nothing."""
    lab = fresh_lab(settings=DEFAULTS + '[dpop]\nnonces = "off"\n')
    answer = ask(lab, proof(TE, NOW, nonce="whatever"))
    check_ok(answer)
    assert answer.header("dpop-nonce") is None


def test_algorithms_can_be_fewer(fresh_lab: Callable[..., Lab]) -> None:
    """As the operator lists them, in the metadata too."""
    lab = fresh_lab(settings=DEFAULTS + '[dpop]\nalgorithms = ["EdDSA"]\n')
    listed = lab.get("/.well-known/oauth-authorization-server").json["dpop_signing_alg_values_supported"]
    assert listed == ["Ed25519", "EdDSA"]
    check_proof_refused(lab, ask(lab, proof(TE, NOW)), "dpop_algorithm")
    check_ok(ask(lab, proof(TE, NOW, generate_private_key("Ed25519"))))


@pytest.mark.rule("AS-DP-11", "AS-DP-18")
@pytest.mark.parametrize("binding", ["dpop", "any"])
def test_a_client_that_must_bind(lab: Lab, binding: str) -> None:
    """Without a proof it gets nothing, and the hint says what would help."""
    party = lab.add_client(f"must-{binding}", binding=binding)
    answer = lab.ask(party.assertion())
    check_proof_refused(lab, answer, "dpop_missing")
    assert f"groat client update must-{binding} --binding none" in lab.event(answer)["hint"]
    assert check_ok(ask(lab, proof(TE, NOW), assertion=party.assertion()))["token_type"] == "DPoP"


@pytest.mark.rule("AS-DP-18")
@pytest.mark.parametrize("binding", [Binding.DPOP, Binding.ANY])
def test_an_api_that_wants_bound_tokens(lab: Lab, binding: Binding) -> None:
    """Whoever asks for it: without a proof nobody gets a token, and from the request after the change on."""
    name, audience = f"vault-{binding}", f"https://vault.example/{binding}"
    lab.operate(lambda op: operations.add_api(op, name, audience, ["read"], operations.ApiTerms(binding=binding)))
    party = lab.add_client(f"visits-{binding}", allow={"orders": ["orders:read"], name: ["read"]})
    want: dict[str, Any] = {"resource": audience, "scope": "read"}
    answer = lab.ask(party.assertion(), **want)
    check_proof_refused(lab, answer, "dpop_missing")
    assert f"groat api update {name} --binding none" in lab.event(answer)["hint"]
    token = check_ok(ask(lab, proof(TE, NOW), assertion=party.assertion(), **want))
    assert (token["token_type"], decoded(token["access_token"])[1]["cnf"]) == ("DPoP", {"jkt": JKT})
    # Where the API only follows from the scope, too; and another API of the same client is as it was.
    check_proof_refused(lab, lab.ask(party.assertion(), resource=UNSAID, scope="read"), "dpop_missing")
    assert check_ok(lab.ask(party.assertion(), scope="orders:read"))["token_type"] == "Bearer"
    lab.operate(lambda op: operations.update_api(op, name, operations.ApiWish(binding=Binding.NONE)))
    assert check_ok(lab.ask(party.assertion(), **want))["token_type"] == "Bearer"


@pytest.mark.rule("AS-DP-18", "AS-DP-02")
def test_the_strict_profile_binds_every_token(fresh_lab: Callable[..., Lab]) -> None:
    """FAPI 2.0 5.3.2.1 (4): no token for bearers, and no algorithm besides the three."""
    lab = fresh_lab(settings='profile = "fapi2"\n' + DEFAULTS)
    check_proof_refused(lab, lab.ask(), "dpop_missing")
    assert check_ok(ask(lab, proof(TE, NOW)))["token_type"] == "DPoP"
    check_proof_refused(lab, ask(lab, proof(TE, NOW, generate_private_key("ES384"))), "dpop_algorithm")
    listed = lab.get("/.well-known/oauth-authorization-server").json["dpop_signing_alg_values_supported"]
    assert listed == ["ES256", "Ed25519", "PS256", "EdDSA"]


@pytest.mark.rule("AS-DP-11")
def test_what_must_be_bound_is_known_at_once(lab: Lab) -> None:
    """A change of the client holds for its next request."""
    party = lab.add_client("changes-its-mind")
    check_ok(lab.ask(party.assertion()))
    change = SettingsChange(binding=Binding.DPOP)
    lab.operate(lambda op: operations.update_client(op, party.client_id, change=change))
    check_proof_refused(lab, lab.ask(party.assertion()), "dpop_missing")


def test_proofs_reach_no_log(lab: Lab) -> None:
    """Neither the proof nor what is in it, but for the thumbprint of its key."""
    text = proof(TE, NOW, jti="canary-jti")
    check_ok(ask(lab, text))
    check_refused(ask(lab, text), "invalid_dpop_proof")
    log = b"\n".join(lab.lines()).decode()
    assert "canary-jti" not in log
    assert not any(part in log for part in text.split("."))
    assert json.dumps(bare_jwk(PROOF_KEY)["x"]) not in log


def test_bad_proofs_count_as_failures(fresh_lab: Callable[..., Lab]) -> None:
    """Each costs a signature check, by a key of the caller's choice; a good proof is served all the same."""
    lab = fresh_lab(settings="[throttle]\nclient_failures = 3\n[keys]\nrotate_every = 0\n")
    for _ in range(3):
        check_proof_refused(lab, ask(lab, proof(TE, NOW, htm="GET")), "dpop_method")
    check_refused(ask(lab, proof(TE, NOW, htm="GET")), "temporarily_unavailable", 429)
    check_ok(ask(lab, proof(TE, NOW)))
