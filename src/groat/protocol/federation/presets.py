"""The platforms by name, and what holds for an issuer without a preset; what is asked when a trust or rule is written.

A rule that could match a stranger is refused then, with what to pin instead.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from groat.protocol.errors import ConfigError
from groat.protocol.federation.claim_paths import claim_at, written
from groat.protocol.federation.clouds import AWS, ENTRA, GOOGLE
from groat.protocol.federation.conditions import Comparison
from groat.protocol.federation.kubernetes import KUBERNETES
from groat.protocol.federation.pipelines import GITHUB, GITLAB
from groat.protocol.federation.preset import NOTHING, Preset
from groat.protocol.federation.rules import ALLOW_DEFAULT, ALLOW_NAMES, Rule
from groat.protocol.federation.spiffe import SPIFFE
from groat.protocol.federation.trust import Replay, SourceKind, Trust

_IDS: Final = frozenset({"id", "uid", "oid"})


def _is_id(name: str) -> bool:
    return name in _IDS or name.endswith("_id")


def _generic_rule_fault(rule: Rule, issuer: str) -> str:
    """Of an issuer that nobody knows here: its subject, or a claim whose name says that it is an id."""
    if rule.on("sub") or any(condition.exact and _is_id(condition.claim[-1]) for condition in rule.conditions):
        return NOTHING
    return "pin the subject, --match sub=VALUE, or an id: a claim named id, uid, oid or ..._id"


def _generic_issuer_fault(issuer: str) -> str:
    return "say --preset spiffe for a trust domain" if issuer.startswith("spiffe://") else NOTHING


GENERIC: Final = Preset(
    name="",
    algorithms=("RS256", "ES256"),
    replay=Replay.ONCE,
    index=(("sub",),),
    rule_fault=_generic_rule_fault,
    issuer_fault=_generic_issuer_fault,
)
_ALL: Final = (KUBERNETES, GITHUB, GITLAB, AWS, GOOGLE, ENTRA, SPIFFE)
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
# Which preset knows of what a rule may allow.
_ALLOWED: Final = {ALLOW_DEFAULT: KUBERNETES.name, ALLOW_NAMES: GITHUB.name}


def preset_of(trust: Trust) -> Preset:
    """The preset of a trust. Raises ConfigError for a name that is none."""
    if not trust.preset:
        return GENERIC
    found = PRESETS.get(trust.preset)
    if found is None:
        raise ConfigError(f"unknown preset {trust.preset}; there are {', '.join(PRESETS)}")
    return found


def check_trust(trust: Trust) -> None:
    """Whether its preset takes this trust. Raises ConfigError."""
    preset = preset_of(trust)
    if fault := preset.issuer_fault(trust.issuer):
        raise ConfigError(fault)
    if preset is SPIFFE and not set(trust.algorithms) <= set(SPIFFE.algorithms):
        raise ConfigError(f"a JWT-SVID is signed by one of {', '.join(SPIFFE.algorithms)}")
    if preset is SPIFFE and trust.source.kind is SourceKind.DISCOVERY:
        raise ConfigError("a trust domain has no discovery: --jwks-uri for its bundle, or --jwks-file")
    if trust.review is not None and preset is not KUBERNETES:
        raise ConfigError("only a cluster reviews tokens: --review is for the preset kubernetes")
    if preset is SPIFFE and trust.replay is Replay.ONCE:
        raise ConfigError("agents present an SVID again and again, and it has no jti: --replay auto, bind or reuse")


def check_rule(rule: Rule, trust: Trust) -> None:
    """Whether the rule can match nobody but whom it names. Raises ConfigError that says what to pin instead."""
    for allowed in sorted(rule.allows):
        if _ALLOWED.get(allowed) != trust.preset:
            raise ConfigError(f"--allow-{allowed} is for the preset {_ALLOWED.get(allowed, 'of nobody')}")
    preset = preset_of(trust)
    for condition in rule.conditions:
        if condition.comparison is Comparison.CONTAINS and not preset.lists:
            raise ConfigError(f"--match {condition}: no claim of {preset.name} is a list, so it would match nothing")
    if fault := preset.rule_fault(rule, trust.issuer):
        raise ConfigError(fault)


def key_of(rule: Rule, preset: Preset) -> str:
    """Under which key this rule is found among many: a claim that must equal one value; empty: it is looked at always.

    So what a token costs does not grow with the rules of others.
    """
    for path in preset.index:
        for condition in rule.on(*path):
            if condition.comparison is Comparison.EQUALS:
                return str(condition)
    return ""


def keys_of(claims: Mapping[str, Any], preset: Preset) -> tuple[str, ...]:
    """The keys under which rules may be found that this token meets."""
    found = [(path, claim_at(claims, path)) for path in preset.index]
    return ("", *(f"{written(path)}={value}" for path, value in found if isinstance(value, str)))
