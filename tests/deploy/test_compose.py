"""deploy/compose.yaml for real: both profiles, who may see what, restarts. Run by `make compose-test`."""

import contextlib
import http.client
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from groat.protocol.client_auth.private_key_jwt import JWT_BEARER

from .engine import BUILD_SECONDS, DEPLOY, IMAGE, Project, check_hardened, compose_commands, inspect, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(BUILD_SECONDS)]

Tell = Callable[[str, str], None]
SERVICES: Final = ("bootstrapper", "apply", "auth", "api", "client")
# Which volume each container sees, where, and whether it may write there: these and no others.
MOUNTS: Final = {
    "bootstrapper": {
        f"/groat/{name}": (name, True) for name in ("server", "secrets", "client", "public", "api-tls", "trust", "ca")
    },
    "apply": {"/groat/server": ("server", True), "/groat/public": ("public", False)},
    "auth": {
        "/groat/server": ("server", True),
        "/groat/secrets": ("secrets", False),
        "/groat/trust": ("trust", False),
    },
    "api": {"/groat/api-tls": ("api-tls", False), "/groat/trust": ("trust", False)},
    "client": {"/groat/client": ("client", False), "/groat/trust": ("trust", False)},
}
FILES: Final = {
    "auth": {
        "server/groat.toml": "0644",
        "server/data/groat.db": "0600",
        "secrets/key-encryption.key": "0600",
        "secrets/tls.pem": "0644",
        "secrets/tls.key.pem": "0600",
        "trust/ca.pem": "0644",
    },
    "api": {"api-tls/tls.pem": "0644", "api-tls/tls.key.pem": "0600", "trust/ca.pem": "0644"},
    "client": {"client/billing.key.json": "0600", "trust/ca.pem": "0644"},
}
LIST_FILES: Final = """
import json, os, stat
print(json.dumps({os.path.relpath(os.path.join(d, f), "/groat"): "%04o" % stat.S_IMODE(os.stat(os.path.join(d, f)).st_mode)
                  for d, _, fs in os.walk("/groat") for f in fs if not f.endswith((".lock", "-wal", "-shm"))}))
"""
STATUS: Final = "print(open('/proc/1/status').read())"


@pytest.fixture(scope="module", params=compose_commands() or ["docker compose"])
def stack(request: pytest.FixtureRequest) -> Iterator[tuple[Project, dict[str, str]]]:
    """Both profiles as the guide says, once; and what they said."""
    name = f"groat-test-{os.getpid()}-" + str(request.param).replace(" ", "-")
    free = (("GROAT_AUTH_PORT", "0"), ("GROAT_API_PORT", "0"))
    project = Project(request.param, name, DEPLOY / "compose.yaml", free)
    project.remove()
    said = {}
    try:
        for turn, built in (("first", ["--build"]), ("second", [])):
            project("--profile", "bootstrap", "up", *built, "--detach", timeout=BUILD_SECONDS)
            assert project.wait_ended("apply") == 0, project.logs("bootstrapper") + project.logs("apply")
            said[turn], said[f"{turn} apply"] = project.logs("bootstrapper"), project.logs("apply")
            if turn == "first":
                project("--profile", "bootstrap", "rm", "--force", "bootstrapper", "apply")
        project("--profile", "stack", "up", "--build", "--detach", timeout=BUILD_SECONDS)
        said["exit"] = str(project.wait_ended("client"))
        said["client"] = project.logs("client")
        yield project, said
    finally:
        project.remove()


@pytest.fixture
def project(stack: tuple[Project, dict[str, str]]) -> Project:
    return stack[0]


@pytest.fixture
def said(stack: tuple[Project, dict[str, str]]) -> dict[str, str]:
    return stack[1]


def request(project: Project, tmp_path: Path, path: str, form: dict[str, str] | None = None) -> tuple[int, Any]:
    """One request from the host to the published port of the server, with the local CA as the only trust."""
    ca = tmp_path / "ca.pem"
    ca.write_text(project.python("auth", "print(open('/groat/trust/ca.pem').read())"))
    host, port = project.address("auth", 3001)
    assert host == "127.0.0.1"
    connection = http.client.HTTPSConnection("localhost", port, context=ssl.create_default_context(cafile=str(ca)))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST" if form else "GET", path, urlencode(form) if form else None, headers if form else {})
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    return response.status, document


