"""A port for a server that has to be told one."""

import contextlib
import random
import socket
from typing import Final

# Below the range from which the kernel takes the ports of outgoing connections, of which a busy machine makes many:
# nobody else comes by one of these, and a killed server gets its port again.
PORTS: Final = range(12_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, and no outgoing connection will take."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.choice(PORTS)
            probe.bind(("127.0.0.1", port))
            return port
