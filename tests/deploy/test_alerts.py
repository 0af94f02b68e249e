"""deploy/alerts.yml asks for what there is: names, labels and reasons of the documented metrics, and pages that exist."""

import re
from typing import Any, Final

import pytest
import yaml

from tests.deploy.engine import DEPLOY, ROOT

GROUPS: Final[list[dict[str, Any]]] = yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"]
ALERTS: Final[list[dict[str, Any]]] = [rule for group in GROUPS for rule in group["rules"]]
_SELECTOR: Final = re.compile(r"\b((?:groat_\w+)|up)(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)(=~?)"([^"]*)"')
_OF_PROMETHEUS: Final = {"instance", "le", "job"}


def documented() -> dict[str, tuple[str, set[str]]]:
    """The text of the row and the labels of each metric, by its name."""
    found = {}
    for line in (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8").splitlines():
        if line.startswith("| `groat_"):
            _, name, _, labels, *about = line.split("|")
            found[name.strip(" `")] = ("|".join(about), set(re.findall(r"`(\w+)`", labels)))
    return found


METRICS: Final = documented()
REASONS: Final = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "reference" / "reasons.md").read_text("utf-8"), re.M))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_there_is(alert: dict[str, Any]) -> None:
    """A name that was misspelt is an alert that never comes."""
    selectors = _SELECTOR.findall(alert["expr"])
    assert selectors
    own = set[str]()
    for name, matchers in selectors:
        if name == "up":
            continue
        row, labels = METRICS[name.removesuffix("_bucket")]
        own |= labels
        for label, _, values in _MATCHER.findall(matchers):
            assert label in labels
            for value in values.split("|"):
                assert f"`{value}`" in row or value in REASONS, value
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", alert["expr"]))))
    assert kept <= own | _OF_PROMETHEUS
    shown = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    assert shown <= (kept if kept else own | _OF_PROMETHEUS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """How bad it is, what it is, and the page about it."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert (ROOT / alert["annotations"]["page"]).is_file()
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}


def test_names_are_told_apart() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
