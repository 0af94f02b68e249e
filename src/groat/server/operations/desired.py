"""Making the registry what files say, all of it at once, or none of it where anything is wrong.

The operations are done one after the other on a copy of the registry in memory (`Draft`), by the checks, losses and
words that they have for everybody. What they changed there is then written to the store by one transaction, if the
registry is still the one that was copied.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from groat.protocol.errors import ConfigError, Finding
from groat.protocol.models import Policy
from groat.server.desired.forms import Form, wanted_client_form
from groat.server.desired.places import Place
from groat.server.desired.policies import Judged, RegistryPolicy
from groat.server.desired.reading import raise_all
from groat.server.desired.wanted import API, CLIENT, TRUST, Wanted
from groat.server.log.audit import Audit
from groat.server.log.event_log import EventLog
from groat.server.operations.admin import admin_api_is_there
from groat.server.operations.desired_clients import client_step
from groat.server.operations.desired_steps import Failure, Steps
from groat.server.operations.desired_stops import stopped_by_hand, with_stops
from groat.server.operations.losses import Loss
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import Operator, again_if_moved
from groat.server.operations.registered import OWN_APIS, Object, Registered
from groat.server.store import Store
from groat.server.store.audit_trail import Face
from groat.server.store.bulk_changes import gathered
from groat.server.store.changes import Change
from groat.server.store.sqlite.draft import Draft

# What is in each other's way (a name that moves from one object to another) takes a round more; two are usual.
_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """One object, before and after; None: it is not there. `place`: where the files have it."""

    kind: str
    name: str
    before: Form | None
    after: Form | None
    place: Place | None = None

    @property
    def operation(self) -> str:
        if self.before is None:
            return "add"
        return "remove" if self.after is None else "change"

    def members(self) -> Iterator[tuple[str, Any, Any]]:
        """Each member that differs: its name, and what it is before and after; None: nothing."""
        before, after = self.before or {}, self.after or {}
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                yield name, before.get(name), after.get(name)

    def document(self) -> dict[str, Any]:
        """Everything, as programs are shown it."""
        file, line = (self.place.file, self.place.line) if self.place else (None, None)
        shown = {"operation": self.operation, "object": f"{self.kind}/{self.name}", "file": file, "line": line}
        return shown | {"before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class DesiredPlan:
    """What becomes of a registry. `left`: what no file has and stays; `stopped`: what somebody disabled, and stays so;
    `changes`: all that is to be written."""

    seen: int
    differences: tuple[Difference, ...]
    losses: tuple[Loss, ...]
    left: tuple[str, ...]
    stopped: tuple[str, ...]
    after: Registered
    changes: tuple[Change, ...]

    @property
    def takes_away(self) -> bool:
        """Whether somebody loses something by it, or something goes for good."""
        return bool(self.losses) or any(one.after is None for one in self.differences)

    def counts(self) -> dict[str, int]:
        """How many objects are added, changed and removed."""
        names = {"added": "add", "changed": "change", "removed": "remove"}
        return {name: sum(one.operation == operation for one in self.differences) for name, operation in names.items()}


@dataclass(frozen=True, slots=True)
class DesiredWish:
    """What the registry shall be. `prune`: what no file has goes; `policies`: the rules that it must keep then."""

    wanted: Wanted
    prune: bool = False
    policies: Sequence[RegistryPolicy] = ()


async def plan_desired(operator: Operator, wish: DesiredWish) -> DesiredPlan:
    """What `apply_desired` would do; changes nothing. Raises ConfigError with every finding."""
    wanted = wish.wanted
    if wanted.findings:
        raise_all([*wanted.findings, *await _other_findings(operator, wish)])
    draft, seen = await Draft.of(operator.store)
    before = await Registered.of(draft)
    stopped = tuple(stopped_by_hand(wanted, before))
    wanted = with_stops(wanted, stopped)
    # A draft is asked for the registry alone, which is all that the operations on it need.
    steps = Steps(replace(operator, store=cast(Store, draft), audit=Audit(EventLog(level="error"))))
    after = await _settle(draft, steps, wanted, before, prune=wish.prune)
    _keep(operator, wish, after)
    differences = tuple(_differences(before, after, wanted))
    left = () if wish.prune else tuple(sorted(f"{kind}/{name}" for kind, name in _gone(after, wanted)))
    losses = tuple(sorted(steps.losses, key=lambda loss: loss.client_id))
    return DesiredPlan(seen, differences, losses, left, tuple(map("/".join, stopped)), after, tuple(draft.written))


def _keep(operator: Operator, wish: DesiredWish, after: Registered) -> None:
    """Raises ConfigError with all that would be registered and breaks a rule, whether a file has it or not."""
    apis = {name: api for name, api in after.apis.items() if name not in OWN_APIS}
    lifetime, registered = operator.policy.token_lifetime, not isinstance(operator.store, Draft)
    judged = Judged(apis, after.clients, after.keys, lifetime, operator.now, registered)
    raise_all([finding for policy in wish.policies for finding in policy.findings(judged, wish.wanted.place)])


async def _other_findings(operator: Operator, wish: DesiredWish) -> Sequence[Finding]:
    """Of the objects that could be read; what they miss in those that could not is no finding."""
    try:
        await plan_desired(operator, replace(wish, wanted=replace(wish.wanted, findings=())))
    except ConfigError as error:
        return error.findings
    return ()


async def check_files(policy: Policy, wanted: Wanted, policies: Sequence[RegistryPolicy]) -> int:
    """Whether files are right in themselves, without a store; returns how many objects they have. Raises ConfigError.

    They are done on an empty registry: what they refer to and do not have is missed.
    """
    empty = Draft()
    operator = Operator(cast(Store, empty), policy, Audit(EventLog(level="error")))
    await admin_api_is_there(operator)
    plan = await plan_desired(operator, DesiredWish(wanted, policies=policies))
    return len(plan.differences)


@writes("registry.apply", plan=plan_desired)
@again_if_moved
async def apply_desired(operator: Operator, wish: DesiredWish, judge: Callable[[DesiredPlan], None]) -> DesiredPlan:
    """Make the registry what the files say, in one transaction; returns what became of it. Raises ConfigError.

    Nothing is written where nothing differs. `judge` is shown each plan before it is written, a second one where
    somebody else has changed the registry meanwhile; what it raises stops it.
    """
    plan = await plan_desired(operator, wish)
    judge(plan)
    if plan.changes:
        by_files = replace(operator, actor=replace(operator.actor, face=Face.APPLY))
        await by_files.change(plan.seen, gathered(plan.changes), "registry.applied", plan.counts())
    return plan


@reads("registry.export")
async def export_registry(operator: Operator) -> Mapping[Object, Form]:
    """Everything that files could say of this registry, by kind and name. Raises StoreUnavailable, RegistryMoved."""
    draft, _ = await again_if_moved(Draft.of)(operator.store)
    return (await Registered.of(draft)).forms()


async def _settle(draft: Draft, steps: Steps, wanted: Wanted, now: Registered, *, prune: bool) -> Registered:
    """Do it again until nothing is left to do. Raises ConfigError with all that is left and cannot be done."""
    for _ in range(_ROUNDS):
        steps.failures.clear()
        before, now = now, await _round(draft, steps, wanted, now, prune=prune)
        if now is before:
            break
    raise_all(_explained(steps.failures, wanted))
    return now


async def _round(draft: Draft, steps: Steps, wanted: Wanted, now: Registered, *, prune: bool) -> Registered:
    """First what others refer to, last what nobody shall refer to any more; returns what there is then."""
    for api in wanted.apis.values():
        await steps.api(api, now)
    for trust in wanted.trusts.values():
        await steps.trust(trust, now)
    now = await now.again(draft)
    for client in wanted.clients.values():
        name = client.client_id
        same = name in now.clients and now.client_form(name, keys=client.keys is not None) == wanted_client_form(client)
        if not same:
            await client_step(steps, client, now)
    for trust in wanted.trusts.values():
        if not trust.runs and trust.name in now.trusts:
            await steps.stop_trust(trust, now)
    for what in _gone(now, wanted) if prune else ():
        await steps.remove(what)
    return await now.again(draft)


def _gone(now: Registered, wanted: Wanted) -> Iterator[Object]:
    yield from ((CLIENT, name) for name in now.clients if name not in wanted.clients)
    yield from ((TRUST, name) for name in now.trusts if name not in wanted.trusts)
    yield from ((API, name) for name in now.apis if name not in wanted.apis and name not in OWN_APIS)


def _explained(failures: Mapping[Object, Sequence[Failure]], wanted: Wanted) -> list[Finding]:
    """The findings but for those that come of others."""
    broken = wanted.broken | failures.keys()
    return [one.finding for many in failures.values() for one in many if one.because not in broken]


def _differences(before: Registered, after: Registered, wanted: Wanted) -> Iterator[Difference]:
    if after is before:
        return
    old, new = before.forms(), after.forms()
    for what in sorted(old.keys() | new.keys()):
        if old.get(what) != new.get(what):
            yield Difference(*what, old.get(what), new.get(what), wanted.place(*what))
