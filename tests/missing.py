"""What a machine may lack so that tests are skipped: this list and nothing else. The README repeats it.

A test of a component that is there and cannot be started fails with the reason. In CI nothing may be missing but what is
in `EVEN_IN_CI`.
"""

import os
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import NoReturn

import pytest


class Missing(Enum):
    """Each with the words that the README has for it."""

    NODE = "Node.js with npm"
    POSTGRES_WITH_TLS = "PostgreSQL of the system"
    PGBOUNCER = "PgBouncer"
    SOFTHSM = "SoftHSM2"
    SYSTEMD = "systemd-analyze"
    OPENSSL = "the openssl command"
    SSH_KEYGEN = "ssh-keygen"
    SETPRIV = "setpriv, for root"
    ROOT = "root, with the right to mount"
    IMAGE_TOOLS = "root on Debian"
    IPV6 = "IPv6"
    LINUX = "Linux"
    GO = "Go 1.26 and its modules"
    MAVEN = "Java 17 with Maven and its libraries"


# Toolchains of other languages, which no package of ours installs, and registries that a CI may not reach.
EVEN_IN_CI = frozenset({Missing.GO, Missing.MAVEN})


def skip(what: Missing, detail: str = "") -> NoReturn:
    """End this test: the machine lacks something. Where CI is set, that is a failure, but for `EVEN_IN_CI`."""
    reason = f"this machine lacks {what.value}{detail and f': {detail}'}"
    if os.environ.get("CI") and what not in EVEN_IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def needs(what: Missing, *, there: bool) -> pytest.MarkDecorator:
    """The mark of tests that can only run where it is there. Where CI is set they run all the same, and fail."""
    return pytest.mark.skipif(not there and not os.environ.get("CI"), reason=f"this machine lacks {what.value}")


SOFTHSM_MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


def require_softhsm() -> Path:
    """The PKCS#11 module of SoftHSM2; `make custody` installs it."""
    if not SOFTHSM_MODULE.exists() or shutil.which("softhsm2-util") is None:
        skip(Missing.SOFTHSM, "make components installs it")
    return SOFTHSM_MODULE


def system_postgres() -> Path:
    """The programs of the newest PostgreSQL of the system's packages."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        skip(Missing.POSTGRES_WITH_TLS, "that of the wheel speaks no TLS; make components installs one")
    return found[-1].parent


obeys_modes = needs(Missing.SETPRIV, there=bool(os.geteuid() or shutil.which("setpriv")))
on_linux = needs(Missing.LINUX, there=sys.platform == "linux")
