"""Which client a workload is: rules of conditions, and a choice that leaves nothing to chance (AS-JB-12, AS-JB-13)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.claim_names import REGISTERED_CLAIMS
from groat.protocol.differences import shown
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.federation.claim_paths import ClaimPath, claim_at, written
from groat.protocol.federation.conditions import Condition
from groat.protocol.passing import passing

MAX_CONDITIONS: Final = 20
MAX_COPIED: Final = 20
MAX_COPIED_BYTES: Final = 1024
# These say something about the foreign token, not about the workload; ours has its own.
_NEVER_COPIED: Final = REGISTERED_CLAIMS - {"sub", "client_id"}
ALLOW_DEFAULT: Final = "default"
ALLOW_NAMES: Final = "names"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who is this client: whoever fulfils all conditions. `copied`: claims that the access token shows, too.

    `allows`: what a preset refuses unless it is said so (ALLOW_DEFAULT, ALLOW_NAMES). Raises ConfigError. Not checked:
    whether the conditions name anybody in particular; that is the preset's to say.
    """

    rule_id: str
    trust: str
    client_id: str
    conditions: tuple[Condition, ...]
    copied: tuple[ClaimPath, ...] = ()
    allows: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < len(self.conditions) <= MAX_CONDITIONS:
            raise ConfigError(f"a rule has 1 to {MAX_CONDITIONS} conditions: --match CLAIM=VALUE")
        if len(self.copied) > MAX_COPIED:
            raise ConfigError(f"{MAX_COPIED} copied claims at most")
        for path in self.copied:
            if len(path) == 1 and path[0] in _NEVER_COPIED:
                raise ConfigError(f"--copy {path[0]}: it is about the foreign token, not about the workload")

    def on(self, *path: str) -> tuple[Condition, ...]:
        """Its conditions on this claim."""
        return tuple(condition for condition in self.conditions if condition.claim == path)

    def pins(self, *path: str) -> bool:
        """Whether it says exactly what this claim must be."""
        return any(condition.exact for condition in self.on(*path))

    def document(self) -> dict[str, Any]:
        """Everything, as people and programs are shown it."""
        return {
            "rule": self.rule_id,
            "client": self.client_id,
            "trust": self.trust,
            "match": [str(condition) for condition in self.conditions],
            "copy": [written(path) for path in self.copied],
            "allow": sorted(self.allows),
        }


@passing()
class Match:
    """The rule that a workload met, and what its access token shall show of it."""

    rule: Rule
    workload: Mapping[str, str | int | float]


def choose(rules: Sequence[Rule], claims: Mapping[str, Any], client_id: str | None, faults: Mapping[str, str]) -> Match:
    """The one client that these rules make of the workload; `client_id`: the one that the request names.

    `faults` by rule id: why a preset refuses what the rule would take. Several rules may lead to one client: the first
    by its id counts. Raises JoseError: "rule", "client", "ambiguous", "copy".
    """
    fitting = [rule for rule in rules if not faults.get(rule.rule_id) and _holds(rule, claims)]
    if not fitting:
        raise JoseError("rule", nearest(rules, claims, faults))
    clients = sorted({rule.client_id for rule in fitting})
    if client_id is None and len(clients) > 1:
        known = ", ".join(clients[:5])
        raise JoseError("ambiguous", f"it is {len(clients)} clients ({known}); say which with client_id")
    chosen = clients[0] if client_id is None else client_id
    if chosen not in clients:
        own = [rule for rule in rules if rule.client_id == chosen]
        why = nearest(own, claims, faults) if own else "that client has no rule that could fit"
        raise JoseError(
            "client", f"the workload is {', '.join(clients[:5])}, and the request names {shown(chosen)}: {why}"
        )
    rule = min((rule for rule in fitting if rule.client_id == chosen), key=lambda rule: rule.rule_id)
    return Match(rule, copy_claims(rule, claims))


def _holds(rule: Rule, claims: Mapping[str, Any]) -> bool:
    return all(condition.holds(claims) for condition in rule.conditions)


def nearest(rules: Sequence[Rule], claims: Mapping[str, Any], faults: Mapping[str, str]) -> str:
    """Of rules that do not fit, the one of which least is missing, and what that is."""
    missing = {rule.rule_id: [one for one in rule.conditions if not one.holds(claims)] for rule in rules}
    if not missing:
        return "no rule is about this subject"
    rule = min(rules, key=lambda rule: (len(missing[rule.rule_id]), rule.rule_id))
    faulty = [condition.explain(claims) for condition in missing[rule.rule_id]]
    why = faulty[0] if faulty else faults.get(rule.rule_id, "")
    more = f", and {len(faulty) - 1} more" if len(faulty) > 1 else ""
    return f"nearest is rule {rule.rule_id} of client {rule.client_id}: {why}{more}"


def copy_claims(rule: Rule, claims: Mapping[str, Any]) -> Mapping[str, str | int | float]:
    """The copied claims by their whole names; those that the token lacks are left out. Raises JoseError("copy")."""
    if not rule.copied:
        return {}
    found: dict[str, str | int | float] = {}
    for path in rule.copied:
        value = claim_at(claims, path)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise JoseError("copy", f"{written(path)} is no string or number, so rule {rule.rule_id} cannot copy it")
        found[written(path)] = value
    if len(strict_json.dumps(found)) > MAX_COPIED_BYTES:
        raise JoseError("copy", f"what rule {rule.rule_id} copies is over {MAX_COPIED_BYTES} bytes")
    return found
