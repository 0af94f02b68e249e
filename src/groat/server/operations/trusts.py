"""What an operator may do with trusts: the issuers whose tokens are taken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from groat.protocol import strict_json
from groat.protocol.client_auth.workload import disabled
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.federation.foreign_token import (
    Presented,
    check_claims,
    check_issuer,
    match_claims,
    prove,
    read,
)
from groat.protocol.federation.keys import read_keys
from groat.protocol.federation.presets import check_trust, preset_of
from groat.protocol.federation.rules import Match
from groat.protocol.federation.trust import KeySource, Replay, Review, SourceKind, Trust, Use
from groat.protocol.jwk import PublicKey
from groat.protocol.unset import UNSET, Unset
from groat.server.operations.losses import Loss, refuse_others
from groat.server.operations.operation import reads, writes
from groat.server.operations.operator import NotRegistered, Operator, again_if_moved
from groat.server.operations.rule_losses import losses_without
from groat.server.store.records import RuleRecord, TrustRecord
from groat.server.store.trust_changes import AddTrust, RemoveTrust, ReplaceTrust, SwitchTrust


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustChange:
    """What becomes of a trust: whatever is not UNSET. Of a new one, whatever is UNSET is its preset's."""

    source: KeySource | Unset = UNSET
    algorithms: tuple[str, ...] | Unset = UNSET
    audiences: tuple[str, ...] | Unset = UNSET
    max_lifetime: int | Unset = UNSET
    replay: Replay | Unset = UNSET
    uses: frozenset[Use] | Unset = UNSET
    review: Review | Unset | None = UNSET

    def applied(self, trust: Trust) -> Trust:
        """The trust after this change. Raises ConfigError."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return replace(trust, **{name: value for name, value in found.items() if value is not UNSET})


def new_trust(operator: Operator, name: str, issuer: str, preset: str, change: TrustChange) -> Trust:
    """The trust that `add_trust` would register: what `change` leaves open is chosen by its preset."""
    if isinstance(change.source, Unset):
        raise ConfigError("say where the keys of the issuer come from")
    plain = Trust(name=name, issuer=issuer, source=change.source, preset=preset, algorithms=("RS256",))
    defaults = preset_of(plain)
    usual = replace(
        plain,
        algorithms=tuple(name for name in defaults.algorithms if name in operator.policy.algorithms),
        replay=defaults.replay,
        max_lifetime=defaults.max_lifetime,
    )
    return change.applied(usual)


@writes("trust.add")
async def add_trust(operator: Operator, name: str, issuer: str, preset: str, change: TrustChange) -> TrustRecord:
    """Trust an issuer. Its keys have one source, which `change` names."""
    record = TrustRecord(_checked(operator, new_trust(operator, name, issuer, preset, change)), operator.now)
    await operator.change(None, [AddTrust(record)], "trust.added", {"trust": name, "issuer": issuer})
    return record


def _checked(operator: Operator, trust: Trust) -> Trust:
    """What the trust alone cannot know. Raises ConfigError."""
    check_trust(trust)
    if trust.issuer.rstrip("/") == operator.policy.issuer.rstrip("/"):
        raise ConfigError("that is this server itself: its tokens are for APIs, and no proof of who asks here")
    if outside := [name for name in trust.algorithms if name not in operator.policy.algorithms]:
        raise ConfigError(f"{outside[0]} is outside profile {operator.policy.profile}")
    if trust.source.kind is SourceKind.COPIED and not keys_in(trust.source.at, trust):
        raise ConfigError("the key set holds no key that this trust could use")
    return trust


def keys_in(text: str, trust: Trust) -> tuple[PublicKey, ...]:
    """The keys of a set that fit the algorithms of a trust. Raises ConfigError."""
    try:
        found = read_keys(strict_json.loads_object(text.encode()), preset_of(trust))
    except JoseError as error:
        raise ConfigError(f"the key set cannot be used: {error.hint}") from None
    return tuple(key for key in found.keys if key.algorithms & set(trust.algorithms))


@reads("trust.list")
async def list_trusts(operator: Operator) -> tuple[TrustRecord, ...]:
    """All trusts by name."""
    return await operator.store.list_trusts()


@reads("trust.show")
async def find_trust(operator: Operator, name: str) -> TrustRecord:
    """One trust. Raises NotRegistered."""
    for record in await operator.store.list_trusts():
        if record.trust.name == name:
            return record
    raise NotRegistered(f"no trust {name}. See: groat trust list")


@writes("trust.update")
@again_if_moved
async def update_trust(operator: Operator, name: str, change: TrustChange) -> TrustRecord:
    """Change a trust, with effect on the next request; its name, issuer and preset stay."""
    seen = await operator.store.registry_version()
    record = await find_trust(operator, name)
    changed = replace(record, trust=_checked(operator, change.applied(record.trust)))
    await operator.change(seen, [ReplaceTrust(changed.trust)], "trust.updated", {"trust": name})
    return changed


@dataclass(frozen=True, slots=True)
class TrustEnd:
    """The rules that go or count no more with a trust, and whom that hits."""

    seen: int
    rules: tuple[RuleRecord, ...]
    losses: tuple[Loss, ...]


async def plan_trust_stop(operator: Operator, name: str) -> TrustEnd:
    """Whom disabling a trust would hit: every client that nothing else lets in. Raises NotRegistered."""
    return await _end(operator, name, always=False)


async def _end(operator: Operator, name: str, *, always: bool) -> TrustEnd:
    seen = await operator.store.registry_version()
    await find_trust(operator, name)
    rules = await operator.store.rules_of(trust=name)
    return TrustEnd(seen, rules, await losses_without(operator, rules, always=always))


@writes("trust.enable", plan=plan_trust_stop)
async def enable_trust(operator: Operator, name: str, *, enabled: bool) -> TrustRecord:
    """Take tokens of a trust again, or none from the next request on."""
    record = await find_trust(operator, name)
    operation = "trust.enabled" if enabled else "trust.disabled"
    await operator.change(None, [SwitchTrust(name, enabled)], operation, {"trust": name})
    return replace(record, trust=replace(record.trust, enabled=enabled))


async def plan_trust_removal(operator: Operator, name: str) -> TrustEnd:
    """Whom `remove_trust` would hit: every client that has a rule of it. Raises NotRegistered."""
    return await _end(operator, name, always=True)


@writes("trust.remove", plan=plan_trust_removal)
@again_if_moved
async def remove_trust(
    operator: Operator, name: str, *, agreed: Sequence[Loss] | None = None
) -> tuple[RuleRecord, ...]:
    """Trust an issuer no more; the rules about its tokens go along, and are returned. `agreed`: as in `update_api`."""
    plan = await plan_trust_removal(operator, name)
    refuse_others(agreed, plan.losses)
    facts = {"trust": name, "clients": [loss.client_id for loss in plan.losses]}
    await operator.change(plan.seen, [RemoveTrust(name)], "trust.removed", facts)
    return plan.rules


@reads("trust.test")
async def explain_token(
    operator: Operator, name: str, token: str, keys: Sequence[PublicKey] | None, client_id: str | None = None
) -> dict[str, Any]:
    """What would become of a token of this trust now: the client and the rule, or what is wrong with it and where.

    `keys`: None where they are not at hand; then its signature is not looked at, and the answer says so. Nothing is
    used up. Raises NotRegistered, ConfigError for what is no JWT.
    """
    trust = (await find_trust(operator, name)).trust
    rules = [record.rule for record in await operator.store.rules_of(trust=name)]
    use = Use.GRANT if Use.GRANT in trust.uses else Use.AUTHENTICATION
    try:
        # As it would come: what a trust domain issues for authentication has an assertion type of its own.
        presented = read(token, use, client_id, svid=use is Use.AUTHENTICATION and preset_of(trust).issuer_in_sub)
    except JoseError as error:
        raise ConfigError(f"that is no token: {error.hint}") from None
    found: dict[str, Any] = {"trust": name, "outcome": "refused", "signature": "not checked"}
    try:
        _examine(operator, presented, trust, keys)
        found["signature"] = "not checked" if keys is None else "good"
        met = match_claims(presented, trust, rules)
        await _check_client(operator, met)
    except JoseError as error:
        return found | {"reason": f"workload_{error.reason}", "hint": error.hint}
    shown = {"client_id": met.rule.client_id, "rule": met.rule.rule_id, "workload": dict(met.workload)}
    return found | {"outcome": "accepted", **shown, "counts": trust.replay.value}


def _examine(operator: Operator, presented: Presented, trust: Trust, keys: Sequence[PublicKey] | None) -> None:
    """Raises JoseError."""
    known = trust if trust.issuer in presented.issuers else None
    check_issuer(presented, known)
    if keys is None:
        check_claims(presented, trust, operator.policy, operator.now)
    else:
        prove(presented, trust, lambda: keys, operator.policy, operator.now)


async def _check_client(operator: Operator, met: Match) -> None:
    """The last step of the server's own way (`authenticated`). Raises JoseError."""
    found = await operator.store.find_client(met.rule.client_id)
    if found is None or not found.enabled:
        raise disabled(met)
