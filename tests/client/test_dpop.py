"""Bound tokens as a caller gets and uses them (RFC 9449): proofs for both sides, judged by PyJWT, and a real groat."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, Final

import jwt
import pytest
import requests

from groat.client import KeyFile, KeyUnusable, MachineClient, TokenRequestRefused, TokenResponseInvalid
from groat.client.possession import Possession
from groat.client.requests import MachineAuth
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, generate_private_key
from tests.conftest import Groat
from tests.ports import free_port

from .clocks import Clock
from .conftest import CLIENT_ID, Call, MakeMachine, write_key
from .servers import Api, AuthorizationServer, Reply, Seen

JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


def judge(request: Seen, url: str, seen: set[str], token: str | None = None) -> dict[str, Any]:
    """Everything that RFC 9449 4.2 and 4.3 want of a proof, but for its nonce and time."""
    text = request.header("dpop")
    assert text is not None
    header = jwt.get_unverified_header(text)
    assert header.keys() == {"typ", "alg", "jwk"}
    assert header["typ"] == "dpop+jwt"
    assert header["jwk"].keys() == {"kty", "crv", "x", "y"}, "nothing private, and nothing that nobody needs"
    claims = dict(jwt.decode(text, jwt.PyJWK(header["jwk"]), algorithms=["ES256"], options={"verify_iat": False}))
    assert claims["jti"] not in seen, "a proof came twice"
    seen.add(claims["jti"])
    assert (claims["htm"], claims["htu"]) == (request.method, url.partition("?")[0])
    assert type(claims["iat"]) is int
    if token is None:
        assert "ath" not in claims
    else:
        digest = hashlib.sha256(token.encode()).digest()
        assert claims["ath"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {**claims, "jwk": header["jwk"]}


class BoundServer(AuthorizationServer):
    """Demands the nonce of the moment; `bound`: the key of each token."""

    nonce: str | None = "as-1"
    proofs: set[str]

    def __init__(self, client_id: str, key: Any) -> None:
        super().__init__(client_id, key)
        self.proofs, self.bound = set(), dict[str, dict[str, str]]()

    def issue(self, request: Seen) -> Reply:
        proof = judge(request, f"{self.url}/token", self.proofs)
        headers = JSON if self.nonce is None else {**JSON, "DPoP-Nonce": self.nonce}
        if proof.get("nonce") != self.nonce:
            return Reply(400, {"error": "use_dpop_nonce"}, headers)
        self.members.setdefault("token_type", "dpOp")
        reply = super().issue(request)
        assert isinstance(reply.body, dict)
        self.bound[reply.body["access_token"]] = proof["jwk"]
        return Reply(reply.status, reply.body, headers)


class BoundApi(Api):
    """Wants the key of the token, and a nonce of its own; `script` as of every server."""

    issuer: BoundServer
    nonce: str | None = "api-1"

    def __init__(self, issuer: BoundServer) -> None:
        super().__init__(issuer)
        self.proofs: set[str] = set()

    def answer(self, request: Seen) -> Reply:
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        assert scheme == "DPoP"
        proof = judge(request, self.url + request.target, self.proofs, token)
        assert proof["jwk"] == self.issuer.bound[token]
        headers = {} if self.nonce is None else {"DPoP-Nonce": self.nonce}
        if proof.get("nonce") != self.nonce:
            challenge = 'Bearer realm="api", DPoP algs="ES256", error="use_dpop_nonce"'
            return Reply(401, {}, {**headers, "WWW-Authenticate": challenge})
        if token in self.revoked:
            return Reply(401, {}, {**headers, "WWW-Authenticate": 'Bearer realm="api", DPoP error="invalid_token"'})
        if request.path == "/moved":
            return Reply(307, {}, {**headers, "Location": "/orders"})
        return Reply(200, {"bytes": len(request.body)}, headers)


@pytest.fixture
def issuer(key: PrivateKey) -> Iterator[BoundServer]:
    with BoundServer(CLIENT_ID, key.public) as server:
        yield server


@pytest.fixture
def api(issuer: BoundServer) -> Iterator[BoundApi]:
    with BoundApi(issuer) as server:
        yield server


@pytest.fixture
def machine(make: MakeMachine, clock: Clock) -> MachineClient:
    return make(dpop=True, **clock.options)


@pytest.mark.rule("CL-26", "CL-27")
def test_the_whole_way(machine: MachineClient, issuer: BoundServer, api: BoundApi, call: Call) -> None:
    """Both sides demand nonces of their own: one challenge each, and none as long as they stay the same."""
    auth = machine.auth(api.url)
    for _ in range(3):
        response = call(auth, "POST", f"{api.url}/orders?day=1", content=b"body")
        assert (response.status_code, response.json()) == (200, {"bytes": 4})
    assert len(issuer.token_requests) == 2
    assert len(api.seen) == 4
    assert len({claims["jti"] for claims in issuer.claims}) == 2, "the retry has an assertion of its own"


@pytest.mark.rule("CL-27")
def test_nonces_that_change_with_good_answers(
    make: MakeMachine, issuer: BoundServer, api: BoundApi, call: Call, clock: Clock
) -> None:
    """The newest one seen is used: no request fails for it."""
    machine = make(dpop=True, **clock.options)
    auth = machine.auth(api.url)
    call(auth, "GET", f"{api.url}/orders")
    for number in range(3):
        issuer.nonce, api.nonce = f"as-{number}", f"api-{number}"
        answers = [call(auth, "GET", f"{api.url}/orders").status_code for _ in range(2)]
        assert answers == [200, 200]


@pytest.mark.rule("CL-26")
def test_without_nonces(machine: MachineClient, issuer: BoundServer, api: BoundApi, call: Call) -> None:
    """Nobody gives any, and none is sent."""
    issuer.nonce = api.nonce = None
    assert call(machine.auth(api.url), "GET", f"{api.url}/orders").status_code == 200
    assert (len(issuer.token_requests), len(api.seen)) == (1, 1)


@pytest.mark.rule("CL-27")
def test_endless_challenges_end(machine: MachineClient, issuer: BoundServer, api: BoundApi, call: Call) -> None:
    """One more try each, and then the caller is told."""
    token = machine.token()
    assert token.type == "DPoP"
    challenge = Reply(401, {}, {"DPoP-Nonce": "x", "WWW-Authenticate": 'DPoP error="use_dpop_nonce"'})
    api.scripted_path = "/orders"
    api.script.extend([challenge, challenge, challenge])
    assert call(machine.auth(api.url), "GET", f"{api.url}/orders").status_code == 401
    assert len(api.seen) == 2
    for number in range(3):
        nonce = {**JSON, "DPoP-Nonce": f"n{number}"}
        issuer.script.append(Reply(400, {"error": "use_dpop_nonce"}, nonce))
    with pytest.raises(TokenRequestRefused) as caught:
        machine.token(scopes=["other"])
    assert caught.value.code == "use_dpop_nonce"
    assert len(issuer.script) == 1


@pytest.mark.rule("CL-26")
def test_a_refused_token_is_replaced(machine: MachineClient, issuer: BoundServer, api: BoundApi, call: Call) -> None:
    """invalid_token of the DPoP scheme drops the token, and the new one comes with a new proof."""
    auth = machine.auth(api.url)
    call(auth, "GET", f"{api.url}/orders")
    api.revoked.update(issuer.bound)
    assert call(auth, "GET", f"{api.url}/orders").status_code == 200
    assert len(issuer.bound) == 2


@pytest.mark.rule("CL-08")
@pytest.mark.parametrize(("token_type", "good"), [("DPoP", True), ("dPOP", True), ("Bearer", False), ("mac", False)])
def test_a_bearer_token_is_no_bound_one(
    machine: MachineClient, issuer: BoundServer, token_type: str, good: bool
) -> None:
    """Who asked for a bound token gets no other; the type is compared without case."""
    issuer.members["token_type"] = token_type
    if good:
        assert machine.token().type == "DPoP"
    else:
        with pytest.raises(TokenResponseInvalid, match=f"{token_type}, not DPoP"):
            machine.token()


@pytest.mark.rule("CL-12", "CL-28", "CL-30")
def test_keys(make: MakeMachine, issuer: BoundServer, clock: Clock, tmp_path: Path) -> None:
    """One of its own for each object unless one is given, as a key or as a file; the private half is sent to nobody."""
    given = generate_private_key("ES256")
    file = write_key(tmp_path / "proof.json", json.dumps(given.private_jwk()).encode())
    sources: list[Any] = [True, True, given, str(file), file, KeyFile(file)]
    used = []
    for dpop in sources:
        value = make(dpop=dpop, **clock.options).token().value
        used.append(issuer.bound[value]["x"])
    assert used[2:] == [given.public.jwk["x"]] * 4
    assert len(set(used)) == 3
    private = given.private_jwk()["d"]
    assert not any(private in str(request) for request in issuer.seen)


@pytest.mark.rule("CL-30", "CL-12")
def test_kept_tokens_are_of_one_key(make: MakeMachine, issuer: BoundServer, clock: Clock, tmp_path: Path) -> None:
    """A later run with the same key finds the token, one with another or none does not; a key of the moment is refused."""
    one, two = generate_private_key("ES256"), generate_private_key("ES256")
    cache = tmp_path / "tokens"

    def token(**options: Any) -> str:
        return make(token_cache=cache, **options, **clock.options).token().value

    first = token(dpop=one)
    assert token(dpop=one) == first
    assert token(dpop=two) != first
    with pytest.raises(ConfigError, match="dpop=KEYFILE"):
        token(dpop=True)


@pytest.mark.rule("CL-28")
def test_a_slow_key_file_holds_nobody_up() -> None:
    """Several read at once, all go on with the key that was there first, and later proofs take no lock at all."""
    reading, keys = Barrier(2, timeout=5), iter([generate_private_key("ES256") for _ in range(2)])

    def load() -> PrivateKey:
        reading.wait()
        return next(keys)

    possession = Possession(load, time.time)
    with ThreadPoolExecutor(2) as pool:
        found = {one.result() for one in [pool.submit(lambda: possession.thumbprint) for _ in range(2)]}
    assert found == {possession.thumbprint}
    with ThreadPoolExecutor(1) as pool, possession._lock:
        assert pool.submit(possession.proof, "GET", "https://api.example/").result(timeout=5)


@pytest.mark.rule("CL-28")
def test_a_key_that_cannot_be_read(make: MakeMachine, clock: Clock, tmp_path: Path) -> None:
    """Whoever asks for an auth object hears of it, until the file is there."""
    path = tmp_path / "proof.json"
    machine = make(dpop=path, **clock.options)
    for ask in (machine.auth, machine.bearer, lambda api: MachineAuth(machine, api), machine.token):
        with pytest.raises(KeyUnusable, match=re.escape(str(path))):
            ask("https://api.example")
    write_key(path, json.dumps(generate_private_key("ES256").private_jwk()).encode())
    machine.auth("https://api.example")


def test_arguments_that_are_none(make: MakeMachine) -> None:
    """Refused when they are given."""
    with pytest.raises(ConfigError, match="dpop must be"):
        make(dpop=1.5)


@pytest.mark.parametrize(("value", "bound"), [("1", True), ("0", False), ("", False)])
def test_the_environment(issuer: BoundServer, key_file: Path, value: str, bound: bool) -> None:
    """GROAT_DPOP=1 makes a key; a path names one."""
    env = {"GROAT_ISSUER": issuer.url, "GROAT_CLIENT_ID": CLIENT_ID, "GROAT_KEY_FILE": str(key_file)}
    with MachineClient.from_env({**env, "GROAT_DPOP": value}) as machine:
        assert machine.bound is bound
    with MachineClient.from_env({**env, "GROAT_DPOP": str(key_file)}) as machine:
        assert machine.token().type == "DPoP"


def test_requests_of_requests(machine: MachineClient, issuer: BoundServer, api: BoundApi) -> None:
    """The same for `requests`, which follows redirects by itself: a proof for each target."""
    auth = MachineAuth(machine, api.url)
    for path in ("orders", "moved", "moved"):
        assert requests.post(f"{api.url}/{path}", data=b"abc", auth=auth, timeout=10).status_code == 200
    api.revoked.update(issuer.bound)
    assert requests.get(f"{api.url}/orders", auth=auth, timeout=10).status_code == 200


@pytest.mark.rule("CL-26", "AS-DP-10")
@pytest.mark.parametrize("nonces", ["off", "optional", "required"])
def test_a_real_server(tmp_path: Path, nonces: str) -> None:
    """Under the strict profile, which gives no other tokens; by the library, and by the command."""
    groat, port = Groat(tmp_path), free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"GROAT_LOG__FORMAT": "json", "GROAT_PROFILE": "fapi2", "GROAT_DPOP__NONCES": nonces}
    groat.run("init", "--issuer", url, check=True, **env)
    groat.run("api", "add", "orders", "--audience", "https://orders.example", "--scope", "read", check=True, **env)
    grant = ("--allow", "orders=read", "--default-scope", "read")
    groat.run("client", "add", "billing", *grant, "--new-key", "b.json", check=True, **env)
    groat.run("client", "add", "other", "--allow", "orders=read", "--new-key", "proof.json", check=True, **env)
    server = groat.serve(env=env, port=port)
    try:
        with MachineClient(url, "billing", tmp_path / "b.json", dpop=True) as machine:
            for scopes in ((), ("read",)):
                assert machine.token(scopes=scopes).type == "DPoP"
        with MachineClient(url, "billing", tmp_path / "b.json") as machine:
            with pytest.raises(TokenRequestRefused) as caught:
                machine.token()
            assert (caught.value.code, "dpop=True" in caught.value.hint) == ("invalid_dpop_proof", True)
        get = ("token", "get", "--client-id", "billing", "--key", "b.json", "--dpop", "proof.json")
        shown = groat.run(*get, "--print-token", check=True, **env).stdout.strip()
        assert "jkt" in jwt.decode(shown, options={"verify_signature": False})["cnf"]
        local = groat.run(*get, "--local", check=False, **env)
        assert (local.returncode, "--dpop" in local.stderr) == (3, True)
    finally:
        assert server.stop() == 0
