"""Who listens on a port that is taken, as far as Linux shows it: nothing is known of other users' open files."""

import contextlib
import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from groat.protocol.jwk import printable

_PROC: Final = Path("/proc")
_LISTENS: Final = "0A"
_INTERPRETER: Final = re.compile(r"(python|node|ruby|perl|sh|bash)[0-9.]*")


def holder_of(port: int) -> str:
    """Process id and command, or else the user, of who listens on this TCP port; "" where that cannot be seen.

    The command is the program's name alone: what else was typed may be secret. Of workers that share the socket the
    one that was started first is named.
    """
    users = dict(_listeners(port))
    found = [pid for pid in _pids() if users and not users.keys().isdisjoint(_sockets_of(pid))]
    if found:
        return f"process {found[0]} ({_name_of(found[0])})"
    return f"a process of user {_user(next(iter(users.values())))}" if users else ""


def _listeners(port: int) -> Iterator[tuple[str, int]]:
    """Inode and user id of every listening socket on the port, of any address."""
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]", int(fields[7])


def _pids() -> list[int]:
    with contextlib.suppress(OSError):
        return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return []


def _sockets_of(pid: int) -> set[str]:
    found = set[str]()
    with contextlib.suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry))
    return found


def _name_of(pid: int) -> str:
    """The program, and of an interpreter the script that it runs."""
    with contextlib.suppress(OSError):
        words = (_PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        name = Path(words[0]).name
        if _INTERPRETER.fullmatch(name) and len(words) > 1 and not words[1].startswith("-"):
            name += f" {Path(words[1]).name}"
        return printable(name) or "unknown"
    return "unknown"


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
