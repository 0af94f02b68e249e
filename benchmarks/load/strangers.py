"""What somebody without any key can send: many connections, and on each of them what costs the server most.

    python -m benchmarks.load.strangers FORM HOST PORT SECONDS [--tls]

One process, so that whoever measures beside it is not slowed by it. A connection that the server ends is made anew.
"""

import argparse
import contextlib
import resource
import selectors
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Final

AGAIN_SECONDS: Final = 0.01  # between two rounds of connections that are made anew
_CHUNKED: Final = b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of attack: so many connections that each send `payload`; `reads`: answers are taken."""

    name: str
    about: str
    connections: int
    payload: bytes
    reads: bool = True


_GET: Final = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
_SHORT_FIELDS: Final = b"a:b\r\n" * 50_400
_LONG_FIELDS: Final = (b"a:" + b"b" * 340 + b"\r\n") * 90
_METADATA: Final = b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: a\r\n\r\n"
_EXTENSIONS: Final = (b"1;" + b"a" * 30_000 + b"\r\na\r\n") * 20
_BODY: Final = _CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 65000") + b"a" * 63_000
_FORMS: Final = (
    Form("nobody", "for comparison", 0, b""),
    Form("pipelined", "1,000 `GET /livez` at once on each", 260, (_GET + b"\r\n") * 1000),
    Form("unread", "1,000 requests for the metadata, whose answers nobody reads", 260, _METADATA * 1000, reads=False),
    Form("trailers", "252 KB of trailer fields", 100, _CHUNKED + b"1\r\na\r\n0\r\n" + _SHORT_FIELDS),
    Form("extensions", "chunks of one byte with 30 KB of extension", 100, _CHUNKED + _EXTENSIONS),
    Form("fields", "a head of 252 KB with 50,000 fields", 100, _GET + _SHORT_FIELDS),
    Form("heads", "32 KB of a head that never ends, 6,400 fields", 900, _GET + _SHORT_FIELDS[:32_000]),
    Form("long-heads", "31 KB of a head that never ends, 90 fields", 900, _GET + _LONG_FIELDS),
    Form("bodies", "63 KB of a body that never ends", 900, _BODY),
    Form("parked", "a whole request with a head of 31 KB, then nothing", 900, _GET + _LONG_FIELDS + b"\r\n"),
    Form("silent", "nothing", 1500, b""),
)
FORMS: Final = {form.name: form for form in _FORMS}


class _Stranger:
    """One connection: what is left to send on it."""

    def __init__(self, form: Form, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self.left = memoryview(form.payload)
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(address)
        self.secured = tls is None
        if tls is not None and form.payload:
            self.socket = tls.wrap_socket(self.socket, do_handshake_on_connect=False, server_hostname="localhost")

    def go_on(self, reads: bool) -> bool:
        """Send and read what is possible; False when the server has ended it."""
        try:
            if not self.secured and isinstance(self.socket, ssl.SSLSocket):
                self.socket.do_handshake()
                self.secured = True
            if self.left:
                self.left = self.left[self.socket.send(self.left[:65536]) :]
            return not reads or self.socket.recv(65536) != b""
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False


def press(form: Form, address: tuple[str, int], seconds: float, tls: ssl.SSLContext | None = None) -> int:
    """Keep the attack up for so long; how many connections had to be made anew."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    again, end = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as held:
        missing = form.connections
        while time.monotonic() < end:
            for _ in range(min(missing, 100)):
                stranger = _Stranger(form, address, tls)
                held.callback(stranger.socket.close)
                selector.register(stranger.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, stranger)
                missing -= 1
            for key, _ in selector.select(0.05):
                stranger = key.data
                if not stranger.go_on(form.reads):
                    selector.unregister(stranger.socket)
                    stranger.socket.close()
                    missing, again = missing + 1, again + 1
                elif not stranger.left:
                    selector.modify(stranger.socket, selectors.EVENT_READ, stranger)
                    if not form.reads:
                        selector.unregister(stranger.socket)
            time.sleep(AGAIN_SECONDS)
    return again


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=sorted(FORMS))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    tls = None
    if options.tls:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    print(press(FORMS[options.form], (options.host, options.port), options.seconds, tls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
