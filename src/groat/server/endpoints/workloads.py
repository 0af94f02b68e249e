"""Who a workload is: from the token of another issuer to a client, by trusts, their keys and their rules.

The steps in the order of `federation/foreign_token.py`; for what a refusal does and who waits for whom, see `asking`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from groat.outbound.published import DEADLINE
from groat.protocol.client_auth.workload import ForeignCredential, authenticated
from groat.protocol.federation.foreign_token import check_issuer, match, prove
from groat.protocol.models import AuthenticatedClient
from groat.server.http.exchange import Exchange
from groat.server.registry.registry import Registry
from groat.server.registry.trust_keys import TrustKeys
from groat.server.registry.trusts import Trusts
from groat.server.store import StoreUnavailable

NOBODYS: Final = ""


def name_of(credential: ForeignCredential) -> str:
    """In whose name it comes, as far as it says: its issuer. Those of one name wait for each other."""
    return next(iter(credential.presented.issuers), NOBODYS)


@dataclass(frozen=True, slots=True)
class Workloads:
    """What is known of other issuers. An issuer that nobody trusts is looked up in memory, and nothing is fetched."""

    registry: Registry
    trusts: Trusts
    keys: TrustKeys

    async def identify(self, credential: ForeignCredential, exchange: Exchange, now: float) -> AuthenticatedClient:
        """The client that this workload is. Raises JoseError, StoreUnavailable."""
        presented = credential.presented
        known = await self.trusts.find(presented.issuers)
        with exchange.timed():
            trust = check_issuer(presented, known)
            proven = prove(presented, trust, lambda: self.keys.at_hand(trust), exchange.in_force.policy, now)
        met = match(proven, await self.trusts.rules_about(trust, proven.claims))
        return authenticated(proven, met, await self.registry.find_client(met.rule.client_id))

    async def newer_keys(self, issuers: Sequence[str], seconds: float) -> None:
        """Look for newer keys of a trusted issuer beside, and wait for them so long at most."""
        trust = await self.trusts.find(issuers)
        if trust is not None:
            self.keys.ask(trust)
            await self.keys.landed(trust, seconds)

    async def warm(self) -> None:
        """Have the keys of all trusts at hand before the first request; not longer than one fetch may take."""
        try:
            self.keys.keep(await self.trusts.all())
        except StoreUnavailable:  # then the first request that needs them asks
            return
        await self.keys.sets.settle(DEADLINE)
