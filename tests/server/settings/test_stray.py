"""What editors, env files and copying leave in settings: each is named, and shown where it is no secret."""

import codecs
from pathlib import Path
from typing import Final

import pytest

from groat.client import MachineClient
from groat.keys import files
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from groat.server.settings.config import load_config
from groat.verifier import Verifier
from tests.server.settings.loading import HEAD, ISSUER, findings, load


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        pytest.param(codecs.BOM_UTF8 + HEAD.encode(), 1, "byte order mark (BOM)", id="BOM"),
        pytest.param(HEAD.encode("utf-16"), 1, "UTF-16, with a byte order mark (BOM)", id="UTF-16"),
        pytest.param(HEAD.encode() + b"# M\xfcller", 2, "not UTF-8: byte 0xfc", id="Latin-1"),
        pytest.param(f'issuer =\u00a0"{ISSUER}"\n'.encode(), 1, r"a no-break space ('\xa0')", id="no-break space"),
        pytest.param(
            f"issuer = \u201c{ISSUER}\u201d\n".encode(), 1, "a typographic quotation mark", id="word processor"
        ),
        pytest.param(f'issuer = "{ISSUER}"\r[server]\rport = 1'.encode(), 1, "a carriage return (CR", id="CR alone"),
        pytest.param((HEAD + "[server]\n\u200bport = 1").encode(), 3, "a zero-width space", id="zero width"),
    ],
)
def test_what_no_editor_shows_is_named_in_the_file(tmp_path: Path, content: bytes, line: int, said: str) -> None:
    """With its line; the line itself is not repeated, as it may hold a password."""
    path = tmp_path / "groat.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert f"groat.toml:{line}: not TOML" in str(caught.value)
    assert said in str(caught.value)
    assert ISSUER not in str(caught.value)


@pytest.mark.rule("FO-22")
def test_windows_line_ends_are_all_right_in_the_file(tmp_path: Path) -> None:
    """TOML has them."""
    path = tmp_path / "groat.toml"
    path.write_bytes((HEAD + "[server]\nport = 3002\n").replace("\n", "\r\n").encode())
    assert load_config(path, {}).listener.port == 3002


ODD_VALUES: Final = {
    "quotes": (f'"{ISSUER}"', "it is in quotes"),
    "single quotes": (f"'{ISSUER}'", "it is in quotes"),
    "CR": (f"{ISSUER}\r", "it ends in a carriage return (CR"),
    "BOM": (f"\ufeff{ISSUER}", "it begins with a byte order mark (BOM)"),
    "no-break space": (f"{ISSUER}\u00a0", "it holds a no-break space"),
    "trailing space": (f"{ISSUER} ", "it begins or ends with a blank"),
    "leading tab": (f"\t{ISSUER}", "it begins or ends with a blank"),
    "typographic": (f"\u201c{ISSUER}\u201d", "a typographic quotation mark"),
}


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize("kind", ODD_VALUES)
def test_an_odd_value_is_named_and_shown(tmp_path: Path, kind: str) -> None:
    """By variable, by file and by flag; and in the client library's environment."""
    value, said = ODD_VALUES[kind]
    (by_variable,) = findings(tmp_path, None, {"GROAT_ISSUER": value})
    assert by_variable.startswith("GROAT_ISSUER: issuer")
    (by_flag,) = findings(tmp_path, None, {}, {"issuer": value})
    with pytest.raises(ConfigError) as caught:
        MachineClient.from_env({"GROAT_ISSUER": value, "GROAT_CLIENT_ID": "b", "GROAT_KEY_FILE": "k"})
    by_library = str(caught.value)
    assert by_library.startswith("GROAT_ISSUER: ")
    for text in (by_variable, by_flag, by_library):
        assert said in text
        assert repr(value) in text
    if kind not in ("CR", "leading tab"):
        (by_file,) = findings(tmp_path, f"issuer = '''{value}'''\n")
        assert by_file.startswith("groat.toml:1: issuer")
        assert said in by_file


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("issuer = https://auth.example.com", True),
        ("issuer=auth # ours", True),
        ("tokens.lifetime = 10m", True),
        ("log.level = info", True),
        ('issuer = "https://auth.example.com', False),
        ("server.port = 3001 3002", False),
        ("issuer", False),
    ],
)
def test_a_text_without_quotes_is_told_so(tmp_path: Path, line: str, bare: bool) -> None:
    """What TOML's reader calls an invalid value is most often a text without its quotes."""
    (told,) = findings(tmp_path, f"{line}\n")
    assert told.startswith("groat.toml:1: not TOML: ")
    assert told.endswith("; a text or a span such as 10m stands in quotation marks") is bare


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize(
    ("section", "meant"), [("token", "tokens"), ("servers", "server"), ("assertion", "assertions")]
)
def test_a_section_that_is_misspelt(tmp_path: Path, section: str, meant: str) -> None:
    """The one that was meant is named, as it is for a setting."""
    (told,) = findings(tmp_path, f'issuer = "https://auth.example.com"\n[{section}]\nx = 1\n')
    assert told == f"groat.toml:2: unknown setting {section}; did you mean {meant}?"


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize("text", ["[[tokens]]\nlifetime = '5m'", "tokens = '5m'"])
def test_a_section_that_is_no_table(tmp_path: Path, text: str) -> None:
    """It is known, so it is not called unknown."""
    told = findings(tmp_path, f"{text}\n")
    assert any(one.endswith("tokens must be one table: [tokens]") for one in told)


