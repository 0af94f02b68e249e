"""Servers that publish a key set, well or badly, for tests of whoever fetches it."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from groat.protocol.jwk import generate_private_key
from groat.protocol.key_set import public_key_set
from tests.certificates import self_signed, serving

LOOPBACK: Final = (ip_network("127.0.0.0/8"),)
KEY: Final = generate_private_key("ES256")
GOOD: Final = json.dumps(public_key_set([KEY.public])).encode()


QUIET: Final = {"mute": True}


@dataclass(slots=True)
class Target:
    """A TLS server that answers every connection with the same bytes, and counts them; `drip`: seconds a byte.

    `silent`: takes the request and does not answer; `mute`: takes the connection and does not even speak TLS;
    `handshake_drip`: seconds a byte of its part of the handshake, of which only the first bytes are good.
    """

    context: ssl.SSLContext
    answer: bytes = b""
    drip: float = 0.0
    silent: bool = False
    mute: bool = False
    handshake_drip: float = 0.0
    hits: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def uri(self) -> str:
        return f"https://127.0.0.1:{self.listener.getsockname()[1]}/keys"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.hits += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        if self.mute or self.handshake_drip:
            return self._never_speak(connection)
        try:
            with self.context.wrap_socket(connection, server_side=True) as stream:
                stream.recv(4096)
                if self.silent:
                    stream.recv(4096)
                elif self.drip:
                    for byte in self.answer:
                        stream.send(bytes([byte]))
                        time.sleep(self.drip)
                else:
                    stream.sendall(self.answer)
        except OSError:
            return None

    def _never_speak(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            if not self.handshake_drip:
                connection.recv(4096)
            # A record of 16,000 bytes begins, so that the peer waits for the rest of it.
            for byte in (b"\x16\x03\x03\x3e\x80" + bytes(200)) * bool(self.handshake_drip):
                connection.send(bytes([byte]))
                time.sleep(self.handshake_drip)


def http(body: bytes = GOOD, status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer."""
    named = {"Content-Type": "application/jwk-set+json", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@contextmanager
def target(folder: Path, answer: bytes = b"", **options: Any) -> Iterator[tuple[Target, ssl.SSLContext]]:
    """A running target and a context that trusts it."""
    with targets(folder, {"answer": answer or http(), **options}) as ((made,), client):
        yield made, client


@contextmanager
def targets(folder: Path, *options: Mapping[str, Any]) -> Iterator[tuple[list[Target], ssl.SSLContext]]:
    """Running targets with one certificate, that of ca.pem in the folder, and a context that trusts it."""
    authority, both = self_signed(folder, names=["localhost"])
    context = serving(both)
    made = [Target(context, **{"answer": http(), **chosen}) for chosen in options]
    threads = [threading.Thread(target=one.serve, daemon=True) for one in made]
    for thread in threads:
        thread.start()
    try:
        yield made, ssl.create_default_context(cafile=str(authority))
    finally:
        for one, thread in zip(made, threads, strict=True):
            one.listener.shutdown(socket.SHUT_RDWR)
            one.listener.close()
            thread.join(5)
