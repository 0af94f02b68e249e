"""The steps: each makes something happen, checks it, and tells it."""

import time
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from groat.client import ClientError, MachineClient, Token
from groat.demo.provision import ALGORITHM, CLIENT, INVOICES, ORDERS, Clients, Installation, install, register
from groat.demo.refusals import Loot, attempt_all
from groat.demo.report import Report, milliseconds, shortened, subject, wrapped
from groat.demo.stage import HOST, DemoFailed, Service, Stage, free_ports, wait_ready
from groat.demo.wire import Wire
from groat.protocol.access_token import TYP
from groat.protocol.client_auth.private_key_jwt import ASSERTION_TYP
from groat.protocol.jose import parse_jwt

SERVER_PORT: Final = 3001
API_PORT: Final = 3002
SCOPE: Final = "orders:read"
# The `groat` command, wherever its script may be.
_GROAT: Final = ("-c", "from groat.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is set up before the first request."""

    installation: Installation
    clients: Clients
    server: Service
    api: Service


def install_server(stage: Stage, report: Report) -> tuple[Installation, Service]:
    """Step 1: the issuer's key. The API is started beside it, and not waited for."""
    with report.step("keys") as step:
        server_port, api_port = free_ports(SERVER_PORT, API_PORT)
        issuer = f"http://{HOST}:{server_port}"
        # The API needs the server at its first request only, so it may start while the keys are made.
        api = _start_api(stage, api_port, issuer)
        started = time.perf_counter()
        with stage.undisturbed():
            installation = install(stage.directory, issuer, server_port)
        took, kid = time.perf_counter() - started, installation.signing_kid
        line = f"{subject('issuer signing key')}{ALGORITHM}  kid {shortened(kid)}"
        step.tell(line, took=f"{took:.2f} s", issuer=issuer, alg=ALGORITHM, kid=kid, seconds=round(took, 6))
    return installation, api


def start_server(stage: Stage, installation: Installation) -> Service:
    """The authorization server, which is not waited for."""
    # It reads its port from the configuration, as every other command does.
    port = installation.config.listener.port
    return stage.start("server", port, (*_GROAT, "--config", str(installation.file), "serve"), {})


def set_up(stage: Stage, report: Report) -> Scene:
    """Steps 1 and 2: keys and registrations. Both processes are started on the way; neither is waited for."""
    installation, api = install_server(stage, report)
    with report.step("client") as step:
        with stage.undisturbed():
            clients = register(installation)
        server = start_server(stage, installation)
        kid = clients.billing.kid
        line = f"{subject(CLIENT)}{ALGORITHM}  kid {shortened(kid)}   the private key stays with the client"
        step.tell(line, client_id=CLIENT, alg=ALGORITHM, kid=kid)
    return Scene(installation, clients, server, api)


def _start_api(stage: Stage, port: int, issuer: str) -> Service:
    """The example API knows two names and no key: it finds the public keys by itself."""
    # Its name is not where it listens here, and proofs name the URL that callers write.
    public = {"GROAT_PUBLIC_URL": f"http://{HOST}:{port}", "HOST": HOST, "PORT": str(port)}
    settings = {"GROAT_ISSUER": issuer, "GROAT_AUDIENCE": ORDERS, "GROAT_REVOCATION": "feed", **public}
    return stage.start("api", port, ("-m", "groat.demo.example_api"), settings)


def billing_client(scene: Scene, wire: Wire) -> MachineClient:
    """The client library as a caller has it, but for the tap on its wire."""
    return MachineClient(scene.installation.issuer, CLIENT, scene.clients.key_file, http=wire.http)


def get_token(report: Report, scene: Scene, billing: MachineClient, wire: Wire) -> str:
    """Steps 3 and 4: one token request, told as what the client sent and what it got. Returns the token."""
    with report.step("assertion") as step:
        wait_ready(scene.server, "/readyz")
        outcome = _token_or_error(billing)
        if isinstance(outcome, ClientError) and not wire.asked:
            raise outcome  # it did not even get as far as signing
        assertion = parse_jwt(wire.assertion)
        claims, issuer = assertion.claims, scene.installation.issuer
        lifetime, jti = claims["exp"] - claims["iat"], claims["jti"]
        require("the assertion's typ", assertion.header.typ, ASSERTION_TYP)
        require("the assertion's aud", claims["aud"], issuer)
        require("the assertion's iss and sub", [claims["iss"], claims["sub"]], [CLIENT, CLIENT])
        line = f"signed by the client: aud={issuer}  exp {lifetime} s  jti {shortened(jti)}"
        step.tell(line, kid=assertion.header.kid, aud=issuer, lifetime=lifetime, jti=jti)
    with report.step("token") as step:
        if isinstance(outcome, ClientError):
            raise outcome
        facts = token_facts(outcome, issuer, CLIENT)
        line = f"{wire.status}  {TYP}  aud={ORDERS}  scope={facts['scope']}  {facts['lifetime']} s"
        took = milliseconds(wire.seconds)
        step.tell(subject("POST /token") + line, took=took, status=wire.status, **facts, seconds=round(wire.seconds, 6))
    return outcome.value


def _token_or_error(billing: MachineClient) -> Token | ClientError:
    try:
        return billing.token(resource=ORDERS, scopes=[SCOPE])
    except ClientError as error:
        return error


def token_facts(token: Token, issuer: str, client: str) -> dict[str, Any]:
    """What the token says, if it says what it must (RFC 9068 2). Its signature is the API's business."""
    jwt = parse_jwt(token.value)
    claims = jwt.claims
    require("the token's typ", jwt.header.typ, TYP)
    require("the token's iss and aud", [claims["iss"], claims["aud"]], [issuer, ORDERS])
    require("the token's sub and client_id", [claims["sub"], claims["client_id"]], [client, client])
    require("the token's scope", claims["scope"], SCOPE)
    lifetime = claims["exp"] - claims["iat"]
    members = {name: claims[name] for name in ("iss", "aud", "sub", "client_id", "scope", "jti")}
    return {"typ": jwt.header.typ, "kid": jwt.header.kid, **members, "lifetime": lifetime}


def call_api(report: Report, scene: Scene, billing: MachineClient) -> str:
    """Step 5: the API lets the client in, and knows who it is; also by a bound token, which is returned.

    The time includes the API's first look at the keys.
    """
    with report.step("call") as step:
        wait_ready(scene.api, "/health")
        # The API's name is not where it listens here, so the origin that may get the token is named too.
        auth = billing.auth(resource=ORDERS, scopes=[SCOPE], origins=[scene.api.url])
        with httpx2.Client(auth=auth, trust_env=False) as http:
            started = time.perf_counter()
            response = http.get(f"{scene.api.url}/protected")
            took = time.perf_counter() - started
        require("the status of GET /protected", response.status_code, 200)
        body = response.json()
        require("the client that the API saw", [body["client"], body["scopes"]], [CLIENT, [SCOPE]])
        shown = f'{{"message": "{body["message"]}", "client": "{body["client"]}"}}'
        line = f"{subject('GET /protected')}{response.status_code}  {shown}"
        bound, thumbprint = _call_bound(scene)
        more = f"{subject('bound (DPoP)')}200  the same, by a token of which only key {shortened(thumbprint)} makes use"
        facts = {"status": response.status_code, "body": body, "seconds": round(took, 6), "jkt": thumbprint}
        step.tell(line, more, took=milliseconds(took), **facts)
    return bound


def _call_bound(scene: Scene) -> tuple[str, str]:
    """The same with a key of its own for proofs (RFC 9449): the token, and which key it is bound to."""
    with MachineClient(scene.installation.issuer, CLIENT, scene.clients.key_file, dpop=True) as client:
        auth = client.auth(resource=ORDERS, scopes=[SCOPE], origins=[scene.api.url])
        with httpx2.Client(auth=auth, trust_env=False) as http:
            response = http.get(f"{scene.api.url}/protected")
        require("the status of GET /protected with a proof", response.status_code, 200)
        token = client.token(resource=ORDERS, scopes=[SCOPE]).value
    thumbprint = parse_jwt(token).claims["cnf"]["jkt"]
    return token, str(thumbprint)


@dataclass(frozen=True, slots=True, repr=False)
class Taken:
    """What the demo got hold of on the way; secret, so it has no repr."""

    used_assertion: str
    token: str
    bound_token: str


def be_refused(report: Report, scene: Scene, billing: MachineClient, taken: Taken) -> None:
    """Step 6: everything that must be refused is. Not shown: why, which only the logs say."""
    with report.step("refusals") as step:
        # A good token of the same server, only for another API.
        other = billing.token(resource=INVOICES, scopes=["invoices:read"])
        loot = Loot(
            scene.installation.issuer,
            scene.api.url,
            taken.used_assertion,
            taken.token,
            other.value,
            taken.bound_token,
            scene.clients,
        )
        refusals = list(attempt_all(loot))
        wrong = [str(refusal) for refusal in refusals if not refusal.ok]
        verdict = f"{len(wrong)} of {len(refusals)} wrong ✗" if wrong else "all refused ✓"
        lines = wrapped([str(refusal) for refusal in refusals], verdict)
        step.tell(*lines, took=verdict, problem="; ".join(wrong), refusals=[refusal.facts() for refusal in refusals])


def require(what: str, actual: object, expected: object) -> None:
    """Raise DemoFailed that shows both; never call it with a secret."""
    if actual != expected:
        raise DemoFailed(f"{what}: {actual!r}, not {expected!r}")