@pytest.mark.rule("FO-22")
def test_an_odd_value_with_a_password_is_shown_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quotes around a URL are named and shown, what it holds before the host is not."""
    value = '"https://u:s3cret@auth.example.com"'
    monkeypatch.setenv("GROAT_ISSUER", value)
    monkeypatch.setenv("GROAT_AUDIENCE", "https://orders.example.com")
    with pytest.raises(ConfigError) as by_verifier:
        Verifier.from_env()
    with pytest.raises(ConfigError) as by_client:
        MachineClient.from_env({"GROAT_ISSUER": value, "GROAT_CLIENT_ID": "b", "GROAT_KEY_FILE": "k"})
    by_server = findings(tmp_path, None, {"GROAT_ISSUER": value})
    for text in (str(by_verifier.value), str(by_client.value), *by_server):
        assert "it is in quotes" in text
        assert "https://***@auth.example.com" in text
        assert "s3cret" not in text


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GROAT_SERVER__PORT", '"3001"'),
        ("GROAT_SERVER__PORT", "3001\r"),
        ("GROAT_SERVER__PORT", "3001 "),
        ("GROAT_TOKENS__LIFETIME", "'10m'"),
        ("GROAT_LOG__LEVEL", "info\r"),
        ("GROAT_LOG__LEVEL", '"info"'),
        ("GROAT_KEYS__ENCRYPTION_KEY_FILE", '"data/kek"'),
        ("GROAT_KEYS__ENCRYPTION_KEY_FILE", "data/kek\r"),
        ("GROAT_KEYS__ENCRYPTION_KEY_FILE", "data/kek "),
        ("GROAT_SERVER__TRUSTED_PROXIES", '"10.0.0.0/8"'),
        ("GROAT_SERVER__TLS_CERTIFICATE_FILE", "'tls.pem'"),
        ("GROAT_TOKENS__EXTRA_CLAIMS", "'{\"a\": 1}'"),
        ("GROAT_STORAGE__URL_FILE", '"secret.url"'),
    ],
)
def test_every_kind_of_setting_shows_what_it_got(tmp_path: Path, variable: str, value: str) -> None:
    """Numbers, durations, choices, paths, lists and tables alike."""
    (finding,) = findings(tmp_path, HEAD, {variable: value})
    assert finding.startswith(f"{variable}: ")
    assert repr(value) in finding


@pytest.mark.rule("FO-22", "I8")
@pytest.mark.parametrize(
    "value", ['"postgresql://u:s3cr3t@h/d"', "postgresql://u:s3cr3t@h/d\r", "\ufeffpostgresql://u:s3cr3t@h/d"]
)
def test_a_secret_is_named_and_not_shown(tmp_path: Path, value: str) -> None:
    """What is wrong with it, and nothing of it: from a variable, a file that a variable names, and groat.toml."""
    (finding,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL": value})
    assert "storage.url: it " in finding
    assert "s3cr3t" not in finding
    if not value.endswith("\r"):
        secret = tmp_path / "url"
        secret.write_text(value, "utf-8")
        secret.chmod(0o600)
        (finding,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL_FILE": str(secret)})
        assert "GROAT_STORAGE__URL_FILE: storage.url: it " in finding
        assert "s3cr3t" not in finding


@pytest.mark.rule("FO-22")
@pytest.mark.parametrize("name", ["\ufeffGROAT_ISSUER", "GROAT_ISSUER ", "export GROAT_ISSUER", '"GROAT_ISSUER'])
def test_an_odd_name_of_a_variable_is_not_passed_over(tmp_path: Path, name: str) -> None:
    """The first line of an env file with a mark, `export` where no shell reads it: the setting is not just missing."""
    told = findings(tmp_path, None, {name: ISSUER})
    assert any(f"unknown variable {name!r}" in finding and "around GROAT_ISSUER" in finding for finding in told)
    with pytest.raises(ConfigError, match="around GROAT_ISSUER"):
        MachineClient.from_env({name: ISSUER, "GROAT_CLIENT_ID": "b", "GROAT_KEY_FILE": "k"})


@pytest.mark.rule("FO-22", "I8")
def test_the_client_library_shows_no_key() -> None:
    """A key in quotes in the variable for its text, and any key in the one for its file."""
    key = generate_private_key("ES256")
    pem, jwk = files.private_key_bytes(key, pem=True).decode(), files.private_key_bytes(key).decode()
    rows = [("GROAT_KEY", f"'{jwk}'"), ("GROAT_KEY", f"\ufeff'{jwk}'")]
    rows += [("GROAT_KEY_FILE", text) for text in (pem, f'"{pem}"', f"\ufeff{pem}\r", f"'{jwk}'", jwk)]
    for variable, value in rows:
        with pytest.raises(ConfigError) as caught:
            MachineClient.from_env({"GROAT_ISSUER": ISSUER, "GROAT_CLIENT_ID": "b", variable: value})
        assert not any(part in str(caught.value) for part in (pem.splitlines()[1][:20], key.private_jwk()["d"]))


@pytest.mark.rule("FO-22")
def test_what_may_be_meant_is_let_pass(tmp_path: Path) -> None:
    """Blanks between the items of a list, an apostrophe, quotes inside JSON, an unrelated variable."""
    config = load(
        tmp_path,
        HEAD,
        {
            "GROAT_SERVER__TRUSTED_PROXIES": " 10.0.0.0/8, 192.168.0.0/16 ",
            "GROAT_KEYS__ENCRYPTION_KEY_FILE": "it's/here",
            "GROAT_TOKENS__EXTRA_CLAIMS": '{"name": "O\u2019Brien\u00a0Ltd"}',
            "\ufeffPATH": "/bin",
        },
    )
    assert len(config.capacity.trusted_proxies) == 2
    assert config.policy.extra_claims["name"] == "O\u2019Brien\u00a0Ltd"
