"""`groat call`: from a key to what an API answers, against `groat serve` and the example API; both demand nonces."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import pytest

from groat.client import MachineClient, MetadataInvalid, OriginNotAllowed
from groat.keys.files import read_private_key
from groat.protocol.jwk import generate_private_key
from groat.protocol.resource_metadata import RESOURCE_WELL_KNOWN
from tests.client.servers import Reply, Seen, Server
from tests.ports import free_port
from tests.waiting import wait_until

from .running import Home, Outcome

API: Final = """
import os
import uvicorn
from groat.demo.example_api import create_app
from groat.verifier import Dpop, Verifier

proofs = Dpop(nonces="required", nonce_secret="0123456789abcdef")
uvicorn.run(create_app(Verifier.from_env(dpop=proofs)), port=int(os.environ["PORT"]), log_level="warning")
"""
WHOLE: Final = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+")  # a JWT with its signature


@dataclass(frozen=True)
class Sides:
    """The home of an issuer, and the URL of an API that it knows."""

    home: Home
    issuer: str
    api: str

    def call(self, *words: str, stdin: str = "") -> Outcome:
        who = ("--client-id", "billing", "--key", "billing.key.json", "--issuer", self.issuer)
        return self.home("call", *words, *who, stdin=stdin)


def _up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """A server and an API as processes."""
    port, at = free_port(), free_port()
    issuer, api = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{at}"
    home = Home(tmp_path_factory.mktemp("call"), {"GROAT_SERVER__PORT": str(port), "GROAT_DPOP__NONCES": "required"})
    home.ok("init", "--issuer", issuer)
    home.ok("api", "add", "orders", "--audience", api, "--scope", "orders:read", "--scope", "orders:write")
    home.ok("client", "add", "billing", "--allow", "orders=orders:read", "--new-key", "billing.key.json")
    env = {**os.environ, "GROAT_ISSUER": issuer, "GROAT_AUDIENCE": api, "PORT": str(at)}
    with home.serving(port=port), subprocess.Popen([sys.executable, "-c", API], env=env) as process:
        try:
            wait_until(lambda: _up(api), 30)
            yield Sides(home, issuer, api)
        finally:
            process.terminate()


READ: Final = ("--scope", "orders:read")


def test_a_call(sides: Sides) -> None:
    """The body as it came, and nothing else; which API it is, its metadata say."""
    done = sides.call(f"{sides.api}/protected", *READ)
    assert (done.code, done.err) == (0, "")
    assert done.json == {"message": "protected data", "client": "billing", "scopes": ["orders:read"]}


@pytest.mark.rule("CL-26", "CL-27")
@pytest.mark.parametrize(
    "words",
    [
        ("URL", "--dpop"),
        ("GET", "--dpop", "URL"),
        ("--dpop", "GET", "URL"),
        ("--dpop", "KEY", "URL"),
    ],
)
def test_a_bound_call(sides: Sides, words: tuple[str, ...]) -> None:
    """By a key of its own or the one that is named; each server's nonce is asked for once."""
    given = {"URL": f"{sides.api}/protected", "KEY": "billing.key.json"}
    done = sides.call(*(given.get(word, word) for word in words), *READ, "-v")
    assert (done.code, done.json["client"]) == (0, "billing")
    told = done.err.splitlines()
    assert [line for line in told if line.startswith("> POST")] == [f"> POST {sides.issuer}/token"] * 2
    assert [line for line in told if line.startswith("< 4")] == ["< 401", "< 400", "< 401"]
    assert '"cnf": {"jkt": ' in done.err
    own = read_private_key(sides.home.directory / "billing.key.json").public.thumbprint
    assert (f'"jkt": "{own}"' in done.err) == ("KEY" in words)


@pytest.mark.rule("CL-20")
def test_what_is_told_is_of_no_use_to_others(sides: Sides) -> None:
    """Every token, assertion and proof is decoded and without its signature; what a header hides stays hidden."""
    done = sides.call(f"{sides.api}/protected", *READ, "--dpop", "-v", "-H", "X-Api-Key: k-123", "-H", "X-Trace: t-1")
    assert done.code == 0
    assert WHOLE.search(done.out + done.err) is None
    assert "eyJ" not in done.out + done.err
    assert "k-123" not in done.err
    for said in (
        'client_assertion={"alg": "ES256"',
        '"typ": "at+jwt"',
        "authorization: DPoP ***",
        "x-trace: t-1",
        '"ath"',
    ):
        assert said in done.err


def test_what_is_sent(sides: Sides) -> None:
    """A body from a file or standard input, which makes it a POST; the answer with --json."""
    sides.home.ok("client", "update", "billing", "--allow", "orders=orders:read,orders:write")
    both = (*READ, "--scope", "orders:write", "--dpop")
    sides.home.file("order.json", "{}")
    for words, stdin in ((("--data", "order.json"), ""), (("--data", "-"), "{}"), (("--data", "-", "-H", "A: b"), "x")):
        done = sides.call("--json", f"{sides.api}/orders", *words, *both, stdin=stdin)
        assert (done.code, done.json["status"], done.json["body"]["message"]) == (0, 201, "order added")
        assert done.json["headers"]["content-type"] == "application/json"
    sides.home.ok("client", "update", "billing", "--allow", "orders=orders:read")


