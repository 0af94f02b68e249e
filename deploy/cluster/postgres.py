"""Starts PostgreSQL with one database and one role for groat; the role's password comes from a file.

The first start makes the cluster beside its place and moves it there when it is complete. Every start sets the role's
password anew, so that a new password file is enough to change it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BIN = Path("/usr/lib/postgresql/17/bin")
PLACE, PASSWORD, TLS = Path("/groat/data"), Path("/groat/database/password"), Path("/groat/postgres-tls")
DATA = PLACE / "cluster"


def single(data: Path, *statements: str) -> None:
    """Run statements without a server: no port, no password, no command line that others could read."""
    command: list[str | Path] = [
        BIN / "postgres",
        "--single",
        "-j",
        "-D",
        data,
        "-c",
        "log_min_messages=fatal",
        "postgres",
    ]
    subprocess.run(command, input=";\n\n".join(statements) + ";\n\n", text=True, stdout=subprocess.DEVNULL, check=True)


def make() -> None:
    """A new cluster with the role and its database."""
    fresh = PLACE / "cluster.new"
    shutil.rmtree(fresh, ignore_errors=True)
    command: list[str | Path] = [
        BIN / "initdb",
        "-D",
        fresh,
        "-U",
        "administrator",
        "--auth=reject",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    single(fresh, "CREATE ROLE groat LOGIN", "CREATE DATABASE groat OWNER groat")
    fresh.rename(DATA)


def main() -> None:
    if not DATA.exists():
        make()
    password = PASSWORD.read_text("ascii")
    if not password.replace("-", "").replace("_", "").isalnum():
        sys.exit(f"{PASSWORD}: letters, digits, - and _ only")
    single(DATA, f"ALTER ROLE groat PASSWORD '{password}'")
    settings = {
        "listen_addresses": "*",
        "unix_socket_directories": "/tmp",  # noqa: S108 - the container's own
        "hba_file": "/etc/groat/pg_hba.conf",
        "ident_file": "/etc/groat/pg_ident.conf",
        "ssl": "on",
        "ssl_cert_file": str(TLS / "tls.pem"),
        "ssl_key_file": str(TLS / "tls.key.pem"),
        "ssl_min_protocol_version": "TLSv1.3",  # both ends are ours
        "synchronous_commit": "on",
    }
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    os.execv(BIN / "postgres", [str(BIN / "postgres"), "-D", str(DATA), *flags])  # noqa: S606


if __name__ == "__main__":
    main()
