"""What can be changed of trusts and of the rules about their tokens; as in `changes`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from groat.protocol.federation.trust import Trust
from groat.server.store import registry_sql as sql
from groat.server.store.audit_sql import CLIENTS_OF_TRUST
from groat.server.store.changes import Change, Transaction
from groat.server.store.conflicts import StoreConflict
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.trust_rows import rule_document, trust_document

# Rules that no claim finds are looked at for each token of their trust.
MAX_UNFOUND: Final = 1000


@dataclass(frozen=True, slots=True)
class AddTrust(Change):
    record: TrustRecord

    @property
    def object(self) -> str:
        return f"trust/{self.record.trust.name}"

    @property
    def conflict(self) -> str:
        trust = self.record.trust
        return f"a trust with name {trust.name} or issuer {trust.issuer} exists"

    async def write(self, transaction: Transaction) -> None:
        trust = self.record.trust
        values = trust.name, trust.issuer, trust_document(trust), trust.enabled, self.record.created_at
        await transaction.change(sql.ADD_TRUST, *values)


@dataclass(frozen=True, slots=True)
class ReplaceTrust(Change):
    """All but name, issuer and `enabled`. Not checked: whether there is such a trust."""

    trust: Trust

    @property
    def object(self) -> str:
        return f"trust/{self.trust.name}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REPLACE_TRUST, trust_document(self.trust), self.trust.name)


@dataclass(frozen=True, slots=True)
class SwitchTrust(Change):
    """Decided under whatever version: who switches a trust off wants that, and at once."""

    name: str
    enabled: bool

    @property
    def object(self) -> str:
        return f"trust/{self.name}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.SWITCH_TRUST, self.enabled, self.name)


@dataclass(frozen=True, slots=True)
class RemoveTrust(Change):
    """With all rules about its tokens."""

    name: str

    @property
    def object(self) -> str:
        return f"trust/{self.name}"

    async def touched(self, transaction: Transaction) -> Sequence[str]:
        rows = await transaction.rows(CLIENTS_OF_TRUST, self.name)
        return (self.object, *sorted(f"client/{row['client_id']}" for row in rows))

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REMOVE_RULES_ABOUT, self.name)
        await transaction.change(sql.REMOVE_TRUST, self.name)


@dataclass(frozen=True, slots=True)
class AddRule(Change):
    record: RuleRecord

    @property
    def object(self) -> str:
        return f"client/{self.record.rule.client_id}"

    async def write(self, transaction: Transaction) -> None:
        rule = self.record.rule
        if not await transaction.rows(sql.FIND_CLIENT, rule.client_id):
            raise StoreConflict(f"client {rule.client_id} was removed meanwhile")
        if not await transaction.rows(sql.FIND_TRUST, rule.trust):
            raise StoreConflict(f"trust {rule.trust} was removed meanwhile")
        if not self.record.found_by:
            (count,) = await transaction.rows(sql.COUNT_UNFOUND, rule.trust)
            if count["rules"] >= MAX_UNFOUND:
                raise StoreConflict(
                    f"trust {rule.trust} has {MAX_UNFOUND} rules that name no one value: pin the subject or an id by ="
                )
        values = rule.rule_id, rule.trust, rule.client_id, self.record.found_by, rule_document(rule)
        await transaction.change(sql.ADD_RULE, *values, self.record.created_at)


@dataclass(frozen=True, slots=True)
class RemoveRule(Change):
    client_id: str
    rule_id: str

    @property
    def object(self) -> str:
        return f"client/{self.client_id}"

    async def write(self, transaction: Transaction) -> None:
        await transaction.change(sql.REMOVE_RULE, self.client_id, self.rule_id)