@pytest.mark.parametrize(
    ("words", "code", "kind", "said"),
    [
        (("POST", "/orders", *READ), 4, "insufficient_scope", "answered 403: insufficient_scope; it wants --scope orders:write"),
        (("/nowhere", *READ), 4, "http_404", "answered 404"),
        (("/protected", "--scope", "orders:write"), 4, "invalid_scope", "refused: invalid_scope"),
        (("/protected", "--resource", "https://other.example"), 4, "invalid_target", "refused: invalid_target"),
    ],
)  # fmt: skip
def test_who_refuses(sides: Sides, words: tuple[str, ...], code: int, kind: str, said: str) -> None:
    """The API or the issuer, and why; programs read the kind, and the API's own body as ever."""
    done = sides.call(*(f"{sides.api}{word}" if word[0] == "/" else word for word in words), "--json")
    told = json.loads(done.err)
    assert (done.code, told["error"]) == (code, kind)
    assert said in told["message"]
    if "answered" in said:
        assert str(done.json["status"]) in said


def test_an_api_that_takes_bound_tokens_alone(sides: Sides) -> None:
    """The issuer says so of a client without --dpop, and what would help."""
    sides.home.ok("--yes", "api", "update", "orders", "--binding", "dpop")
    plain, bound = (sides.call(f"{sides.api}/protected", *READ, *more) for more in ((), ("--dpop",)))
    sides.home.ok("api", "update", "orders", "--binding", "none")
    assert (plain.code, bound.code) == (4, 0)
    assert "--dpop" in plain.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "[METHOD] URL"),
        (("GET", "POST", "https://a.example"), 2, "[METHOD] URL"),
        (("G+T", "https://a.example"), 2, "[METHOD] URL"),
        (("http://a.example/x",), 3, "must be https"),
        (("https://a.example", "-H", "Authorization: Bearer x"), 2, "groat writes this header itself"),
        (("https://a.example", "-H", "nothing"), 2, "NAME: VALUE"),
        (("https://a.example", "-H", "A: b\nc"), 2, "NAME: VALUE"),
        (("https://a.example", "--data", "missing.json"), 3, "missing.json: No such file"),
        (("https://a.example", "--dpop", "missing.key"), 3, "missing.key"),
    ],
)
def test_what_cannot_be_a_call(sides: Sides, words: tuple[str, ...], code: int, said: str) -> None:
    """Said before anything is sent."""
    done = sides.call(*words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_the_lines_of_the_guide(sides: Sides) -> None:
    """Those of the operator, then the caller's, against an API that wants bound tokens by then."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "bound-tokens.md").read_text("utf-8")
    dry, *lines = re.findall(r"^    operator\$ groat (.+)$", page, re.MULTILINE)
    try:
        assert sides.home(*shlex.split(dry)).code == 7
        shown = [sides.home.ok(*shlex.split(line)) for line in lines]
        assert shown[-1].json["dpop_bound_access_tokens_required"] is True
        (typed,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        for line in typed.splitlines():
            line = line.replace("https://orders.example.com/orders", f"{sides.api}/protected")
            done = sides.home.ok(*shlex.split(line)[1:], GROAT_ISSUER=sides.issuer)
            assert done.json["client"] == "billing"
            assert ("the token: " in done.err) == ("-v" in line)
    finally:
        sides.home.ok("api", "update", "orders", "--binding", "none")
        sides.home.ok("client", "update", "billing", "--binding", "none")


EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "bound_tokens.py"


def test_the_example(sides: Sides) -> None:
    """Both ends of it, with a shared memory of proofs; another caller without a proof gets no token for that API."""
    at = free_port()
    api = f"http://127.0.0.1:{at}"
    sides.home.ok("api", "add", "vault", "--audience", api, "--scope", "orders:read", "--binding", "dpop")
    sides.home.ok("client", "update", "billing", "--allow", "vault=orders:read")
    env = {**os.environ, "GROAT_ISSUER": sides.issuer, "PROOFS": f"sqlite:{sides.home.directory / 'proofs.db'}"}
    serving = {**env, "GROAT_AUDIENCE": api, "PORT": str(at)}
    calling = {**env, "GROAT_CLIENT_ID": "billing", "GROAT_KEY_FILE": str(sides.home.directory / "billing.key.json")}
    with subprocess.Popen([sys.executable, str(EXAMPLE), "serve"], env=serving, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _refuses(api), 30)
            command = [sys.executable, str(EXAMPLE), "call", api]
            done = subprocess.run(command, env=calling, capture_output=True, text=True, timeout=60, check=False)
            plain, bound = (sides.call(f"{api}/orders", *READ, *more) for more in ((), ("--dpop",)))
        finally:
            process.terminate()
    assert (done.returncode, [line[:24] for line in done.stdout.splitlines()]) == (0, ["200 {'client': 'billing'"] * 3)
    assert (plain.code, bound.code) == (4, 0)


def _refuses(api: str) -> bool:
    try:
        return httpx2.get(f"{api}/orders", trust_env=False).status_code == 401
    except httpx2.HTTPError:
        return False


def test_nobody_there(sides: Sides) -> None:
    """An API that does not answer, told from an issuer that does not."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    for resource in ((), ("--resource", sides.api)):
        done = sides.call(f"{nowhere}/x", *READ, *resource)
        assert (done.code, nowhere.removeprefix("http://") in done.err) == (5, True)
        assert "--local" not in done.err


class Pretender(Server):
    """An API that says of itself whatever it likes: `resource`, at `named`; its answers are `reply`."""

    resource = ""
    named: str | None = None
    reply: Reply | None = None

    def answer(self, request: Seen) -> Reply:
        if request.header("authorization") and self.reply:
            return self.reply
        if request.path.startswith(RESOURCE_WELL_KNOWN):
            return Reply(200, {"resource": self.resource}, {"Content-Type": "application/json"})
        return Reply(
            401, {}, {} if self.named is None else {"WWW-Authenticate": f'Bearer resource_metadata="{self.named}"'}
        )


@pytest.fixture
def pretender() -> Iterator[Pretender]:
    with Pretender() as running:
        yield running


def _at(path: str) -> Callable[[Pretender], str]:
    return lambda api: f"{api.url}{RESOURCE_WELL_KNOWN}{path}"


@pytest.mark.rule("CL-33", "RS-MD-04")
@pytest.mark.parametrize(
    ("url", "named", "resource", "found"),
    [
        ("/v1/x", None, "", True),  # at the origin, where no challenge says more
        ("/v1/x", _at(""), "", True),
        ("/v1/x?y=1", _at("/v1"), "/v1", True),
        ("/v1", _at("/v1"), "/v1", True),
        ("/v1/x", lambda api: f"{api.url}/any.json", "", False),  # neither the well-known place nor the URL itself
        ("/v12", _at("/v1"), "/v1", False),
        ("/", _at("/v1"), "/v1", False),
        ("/v1/x", _at("/v1"), "/v2", False),
        ("/v1/x", _at(""), "https://orders.example.com", False),  # tokens for others
        ("/v1/x", lambda api: f"https://orders.example.com{RESOURCE_WELL_KNOWN}", "https://orders.example.com", False),
    ],
)  # fmt: skip
def test_which_api_a_url_is_of(
    pretender: Pretender, url: str, named: Callable[[Pretender], str] | None, resource: str, found: bool
) -> None:
    """What its metadata say, where their address, the identifier and the URL fit; nobody else's name is believed."""
    pretender.resource = resource if resource.startswith("https") else pretender.url + resource
    pretender.named = None if named is None else named(pretender)
    with MachineClient("https://auth.example.com", "billing", generate_private_key("ES256")) as machine:
        if found:
            assert machine.find_api(pretender.url + url).resource == pretender.resource
            return
        with pytest.raises(MetadataInvalid):
            machine.find_api(pretender.url + url)
    assert all(request.header("authorization") is None for request in pretender.seen)


def test_answers_that_are_no_success(sides: Sides, pretender: Pretender) -> None:
    """A redirect is not followed, since the token is for this origin; 5xx may pass by itself."""
    want = (f"{pretender.url}/x", "--resource", sides.api, *READ)
    for reply, code, said in (
        (Reply(307, {}, {"Location": "https://evil.example/"}), 4, "answered 307 to https://evil.example/"),
        (Reply(503, {}, {"X-Request-Id": "r-7"}), 5, "answered 503 [request id r-7]"),
        (Reply(401, {}, {"WWW-Authenticate": 'DPoP algs="ES256"'}), 4, "bound to a key: --dpop"),
    ):
        pretender.reply = reply
        done = sides.call(*want)
        assert (done.code, said in done.err) == (code, True), done.err


@pytest.mark.parametrize("body", [b"\xff\x00\xfe", "gröat".encode()])
def test_any_bytes_come_through(sides: Sides, pretender: Pretender, body: bytes) -> None:
    """What an API answers is nobody's to change, whatever it is."""
    pretender.reply = Reply(200, body, {"Content-Type": "application/octet-stream"})
    command = ("call", f"{pretender.url}/x", "--resource", sides.api, *READ, "--client-id", "billing")
    who = ("--key", "billing.key.json", "--issuer", sides.issuer)
    process = sides.home.start(*command, *who, stdout=subprocess.PIPE)
    assert process.communicate(timeout=30)[0] == body
    told = sides.call("--json", *command[1:6]).json
    assert told.get("body") == "gröat" or told["body_base64"] == "/wD+"


def test_the_token_goes_where_it_was_sent(sides: Sides) -> None:
    """To the origin of the URL alone: the auth object itself holds that."""
    key = Path(sides.home.directory / "billing.key.json")
    with MachineClient(sides.issuer, "billing", key) as machine:
        auth = machine.auth(sides.api, READ[1:], origins=[sides.api])
        with httpx2.Client(auth=auth) as http, pytest.raises(OriginNotAllowed):
            http.get("https://evil.example/")
