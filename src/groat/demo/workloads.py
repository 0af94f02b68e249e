"""The steps of `groat demo --workload`: a pod and a CI job get tokens and call the API, and neither has a key."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx2

from groat.client import MachineClient, WorkloadIdentity
from groat.demo.platforms import ENVIRONMENT, NAMESPACE, OWNER_ID, REPOSITORY_ID, Cluster, Pipelines, Platform
from groat.demo.provision import ORDERS, Installation, operating
from groat.demo.report import Report, Step, milliseconds, shortened, subject
from groat.demo.stage import Service, Stage, wait_ready
from groat.demo.steps import SCOPE, install_server, require, start_server, token_facts
from groat.demo.wire import Wire
from groat.demo.workload_refusals import Situation, attempt_all
from groat.protocol.access_token import TYP
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.trust import KeySource, SourceKind
from groat.protocol.grants import jwt_bearer
from groat.protocol.key_set import public_key_set
from groat.server import operations
from groat.server.store.records import RuleRecord, TrustRecord

POD_CLIENT: Final = "billing"
JOB_CLIENT: Final = "deploy"
# A whole namespace, so that the account `default` meets the rule and is refused all the same.
_POD_RULE: Final = (f'"kubernetes.io".namespace={NAMESPACE}',)
_JOB_RULE: Final = (f"repository_owner_id={OWNER_ID}", f"repository_id={REPOSITORY_ID}", f"environment={ENVIRONMENT}")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is set up before the first request."""

    installation: Installation
    cluster: Cluster
    pipelines: Pipelines
    server: Service
    api: Service


def set_up(stage: Stage, report: Report) -> Scene:
    """Steps 1 to 3: the issuer's key, two trusts, two clients. Server and API are started; neither is waited for."""
    installation, api = install_server(stage, report)
    with report.step("trusts") as step:
        cluster, pipelines = Cluster(), Pipelines()
        platforms: tuple[Platform, ...] = (cluster, pipelines)
        with stage.undisturbed():
            trusts = asyncio.run(_add_trusts(installation, platforms))
        lines = [
            f"{subject(one.name)}{one.key.algorithm}  kid {shortened(one.key.kid)}   preset {one.preset}, "
            f"key set copied, replay {record.trust.replay}"
            for one, record in zip(platforms, trusts, strict=True)
        ]
        step.tell(*lines, trusts=[record.document() for record in trusts])
    with report.step("clients") as step:
        with stage.undisturbed():
            rules = asyncio.run(_add_clients(installation, cluster, pipelines))
        server = start_server(stage, installation)
        step.tell(*map(_rule_line, rules), rules=[{"client_id": one.rule.client_id, **one.document()} for one in rules])
    return Scene(installation, cluster, pipelines, server, api)


async def _add_trusts(installation: Installation, platforms: Sequence[Platform]) -> list[TrustRecord]:
    """As `groat trust add NAME --preset PRESET --issuer URL --jwks FILE`."""
    added = []
    async with operating(installation) as operator:
        for one in platforms:
            source = KeySource(SourceKind.COPIED, json.dumps(public_key_set([one.key.public])))
            change = operations.TrustChange(source=source)
            added.append(await operations.add_trust(operator, one.name, one.issuer, one.preset, change))
    return added


async def _add_clients(installation: Installation, cluster: Cluster, pipelines: Pipelines) -> list[RuleRecord]:
    """As `groat client add NAME --no-key` and `groat client trust add NAME TRUST --match CONDITION`."""
    added = []
    async with operating(installation) as operator:
        await operations.add_api(operator, "orders", ORDERS, ["orders:read", "orders:write"])
        for client, trust, texts in (
            (POD_CLIENT, cluster.name, _POD_RULE),
            (JOB_CLIENT, pipelines.name, _JOB_RULE),
        ):
            await operations.add_client(operator, client, {"orders": [SCOPE]}, None)
            conditions = [Condition.parse(text) for text in texts]
            added.append(await operations.add_rule(operator, client, trust, conditions))
    return added


