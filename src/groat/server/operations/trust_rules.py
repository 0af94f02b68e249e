"""What an operator may do with the rules that make a workload a client."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from groat.protocol.federation.claim_paths import ClaimPath
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.presets import check_rule, key_of, preset_of
from groat.protocol.federation.rules import Rule
from groat.server.operations.clients import find_client
from groat.server.operations.losses import Loss
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator, again_if_moved
from groat.server.operations.rule_losses import losses_without
from groat.server.operations.trusts import find_trust
from groat.server.store.records import RuleRecord
from groat.server.store.trust_changes import AddRule, RemoveRule


@writes("rule.add")
async def add_rule(
    operator: Operator,
    client_id: str,
    trust: str,
    conditions: Sequence[Condition],
    copied: Sequence[ClaimPath] = (),
    allows: frozenset[str] = frozenset(),
) -> RuleRecord:
    """Let whoever holds a token of this trust that fulfils all conditions be this client.

    Raises ConfigError, which says what to pin instead, for conditions that a stranger could fulfil.
    """
    await find_client(operator, client_id)
    found = (await find_trust(operator, trust)).trust
    rule = Rule(f"r-{secrets.token_hex(4)}", trust, client_id, tuple(conditions), tuple(copied), allows)
    check_rule(rule, found)
    record = RuleRecord(rule, key_of(rule, preset_of(found)), operator.now)
    facts = {"client": client_id, "trust": trust, "rule": rule.rule_id, "match": [str(one) for one in conditions]}
    await operator.change(None, [AddRule(record)], "client.trust_added", facts)
    return record


@reads("rule.list")
async def list_rules(operator: Operator, client_id: str) -> tuple[RuleRecord, ...]:
    """The rules of a client by their ids. Raises NotRegistered."""
    await find_client(operator, client_id)
    return await operator.store.rules_of(client_id=client_id)


@dataclass(frozen=True, slots=True)
class RuleRemoval:
    """A rule that goes, and whom that hits: the client, where nothing else lets it in."""

    seen: int
    record: RuleRecord
    losses: tuple[Loss, ...]


async def plan_rule_removal(operator: Operator, client_id: str, rule_id: str) -> RuleRemoval:
    """Whom `remove_rule` would hit; changes nothing. Raises NotRegistered."""
    seen = await operator.store.registry_version()
    record = await _find_rule(operator, client_id, rule_id)
    return RuleRemoval(seen, record, await losses_without(operator, [record]))


@writes("rule.remove", plan=plan_rule_removal)
@again_if_moved
async def remove_rule(operator: Operator, client_id: str, rule_id: str) -> RuleRemoval:
    """Remove a rule, with effect on the next request; returns whom that hit. Raises NotRegistered."""
    plan = await plan_rule_removal(operator, client_id, rule_id)
    facts = {"client": client_id, "trust": plan.record.rule.trust, "rule": rule_id}
    await operator.change(plan.seen, [RemoveRule(client_id, rule_id)], "client.trust_removed", facts)
    return plan


async def _find_rule(operator: Operator, client_id: str, rule_id: str) -> RuleRecord:
    for record in await list_rules(operator, client_id):
        if record.rule.rule_id == rule_id:
            return record
    raise NotRegistered(f"client {client_id} has no rule {rule_id}. See: groat client trust list {client_id}")
