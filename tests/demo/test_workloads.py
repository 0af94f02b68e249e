"""`groat demo --workload`: what it shows when all is well, and that it notices when a server takes too much."""

import re
import shlex
import signal
from pathlib import Path
from typing import Final

import pytest

from .running import LIKE_A_JWT, Demo, steps_of

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
SHAPE: Final = r"""groat demo --workload  \(throw-away keys, loopback only, nothing is kept\)
  1  keys      issuer signing key   ES256  kid [\w-]{3}… +\d\.\d\d s
  2  trusts    cluster              RS256  kid [\w-]{3}…   preset kubernetes, key set copied, replay auto
               github               RS256  kid [\w-]{3}…   preset github, key set copied, replay once
  3  clients   billing \(no key\)     cluster: "kubernetes\.io"\.namespace=billing
               deploy \(no key\)      github: repository_owner_id=65  repository_id=74  environment=prod
  4  pod       POST /token          200  at\+jwt  client=billing  600 s  as grant
               POST /token          200  at\+jwt  client=billing  600 s  as client authentication
               GET /protected       200  \{"message": "[^"]+", "client": "billing"\} +\d+ ms
  5  job       POST /token          200  at\+jwt  client=deploy  600 s  as grant
               POST /token          200  at\+jwt  client=deploy  600 s  as client authentication
               GET /protected       200  \{"message": "[^"]+", "client": "deploy"\} +\d+ ms
  6  refusals  pull request         400 invalid_grant  workload_rule
(?: {36}\S.*\n)+               same name, other id  401 invalid_client  workload_rule
(?: {36}\S.*\n)+               account `default`    400 invalid_grant  workload_rule
(?: {36}\S.*\n)+               presented twice      400 invalid_grant  workload_replayed
(?: {36}\S.*\n)+               the workload learns the code alone; the reason is in the server's log +all refused ✓
"""
# Which token, how it is presented, the answer, the reason, and what the log says of it.
REFUSALS: Final = [
    ("pull request", "grant", 400, "invalid_grant", "workload_rule", 'event_name is "pull_request"'),
    ("same name, other id", "client authentication", 401, "invalid_client", "workload_rule", "no rule is about"),
    ("account `default`", "grant", 400, "invalid_grant", "workload_rule", "the service account is `default`"),
    ("presented twice", "grant", 400, "invalid_grant", "workload_replayed", "used before"),
]
_IN_SERVER: Final = "import sys\nif 'serve' in sys.orig_argv:\n    "
_NO_MEMORY: Final = (
    "from groat.server.store.sqlite.store import SqliteStore\n"
    "    real = SqliteStore.use_once\n"
    "    async def forgetful(self, *values):\n"
    "        return (await real(self, *values))._replace(fresh=True)\n"
    "    SqliteStore.use_once = forgetful\n"
)
_NO_LOG: Final = "import os\n    os.environ['GROAT_LOG__LEVEL'] = 'error'\n"
_ANY_EVENT: Final = (
    "import dataclasses\n    from groat.protocol.federation import presets, pipelines\n"
    "    lax = dataclasses.replace(pipelines.GITHUB, guard=lambda rule, claims: '')\n"
    "    presets.PRESETS = {**presets.PRESETS, 'github': lax}\n"
)


@pytest.mark.rule("AS-JB-05", "AS-JB-16", "AS-WI-02", "AS-WI-05", "AS-WI-06", "AS-WI-07")
def test_people_read_aligned_lines(demo: Demo) -> None:
    """Every line has the promised shape and fits, and nothing is left behind; by the command that the guide begins with."""
    (command, *_) = re.findall(
        r"^```\n(.*)\n```$", (ROOT / "docs/guides/workloads.md").read_text("utf-8"), re.MULTILINE
    )
    assert command in (ROOT / "README.md").read_text("utf-8")
    done = demo.run(*shlex.split(command)[2:])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(SHAPE, done.stdout)
    assert max(map(len, done.stdout.splitlines())) == 106
    demo.assert_nothing_left()


def test_programs_read_json(demo: Demo) -> None:
    """One JSON object a step: both ways for each workload, and each refusal with the reason from the log."""
    done = demo.run("--workload", "--json", GROAT_ISSUER="https://auth.example.com", HTTP_PROXY="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    steps = steps_of(done.stdout)
    assert list(steps) == ["keys", "trusts", "clients", "pod", "job", "refusals"]
    assert all(step["ok"] for step in steps.values())
    assert [(one["name"], one["replay"]) for one in steps["trusts"]["trusts"]] == [
        ("cluster", "auto"),
        ("github", "once"),
    ]
    for name, client in (("pod", "billing"), ("job", "deploy")):
        tokens = steps[name]["tokens"]
        assert [(one["way"], one["client_id"]) for one in tokens] == [
            ("grant", client),
            ("client authentication", client),
        ]
        assert len({one["jti"] for one in tokens}) == 2
        assert steps[name]["body"]["client"] == client
    for seen, (name, way, status, error, reason, hint) in zip(steps["refusals"]["refusals"], REFUSALS, strict=True):
        verdict = {"status": status, "error": error, "reason": reason}
        assert seen | {"hint": ""} == {
            "name": name, "way": way, "expected": verdict, "actual": verdict, "hint": "", "ok": True,
        }  # fmt: skip
        assert hint in seen["hint"]
    assert not LIKE_A_JWT.search(done.stdout)
    demo.assert_nothing_left()


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (_NO_MEMORY, "presented twice 200"),
        (_ANY_EVENT, "pull request 200"),
        (_NO_LOG, "pull request 400 invalid_grant  None, not 400"),
    ],
    ids=["forgets tokens", "takes pull requests", "says no reason"],
)
def test_a_server_that_takes_too_much_is_found(demo: Demo, tmp_path: Path, fault: str, problem: str) -> None:
    """The step fails, with what came and what must come, and the exit code is 1."""
    (tmp_path / "sitecustomize.py").write_text(_IN_SERVER + fault)
    done = demo.run("--workload", "--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("groat demo: failed: step 6 (refusals): ")
    failed = steps_of(done.stdout)["refusals"]
    assert not failed["ok"]
    assert problem in failed["problem"]
    assert not LIKE_A_JWT.search(done.stdout + done.stderr)
    demo.assert_nothing_left()


def test_a_signal_ends_it_cleanly(demo: Demo) -> None:
    """Ctrl-C in the middle: code 130, and nothing is left."""
    with demo.begin("--workload") as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors.strip()) == (130, "groat: interrupted")
    demo.assert_nothing_left()


def test_it_ends_by_itself(demo: Demo) -> None:
    """`--keep` belongs to the other demo: a wrong use of the command, and nothing is started."""
    done = demo.run("--workload", "--keep")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--keep" in done.stderr
    demo.assert_nothing_left()
