"""The one form of an object: its document as a file could have it, whether it is wanted, registered or exported.

What has its default is left out and what has no order is sorted, so that equal documents mean equal objects.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from groat.protocol import strict_json
from groat.protocol.binding import Binding
from groat.protocol.client_settings import CLIENT_SETTINGS, DEFAULTS, ClientSettings, Kind
from groat.protocol.errors import JoseError
from groat.protocol.federation.claim_paths import ClaimPath, written
from groat.protocol.federation.conditions import Condition
from groat.protocol.federation.rules import Rule
from groat.protocol.federation.trust import KeySource, SourceKind, Trust, Use
from groat.protocol.key_limits import KeyLimits
from groat.protocol.listing import Listing
from groat.server.desired.wanted import WantedClient
from groat.server.settings.readers import length
from groat.server.store.records import ApiRecord, ClientKeyRecord, ClientRecord
from groat.server.store.trusted_time import instant

Form = dict[str, Any]


def api_form(api: ApiRecord, keys: Sequence[Form]) -> Form:
    """Of an API, with the keys that it asks with, where it has any."""
    form: Form = {"audience": api.audience, "scopes": sorted(api.scopes)}
    form |= {} if api.token_lifetime is None else {"token_lifetime": length(api.token_lifetime)}
    form |= {} if api.binding is Binding.NONE else {"binding": api.binding.value}
    form |= {} if api.status is Listing.NONE else {"status": api.status.value}
    return form | ({"keys": _in_order(keys)} if keys else {})


def client_form(client: ClientRecord, keys: Sequence[Form] | None, rules: Sequence[Form]) -> Form:
    """Of a client. `keys`: None where it is open which it has."""
    form: Form = {"allow": {api: sorted(scopes) for api, scopes in sorted(client.allow.items()) if scopes}}
    if not client.enabled:
        form["enabled"] = False
    form |= settings_form(client.settings)
    if keys is not None:
        form["keys"] = _in_order(keys)
    return form | ({"rules": sorted(rules, key=json.dumps)} if rules else {})


def _in_order(keys: Iterable[Form]) -> list[Form]:
    return sorted(keys, key=lambda key: str(key["jwk"]["kid"]))


def settings_form(settings: ClientSettings) -> Form:
    """Of every setting of a client that is not as it is without being set."""
    form: Form = {}
    for name, told in CLIENT_SETTINGS.items():
        value = getattr(settings, name)
        if value != getattr(DEFAULTS, name):
            form[name] = length(value) if told.kind is Kind.SPAN else _plain(value)
    return form


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def wanted_client_form(wanted: WantedClient) -> Form:
    """Of a client as it is wanted."""
    record = ClientRecord(wanted.client_id, dict(wanted.allow), 0, wanted.runs, wanted.settings)
    keys = None if wanted.keys is None else [key_form(one.key.jwk, one.limits) for one in wanted.keys]
    rules = [rule_form(one.trust, one.conditions, one.copied, one.allows) for one in wanted.rules]
    return client_form(record, keys, rules)


def key_form(jwk: Mapping[str, Any], limits: KeyLimits) -> Form:
    """Of one public key, which stands in the file itself."""
    ends = {"not_before": limits.not_before, "expires_at": limits.expires_at}
    return {
        "jwk": dict(sorted(jwk.items())),
        **{name: instant(at) for name, at in ends.items() if at is not None},
    }


def key_forms(keys: Iterable[ClientKeyRecord]) -> list[Form]:
    """Of registered keys of a client."""
    return [key_form(key.jwk, key.limits) for key in keys]


def key_text(kid: str, jwk: Mapping[str, Any]) -> str:
    """What tells one key of an owner from another."""
    return json.dumps({"kid": kid, "jwk": dict(jwk)}, sort_keys=True)


def rule_form(trust: str, conditions: Iterable[Condition], copied: Iterable[ClaimPath], allows: Iterable[str]) -> Form:
    """Of a rule, without its id: what it says is all that it is."""
    form: Form = {"trust": trust, "match": sorted(map(str, conditions))}
    for name, values in (("copy", sorted(map(written, copied))), ("allow", sorted(allows))):
        form |= {name: values} if values else {}
    return form


def rule_form_of(rule: Rule) -> Form:
    """Of a registered rule."""
    return rule_form(rule.trust, rule.conditions, rule.copied, rule.allows)


def trust_form(trust: Trust) -> Form:
    """Of a trust. What its preset would choose is written all the same: presets may choose otherwise one day."""
    form: Form = {"issuer": trust.issuer}
    form |= {"preset": trust.preset} if trust.preset else {}
    form |= _source_form(trust.source) | {"algorithms": sorted(trust.algorithms)}
    form |= {"audiences": sorted(trust.audiences)} if trust.audiences else {}
    form |= {"max_lifetime": length(trust.max_lifetime), "replay": trust.replay.value}
    form |= {"uses": sorted(use.value for use in trust.uses)} if trust.uses != frozenset(Use) else {}
    if trust.review is not None:
        form["review"] = {name: path for name, path in asdict(trust.review).items() if path}
    return form | ({} if trust.enabled else {"enabled": False})


def _source_form(source: KeySource) -> Form:
    if source.kind is SourceKind.DISCOVERY:
        return {"discovery": True}
    at = one_text(source.at) if source.kind is SourceKind.COPIED else source.at
    more = {"ca_file": source.ca_file, "token_file": source.token_file}
    return {source.kind.value: at, **{name: path for name, path in more.items() if path}}


def one_text(key_set: str) -> str:
    """A key set as the one text that all texts with its meaning become; what is no JSON stays as it is."""
    try:
        return json.dumps(strict_json.loads_object(key_set.encode()), sort_keys=True, separators=(",", ":"))
    except JoseError:
        return key_set
