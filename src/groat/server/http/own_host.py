"""Who may ask the admin listener: whoever means it, and no web page that leads a browser there."""

from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from groat.protocol.errors import InvalidRequest
from groat.protocol.jwk import printable
from groat.server.http.exchange import header_values

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _host_name(value: bytes) -> str:
    """The name or address of a Host field, without port and brackets, in lower case."""
    name = value.decode("ascii", "replace").strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Lets in only whoever means this listener: its own address, localhost, or one of `hosts`.

    A web page can have its own name lead to any address (DNS rebinding), and an operator's browser is inside.
    Not checked: anything at a socket file, which no browser reaches; the port, which may be mapped.
    """

    hosts: frozenset[str]

    def check(self, scope: Scope) -> None:
        """Raises InvalidRequest."""
        server = scope.get("server")
        if server is not None and server[1] is not None:
            for value in header_values(scope, b"host"):
                self._check_name(_host_name(value), server[0])

    def _check_name(self, name: str, own: str) -> None:
        if name not in _LOCAL and name != own.partition("%")[0].removeprefix("::ffff:") and name not in self.hosts:
            hint = f"the admin listener was asked as {printable(name)}; if that is its name, add it to admin.hosts"
            raise InvalidRequest("admin_host", hint)