def test_the_bootstrapper_makes_everything_once(project: Project, said: dict[str, str], tell: Tell) -> None:
    """The first run creates all, the second one nothing; neither prints a secret."""
    first, second = said["first"].splitlines(), said["second"].splitlines()
    assert first[-1] == "created 9 of 9"
    assert second[-1] == "unchanged"
    assert [line[:20] for line in first[:-1]] == [line[:20] for line in second[:-1]]
    assert all(line[20:].startswith("unchanged") for line in second[:-1])
    assert "PRIVATE" not in said["first"] + said["second"]
    assert said["first apply"].splitlines()[-1] == "changed: 2 added, 0 changed, 0 removed"
    assert said["second apply"].splitlines()[-1] == "unchanged: 0 added, 0 changed, 0 removed"
    tell(f"{project.command}: version", project("version", "--short").stdout.strip())


def test_a_stop_by_hand_outlives_the_next_start_of_apply(project: Project) -> None:
    """An operator stops the client; the files say nothing of it, and it stays stopped until somebody enables it."""
    auth = project.container("auth")
    run("docker", "exec", auth, "groat", "--yes", "client", "disable", "billing")
    again = project("--profile", "bootstrap", "run", "--rm", "--no-deps", "-T", "apply")
    assert "unchanged: 0 added" in again.stdout
    assert "disabled, and left so: client/billing" in again.stdout + again.stderr
    refused = project.beside("client", "python", "-m", "groat.demo.example_client", check=False)
    assert refused.returncode == 1
    run("docker", "exec", auth, "groat", "client", "enable", "billing")
    assert project.beside("client", "python", "-m", "groat.demo.example_client").returncode == 0


@pytest.mark.rule("DEMO-25")
def test_the_client_calls_the_api(said: dict[str, str]) -> None:
    """The last line of the origin demo: a successful call, by the client that the API names."""
    assert said["exit"] == "0", said["client"]
    assert 'GET https://api:3002/protected  200  {"message":"protected data","client":"billing"' in said["client"]
    assert "eyJ" not in said["client"]


@pytest.mark.rule("OPS-05", "DEMO-35")
@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_hardened(project: Project, service: str) -> None:
    """Not root, no capability, no new privileges, nothing to write to but what is mounted for it."""
    facts = project.inspect(service)
    check_hardened(facts)
    host = facts["HostConfig"]
    assert 0 < host["Memory"] <= 512 * 2**20
    assert 0 < host["PidsLimit"] <= 128
    assert not any("KEY" in pair.upper() and "PRIVATE" in pair.upper() for pair in facts["Config"]["Env"])


@pytest.mark.rule("OPS-05")
@pytest.mark.parametrize("service", ["auth", "api"])
def test_the_kernel_agrees(project: Project, service: str) -> None:
    """The same, as the kernel has it for process 1; writing outside of the mounts fails."""
    status = dict(line.split(":\t", 1) for line in project.python(service, STATUS).splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, 0, "1")
    for place in ("/", "/opt/groat", "/groat/trust", "/groat"):
        program = f"try: open({place!r} + '/x', 'w')\nexcept OSError: print('refused')"
        assert project.python(service, program) == "refused\n"


