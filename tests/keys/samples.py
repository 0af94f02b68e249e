"""One key for every algorithm, and what must never be seen of a private one."""

from collections.abc import Mapping
from typing import Final

from joserfc.jwk import RSAKey

from groat.protocol.jwk import ALGORITHMS, PrivateKey, generate_private_key, private_key

# Generating RSA keys is slow: one pair serves all six names, each PrivateKey is bound to one of them.
_RSA_PAIR: Final = RSAKey.generate_key(2048)
KEYS: Final[Mapping[str, PrivateKey]] = {
    name: private_key(_RSA_PAIR, name) if known.key_type == "RSA" else generate_private_key(name)
    for name, known in ALGORITHMS.items()
}
CURVE_NAMES: Final = tuple(name for name, known in ALGORITHMS.items() if known.key_type != "RSA")


def secrets_of(key: PrivateKey) -> tuple[str, ...]:
    """The private members of a key, as they would show in JSON or a repr."""
    private = key.private_jwk()
    return tuple(str(private[name]) for name in ("d", "p", "q", "dp", "dq", "qi") if name in private)
