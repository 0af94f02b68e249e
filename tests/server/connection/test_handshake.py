"""What a handshake tells of the peer's certificate."""

import ssl
from types import SimpleNamespace

from groat.protocol.client_certificate import MAX_CHAIN
from groat.server.connection.handshake import certificate_of


def test_no_more_comes_along_than_belongs_to_a_chain() -> None:
    """TLS takes 100 KiB of certificates; each would cost the check of a signature. Python tells since 3.13."""
    along = [b"0%d" % number for number in range(300)]
    spoken = SimpleNamespace(
        context=SimpleNamespace(verify_mode=ssl.CERT_OPTIONAL),
        getpeercert=lambda binary_form: b"0leaf",
        get_unverified_chain=lambda: [b"0leaf", *along],
    )
    found = certificate_of(spoken)
    assert found is not None
    assert found.certificate is not None
    assert (found.certificate.der, found.certificate.chain) == (b"0leaf", tuple(along[:MAX_CHAIN]))
