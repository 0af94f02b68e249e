"""Connecting to a name that has several addresses, some of which may answer nothing (RFC 8305, Happy Eyeballs)."""

import errno
import os
import selectors
import socket
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any, Final, cast

from groat.outbound.real_time import monotonic, remaining

ATTEMPT_DELAY: Final = 0.25  # seconds until the next address gets its chance, too (RFC 8305 5)
MAX_ADDRESSES: Final = 16
_UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)})
Address = tuple[Any, ...]  # as getaddrinfo gives it


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """A TCP connection to whichever address answers first; `deadline` by `real_time.monotonic`.

    An address that refuses is followed by the next at once, one that keeps silent after 250 ms. Raises OSError: that
    of the last attempt, or TimeoutError. Not limited: the time that a name server takes.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("the host is no name that can be looked up") from None
    return connect_to(found, deadline)


def connect_to(found: Iterable[Address], deadline: float) -> socket.socket:
    """The same to addresses that were looked up before, and to no other."""
    sock = _race(_in_turns(found)[:MAX_ADDRESSES], deadline)
    sock.settimeout(remaining(deadline))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _in_turns(found: Iterable[Address]) -> list[Address]:
    """The address families in turns, the resolver's first choice first (RFC 8305 4)."""
    families: dict[int, list[Address]] = {}
    for address in found:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


def _race(addresses: list[Address], deadline: float) -> socket.socket:
    """Begin with one address after the other without giving up those under way; every loser is closed."""
    failure: OSError = TimeoutError("timed out")
    next_at = 0.0
    with selectors.DefaultSelector() as selector:
        try:
            while addresses or selector.get_map():
                left, now = remaining(deadline), monotonic()
                if addresses and now >= next_at:
                    fault = _begin(selector, addresses.pop(0))
                    failure, next_at = (failure, now + ATTEMPT_DELAY) if fault is None else (fault, now)
                    continue
                for key, _ in selector.select(min(left, next_at - now) if addresses else left):
                    sock = cast(socket.socket, key.fileobj)
                    fault = _end(selector, sock)
                    if fault is None:
                        return sock
                    failure, next_at = fault, now
        finally:
            for key in list(selector.get_map().values()):
                cast(socket.socket, key.fileobj).close()
    raise failure


def _begin(selector: selectors.BaseSelector, address: Address) -> OSError | None:
    """Start connecting, or say why that is impossible."""
    family, kind, protocol, _, where = address
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:  # a family that this host does not have
        return error
    sock.setblocking(False)
    code = sock.connect_ex(where)
    if code not in _UNDER_WAY:
        sock.close()
        return OSError(code, os.strerror(code))
    selector.register(sock, selectors.EVENT_WRITE)
    return None


def _end(selector: selectors.BaseSelector, sock: socket.socket) -> OSError | None:
    """Take an attempt that has ended out of the race: None for a connection, else why there is none."""
    selector.unregister(sock)
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not code:
        return None
    sock.close()
    return OSError(code, os.strerror(code))
