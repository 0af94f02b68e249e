"""Whom the removal of trusts and rules hits, by what is registered."""

from collections.abc import Sequence

from groat.server.operations.client_keys import key_life
from groat.server.operations.losses import Loss, has_proof, losses_of_rules
from groat.server.operations.operator import Operator
from groat.server.store.records import ClientRecord, RuleRecord


async def losses_without(operator: Operator, gone: Sequence[RuleRecord], *, always: bool = False) -> tuple[Loss, ...]:
    """The losses of the clients whose rules these are, by their ids; changes nothing. `always`: see `losses_of_rules`.

    A rule counts while its trust is enabled, a key while it is valid: what does not count lets nobody in.
    """
    counting = {record.trust.name for record in await operator.store.list_trusts() if record.trust.enabled}
    ids = {record.rule.rule_id for record in gone}
    losses: list[Loss] = []
    for client_id in sorted({record.rule.client_id for record in gone}):
        mine = [record.rule for record in gone if record.rule.client_id == client_id]
        others = await operator.store.rules_of(client_id=client_id)
        kept = any(one.rule.rule_id not in ids and one.rule.trust in counting for one in others)
        # Of a trust that is disabled nothing is lost that counted.
        idle = not any(rule.trust in counting for rule in mine)
        client = await operator.store.find_client(client_id)
        if client is not None:  # else it was removed meanwhile
            otherwise = kept or idle or await _has_proof(operator, client)
            losses += losses_of_rules(client, [rule.rule_id for rule in mine], otherwise=otherwise, always=always)
    return tuple(losses)


async def _has_proof(operator: Operator, client: ClientRecord) -> bool:
    keys = await operator.store.client_keys(client.client_id)
    return has_proof(client, [key for key in keys if key_life(key).valid(operator.now)])
