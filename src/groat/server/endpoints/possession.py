"""What the token endpoint does with proofs of possession (RFC 9449 5, 8): before, beside and behind authentication.

A request without a proof comes nowhere near here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from groat.protocol.dpop import Life, Proof, Target, UnverifiedProof, check_proof, read_proof
from groat.protocol.dpop_nonce import Nonces
from groat.protocol.errors import InvalidDpopProof, JoseError, UseDpopNonce
from groat.protocol.htu import normal_url
from groat.protocol.models import Policy
from groat.protocol.passing import passing
from groat.protocol.proof_rules import NonceMode
from groat.server.http.exchange import Exchange
from groat.server.http.throttle import Throttle


@passing()
class Shown:
    """A proof whose form is sound. `nonce`: the life of the one in it, if that is good and counts."""

    proof: UnverifiedProof
    nonce: Life | None


@dataclass(frozen=True, slots=True)
class Possession:
    """The steps with a proof, each of which may refuse. Failures count like those of authentication."""

    nonces: Nonces
    throttle: Throttle

    def read(self, values: Sequence[bytes], exchange: Exchange, now: float) -> Shown:
        """`proof_form` and `nonce` of protocol/order.py: nothing is used up yet, and no signature was looked at.

        Raises InvalidDpopProof, UseDpopNonce, TooManyRequests.
        """
        rules = exchange.in_force.policy.proofs
        try:
            proof = read_proof(values, rules)
        except JoseError as error:
            raise self._failed(exchange, error) from None
        if rules.nonces is NonceMode.OFF:
            return Shown(proof, None)
        life = None if proof.nonce is None else self.nonces.life(proof.nonce, now)
        if life is None and (proof.nonce is not None or rules.nonces is NonceMode.REQUIRED):
            # No failure: a caller cannot know the nonce of now in any other way.
            why = "no nonce" if proof.nonce is None else "a nonce that is stale, or not of this server"
            hint = f"the proof has {why}; the answer has one for the next try"
            challenge = UseDpopNonce("dpop_nonce", hint)
            challenge.nonce = self.nonces.current(now)
            raise challenge
        return Shown(proof, life if rules.nonces is NonceMode.REQUIRED else None)

    def check(self, shown: Shown, exchange: Exchange, now: float) -> Proof:
        """`proof` of protocol/order.py. Raises InvalidDpopProof, TooManyRequests."""
        policy, began = exchange.in_force.policy, time.thread_time()
        try:
            return check_proof(shown.proof, _target(policy), policy.proofs, now, shown.nonce)
        except JoseError as error:
            exchange.proving += time.thread_time() - began
            raise self._failed(exchange, error) from None

    def offer(self, shown: Shown, exchange: Exchange, now: float) -> tuple[tuple[bytes, bytes], ...]:
        """The header with the nonce of now, for who shows proofs and has another one or none (RFC 9449 8.2)."""
        if exchange.in_force.policy.proofs.nonces is NonceMode.OFF:
            return ()
        nonce = self.nonces.current(now)
        return () if shown.proof.nonce == nonce else ((b"dpop-nonce", nonce.encode()),)

    def _failed(self, exchange: Exchange, error: JoseError) -> Exception:
        return self.throttle.failed(exchange, InvalidDpopProof(f"dpop_{error.reason}", error.hint))


@lru_cache(maxsize=8)  # the policy in force, and those before it
def _target(policy: Policy) -> Target:
    return Target("POST", frozenset(map(normal_url, policy.token_urls)))
