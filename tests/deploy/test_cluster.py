"""deploy/compose.cluster.yaml for real: two replicas on PostgreSQL, one killed while a client calls. `make compose-test`."""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.deploy.test_alerts import ALERTS

from .engine import BUILD_SECONDS, DEPLOY, Project, check_hardened, compose_commands, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(BUILD_SECONDS)]

Tell = Callable[[str, str], None]
ROUNDS: Final = 300
RUNNING: Final = ("postgres", "auth-1", "auth-2", "proxy", "prometheus", "api")
SERVICES: Final = (*RUNNING, "files", "bootstrapper", "apply", "client")
# Which volumes each container sees; (w) where it may write.
MOUNTS: Final = {
    "postgres": {"data (w)", "database", "postgres-tls"},
    "auth-1": {"server", "secrets", "trust"},
    "auth-2": {"server", "secrets", "trust"},
    "apply": {"server", "secrets", "public", "trust"},
    "proxy": {"proxy-tls", "trust"},
    "prometheus": set(),
    "api": {"api-tls", "trust"},
    "client": {"client", "trust"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Project, dict[str, str]]]:
    """Both profiles as the guide says; and what they said."""
    free = tuple((f"GROAT_{name}_PORT", "0") for name in ("AUTH", "PROMETHEUS"))
    command = (compose_commands() or ["docker compose"])[0]
    project = Project(command, f"groat-test-{os.getpid()}-cluster", DEPLOY / "compose.cluster.yaml", free)
    project.remove()
    said = {}
    try:
        for turn, built in (("first", ["--build"]), ("second", [])):
            project("--profile", "bootstrap", "up", *built, "--detach", timeout=BUILD_SECONDS)
            assert project.wait_ended("apply") == 0, project.logs("bootstrapper") + project.logs("apply")
            said[turn] = project.logs("bootstrapper").splitlines()[-1]
            said[f"{turn} apply"] = project.logs("apply").splitlines()[-1]
            if turn == "first":
                project("--profile", "bootstrap", "rm", "--force", "bootstrapper", "apply")
        project("--profile", "stack", "up", "--build", "--detach", timeout=BUILD_SECONDS)
        said["exit"] = str(project.wait_ended("client"))
        said["client"] = project.logs("client")
        project.wait_healthy(RUNNING)
        yield project, said
    finally:
        project.remove()


@pytest.fixture
def project(cluster: tuple[Project, dict[str, str]]) -> Project:
    return cluster[0]


def issued(project: Project, replica: str) -> int:
    """How many tokens a replica has logged."""
    return project.logs(replica).count('"event":"token.issued"')


def prometheus(project: Project, path: str) -> Any:
    connection = http.client.HTTPConnection(*project.address("prometheus", 9090), timeout=10)
    connection.request("GET", f"/api/v1/{path}")
    document = json.loads(connection.getresponse().read())
    connection.close()
    return document["data"]


def ask_prometheus(project: Project, query: str) -> list[Any]:
    found: list[Any] = prometheus(project, f"query?query={query}")["result"]
    return found


def test_the_client_calls_through_the_proxy(cluster: tuple[Project, dict[str, str]]) -> None:
    """The same client as in the small stack; the bootstrapper makes everything once."""
    _, said = cluster
    assert said["first"] == "created 6 of 12"  # the other six are the files that PostgreSQL needed first
    assert said["second"] == "unchanged"
    assert said["first apply"] == "changed: 2 added, 0 changed, 0 removed"
    assert said["second apply"] == "unchanged: 0 added, 0 changed, 0 removed"
    assert said["exit"] == "0", said["client"]
    assert 'GET https://api:3002/protected  200  {"message":"protected data","client":"billing"' in said["client"]


@pytest.mark.rule("OPS-05", "DEMO-35")
@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_hardened(project: Project, service: str) -> None:
    """PostgreSQL, nginx and Prometheus included: not root, no capability, a root file system nobody writes to."""
    check_hardened(project.inspect(service))


@pytest.mark.rule("OPS-05", "DEMO-24")
@pytest.mark.parametrize("service", MOUNTS)
def test_mounts_are_exactly_what_each_needs(project: Project, service: str) -> None:
    """Only the servers see the key-encryption key, only the client its own."""
    found = {
        mount["Name"].removeprefix(f"{project.name}_") + (" (w)" if mount["RW"] else "")
        for mount in project.inspect(service)["Mounts"]
        if mount["Type"] == "volume"
    }
    assert found == MOUNTS[service]


