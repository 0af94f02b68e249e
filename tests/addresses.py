"""Names with several addresses, and addresses at which nobody answers: the network as it is on bad days."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest


@contextmanager
def black_hole(host: str = "127.0.0.2", port: int = 0) -> Iterator[int]:
    """A port that neither accepts nor refuses: its backlog is full, and whoever knocks hears nothing."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket(listener.family))
            knocking.setblocking(False)
            knocking.connect_ex(listener.getsockname())
        with socket.socket(listener.family) as probe, pytest.raises(TimeoutError):
            probe.settimeout(0.2)
            probe.connect(listener.getsockname())
        yield listener.getsockname()[1]


def resolve(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, Sequence[str]]) -> None:
    """Make the machine's resolver give these addresses for these names, in this order; all else stays as it is."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in names:
            return real(host, port, *args, **kwargs)
        kwargs["type"] = socket.SOCK_STREAM
        return [found for address in names[host] for found in real(address, port, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
