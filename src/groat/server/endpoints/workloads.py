"""Who a workload is: from the token of another issuer to a client, by trusts, their keys and their rules.

The steps in the order of `federation/foreign_token.py`; for what a refusal does and who waits for whom, see `asking`.
"""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from groat.outbound.published import DEADLINE
from groat.protocol.client_auth.workload import ForeignCredential, authenticated
from groat.protocol.errors import JoseError
from groat.protocol.federation.foreign_token import Presented, Proven, check_issuer, match, prove
from groat.protocol.federation.trust import Trust
from groat.protocol.jwk import PublicKey
from groat.protocol.models import AuthenticatedClient, Policy
from groat.server.http.exchange import Exchange
from groat.server.registry.registry import Registry
from groat.server.registry.token_reviews import TokenReviews
from groat.server.registry.trust_keys import TrustKeys
from groat.server.registry.trusts import Trusts
from groat.server.store import StoreUnavailable

NOBODYS: Final = ""
Away = Callable[[], AbstractContextManager[None]]
MAX_NAME_CHARS: Final = 512  # of an issuer, and of a subject, by which those of one name are told from others


class NoKey(JoseError):
    """No key of a trusted issuer that is at hand is the token's; `keys`: those that were."""

    def __init__(self, hint: str, trust: Trust, keys: Sequence[PublicKey]) -> None:
        super().__init__("key", hint)
        self.trust, self.keys = trust, keys


def name_of(credential: ForeignCredential) -> str:
    """In whose name it comes, as far as it says: issuer and subject. Those of one name wait for each other.

    Not the issuer alone: anybody can write that of a public one. No client has such a name, as it has a line break.
    """
    presented = credential.presented
    sub = presented.jwt.claims.get("sub")
    subject = sub[:MAX_NAME_CHARS] if isinstance(sub, str) else NOBODYS
    return f"{next(iter(presented.issuers), NOBODYS)[:MAX_NAME_CHARS]}\n{subject}"


@dataclass(frozen=True, slots=True)
class Workloads:
    """What is known of other issuers. An issuer that nobody trusts is looked up in memory, and nothing is fetched."""

    registry: Registry
    trusts: Trusts
    keys: TrustKeys
    reviews: TokenReviews = field(default_factory=TokenReviews)

    async def identify(
        self, credential: ForeignCredential, exchange: Exchange, now: float, away: Away
    ) -> AuthenticatedClient:
        """The client that this workload is. Raises StoreUnavailable, JoseError.

        NoKey where newer keys may help, Unreviewed where its cluster does not answer. `away`: entered while that is
        asked whether the token still counts, where its trust wants that.
        """
        presented, policy = credential.presented, exchange.in_force.policy
        known = await self.trusts.find(presented.issuers)
        exchange.trust = "" if known is None else known.name
        # Of a good one, too: anybody has a good token of a public platform, and no rule may know him.
        with exchange.timed():
            trust = check_issuer(presented, known)
            proven = self._prove(presented, trust, policy, now)
        met = match(proven, await self.trusts.rules_about(trust, proven.claims))
        client = authenticated(proven, met, await self.registry.find_client(met.rule.client_id), policy)
        if trust.review is not None and not self.reviews.knows(trust.review, presented):
            with away():
                await self.reviews.check(trust.review, presented)
        return client

    def _prove(self, presented: Presented, trust: Trust, policy: Policy, now: float) -> Proven:
        keys: Sequence[PublicKey] = ()

        def at_hand() -> Sequence[PublicKey]:
            nonlocal keys
            keys = self.keys.at_hand(trust)
            return keys

        try:
            return prove(presented, trust, at_hand, policy, now)
        except JoseError as error:
            raise NoKey(error.hint, trust, keys) if error.reason == "key" else error from None

    async def newer_keys(self, missing: NoKey, seconds: float) -> bool:
        """Look for newer keys of a trusted issuer beside, and wait for them so long at most; whether there are others.

        Where there are none a forged token need not cost a second signature.
        """
        if self.keys.at_hand(missing.trust) is missing.keys:
            self.keys.ask(missing.trust)
            await self.keys.landed(missing.trust, seconds)
        return self.keys.at_hand(missing.trust) is not missing.keys

    async def warm(self) -> None:
        """Have the keys of all trusts at hand before the first request; not longer than one fetch may take."""
        await self.tend()
        await self.keys.sets.settle(DEADLINE)

    async def tend(self) -> None:
        """Begin to fetch those that are due, of new trusts, too; forget those of trusts that are gone."""
        with contextlib.suppress(StoreUnavailable):  # then those that were known before are tended
            self.keys.keep(await self.trusts.all())
        self.keys.sets.tend()
