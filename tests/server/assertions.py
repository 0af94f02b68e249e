"""What the modules about assertions share: an assertion that must be refused, and one more key of a client."""

from typing import Any, Final

from joserfc.jwk import RSAKey

from groat.protocol.jwk import (
    PrivateKey,
    base64url_encode,
)
from groat.server import operations
from tests.server.lab import Lab
from tests.server.wire import check_ec

B64 = base64url_encode
RSA_PAIR: Final = RSAKey.generate_key(2048)


def refused(lab: Lab, assertion: str, reason: str | None = None, **fields: Any) -> None:
    """EC on the outside; inside the given reason, where the test is about that one."""
    answer = lab.ask(assertion, **fields)
    check_ec(answer)
    if reason is not None:
        assert lab.reason(answer) == reason


def add_key(lab: Lab, client_id: str, key: PrivateKey) -> None:
    """Register one more key of a client."""
    lab.operate(lambda op: operations.add_client_keys(op, client_id, (key.public,)))


def server_key(lab: Lab) -> PrivateKey:
    """The authorization server's own private key, as its operator could unseal it."""
    keys = lab.operate(operations.list_signing_keys)
    return lab.kek.unseal(keys[0].sealed, keys[0].kid)
