"""Clients that make their own keys: by a join code, by the current key, and every way in which that must not work."""

import contextlib
import http.client
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import read_private_key
from groat.keys.invitation import PREFIX, Invitations
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP
from groat.protocol.enrolment import (
    ENDORSEMENT_TYP,
    MAX_LIFETIME,
    PROOF_TYP,
    code_digest,
    endorsement_claims,
    proof_claims,
)
from groat.protocol.errors import JoseError
from groat.protocol.jose import sign_jwt
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.server.endpoints import ROUTES
from tests.ports import free_port

from .running import AUDIENCE, Home

NOW: Final = int(time.time())


@dataclass(frozen=True, slots=True)
class Site:
    """A running server, its operator's directory, and the issuer that clients use."""

    home: Home
    issuer: str
    log: Path

    def post(self, **fields: str) -> tuple[int, dict[str, Any]]:
        """One request to the endpoint."""
        connection = http.client.HTTPConnection(self.issuer.removeprefix("http://"), timeout=10)
        connection.request(
            "POST", "/client-keys", urlencode(fields), {"Content-Type": "application/x-www-form-urlencoded"}
        )
        answer = connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
        connection.close()
        return answer.status, document

    def invite(self, client_id: str = "billing", *options: str) -> str:
        return self.home.ok("-q", "client", "invite", client_id, *options).out.strip()

    def kids(self, client_id: str = "billing") -> list[str]:
        return [key["kid"] for key in self.home.ok("--json", "client", "key", "list", client_id).json]

    def reason(self) -> str:
        """Why the last refusal was one, from the log."""
        events = {route.ledger.event for route in ROUTES}
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if 'refused"' in line]
        return str([line["reason"] for line in lines if line["event"] in events][-1])

    def proof(self, key: PrivateKey, code: str | None, typ: str = PROOF_TYP, **changes: Any) -> str:
        claims = proof_claims("billing", self.issuer, key.public.jwk, int(time.time()), code) | changes
        return sign_jwt(claims, key, typ)

    def endorsement(self, by: PrivateKey, new: PrivateKey, typ: str = ENDORSEMENT_TYP, **changes: Any) -> str:
        claims = endorsement_claims(
            "billing", self.issuer, new.public.thumbprint, int(time.time()), secrets.token_hex(8)
        )
        return sign_jwt(claims | changes, by, typ)


@contextlib.contextmanager
def running_site(furnished: Path, folder: Path, **env: str) -> Iterator[Site]:
    """A server of one's own, in a copy of a furnished directory."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    directory = Path(shutil.copytree(furnished, folder / "home"))
    home = Home(directory, {"GROAT_SERVER__PORT": str(port), "GROAT_ISSUER": issuer, **env})
    with home.serving(port=port) as server:
        yield Site(home, issuer, server.log)


@pytest.fixture(scope="module")
def site(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests of this module."""
    limits = {f"GROAT_THROTTLE__{name}_FAILURES": "100000" for name in ("CLIENT", "SOURCE")}
    with running_site(furnished, tmp_path_factory.mktemp("enrolment"), **limits) as site:
        yield site


@pytest.fixture
def current(site: Site) -> PrivateKey:
    """The key that billing was registered with."""
    return read_private_key(site.home.directory / "billing.key.json")


@pytest.mark.rule("KEY-01", "KEY-17", "KEY-23")
def test_a_host_joins_with_a_code(site: Site) -> None:
    """The client is registered without a key; its host makes one, registers it, and gets a token with it."""
    code = site.invite("shipping", "--allow", "orders=orders:read")
    done = site.home.ok("--json", "client", "join", "-", "--issuer", site.issuer, "--key", "s.json", stdin=code)
    key = site.home.directory / "s.json"
    assert key.stat().st_mode & 0o777 == 0o600
    assert site.kids("shipping") == [done.json["kid"]]
    words = ("--client-id", "shipping", "--key", "s.json", "--resource", AUDIENCE, "--scope", "orders:read")
    assert site.home.ok("--json", "token", "get", "--issuer", site.issuer, *words).json
    again = site.home("client", "join", code, "--issuer", site.issuer, "--key", "t.json")
    assert again.code == 4
    assert not (site.home.directory / "t.json").exists()
    assert site.reason() == "enrolment_replayed"