@pytest.mark.rule("OPS-03")
def test_the_password_is_in_files_alone(project: Project) -> None:
    """Neither a variable, nor a label, nor a command line, nor a log holds it."""
    password = project.python("postgres", "print(open('/groat/database/password').read(), end='')")
    assert len(password) >= 40
    for service in SERVICES:
        assert password not in json.dumps(project.inspect(service))
        assert password not in project.logs(service)
    for service in RUNNING:
        assert password not in run("docker", "top", project.container(service)).stdout


CONNECT: Final = """
import psycopg, sys
url = open("/groat/secrets/database-url").read()
for change in (("verify-full", "verify-full"), ("verify-full", "disable"), ("groat:", "groat:x")):
    try:
        psycopg.connect(url.replace(*change), connect_timeout=5).close()
        print("in")
    except psycopg.OperationalError as error:
        print("password" if "password" in str(error) else "no TLS" if "no encryption" in str(error) else error)
"""


@pytest.mark.rule("OPS-01")
def test_the_database_wants_tls_and_the_password(project: Project) -> None:
    """What the server has gets in; the same without TLS or with another password does not."""
    assert project.python("auth-1", CONNECT).splitlines() == ["in", "no TLS", "password"]


REACH: Final = """
import socket
for host, port in (("postgres", 5432), ("auth-1", 3001), ("auth-1", 9464), ("10.213.77.11", 3001), ("auth", 3001)):
    try:
        socket.create_connection((host, port), 2).close()
        print(host, port)
    except OSError:
        pass
"""


def test_networks_keep_the_inside_inside(project: Project) -> None:
    """The API and the client reach the proxy alone: no database, no replica, no metrics."""
    assert project.python("api", REACH) == "auth 3001\n"
    assert project.beside("client", "python", "-c", REACH).stdout == "auth 3001\n"


def test_prometheus_sees_both_replicas(project: Project) -> None:
    """Both are scraped, and what they count is what they did."""
    deadline = time.monotonic() + 60
    while True:
        up = {entry["metric"]["instance"]: entry["value"][1] for entry in ask_prometheus(project, "up")}
        counted = ask_prometheus(project, "sum(groat_tokens_issued_total)")
        if up == {"auth-1:9464": "1", "auth-2:9464": "1"} and counted and int(counted[0]["value"][1]) >= 1:
            return
        assert time.monotonic() < deadline, (up, counted)
        time.sleep(1)


def test_prometheus_has_the_alerts(project: Project) -> None:
    """Each of them could be worked out, and none fires on a healthy cluster, whose client has just called."""
    deadline = time.monotonic() + 120
    while True:
        rules = [rule for group in prometheus(project, "rules")["groups"] for rule in group["rules"]]
        if {rule["health"] for rule in rules} == {"ok"}:
            break
        assert time.monotonic() < deadline, rules
        time.sleep(1)
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in ALERTS}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_killing_replicas_loses_no_call(project: Project, tell: Tell) -> None:
    """SIGKILL to one replica and then to the other, each back before the next, while a client gets a token and calls,
    300 times: every call succeeds, since what fails on the way is repaired by a retry with a new assertion."""
    said: list[str] = []
    words = ("run", "--rm", "--no-deps", "-T", "-e", f"ROUNDS={ROUNDS}", "-e", "PAUSE=0.05", "client")
    thread = threading.Thread(target=lambda: said.append(project(*words, timeout=300, check=False).stdout))
    before = {replica: issued(project, replica) for replica in ("auth-1", "auth-2")}
    thread.start()
    for victim, other in (("auth-1", "auth-2"), ("auth-2", "auth-1")):
        _wait_for_tokens(project, victim, before[victim] + 15, thread)
        run("docker", "kill", "--signal", "KILL", project.container(victim))
        _wait_for_tokens(project, other, issued(project, other) + 25, thread)
        run("docker", "start", project.container(victim))
        project.wait_healthy([victim])
    thread.join(300)
    *_, last = said[0].splitlines()
    assert last.startswith(f"{ROUNDS} rounds, 0 failed"), said[0]
    assert all(issued(project, replica) > before[replica] for replica in before)
    tell("cluster, both replicas killed in turn", last)


def _wait_for_tokens(project: Project, replica: str, number: int, client: threading.Thread) -> None:
    """Until a replica has issued so many, while the client still calls: else the kill would not hit it at work."""
    deadline = time.monotonic() + 120
    while issued(project, replica) < number:
        assert client.is_alive(), "the client was done too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
