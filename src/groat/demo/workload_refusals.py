"""Foreign tokens that must be refused, each really presented: the answer, and the reason from the server's log."""

import json
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx2

from groat.demo.platforms import Cluster, Pipelines
from groat.demo.refusals import READ, token_endpoint_answer
from groat.demo.report import EDGE, INDENT, subject
from groat.demo.stage import Service
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER
from groat.protocol.grants import jwt_bearer

_LOG_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a token. `error`: the OAuth code, which the workload learns; `reason`: the log's word."""

    status: int
    error: str | None
    reason: str | None

    def __str__(self) -> str:
        return f"{self.status} {self.error}  {self.reason}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One token with what must become of it and what did. `hint`: the log's explanation."""

    name: str
    way: str
    expected: Verdict
    actual: Verdict
    hint: str

    @property
    def ok(self) -> bool:
        return self.actual == self.expected

    def problem(self) -> str:
        return f"{self.name} {self.actual}, not {self.expected}"

    def lines(self) -> list[str]:
        """For people: the verdict, and the hint below it."""
        head = subject(self.name) + (str(self.actual) if self.ok else f"{self.actual}, not {self.expected}")
        return [head, *(subject("") + line for line in textwrap.wrap(self.hint, EDGE - INDENT - len(subject(""))))]

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True, repr=False)
class Situation:
    """Whom to ask, and who signs. `used`: a token of the job that has counted; secret, so this has no repr."""

    issuer: str
    server: Service
    cluster: Cluster
    pipelines: Pipelines
    used: str
    job_client: str


def attempt_all(situation: Situation) -> Iterator[Refusal]:
    """Present every token. Raises httpx2.HTTPError where there is no answer at all."""
    with httpx2.Client(trust_env=False) as http:
        for name, way, expected, form in _attempts(situation):
            response = http.post(f"{situation.issuer}/token", data={"scope": READ, **form})
            answer = token_endpoint_answer(response)
            logged = {} if answer.status == 200 else _log_line(situation.server, response.headers.get("x-request-id"))
            actual = Verdict(answer.status, answer.error, logged.get("reason"))
            yield Refusal(name, way, expected, actual, logged.get("hint", ""))


def _attempts(situation: Situation) -> list[tuple[str, str, Verdict, dict[str, str]]]:
    """A good token but for one thing each: who it is for and who signed it is right."""
    issuer, job = situation.issuer, situation.pipelines
    by_pull_request = job.token(issuer, event_name="pull_request", ref="refs/pull/7/merge", head_ref="patch-1")
    namesake = job.token(issuer, repository_id="75", repository_owner_id="66")
    default = situation.cluster.token(issuer, "default")

    def granted(reason: str, token: str) -> tuple[str, Verdict, dict[str, str]]:
        form = {"grant_type": jwt_bearer.NAME, "assertion": token}
        return "grant", Verdict(400, "invalid_grant", reason), form

    def authenticated(reason: str, token: str) -> tuple[str, Verdict, dict[str, str]]:
        proof = {"client_assertion_type": JWT_BEARER, "client_assertion": token, "client_id": situation.job_client}
        form = {"grant_type": "client_credentials", **proof}
        return "client authentication", Verdict(401, "invalid_client", reason), form

    return [
        ("pull request", *granted("workload_rule", by_pull_request)),
        ("same name, other id", *authenticated("workload_rule", namesake)),
        ("account `default`", *granted("workload_rule", default)),
        ("presented twice", *granted("workload_replayed", situation.used)),
    ]


def _log_line(server: Service, request_id: str | None) -> dict[str, Any]:
    """What the server wrote about a request; it is waited for, as writing is not what an answer waits for."""
    deadline = time.monotonic() + _LOG_SECONDS
    while True:
        for line in server.log.read_text("utf-8", "replace").splitlines():
            if request_id and request_id in line and (found := _refusal(line, request_id)):
                return found
        if time.monotonic() > deadline:
            return {}
        time.sleep(_POLL_SECONDS)


def _refusal(line: str, request_id: str) -> dict[str, Any]:
    """The line as its members, if it is whole and about a refusal of this request; else empty."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    refused = isinstance(found, dict) and found.get("request_id") == request_id and "reason" in found
    return found if refused else {}