@pytest.mark.rule("KEY-23")
def test_a_client_rotates_itself(site: Site) -> None:
    """The current key's word is enough; both keys work until the old one is removed."""
    site.home.ok("client", "add", "self", "--allow", "orders=orders:read", "--new-key", "self1.json")
    words = ("--issuer", site.issuer, "--key", "self1.json", "--new-key", "self2.json")
    done = site.home.ok("--json", "client", "key", "rotate", "self", *words)
    assert len(site.kids("self")) == 2
    assert "Use self2.json now" in done.err
    for file in ("self1.json", "self2.json"):
        asked = ("--client-id", "self", "--key", file, "--resource", AUDIENCE, "--scope", "orders:read")
        site.home.ok("--json", "token", "get", "--issuer", site.issuer, *asked)
    lost = site.home("client", "key", "rotate", "self", "--issuer", site.issuer, "--key", "billing.key.json",
                     "--new-key", "self3.json")  # fmt: skip
    assert (lost.code, (site.home.directory / "self3.json").exists()) == (4, False)


@pytest.mark.rule("KEY-23")
def test_an_answer_that_was_lost_is_given_again(site: Site) -> None:
    """The same key with the same code is a success both times; another key with it is not."""
    key, code = generate_private_key("ES256"), site.invite()
    assert [site.post(proof=site.proof(key, code), code=code)[0] for _ in range(2)] == [201, 200]
    other = generate_private_key("ES256")
    assert site.post(proof=site.proof(other, code), code=code)[0] == 401


Spoilt = Callable[[Site, PrivateKey, PrivateKey], dict[str, str]]