def _rule_line(record: RuleRecord) -> str:
    rule = record.rule
    return f"{subject(f'{rule.client_id} (no key)')}{rule.trust}: {'  '.join(map(str, rule.conditions))}"


def run_pod(stage: Stage, report: Report, scene: Scene, wire: Wire) -> None:
    """Step 4: the pod's token lies in a file, as the kubelet puts it there, and is used for as long as it lasts."""
    with report.step("pod") as step:
        wait_ready(scene.server, "/readyz")
        file = stage.directory / "token"
        file.touch(0o600)
        file.write_text(scene.cluster.token(scene.installation.issuer), "ascii")
        _present(step, scene, wire, WorkloadIdentity.kubernetes(file), POD_CLIENT)


def run_job(report: Report, scene: Scene, wire: Wire) -> None:
    """Step 5: the job asks its platform for a token before each request."""
    with report.step("job") as step:
        _present(step, scene, wire, WorkloadIdentity(source=scene.pipelines), JOB_CLIENT)


def _present(step: Step, scene: Scene, wire: Wire, identity: WorkloadIdentity, client: str) -> None:
    """Present it in both ways, and call the API with what came."""
    issuer = scene.installation.issuer
    lines, facts = [], []
    # Without a client_id the library sends the JWT bearer grant; with one, the client's authentication.
    for way, client_id in (("grant", None), ("client authentication", client)):
        with MachineClient(issuer, client_id, identity, http=wire.http) as machine:
            token = machine.token(resource=ORDERS, scopes=[SCOPE])
            require("sent as JWT bearer grant", wire.grant_type == jwt_bearer.NAME, client_id is None)
            found = token_facts(token, issuer, client)
            answer = f"{wire.status}  {TYP}  client={client}  {found['lifetime']} s  as {way}"
            lines.append(subject("POST /token") + answer)
            facts.append({"way": way, "status": wire.status, **found, "seconds": round(wire.seconds, 6)})
            took, body = _call(scene, machine, client)
    shown = f'{{"message": "{body["message"]}", "client": "{body["client"]}"}}'
    lines.append(f"{subject('GET /protected')}200  {shown}")
    step.tell(*lines, took=milliseconds(took), tokens=facts, body=body, seconds=round(took, 6))


def _call(scene: Scene, machine: MachineClient, client: str) -> tuple[float, dict[str, object]]:
    """Call the API with the token: how long it took, and the answer."""
    wait_ready(scene.api, "/health")
    # The API's name is not where it listens here, so the origin that may get the token is named too.
    auth = machine.auth(resource=ORDERS, scopes=[SCOPE], origins=[scene.api.url])
    with httpx2.Client(auth=auth, trust_env=False) as http:
        started = time.perf_counter()
        response = http.get(f"{scene.api.url}/protected")
        took = time.perf_counter() - started
    require("the status of GET /protected", response.status_code, 200)
    body = response.json()
    require("the client that the API saw", [body["client"], body["scopes"]], [client, [SCOPE]])
    return took, body


def be_refused(report: Report, scene: Scene, used: str) -> None:
    """Step 6: everything that must be refused is, for the right reason, which only the server's log has."""
    with report.step("refusals") as step:
        situation = Situation(scene.installation.issuer, scene.server, scene.cluster, scene.pipelines, used, JOB_CLIENT)
        refusals = list(attempt_all(situation))
        wrong = [refusal.problem() for refusal in refusals if not refusal.ok]
        verdict = f"{len(wrong)} of {len(refusals)} wrong ✗" if wrong else "all refused ✓"
        lines = [line for refusal in refusals for line in refusal.lines()]
        lines.append("the workload learns the code alone; the reason is in the server's log")
        step.tell(*lines, took=verdict, problem="; ".join(wrong), refusals=[refusal.facts() for refusal in refusals])
