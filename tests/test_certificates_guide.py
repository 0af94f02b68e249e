"""The guide for certificates does what it says: its commands are typed, its settings are read."""

import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from groat.protocol.certificate_headers import DIALECTS
from groat.protocol.errors import ConfigError
from groat.server.settings.config import load_config
from tests.certificates import Wish, issued, self_signed
from tests.cli.running import AUDIENCE, ISSUER, Home

from .guide_pages import GUIDES, blocks

PAGE: Final = "certificates.md"


def typed() -> list[list[str]]:
    """The commands of groat, in the order of the page."""
    lines = "".join(blocks(PAGE, "")).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("groat ")]


@pytest.mark.rule("AS-MT-01", "AS-MT-02")
def test_the_commands(tmp_path: Path) -> None:
    home = Home(tmp_path, {})
    home.ok("init", "--issuer", ISSUER)
    home.ok("api", "add", "orders", "--audience", AUDIENCE, "--scope", "orders:read")
    (tmp_path / "billing.pem").write_bytes(issued(Wish("CN=billing")).pem)
    (tmp_path / "company-ca.pem").write_bytes(issued(Wish("CN=company", authority=True)).pem)
    commands = typed()
    assert len(commands) == 4
    for command in commands:
        home.ok("--yes", *command)
    assert home.ok("--json", "client", "show", "billing").json["binding"] == "mtls"


def test_the_settings(tmp_path: Path) -> None:
    """Each block is a configuration that is taken; the table has every dialect."""
    self_signed(tmp_path)
    crl, *found = blocks(PAGE, "toml")
    assert len(found) == 2
    (tmp_path / "groat.toml").write_text(f'issuer = "{ISSUER}"\n{crl}')
    with pytest.raises(ConfigError, match=r"tls\.client_crl_file .*company-ca\.crl\.pem: No such file"):
        load_config(tmp_path / "groat.toml", {}).policy.revocations.check()
    for block in found:
        (tmp_path / "groat.toml").write_text(f'issuer = "{ISSUER}"\n{block}')
        config = load_config(tmp_path / "groat.toml", {})
        assert config.policy.certificates
    page = (GUIDES / PAGE).read_text("utf-8")
    for name, dialect in DIALECTS.items():
        (row,) = [line for line in page.splitlines() if line.startswith("|") and f"| `{name}` |" in line]
        headers = re.findall(r"`([A-Z][\w-]+)`", row.split("|")[3])
        assert [one.lower().encode() for one in headers] == [one for one in (dialect.header, dialect.chain) if one]
