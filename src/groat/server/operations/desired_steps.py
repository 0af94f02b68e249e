"""From what is registered to what files want, object by object, by the operations that a person would call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Final

from groat.protocol.errors import ConfigError, Finding
from groat.server.desired.forms import key_text, trust_form
from groat.server.desired.places import Place
from groat.server.desired.wanted import API, CLIENT, TRUST, WantedApi, WantedKey, WantedTrust
from groat.server.operations import api_keys, apis, clients, trusts
from groat.server.operations.losses import Loss
from groat.server.operations.operator import NotRegistered, Operator
from groat.server.operations.registered import OWN_APIS, Object, Registered
from groat.server.store import StoreConflict
from groat.server.store.records import ApiKeyRecord, ApiRecord

_TRUST_FIELDS: Final = tuple(one.name for one in fields(trusts.TrustChange))


@dataclass(frozen=True, slots=True)
class Failure:
    """What an operation said no to. `because`: the object that it lacked, which may have failed itself."""

    finding: Finding
    because: Object | None = None


@dataclass(slots=True)
class Steps:
    """What is done, and what came of it: `failures` of this round, and `losses` of all rounds."""

    operator: Operator
    failures: dict[Object, list[Failure]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    @contextmanager
    def step(self, what: Object, place: Place, lacks: Object | None = None) -> Iterator[None]:
        """One operation; what it raises is noted with its place."""
        try:
            yield
        except ConfigError as error:
            for one in error.findings:
                kind, _, name = one.setting.partition(".")
                here = place.at(kind, name) if name else place.at(kind) if kind else place
                self._fail(what, here, one.message, (API, name) if kind == "allow" else lacks)
        except (StoreConflict, NotRegistered) as error:
            self._fail(what, place, str(error), lacks)

    def _fail(self, what: Object, place: Place, message: str, because: Object | None) -> None:
        finding = place.finding(f"{what[0]} {what[1]}: {message}")
        self.failures.setdefault(what, []).append(Failure(finding, because))

    def lose(self, losses: Sequence[Loss]) -> None:
        """Each once, also if it takes two rounds."""
        self.losses += [loss for loss in losses if loss not in self.losses]

    async def api(self, wanted: WantedApi, registered: Registered) -> None:
        now = registered.apis.get(wanted.name)
        with self.step((API, wanted.name), wanted.place):
            apis.check(wanted.name not in OWN_APIS, "the server has it for itself; leave it out")
            if now is None:
                terms = apis.ApiTerms(wanted.token_lifetime, wanted.binding, wanted.status)
                now = await apis.add_api(self.operator, wanted.name, wanted.audience, wanted.scopes, terms)
            else:
                await self._api(wanted, now)
        if now is None:
            return
        if wanted.keys is not None:
            await self._api_keys(wanted.name, wanted.keys, registered.api_keys.get(wanted.name, ()))

    async def _api(self, wanted: WantedApi, now: ApiRecord) -> None:
        wish = apis.ApiWish(
            audience=wanted.audience if wanted.audience != now.audience else None,
            add_scopes=[scope for scope in wanted.scopes if scope not in now.scopes],
            remove_scopes=[scope for scope in now.scopes if scope not in wanted.scopes],
            token_lifetime=wanted.token_lifetime,
            binding=wanted.binding,
            status=wanted.status,
        )
        plan = await apis.plan_api_update(self.operator, wanted.name, wish)
        if plan.changes:
            await apis.update_api(self.operator, wanted.name, wish)
            self.lose(plan.losses)

    async def _api_keys(self, name: str, keys: Sequence[WantedKey], now: Sequence[ApiKeyRecord]) -> None:
        have = {key_text(key.kid, key.jwk): key for key in now}
        want = {key_text(one.key.kid, one.key.jwk): one for one in keys}
        for text, key in have.items():
            if text not in want:
                await api_keys.remove_api_key(self.operator, name, key.kid)
        for text, one in want.items():
            with self.step((API, name), one.place):
                if text not in have:
                    await api_keys.add_api_keys(self.operator, name, [one.key])

    async def trust(self, wanted: WantedTrust, registered: Registered) -> None:
        what, operator = (TRUST, wanted.name), self.operator
        found = registered.trusts.get(wanted.name)
        with self.step(what, wanted.place):
            change = trusts.TrustChange(**wanted.given)
            if found is None:
                await trusts.add_trust(operator, wanted.name, wanted.issuer, wanted.preset, change)
                if not wanted.runs:
                    await trusts.enable_trust(operator, wanted.name, enabled=False)
                return
            now = found.trust
            for name in ("issuer", "preset"):
                if getattr(now, name) != getattr(wanted, name):
                    before = getattr(now, name) or "none"
                    raise ConfigError(Finding(f"its {name} is {before}, and stays: take another name", setting=name))
            new = trusts.new_trust(operator, wanted.name, wanted.issuer, wanted.preset, change)
            if trust_form(replace(new, enabled=now.enabled)) != trust_form(now):
                whole = trusts.TrustChange(**{name: getattr(new, name) for name in _TRUST_FIELDS})
                await trusts.update_trust(operator, wanted.name, whole)
            if wanted.runs and not now.enabled:
                await trusts.enable_trust(operator, wanted.name, enabled=True)

    async def stop_trust(self, wanted: WantedTrust, registered: Registered) -> None:
        """Once its clients have what lets them in instead, where the files give them that."""
        with self.step((TRUST, wanted.name), wanted.place.at("enabled")):
            if registered.trusts[wanted.name].trust.enabled:
                self.lose((await trusts.plan_trust_stop(self.operator, wanted.name)).losses)
                await trusts.enable_trust(self.operator, wanted.name, enabled=False)

    async def remove(self, what: Object) -> None:
        """Of an object that no file has."""
        kind, name = what
        with self.step(what, Place(None, ())):
            if kind == CLIENT:
                self.lose((await clients.plan_client_end(self.operator, name, for_good=True)).losses)
                await clients.remove_client(self.operator, name)
            elif kind == TRUST:
                self.lose((await trusts.plan_trust_removal(self.operator, name)).losses)
                await trusts.remove_trust(self.operator, name)
            else:
                self.lose((await apis.plan_api_removal(self.operator, name)).losses)
                await apis.remove_api(self.operator, name)
