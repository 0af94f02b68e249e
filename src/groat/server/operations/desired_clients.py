"""One client from what is registered to what files want: what it may ask, its settings, its rules, its keys."""

import json
from collections.abc import Sequence
from dataclasses import replace

from groat.keys.client_keys import KeyLife
from groat.protocol.client_settings import CLIENT_SETTINGS, SettingsChange
from groat.protocol.key_limits import UNLIMITED, LimitsChange
from groat.server.desired.forms import Form, client_form, key_text, rule_form, rule_form_of
from groat.server.desired.wanted import CLIENT, TRUST, WantedClient
from groat.server.operations import client_keys, clients, trust_rules
from groat.server.operations.desired_steps import Steps
from groat.server.operations.registered import Registered
from groat.server.store.records import ClientKeyRecord, ClientRecord, RuleRecord


async def client_step(steps: Steps, wanted: WantedClient, registered: Registered) -> None:
    """Whatever it takes for this client; each part is tried, so that all is said that is wrong with it."""
    what = (CLIENT, wanted.client_id)
    now = registered.clients.get(wanted.client_id)
    with steps.step(what, wanted.place):
        if now is None:
            now = await clients.add_client(steps.operator, wanted.client_id, wanted.allow, None, wanted.settings)
        else:
            await _settings(steps, wanted, now)
    if now is None:
        return
    # What lets it in comes before what did so far goes: who changes over from one to the other loses nothing.
    outdated = await _new_rules(steps, wanted, registered.rules.get(wanted.client_id, ()))
    if wanted.keys is not None:
        # By the settings of then: what it had beside its keys may go by the same files, or come.
        await _keys(steps, wanted, replace(now, settings=wanted.settings), registered.keys.get(wanted.client_id, ()))
    await _without_rules(steps, wanted, outdated)
    with steps.step(what, wanted.place.at("enabled")):
        if now.enabled != wanted.runs:
            if not wanted.runs and wanted.client_id in registered.clients:  # a new one had nothing
                steps.lose((await clients.plan_client_end(steps.operator, now.client_id, for_good=False)).losses)
            await clients.enable_client(steps.operator, now.client_id, enabled=wanted.runs)


async def _settings(steps: Steps, wanted: WantedClient, now: ClientRecord) -> None:
    after = replace(now, allow=dict(wanted.allow), settings=wanted.settings)
    if client_form(after, None, ()) == client_form(now, None, ()):
        return
    # An operation changes the APIs that it is told of, and leaves the others.
    allow = {**dict.fromkeys(now.allow, ()), **wanted.allow}
    change = SettingsChange(**{name: getattr(wanted.settings, name) for name in CLIENT_SETTINGS})
    plan = await clients.plan_client_update(steps.operator, now.client_id, allow, change)
    await clients.update_client(steps.operator, now.client_id, allow, change)
    steps.lose(plan.losses)


async def _new_rules(steps: Steps, wanted: WantedClient, now: Sequence[RuleRecord]) -> list[RuleRecord]:
    """Those that are missed; returns those that nobody wants. Of rules that say the same, each stands for one."""
    operator, what = steps.operator, (CLIENT, wanted.client_id)
    have: dict[str, list[RuleRecord]] = {}
    for record in now:
        have.setdefault(_text(rule_form_of(record.rule)), []).append(record)
    for rule in wanted.rules:
        with steps.step(what, rule.place, (TRUST, rule.trust)):
            if same := have.get(_text(rule_form(rule.trust, rule.conditions, rule.copied, rule.allows))):
                same.pop()
            else:
                await trust_rules.add_rule(
                    operator, wanted.client_id, rule.trust, rule.conditions, rule.copied, rule.allows
                )
    return [record for many in have.values() for record in many]


async def _without_rules(steps: Steps, wanted: WantedClient, outdated: Sequence[RuleRecord]) -> None:
    for record in outdated:
        with steps.step((CLIENT, wanted.client_id), wanted.place.at("rules")):
            plan = await trust_rules.plan_rule_removal(steps.operator, wanted.client_id, record.rule.rule_id)
            await trust_rules.remove_rule(steps.operator, wanted.client_id, record.rule.rule_id)
            steps.lose(plan.losses)


async def _keys(steps: Steps, wanted: WantedClient, client: ClientRecord, now: Sequence[ClientKeyRecord]) -> None:
    operator, what = steps.operator, (CLIENT, wanted.client_id)
    have = {key_text(key.kid, key.jwk): key for key in now}
    want = {key_text(one.key.kid, one.key.jwk): one for one in wanted.keys or ()}
    gone = [key for identity, key in have.items() if identity not in want]
    with steps.step(what, wanted.place.at("keys")):
        _lose_keys(steps, client, now, wanted)
        for key in gone:
            await client_keys.remove_client_key(operator, wanted.client_id, key.kid, force=True)
    for identity, one in want.items():
        with steps.step(what, one.place):
            if identity not in have:
                await client_keys.add_client_keys(operator, wanted.client_id, [one.key], one.limits, ended=True)
            elif have[identity].limits != one.limits:
                change = LimitsChange(one.limits.not_before, one.limits.expires_at)
                await client_keys.update_client_key(operator, wanted.client_id, one.key.kid, change, force=True)


def _lose_keys(steps: Steps, client: ClientRecord, now: Sequence[ClientKeyRecord], wanted: WantedClient) -> None:
    """Of each key that counted and counts no more, by the keys that there are then; a rule lets in as a key does."""
    used = {(key.kid, key.thumbprint): key for key in now}
    after = [
        KeyLife(one.key.kid, found.created_at if found else steps.operator.now, one.limits,
                found.last_used_at if found else None)
        for one in wanted.keys or () for found in [used.get((one.key.kid, one.key.thumbprint))]
    ]  # fmt: skip
    after += [KeyLife("", steps.operator.now, UNLIMITED)] if wanted.rules else []
    for key in now:
        left = [life for life in after if life.kid == key.kid and life.valid(steps.operator.now)]
        if not left:
            others = [life for life in after if life.kid != key.kid]
            found = client_keys.judge_removal(client, client_keys.key_life(key), others, steps.operator.now)
            steps.lose(found.losses)


def _text(form: Form) -> str:
    return json.dumps(form, sort_keys=True)
