"""The keys of trusts, at hand: copied ones in the store, the others fetched or read beside.

A file is read as a set is fetched: in a thread, ahead of its time, for all who need it. So a disk that hangs is in
nobody's way (docs/decisions/0064-federation.md), and the last good keys serve while the new ones cannot be had.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from groat.outbound.public_address import Networks
from groat.outbound.published import DEADLINE, MAX_BYTES, Document, Fetched, Refused, fetch_document
from groat.outbound.real_time import monotonic
from groat.protocol import strict_json
from groat.protocol.errors import JoseError
from groat.protocol.federation.keys import read_keys
from groat.protocol.federation.presets import GENERIC, PRESETS, preset_of
from groat.protocol.federation.spiffe import KEY_USE, sequence_of
from groat.protocol.federation.trust import SourceKind, Trust
from groat.protocol.jwk import PublicKey
from groat.protocol.uris import key_set_fault
from groat.server.registry.host_turns import HostTurns
from groat.server.registry.key_sets import ClientKeySets, Report, silent
from groat.server.registry.private_source import bytes_of, private_context, secret_of

FILE_SECONDS: Final = 5.0  # after which a file is looked at again
MIN_REFRESH, MAX_REFRESH = 60, 3600  # of a SPIFFE bundle's own hint


@lru_cache(maxsize=1024)
def _place(trust: Trust) -> str:
    """What the keys of a trust are known by: where they come from, and everything that decides what they are."""
    source = trust.source
    at = trust.issuer if source.kind is SourceKind.DISCOVERY else source.at
    return (
        f"{at}#{json.dumps([source.kind, source.ca_file, source.token_file, preset_of(trust).key_use, trust.issuer])}"
    )


@lru_cache(maxsize=256)
def _copied(text: str, preset: str) -> tuple[PublicKey, ...]:
    """The keys of a copied set; none where it cannot be read, which was checked when it was written."""
    try:
        return read_keys(strict_json.loads_object(text.encode()), PRESETS.get(preset, GENERIC)).keys
    except JoseError:
        return ()


@dataclass(slots=True)
class TrustKeys:
    """Keys by trust. `allowed`: private networks that an address may lead to; `report` hears of every fetch.

    `turns`: those of other fetches that count together with these.
    """

    allowed: Networks = ()
    report: Report = silent
    turns: HostTurns = field(default_factory=HostTurns)
    sets: ClientKeySets = field(init=False)
    _trusts: dict[str, Trust] = field(default_factory=dict, init=False)
    _sequences: dict[str, int] = field(default_factory=dict, init=False)
    _kept: Mapping[str, Trust] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sets = ClientKeySets(self._fetch, self.report, turns=self.turns)

    def at_hand(self, trust: Trust) -> tuple[PublicKey, ...]:
        """The keys that count now; what is due is fetched beside."""
        if trust.source.kind is SourceKind.COPIED:
            return _copied(trust.source.at, trust.preset)
        place = _place(trust)
        self._trusts[place] = trust
        return self.sets.at_hand(place)

    def ask(self, trust: Trust) -> None:
        """A token names a key that is not at hand: look for a newer set beside, once in half a minute."""
        if trust.source.kind is not SourceKind.COPIED:
            self._trusts[_place(trust)] = trust
            self.sets.ask(_place(trust))

    async def landed(self, trust: Trust, seconds: float) -> None:
        """Wait for what is under way, so long at most."""
        if trust.source.kind is not SourceKind.COPIED:
            await self.sets.landed(_place(trust), seconds)

    def look(self, trust: Trust) -> tuple[PublicKey, ...]:
        """The keys as they are there now, for an operator who wants to know; blocks. Raises Refused."""
        if trust.source.kind is SourceKind.COPIED:
            return _copied(trust.source.at, trust.preset)
        self._trusts[_place(trust)] = trust
        return self._fetch(_place(trust)).keys

    def keep(self, trusts: Mapping[str, Trust]) -> None:
        """Forget the sets of trusts that are gone, and have those of the others at hand, once they are tended."""
        if trusts is self._kept:
            return
        remote = {_place(one): one for one in trusts.values() if one.source.kind is not SourceKind.COPIED}
        self._trusts = remote
        for place in list(self._sequences):
            if place not in remote:
                del self._sequences[place]
        self._kept = trusts if self.sets.keep(remote) else None

    def _fetch(self, place: str) -> Fetched:
        """In a thread. Raises Refused."""
        trust = self._trusts.get(place)
        if trust is None:
            raise Refused("its trust was removed")
        source, deadline = trust.source, monotonic() + DEADLINE
        if source.kind is SourceKind.FILE:
            return self._usable(place, trust, Document(_file(source.at), FILE_SECONDS))
        uri = self._discovered(trust, deadline) if source.kind is SourceKind.DISCOVERY else source.at
        bearer = secret_of(source.token_file) if source.token_file else ""
        context = private_context(source.ca_file) if source.ca_file else None
        return self._usable(place, trust, fetch_document(uri, self.allowed, context, bearer, deadline))

    def _discovered(self, trust: Trust, deadline: float) -> str:
        """Where the issuer's own metadata say that its keys are (OpenID Discovery 4.3: only if they speak for it)."""
        uri = f"{trust.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = fetch_document(uri, self.allowed, deadline=deadline).members
        if document.get("issuer") != trust.issuer:
            raise Refused("the metadata of the issuer name another one, so nothing of them is used")
        found = document.get("jwks_uri")
        if not isinstance(found, str) or key_set_fault(found):
            raise Refused("the metadata of the issuer have no usable jwks_uri")
        return found

    def _usable(self, place: str, trust: Trust, found: Document) -> Fetched:
        preset = preset_of(trust)
        try:
            keys = read_keys(found.members, preset).keys
        except JoseError as error:
            raise Refused(error.hint) from None
        if preset.key_use != KEY_USE:
            return Fetched(keys, found.max_age)
        sequence, seen = sequence_of(found.members), self._sequences.get(place, 0)
        if sequence is not None and sequence < seen:
            raise Refused(f"the bundle counts {sequence}, and {seen} was seen: an older one")
        self._sequences[place] = sequence or seen
        return Fetched(keys, _refresh(found))


def _refresh(found: Document) -> float:
    """SPIFFE bundle 4.1.2, within bounds; a file is looked at as often as any."""
    hint = found.members.get("spiffe_refresh_hint")
    if found.max_age == FILE_SECONDS or isinstance(hint, bool) or not isinstance(hint, (int, float)):
        return found.max_age
    return float(min(MAX_REFRESH, max(MIN_REFRESH, hint)))


def _file(path: str) -> dict[str, Any]:
    try:
        return strict_json.loads_object(bytes_of(path, MAX_BYTES))
    except JoseError as error:
        raise Refused(f"{path}: {error.hint}") from None
