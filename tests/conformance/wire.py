"""One https request to a name that stands for a port of this machine, as the standard library sends it."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

MOST_OFF: Final = 300.0
Address = tuple[str, int]
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """A whole answer; names of headers in lower case."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


class _Connection(http.client.HTTPSConnection):
    def __init__(self, name: str, address: Address, trusted: ssl.SSLContext) -> None:
        super().__init__(name, 443, context=trusted)
        self._address, self._trusted = address, trusted

    def connect(self) -> None:
        self.sock = self._trusted.wrap_socket(socket.create_connection(self._address, 10), server_hostname=self.host)


@dataclass(frozen=True)
class Site:
    """An https origin without a port in its URL, and where it listens in truth."""

    name: str
    address: Address
    authority: Path

    @property
    def url(self) -> str:
        return f"https://{self.name}"

    def ask(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | None = None,
        certificate: Path | None = None,
    ) -> Reply:
        """Send exactly these headers and Host; whatever the answer is, its Date is of now.

        `certificate`: a PEM file, with its key, to show in the handshake.
        """
        trusted = ssl.create_default_context(cafile=str(self.authority))
        if certificate is not None:
            trusted.load_cert_chain(certificate)
        connection = _Connection(self.name, self.address, trusted)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            lines = [(name.lower(), value) for name, value in response.getheaders()]
            reply = Reply(response.status, lines, response.read())
        finally:
            connection.close()
        date = parsedate_to_datetime(reply.header("date") or "").timestamp()
        assert abs(date - time.time()) < MOST_OFF
        return reply