def _with_code(**changes: Any) -> Spoilt:
    def fields(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
        code = site.invite()
        return {"proof": site.proof(new, code, **changes), "code": code}

    return fields


def _with_key(**changes: Any) -> Spoilt:
    def fields(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
        return {"proof": site.proof(new, None), "endorsement": site.endorsement(current, new, **changes)}

    return fields


def _forged(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    code = Invitations([KeyEncryptionKey(bytes(32))]).make("billing", NOW, NOW + 600)
    return {"proof": site.proof(new, code), "code": code}


def _stolen(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    """Somebody else's proof with a code of one's own."""
    return {"proof": site.proof(new, "groat-join-other"), "code": site.invite()}


def _self_endorsed(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    return {"proof": site.proof(new, None), "endorsement": site.endorsement(new, new)}


def _for_another_key(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    other = generate_private_key("ES256")
    return {"proof": site.proof(new, None), "endorsement": site.endorsement(current, other)}


def _unproven(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    """The public key of somebody who signed nothing."""
    code = site.invite()
    victim = generate_private_key("ES256").public
    return {"proof": site.proof(new, code, jwk=dict(victim.jwk)), "code": code}


def _private(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    code = site.invite()
    return {"proof": site.proof(new, code, jwk=new.private_jwk()), "code": code}


def _both(site: Site, new: PrivateKey, current: PrivateKey) -> dict[str, str]:
    return _with_code()(site, new, current) | _with_key()(site, new, current)


@pytest.mark.rule("KEY-01", "KEY-15", "KEY-17", "KEY-23", "AS-CA-22", "T4")
@pytest.mark.parametrize(
    ("spoilt", "status", "reason"),
    [
        pytest.param(_forged, 401, "join_code", id="code of another server"),
        pytest.param(_stolen, 401, "join_code", id="proof for another code"),
        pytest.param(_with_code(iss="nobody"), 401, "join_code", id="code of another client"),
        pytest.param(_with_code(iss="a b"), 400, "proof_claims", id="no client id"),
        pytest.param(_with_code(aud="https://other.example"), 400, "proof_audience", id="proof for another server"),
        pytest.param(_with_code(aud=["x"]), 400, "proof_audience", id="audience array"),
        pytest.param(_with_code(exp=NOW - 60), 400, "proof_expired", id="old proof"),
        pytest.param(_with_code(exp=NOW + MAX_LIFETIME + 900), 400, "proof_lifetime", id="proof for ever"),
        pytest.param(_with_code(typ=ASSERTION_TYP), 400, "proof_type", id="an assertion as proof"),
        pytest.param(_with_code(jwk="x"), 400, "proof_key", id="no key"),
        pytest.param(_unproven, 400, "proof_signature", id="a key that one does not hold"),
        pytest.param(_private, 400, "proof_key", id="private members"),
        pytest.param(_both, 400, "enrolment_fields", id="code and endorsement"),
        pytest.param(lambda *_: {"proof": "x"}, 400, "enrolment_fields", id="neither"),
        pytest.param(lambda *_: {"proof": "x", "code": "y"}, 400, "proof_malformed", id="no proof"),
        pytest.param(_self_endorsed, 401, "assertion_key", id="endorsed by itself"),
        pytest.param(_for_another_key, 401, "endorsement_claims", id="endorsement of another key"),
        pytest.param(_with_key(iss="nobody"), 401, "endorsement_claims", id="endorsement of another client"),
        pytest.param(_with_key(typ=ASSERTION_TYP), 401, "endorsement_type", id="an assertion as endorsement"),
        pytest.param(_with_key(aud="https://other.example"), 401, "endorsement_audience", id="for another server"),
        pytest.param(_with_key(jti=""), 401, "endorsement_claims", id="no jti"),
    ],
)
def test_what_registers_no_key(site: Site, current: PrivateKey, spoilt: Spoilt, status: int, reason: str) -> None:
    """Each defect alone is refused, the log says which, and no key is registered."""
    before = site.kids()
    new = generate_private_key("ES256")
    answer = site.post(**spoilt(site, new, current))
    assert (answer[0], answer[1]["error"]) == (status, "invalid_client" if status == 401 else "invalid_request")
    assert site.reason() == reason
    assert site.kids() == before


@pytest.mark.rule("AS-CA-11", "KEY-23")
def test_an_endorsement_counts_once_and_is_no_assertion(site: Site, current: PrivateKey) -> None:
    """Used up with its key; at the token endpoint it opens nothing."""
    new = generate_private_key("ES256")
    endorsement = site.endorsement(current, new)
    assert site.post(proof=site.proof(new, None), endorsement=endorsement)[0] == 201
    site.home.ok("client", "key", "remove", "billing", new.kid)
    assert site.post(proof=site.proof(new, None), endorsement=endorsement)[0] == 401
    assert site.reason() == "enrolment_replayed"
    connection = http.client.HTTPConnection(site.issuer.removeprefix("http://"), timeout=10)
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": site.endorsement(current, new, sub="billing"),
    }
    connection.request("POST", "/token", urlencode(fields), {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert (answer.status, site.reason()) == (401, "assertion_type")


@pytest.mark.rule("KEY-23")
def test_a_client_cannot_pile_up_keys(site: Site) -> None:
    """Ten are enough, so that a stolen key cannot hide a hundred others."""
    site.home.ok("client", "add", "many", "--allow", "orders=orders:read", "--new-key", "many.json")
    current = read_private_key(site.home.directory / "many.json")
    statuses = []
    for _ in range(10):
        new = generate_private_key("ES256")
        proof, endorsement = site.proof(new, None, iss="many"), site.endorsement(current, new, iss="many")
        statuses.append(site.post(proof=proof, endorsement=endorsement)[0])
    assert statuses == [201] * 9 + [400]


@pytest.mark.rule("KEY-21")
def test_a_disabled_client_registers_nothing(site: Site) -> None:
    """Not even with a good code."""
    code = site.invite("off", "--allow", "orders=orders:read")
    site.home.ok("client", "disable", "off")
    new = generate_private_key("ES256")
    assert site.post(proof=site.proof(new, code, iss="off"), code=code)[0] == 401
    site.home.ok("client", "enable", "off")
    assert site.post(proof=site.proof(new, code, iss="off"), code=code)[0] == 201


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("client", "invite", "nobody"), 3),
        (("client", "invite", "billing", "--valid", "59"), 3),
        (("client", "invite", "billing", "--valid", "8d"), 3),
        (("client", "invite", "billing", "--valid", "soon"), 2),
        (("client", "invite", "billing", "--allow", "orders=orders:read"), 3),
        (("client", "join", "nonsense", "--issuer", "https://a.example", "--key", "x"), 3),
        (("client", "join", PREFIX + "AAAA", "--issuer", "https://a.example", "--key", "x"), 3),
    ],
)
def test_slips_of_operators_and_hosts(home: Home, words: tuple[str, ...], code: int) -> None:
    """A clear error, and no file left behind."""
    assert home(*words).code == code
    assert not (home.directory / "x").exists()


@pytest.mark.rule("FO-20", "FO-22")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda issuer: issuer + "/",
            "the issuer must be written as the server writes it, with or without a final slash",
        ),
        (lambda issuer: f'"{issuer}"', "it is in quotes"),
        (lambda issuer: issuer + "\r", "it ends in a carriage return"),
        (
            lambda issuer: issuer + "99999",
            'issuer must be an absolute URL, for example https://auth.example.com, not "',
        ),
        (lambda issuer: issuer.replace("//", "//u:s3cret@"), "no query, fragment or user name"),
        (lambda _: "http://auth.example.com", "issuer must use https"),
    ],
    ids=["slash", "quotes", "CR", "port", "password", "plain http"],
)
def test_an_issuer_that_is_written_otherwise(site: Site, spoil: Callable[[str], str], said: str) -> None:
    """The host is told what about --issuer is wrong, and keeps no key; the code is as good as before."""
    code = site.invite()
    done = site.home("client", "join", code, "--issuer", spoil(site.issuer), "--key", "odd.json")
    assert (done.code in (3, 4), said in done.err, "s3cret" in done.err) == (True, True, False), done
    assert not (site.home.directory / "odd.json").exists()


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize("spoil", [lambda code: code + "x", lambda code: code[:30], lambda code: code + "\u00a0z"])
def test_a_join_code_that_is_not_whole(home: Home, spoil: Callable[[str], str]) -> None:
    """It does begin as it must, so the message does not say that it should."""
    code = home.ok("-q", "client", "invite", "billing").out.strip()
    done = home("client", "join", spoil(code), "--issuer", "https://auth.example.com", "--key", "x")
    assert (done.code, "is not whole" in done.err) == (3, True), done


def test_a_key_of_which_nobody_knows_is_kept(home: Home) -> None:
    """Where the answer is missing, the key may be registered: the file stays, and somebody is told."""
    code = home.ok("-q", "client", "invite", "billing").out.strip()
    done = home("client", "join", code, "--issuer", f"http://127.0.0.1:{free_port()}", "--key", "kept.json")
    assert (done.code, "kept.json is kept" in done.err) == (5, True), done
    assert (home.directory / "kept.json").exists()


@pytest.mark.rule("T7")
def test_codes_bind_client_time_and_server() -> None:
    """A changed byte anywhere, a later second or another key-encryption key makes a code worthless."""
    ours = Invitations([KeyEncryptionKey(bytes(range(32)))])
    code = ours.make("billing", NOW, NOW + 60)
    assert ours.read(code, NOW + 59.9).client_id == "billing"
    assert ours.read(code, NOW).nonce != ours.read(ours.make("billing", NOW, NOW + 60), NOW).nonce
    assert code_digest(code) != code_digest(ours.make("billing", NOW, NOW + 60))
    older = Invitations([KeyEncryptionKey(bytes(32)), *ours.keks])
    assert older.read(code, NOW).client_id == "billing"
    with pytest.raises(JoseError, match="expired"):
        ours.read(code, NOW + 60)
    for at in range(len(PREFIX), len(code) - 1, 3):
        changed = code[:at] + ("A" if code[at] != "A" else "B") + code[at + 1 :]
        with pytest.raises(JoseError):
            ours.read(changed, NOW)
    for wrong in ("", "x", PREFIX, PREFIX + "A" * 500, PREFIX + "!!!!"):
        with pytest.raises(JoseError):
            ours.read(wrong, NOW)
