"""Where the admin listener stands."""

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groat.protocol.errors import ConfigError, Finding

MAX_SOCKET_PATH: Final = 100  # bytes; the operating system allows 107


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """Where to listen: a host and port, a socket file, both, or nowhere. `private`: the file is for its owner alone."""

    host: str = ""
    port: int = 0
    socket: Path | None = None
    private: bool = True

    @classmethod
    def parse(cls, listen: str, socket: Path | None, private: bool = True) -> "AdminAddress":
        """Read "HOST:PORT" (or ""). Raises ConfigError; also for a socket path too long to be bound."""
        if socket is not None and len(os.fsencode(socket)) > MAX_SOCKET_PATH:
            long = f"admin.socket is longer than {MAX_SOCKET_PATH} bytes: {socket}"
            raise ConfigError(Finding(long, setting="admin.socket"))
        if not listen:
            return cls(socket=socket, private=private)
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            wrong = 'admin.listen must be HOST:PORT, for example "127.0.0.1:9464"'
            raise ConfigError(Finding(wrong, setting="admin.listen"))
        return cls(host.strip("[]"), int(port), socket, private)

    def __str__(self) -> str:
        places = [f"http://{self.host}:{self.port}"] if self.host else []
        return " ".join([*places, str(self.socket)] if self.socket else places)

    def check_socket(self) -> None:
        """Raises ConfigError where the socket file would take the place of something that is no socket.

        A link to a socket is none either: whoever may write there could let it lead anywhere.
        """
        with contextlib.suppress(OSError):  # nothing is there, or binding will say what is the matter
            mode = 0 if self.socket is None else self.socket.lstat().st_mode
            if mode and not stat.S_ISSOCK(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "a directory" if stat.S_ISDIR(mode) else "a file"
                raise ConfigError(f"admin.socket: {self.socket} is {kind}, not a socket. Move it away or name another")

    def remove_socket(self) -> None:
        """Remove the socket file of a process that died. Raises ConfigError as `check_socket` does."""
        self.check_socket()
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)

    def __bool__(self) -> bool:
        return bool(self.host or self.socket)
