"""What a TLS handshake tells of the peer: the certificate that it has shown."""

import ssl
from collections.abc import Sequence
from typing import Any

from groat.protocol.client_certificate import MAX_CHAIN, NOTHING, ClientCertificate, Presented


def certificate_of(spoken: Any) -> Presented | None:
    """The certificate of the peer; NOTHING where it was asked for one and has none, None where nobody asked.

    `spoken`: an SSLObject. What came along with the certificate is known to Python 3.13 and later.
    """
    if spoken is None or spoken.context.verify_mode is ssl.VerifyMode.CERT_NONE:
        return None
    der = spoken.getpeercert(binary_form=True)
    if der is None:
        return NOTHING
    chain: Sequence[bytes] = getattr(spoken, "get_unverified_chain", tuple)()
    # TLS lets a peer send hundreds, and each would cost the check of a signature.
    return Presented(ClientCertificate(der, tuple(one for one in chain if one != der)[:MAX_CHAIN]))
