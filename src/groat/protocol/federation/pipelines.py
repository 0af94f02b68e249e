"""GitHub Actions and GitLab CI: tokens of jobs (AS-WI-05 to AS-WI-08).

Names of repositories and owners can be taken over after a rename or a deletion, so rules pin ids; and whoever may open
a pull request can have a job run, so those events are refused unless a rule lists them.
"""

from typing import Final
from urllib.parse import urlsplit

from groat.protocol.differences import shown
from groat.protocol.federation.preset import NOTHING, Claims, Preset, is_digits, values_on
from groat.protocol.federation.rules import ALLOW_NAMES, Rule
from groat.protocol.federation.trust import Replay

_EVENT: Final = ("event_name",)
_SOURCE: Final = ("pipeline_source",)


def _github_rule_fault(rule: Rule, issuer: str) -> str:
    if any(not condition.exact for condition in rule.on("sub")):
        return "sub has two forms and can be customised, so its beginning proves nothing; pin repository_id instead"
    if fault := _github_pins(rule):
        return fault
    for value in values_on(rule, "ref"):
        if not value.startswith("refs/"):
            return f"ref is written in full: refs/heads/{value}, or refs/tags/{value}"
    if not (rule.on("ref") or rule.on("environment") or rule.on("job_workflow_ref")):
        return (
            "say which jobs: --match ref=refs/heads/main, --match environment=NAME or --match job_workflow_ref=...; "
            "--match ref^=refs/heads/ is every branch"
        )
    return NOTHING


def _github_pins(rule: Rule) -> str:
    by_name = ALLOW_NAMES in rule.allows and rule.pins("repository")
    for name in ("repository_owner_id", "repository_id"):
        if not rule.pins(name) and not by_name:
            return (
                f"pin {name} (and {'repository_id' if name != 'repository_id' else 'repository_owner_id'}): a name "
                "belongs to whoever takes it next. gh api repos/OWNER/NAME --jq '.owner.id, .id' prints both"
            )
        if odd := [value for value in values_on(rule, name) if not is_digits(value)]:
            return f"{name} is a number in digits, not {odd[0]}"
    return NOTHING


def _github_issuer_fault(issuer: str) -> str:
    if urlsplit(issuer).hostname == "github.com":
        return "GitHub's issuer is https://token.actions.githubusercontent.com, or that of an enterprise"
    return NOTHING


def _github_guard(rule: Rule, claims: Claims) -> str:
    event = claims.get("event_name")
    if rule.on(*_EVENT):
        return NOTHING
    if not isinstance(event, str) or event.startswith("pull_request"):
        return f"event_name is {shown(event)}: anybody may open one; a rule that means it lists it"
    return NOTHING


def _gitlab_rule_fault(rule: Rule, issuer: str) -> str:
    for name in ("project_id", "namespace_id"):
        if not rule.pins(name):
            return f"pin project_id and namespace_id ({name} is missing): a path belongs to whoever takes it next"
        if odd := [value for value in values_on(rule, name) if not is_digits(value)]:
            return f"{name} is a number in digits, not {odd[0]}"
    for name in ("ref_protected", "environment_protected"):
        if odd := [value for value in values_on(rule, name) if value not in ("true", "false")]:
            return f"{name} is true or false, not {odd[0]}"
    return NOTHING


def _gitlab_token_fault(claims: Claims, issuer: str) -> str:
    """In a merge request from a fork, project_* may name the fork while the job runs elsewhere, or the reverse."""
    for name in ("project_id", "namespace_id"):
        own, of_job = claims.get(name), claims.get(f"job_{name}")
        if of_job is not None and of_job != own:
            return f"{name} is {shown(own)} and job_{name} is {shown(of_job)}: a job of one project in another's name"
    return NOTHING


def _gitlab_guard(rule: Rule, claims: Claims) -> str:
    source = claims.get("pipeline_source")
    if rule.on(*_SOURCE):
        return NOTHING
    if not isinstance(source, str) or "merge_request" in source:
        return f"pipeline_source is {shown(source)}: anybody may open one; a rule that means it lists it"
    return NOTHING


GITHUB: Final = Preset(
    name="github",
    algorithms=("RS256",),
    replay=Replay.ONCE,
    index=(("repository_id",), ("repository",)),
    rule_fault=_github_rule_fault,
    issuer_fault=_github_issuer_fault,
    guard=_github_guard,
    lists=False,
)
GITLAB: Final = Preset(
    name="gitlab",
    algorithms=("RS256",),
    replay=Replay.ONCE,
    index=(("project_id",),),
    rule_fault=_gitlab_rule_fault,
    token_fault=_gitlab_token_fault,
    guard=_gitlab_guard,
)
