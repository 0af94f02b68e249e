"""All of a registry at one moment, as records by name and in the form of files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from groat.protocol.key_limits import UNLIMITED
from groat.server.desired.forms import Form, api_form, client_form, key_form, key_forms, rule_form_of, trust_form
from groat.server.desired.wanted import API, CLIENT, TRUST
from groat.server.operations.admin import ADMIN_API
from groat.server.store.records import ApiKeyRecord, ApiRecord, ClientKeyRecord, ClientRecord, RuleRecord, TrustRecord
from groat.server.store.sqlite.draft import Draft

Object = tuple[str, str]  # kind, name
# APIs that the server registers for itself: no file has them, and none takes them away.
OWN_APIS: Final = frozenset({ADMIN_API})


@dataclass(frozen=True, slots=True)
class Registered:
    """Keys and rules by their client, keys of APIs by their API."""

    apis: Mapping[str, ApiRecord]
    clients: Mapping[str, ClientRecord]
    trusts: Mapping[str, TrustRecord]
    keys: Mapping[str, list[ClientKeyRecord]]
    rules: Mapping[str, list[RuleRecord]]
    api_keys: Mapping[str, list[ApiKeyRecord]]
    written: int  # how many changes had been made by then

    @classmethod
    async def of(cls, draft: Draft) -> "Registered":
        """By few statements, however many clients there are. Raises StoreUnavailable for what cannot be read."""
        keys: dict[str, list[ClientKeyRecord]] = {}
        rules: dict[str, list[RuleRecord]] = {}
        api_keys: dict[str, list[ApiKeyRecord]] = {}
        for key in await draft.all_keys():
            keys.setdefault(key.client_id, []).append(key)
        for rule in await draft.all_rules():
            rules.setdefault(rule.rule.client_id, []).append(rule)
        for one in await draft.all_api_keys():
            api_keys.setdefault(one.api, []).append(one)
        return cls(
            {one.name: one for one in await draft.list_apis()},
            {one.client_id: one for one in await draft.list_clients()},
            {one.trust.name: one for one in await draft.list_trusts()},
            keys,
            rules,
            api_keys,
            len(draft.written),
        )

    async def again(self, draft: Draft) -> "Registered":
        """The same of now; this very value where nothing was changed."""
        return self if len(draft.written) == self.written else await Registered.of(draft)

    def forms(self) -> dict[Object, Form]:
        """Each object as a file would have it, but for the server's own."""
        found: dict[Object, Form] = {}
        found |= {(API, name): self.api_form(name) for name in self.apis if name not in OWN_APIS}
        found |= {(TRUST, name): trust_form(one.trust) for name, one in self.trusts.items()}
        return found | {(CLIENT, name): self.client_form(name) for name in self.clients}

    def api_form(self, name: str) -> Form:
        """Of one API."""
        return api_form(self.apis[name], [key_form(key.jwk, UNLIMITED) for key in self.api_keys.get(name, ())])

    def client_form(self, name: str, *, keys: bool = True) -> Form:
        """Of one client; without its keys, where it is open which it has."""
        rules = [rule_form_of(one.rule) for one in self.rules.get(name, ())]
        return client_form(self.clients[name], key_forms(self.keys.get(name, ())) if keys else None, rules)