@pytest.mark.rule("OPS-05", "DEMO-24")
@pytest.mark.parametrize("service", SERVICES)
def test_mounts_are_exactly_what_each_needs(project: Project, service: str) -> None:
    """The API has no OAuth key, the client nothing of the server, only the bootstrapper the key of the CA."""
    found = {
        mount["Destination"]: (mount["Name"].removeprefix(f"{project.name}_"), mount["RW"])
        for mount in project.inspect(service)["Mounts"]
        if mount["Type"] == "volume"
    }
    assert found == MOUNTS[service]
    others = [mount for mount in project.inspect(service)["Mounts"] if mount["Type"] not in ("volume", "tmpfs")]
    bound = {mount["Destination"]: (Path(mount["Source"]), mount["RW"]) for mount in others}
    assert bound == ({"/groat/registry": (DEPLOY / "registry", False)} if service == "apply" else {})
    for alone in ("bootstrapper", "apply"):
        assert project.inspect(alone)["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.parametrize("service", ["auth", "api", "client"])
def test_files_and_modes_inside(project: Project, service: str) -> None:
    """Every file that a container can see below /groat, with its mode."""
    seen = project.beside(service, "python", "-c", LIST_FILES).stdout
    assert json.loads(seen) == FILES[service]


SEARCH: Final = """
import os, sys
secret, count = sys.stdin.buffer.read(), 0
for folder, _, names in os.walk("/groat"):
    for name in names:
        count += 1
        assert secret not in open(os.path.join(folder, name), "rb").read(), name
print(count)
"""


@pytest.mark.rule("OPS-05", "DEMO-24")
def test_the_server_and_the_api_never_see_the_clients_key(project: Project) -> None:
    """Not under another name either: its private number is in no file of theirs."""
    reading = "print(open('/groat/client/billing.key.json').read())"
    secret = json.loads(project.beside("client", "python", "-c", reading).stdout)["d"]
    for service in ("auth", "api"):
        assert int(project.python(service, SEARCH, secret)) >= len(FILES[service])


def test_nothing_is_published_beyond_this_machine(project: Project) -> None:
    """Ports are on loopback; the client has none."""
    for service, port in (("auth", 3001), ("api", 3002)):
        assert project.address(service, port)[0] == "127.0.0.1"
    assert not project.inspect("client")["NetworkSettings"]["Ports"]


def test_a_restart_forgets_nothing(project: Project, tmp_path: Path, tell: Tell) -> None:
    """The same signing key, and an assertion that bought a token before buys none after."""
    assertion = project.beside(
        "client", "groat", "client", "assertion", "billing", "--key", "/groat/client/billing.key.json",
        "--issuer", "https://auth:3001", "--lifetime", "300",
    ).stdout.strip()  # fmt: skip
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": JWT_BEARER,
        "client_assertion": assertion,
        "resource": "https://api:3002",
        "scope": "orders:read",
    }
    status, before = request(project, tmp_path, "/.well-known/jwks.json")
    assert status == 200
    assert request(project, tmp_path, "/token", form)[0] == 200
    stopping = time.monotonic()
    project("--profile", "stack", "stop", "auth")
    stopped = time.monotonic() - stopping
    assert project.inspect("auth")["State"]["ExitCode"] == 0, project.logs("auth")[-2000:]
    assert stopped < 8
    project("--profile", "stack", "start", "auth")
    project.wait_healthy(["auth"])
    assert request(project, tmp_path, "/.well-known/jwks.json") == (200, before)
    status, refused = request(project, tmp_path, "/token", form)
    assert (status, refused["error"]) == (401, "invalid_client")
    assert '"reason":"assertion_replayed"' in project.logs("auth")
    again = project.beside("client", "python", "-m", "groat.demo.example_client")
    assert "200" in again.stdout
    tell(f"{project.command}: stop", f"{stopped:.1f} s")


def test_health_is_what_the_engine_sees(project: Project) -> None:
    """The check is the command line of the image: no shell, no curl; and it can fail."""
    for service in ("auth", "api"):
        health = project.inspect(service)["State"]["Health"]
        assert health["Status"] == "healthy", health["Log"][-1:]
    assert inspect(IMAGE, "image")["Config"]["Healthcheck"]["Test"] == ["CMD", "groat", "-q", "health"]
    other = project.beside("auth", "groat", "-q", "health", check=False)
    assert other.returncode == 5  # in a container where no server runs


def test_start(project: Project, tell: Tell) -> None:
    """The time from the container's start to its first answer."""
    host = project.address("auth", 3001)
    container = project.container("auth")
    run("docker", "stop", container)
    started = time.monotonic()
    run("docker", "start", container)
    host = project.address("auth", 3001)
    while True:
        took = time.monotonic() - started
        assert took < 30
        try:
            context = ssl._create_unverified_context()  # only the time counts here
            connection = http.client.HTTPSConnection(*host, timeout=2, context=context)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    break
        except OSError:
            time.sleep(0.02)
    tell(f"{project.command}: auth, start to ready", f"{took:.1f} s")
