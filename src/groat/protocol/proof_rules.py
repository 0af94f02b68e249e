"""What proofs of possession may be like, as an operator sets it (RFC 9449 4.3, 8)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from groat.protocol.jwk import ALGORITHMS

PAST_SECONDS: Final = 60
# Without RSASSA-PKCS1-v1_5: FAPI 2.0 5.4.1 forbids it, and whoever makes a key for proofs has a better choice.
PROOF_ALGORITHMS: Final = frozenset(name for name in ALGORITHMS if not name.startswith("RS"))


class NonceMode(StrEnum):
    """Whether proofs carry a nonce of who checks them."""

    OFF = "off"  # none is given, one that comes counts nothing
    OPTIONAL = "optional"  # offered; one that comes must be good
    REQUIRED = "required"  # and then its time counts, not that of the caller's clock


@dataclass(frozen=True, slots=True)
class ProofRules:
    """`past`, `future`: seconds that iat may lie behind or ahead."""

    algorithms: frozenset[str] = PROOF_ALGORITHMS
    past: int = PAST_SECONDS
    future: int = 10
    nonces: NonceMode = NonceMode.OPTIONAL
