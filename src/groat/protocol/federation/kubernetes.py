"""Kubernetes: tokens that a cluster signs for the service account of a pod (AS-WI-01, AS-WI-02, AS-WI-04)."""

import re
from typing import Any, Final

from groat.protocol.differences import shown
from groat.protocol.federation.claim_paths import claim_at
from groat.protocol.federation.preset import NOTHING, Claims, Preset, values_on
from groat.protocol.federation.rules import ALLOW_DEFAULT, Rule
from groat.protocol.federation.trust import Replay

OBJECT: Final = "kubernetes.io"
_NAMESPACE: Final = (OBJECT, "namespace")
_ACCOUNT: Final = (OBJECT, "serviceaccount", "name")
_ACCOUNT_UID: Final = (OBJECT, "serviceaccount", "uid")
_POD_UID: Final = (OBJECT, "pod", "uid")
_SUBJECT: Final = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})")
_OF_NAMESPACE: Final = re.compile(r"system:serviceaccount:[a-z0-9-]{1,63}:")
_PIN = (
    "pin the service account, --match sub=system:serviceaccount:NAMESPACE:NAME, or all of a namespace, "
    "--match '\"kubernetes.io\".namespace=NAMESPACE'"
)


def rule_fault(rule: Rule, issuer: str) -> str:
    """A namespace is what keeps strangers apart in a cluster; the name of an account alone exists in each of them."""
    for condition in rule.on("sub"):
        form = _SUBJECT if condition.exact else _OF_NAMESPACE
        if odd := [value for value in condition.values if not form.fullmatch(value)]:
            return f"sub of a service account is system:serviceaccount:NAMESPACE:NAME, not {odd[0]}"
    if not (rule.on("sub") or rule.pins(*_NAMESPACE) or rule.pins(*_ACCOUNT_UID)):
        return _PIN
    subjects = [value.rpartition(":")[2] for value in values_on(rule, "sub")]
    if "default" in (*subjects, *values_on(rule, *_ACCOUNT)) and ALLOW_DEFAULT not in rule.allows:
        return "every pod without an account of its own is `default`: give this one its own, or say --allow-default"
    return NOTHING


def token_fault(claims: Claims, issuer: str) -> str:
    """Bound tokens only, and what they say twice must agree."""
    if not isinstance(claims.get(OBJECT), dict):
        return f"there is no {OBJECT} object: not a bound service account token"
    if "warnafter" in claims[OBJECT]:
        return "warnafter: the cluster made this one last a year; project a token with an audience of its own"
    if not _is_text(claim_at(claims, _POD_UID)):
        return "it is bound to no pod; project it into one (kubectl create token makes unbound ones)"
    namespace, account = claim_at(claims, _NAMESPACE), claim_at(claims, _ACCOUNT)
    if claims.get("sub") != f"system:serviceaccount:{namespace}:{account}":
        said = f"namespace {shown(namespace)}, name {shown(account)}"
        return f"sub is {shown(claims.get('sub'))}, and {OBJECT} says {said}"
    return NOTHING


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def guard(rule: Rule, claims: Claims) -> str:
    """The account `default` only where the rule says so."""
    if claim_at(claims, _ACCOUNT) == "default" and ALLOW_DEFAULT not in rule.allows:
        return "the service account is `default`, which --allow-default would admit"
    return NOTHING


KUBERNETES: Final = Preset(
    name="kubernetes",
    algorithms=("RS256", "ES256"),
    # A pod uses one token until the kubelet brings the next: most of an hour.
    replay=Replay.AUTO,
    index=(("sub",), _NAMESPACE, _ACCOUNT_UID),
    rule_fault=rule_fault,
    token_fault=token_fault,
    guard=guard,
    lists=False,
)
