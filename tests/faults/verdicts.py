"""From a history to a verdict on a deployment: rows, second presentations, published keys, and the checker."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load.connection import Target
from benchmarks.load.history import Assertion, Presentation, write_history
from benchmarks.load.presenter import closed_loop, run

from .checker import TokenJudge, Verdict, check, to_repeat
from .deployment import AUDIENCE, ISSUER, Deployment

TRIES: Final = 5
RESULTS: Final = Path(os.environ.get("GROAT_FAULTS_RESULTS", Path(__file__).parents[2] / ".faults"))


def present_again(
    assertions: Sequence[Assertion], targets: Sequence[Target], connections: int = 24
) -> list[Presentation]:
    """Present everything once more, and again what got 503 or no answer, until each has a clear answer."""
    answers: list[Presentation] = []
    left = list(assertions)
    for _ in range(TRIES):
        round_ = run(closed_loop(left, targets, connections))
        answers += round_
        left = [p.assertion for p in round_ if p.status <= 0 or p.status == 503]
        if not left:
            return answers
        time.sleep(0.5)
    raise AssertionError(f"{len(left)} assertions got no clear answer from healthy servers")


def judge(deployment: Deployment, history: Sequence[Presentation], targets: Sequence[Target] | None = None) -> Verdict:
    """Every fault must be healed by now: the second presentation needs replicas that work."""
    rows = deployment.rows()
    repeats = present_again(to_repeat(history, time.time()), targets or deployment.targets)
    return check(history, rows, repeats, TokenJudge.of(deployment.published_keys(), ISSUER, AUDIENCE))


def record(name: str, verdict: Verdict | None, **measured: Any) -> None:
    """Keep the result of a scenario as one line of JSON, and show it."""
    RESULTS.mkdir(exist_ok=True)
    summary = {} if verdict is None else verdict.summary()
    line = json.dumps({"scenario": name, "at": int(time.time()), **measured, **summary})
    print(line)
    with (RESULTS / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def require_kept(name: str, verdict: Verdict, history: Sequence[Presentation]) -> None:
    """Fail with the first breaches, and keep the history, unless every promise was kept."""
    if verdict.breaches:
        RESULTS.mkdir(exist_ok=True)
        write_history(RESULTS / f"{name}.history.jsonl", history)
    assert not verdict.breaches, f"{len(verdict.breaches)} breaches, such as {verdict.breaches[:5]}"
