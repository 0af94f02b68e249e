"""Where a setting comes from: flag before environment before file before default, and how one can tell."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from groat.server.http.certificates import CertificateProxy
from groat.server.settings.config import load_config
from groat.server.settings.sample import sample_config, settings_schema
from groat.server.settings.table import BY_NAME, SETTINGS
from tests.server.settings.loading import HEAD, ISSUER, findings, load


# For each setting: its default as read, a line of the file, a variable, a flag; and what each of the three is read as.
def _proxy(network: str, certificate: str) -> CertificateProxy:
    return CertificateProxy(ipaddress.ip_network(network), certificate)


TABLE: Final[Mapping[str, tuple[Any, tuple[str, Any], tuple[str, Any], tuple[Any, Any]]]] = {
    "issuer": (
        ISSUER,
        ('"https://f.example"', "https://f.example"),
        ("https://e.example", "https://e.example"),
        ("https://g.example", "https://g.example"),
    ),
    "profile": ("default", ('"fapi2"', "fapi2"), ("default", "default"), ("fapi2", "fapi2")),
    "storage.url": (
        "sqlite:///data/groat.db",
        ('"sqlite:///f.db"', "sqlite:///f.db"),
        ("sqlite:///e.db", "sqlite:///e.db"),
        ("sqlite:///g.db", "sqlite:///g.db"),
    ),
    "storage.retention": (0, ('"30d"', 30 * 86400), ("1h", 3600), (5, 5)),
    "tokens.lifetime": (600, ('"2m"', 120), ("3m", 180), ("1h", 3600)),
    "metadata.compatible": (True, ("false", False), ("false", False), (False, False)),
    "metadata.protected_resources": (False, ("true", True), ("true", True), (True, True)),
    "assertions.max_lifetime": (300, ("90", 90), ("91", 91), (92, 92)),
    "assertions.clock_tolerance": (10, ('"20s"', 20), ("30", 30), ("40s", 40)),
    "dpop.nonces": ("optional", ('"off"', "off"), ("required", "required"), ("off", "off")),
    "dpop.algorithms": ((), ('["ES256"]', ("ES256",)), ("PS256,EdDSA", ("PS256", "EdDSA")), (["ES384"], ("ES384",))),
    "keys.algorithm": ("ES256", ('"PS256"', "PS256"), ("Ed25519", "Ed25519"), ("EdDSA", "EdDSA")),
    "keys.rotate_every": (30 * 86400, ('"7d"', 7 * 86400), ("0", 0), ("90d", 90 * 86400)),
    "keys.jwks_max_age": (300, ('"2m"', 120), ("3m", 180), ("1h", 3600)),
    "keys.verifier_cache": (3600, ('"2h"', 7200), ("60", 60), ("1d", 86400)),
    "keys.other_encryption_key_files": ((), ('["f"]', ("f",)), ("e, e2", ("e", "e2")), (["g"], ("g",))),
    "keys.client_networks": (
        (),
        ('["10.0.0.0/8"]', (ipaddress.ip_network("10.0.0.0/8"),)),
        ("::1", (ipaddress.ip_network("::1"),)),
        (["10.1.0.0/16"], (ipaddress.ip_network("10.1.0.0/16"),)),
    ),
    "keys.custody": ("store", ('"files"', "files"), ("pkcs11", "pkcs11"), ("aws-kms", "aws-kms")),
    "keys.directory": ("data/keys", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "keys.passphrase_file": ("data/keys.passphrase", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "keys.pkcs11_module": ("/usr/lib/softhsm/libsofthsm2.so", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "keys.pkcs11_token": ("groat", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "keys.pkcs11_pin_file": ("data/pkcs11.pin", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "keys.encryption_key_file": ("data/key-encryption.key", ('"f"', "f"), ("e", "e"), ("g", "g")),
    "clients.key_lifetime": (0, ('"90d"', 90 * 86400), ("1h", 3600), ("0", 0)),
    "clients.key_warning": (14 * 86400, ('"7d"', 7 * 86400), ("0", 0), ("1h", 3600)),
    "clients.key_idle": (7 * 86400, ('"1d"', 86400), ("0", 0), ("1h", 3600)),
    "audit.keep": (400 * 86400, ('"90d"', 90 * 86400), ("1d", 86400), ("0s", 0)),
    "revocation.list_ttl": (30, ('"10s"', 10), ("20s", 20), (40, 40)),
    "revocation.list_lifetime": (300, ('"10m"', 600), ("20m", 1200), (900, 900)),
    "revocation.feed_wait": (30, ('"20s"', 20), ("10s", 10), (0, 0)),
    "server.host": ("127.0.0.1", ('"::1"', "::1"), ("0.0.0.0", "0.0.0.0"), ("localhost", "localhost")),
    "server.port": (3001, ("1", 1), ("65535", 65535), (0, 0)),
    "server.workers": (1, ("2", 2), ("3", 3), (4, 4)),
    "server.tls_certificate_file": ("", ('"f.pem"', "f.pem"), ("e.pem", "e.pem"), ("g.pem", "g.pem")),
    "server.tls_key_file": ("", ('"f.pem"', "f.pem"), ("e.pem", "e.pem"), ("g.pem", "g.pem")),
    "server.remembered_clients": (10_000, ("1000", 1000), ("2000", 2000), (3000, 3000)),
    "server.connections": (4096, ("16", 16), ("17", 17), (18, 18)),
    "server.source_connections": (1024, ("8", 8), ("9", 9), (10, 10)),
    "admin.hosts": ((), ('["f"]', ("f",)), ("e, e2", ("e", "e2")), (["g"], ("g",))),
    "admin.socket_users": ((), ("[7]", (7,)), ("8, 9", (8, 9)), ([10], (10,))),
    "server.trusted_proxies": (
        (),
        ('["10.0.0.0/8"]', (ipaddress.ip_network("10.0.0.0/8"),)),
        ("::1, 192.0.2.1", (ipaddress.ip_network("::1"), ipaddress.ip_network("192.0.2.1"))),
        (["10.1.0.0/16"], (ipaddress.ip_network("10.1.0.0/16"),)),
    ),
    "server.proxy": (
        (),
        ('[{network = "10.0.0.0/8", certificate = "envoy"}]', (_proxy("10.0.0.0/8", "envoy"),)),
        ('[{"network": "::1", "certificate": "rfc9440"}]', (_proxy("::1", "rfc9440"),)),
        ([{"network": "10.1.0.0/16", "certificate": "caddy"}], (_proxy("10.1.0.0/16", "caddy"),)),
    ),
    "tls.client_certificates": ("none", ('"none"', "none"), ("none", "none"), ("none", "none")),
    "tls.client_ca_file": ("", ('"f.pem"', "f.pem"), ("e.pem", "e.pem"), ("g.pem", "g.pem")),
    "tls.client_crl_file": ("", ('"f.crl"', "f.crl"), ("e.crl", "e.crl"), ("g.crl", "g.crl")),
    "tls.certificate_url": (
        "",
        ('"https://f.example"', "https://f.example"),
        ("https://e.example", "https://e.example"),
        ("https://g.example", "https://g.example"),
    ),
    "admin.listen": ("", ('"[::1]:1"', "[::1]:1"), ("127.0.0.1:2", "127.0.0.1:2"), ("h:3", "h:3")),
    "admin.socket": ("", ('"f.sock"', "f.sock"), ("e.sock", "e.sock"), ("g.sock", "g.sock")),
    "tokens.extra_claims": ({}, ('{a = "f"}', {"a": "f"}), ('{"a": ["e", 1]}', {"a": ["e", 1]}), ({"a": 2}, {"a": 2})),
    "throttle.client_failures": (30, ("1", 1), ("2", 2), (3, 3)),
    "throttle.source_failures": (300, ("1", 1), ("2", 2), (3, 3)),
    "throttle.failure_share": (50, ("1", 1), ("100", 100), (3, 3)),
    "log.level": ("info", ('"debug"', "debug"), ("warning", "warning"), ("error", "error")),
    "log.format": ("auto", ('"json"', "json"), ("pretty", "pretty"), ("auto", "auto")),
    "development.allow_http_hosts": (
        (),
        ('["a.example"]', ("a.example",)),
        ("b.example, c.example", ("b.example", "c.example")),
        (["d.example"], ("d.example",)),
    ),
}
# What must be set for the setting to be allowed at all.
NEEDS: Final = {"server.tls_key_file": {"GROAT_SERVER__TLS_CERTIFICATE_FILE": "tls.pem"}}


def file_text(name: str, value: str) -> str:
    """A configuration file that sets the issuer and one setting."""
    section, _, key = name.rpartition(".")
    return (
        f"issuer = {value}\n" if name == "issuer" else HEAD + (f"[{section}]\n" if section else "") + f"{key} = {value}"
    )


@pytest.mark.parametrize("name", TABLE)
def test_the_nearest_source_wins(tmp_path: Path, name: str) -> None:
    """Each of the four sources in turn is overridden by the next, and the origin says which one it was."""
    default, (in_file, from_file), (in_env, from_env), (given, from_flag) = TABLE[name]
    variable = BY_NAME[name].env
    needs = NEEDS.get(name, {})
    text, env = file_text(name, in_file), {variable: in_env, **needs}
    plain = load(tmp_path, HEAD)
    assert (plain.values[name], plain.origins[name]) == (default, "file" if name == "issuer" else "default")
    filed = load(tmp_path, text, needs)
    assert (filed.values[name], filed.origins[name]) == (from_file, "file")
    exported = load(tmp_path, text, env)
    assert (exported.values[name], exported.origins[name]) == (from_env, variable)
    flagged = load(tmp_path, text, env, {name: given})
    assert (flagged.values[name], flagged.origins[name]) == (from_flag, "flag")


def test_the_table_knows_every_setting() -> None:
    """A new setting must get its row."""
    assert TABLE.keys() == BY_NAME.keys()


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    """The command line passes None for it."""
    assert load(tmp_path, HEAD, {}, {"server.port": None}).origins["server.port"] == "default"


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    """A container needs no file; paths are relative to where it would be."""
    config = load(tmp_path, None, {"GROAT_ISSUER": ISSUER})
    assert (config.policy.issuer, config.origins["issuer"]) == (ISSUER, "GROAT_ISSUER")
    assert config.key_files.encryption_key_file == tmp_path / "data/key-encryption.key"
    assert config.database == tmp_path / "data/groat.db"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    """Four slashes and a leading slash mean what they say."""
    config = load(
        tmp_path / ".", HEAD + 'storage.url = "sqlite:////srv/g.db"\nkeys.encryption_key_file = "/run/secrets/kek"\n'
    )
    assert (config.database, config.key_files.encryption_key_file) == (Path("/srv/g.db"), Path("/run/secrets/kek"))


def test_paths_do_not_depend_on_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay where they are when a process changes its directory after start."""
    (tmp_path / "groat.toml").write_text(HEAD)
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("groat.toml"), {})
    monkeypatch.chdir("/")
    assert config.database == tmp_path / "data/groat.db"


def test_sections_may_be_written_in_every_way_of_toml(tmp_path: Path) -> None:
    """Table, dotted key and inline table are one and the same."""
    for text in ("[server]\nport = 7", "server.port = 7", "server = {port = 7}", "['server']\n'port' = 7"):
        assert load(tmp_path, HEAD + text).listener.port == 7


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90", 90), ('"90"', 90), ('"90s"', 90), ('"2m"', 120), ('"1h"', 3600), ("60", 60)],
)
def test_durations(tmp_path: Path, written: str, seconds: int) -> None:
    """A number of seconds, or a number with a unit."""
    assert load(tmp_path, HEAD + f"tokens.lifetime = {written}").policy.token_lifetime == seconds


@pytest.mark.parametrize(
    "written",
    ["true", "1.5", '""', '"m"', '"10 m"', '"1h30m"', '"-1m"', '"1w"', '"10M"', '" 10m"', '"10m\\n"', "[]", "10:00:00"],
)
def test_what_is_no_duration_is_refused(tmp_path: Path, written: str) -> None:
    """The message shows how one looks; nothing is guessed."""
    assert findings(tmp_path, HEAD + f"tokens.lifetime = {written}") == [
        'groat.toml:2: tokens.lifetime must be a duration such as "90s", "10m", "2h" or "30d"'
    ]


def test_a_day_is_a_duration(tmp_path: Path) -> None:
    """It is read as such; the limit of the setting then refuses it by its number of seconds."""
    assert findings(tmp_path, HEAD + 'tokens.lifetime = "1d"') == [
        "groat.toml:2: tokens.lifetime must be 60 to 3600 seconds, not 86400"
    ]


@pytest.mark.rule("KEY-14", "OPS-03")
def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """The variable with _FILE names it; the value loses its line end, and the origin tells."""
    private(tmp_path / "url", "sqlite:///secret.db\n")
    config = load(tmp_path, HEAD, {"GROAT_STORAGE__URL_FILE": str(tmp_path / "url")})
    assert config.storage.url == "sqlite:///secret.db"
    assert config.origins["storage.url"] == "GROAT_STORAGE__URL_FILE"


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("kind", ["missing", "directory", "not text"])
def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    """The variable and the file; a start with the default instead would hide the mistake."""
    path = tmp_path / "url"
    if kind == "directory":
        path.mkdir()
    elif kind == "not text":
        path.write_bytes(b"\xff\xfe")
        path.chmod(0o600)
    (said,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL_FILE": str(path)})
    assert "GROAT_STORAGE__URL_FILE" in said
    assert "url" in said


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_file_must_be_private(tmp_path: Path, mode: int) -> None:
    """The rule of key files, with the same fix; the value itself is not said."""
    private(tmp_path / "url", "postgresql://groat:hunter2@db/groat").chmod(mode)
    (said,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL_FILE": str(tmp_path / "url")})
    assert said == f"GROAT_STORAGE__URL_FILE: url is readable by others (mode {mode:04o}). Fix: chmod 600 url"


@pytest.mark.rule("OPS-03")
def test_only_secrets_have_a_file_variable(tmp_path: Path) -> None:
    """For anything else the variable is unknown, and is not ignored in silence."""
    (said,) = findings(tmp_path, HEAD, {"GROAT_SERVER__PORT_FILE": "/dev/null"})
    assert said.startswith("unknown variable GROAT_SERVER__PORT_FILE; did you mean ")


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("password", ["hunter2", "hun:ter2", "hun@ter2", "hunter2@", "hun/ter2"])
def test_a_password_is_shown_nowhere(tmp_path: Path, password: str) -> None:
    """Neither in what `config show` prints nor in a repr, whatever the password holds."""
    config = load(tmp_path, HEAD, {"GROAT_STORAGE__URL": f"sqlite:///x?db://groat:{password}@db/groat"})
    shown = f"{config.shown()} {config!r} {config}"
    assert "hun" not in shown
    assert "ter2" not in shown
    assert "***" in str(config.shown()["storage.url"])


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("password", ["hunter2", "hun:ter2", "hun%40ter2", "hunter2%40", "hun%2Fter2", "hun#ter2"])
@pytest.mark.parametrize("form", ["postgresql://groat:{}@db/groat", "postgres://db/groat?user=groat&password={}"])
def test_a_database_password_stays_out_of_everything(tmp_path: Path, form: str, password: str) -> None:
    """From the environment or a private file it is used and shown nowhere; in the file or a flag it is refused unsaid."""
    url = form.format(password)
    private(tmp_path / "url", url)
    for env in ({"GROAT_STORAGE__URL": url}, {"GROAT_STORAGE__URL_FILE": str(tmp_path / "url")}):
        config = load(tmp_path, HEAD, env)
        assert config.storage.url == url
        assert config.storage.on_postgres
        assert not any(
            part in f"{config.shown()} {config!r} {sample_config(ISSUER, 'ES256', url)}" for part in ("hun", "ter2")
        )
    (said,) = findings(tmp_path, f"{HEAD}[storage]\nurl = '{url}'\n")
    assert said.startswith("groat.toml:3: storage.url must not hold a password here")
    (flagged,) = findings(tmp_path, HEAD, {}, {"storage.url": url})
    assert "GROAT_STORAGE__URL_FILE" in flagged
    assert not any(part in said + flagged for part in ("hun", "ter2"))


AWKWARD: Final = (
    "hun@ter2",
    "hun@ter2@",
    "hunter2@",
    "hun/ter2",
    "/hunter2",
    "hun?ter2",
    "hun?ter=2zz",
    "hun%zzter2",
    "hun%ter2",
    "hunter2%",
    "hun%00ter2",
    "hun%ffter2",
    "hun ter2",
    "hun\tter2",
    "hun\nter2",
    "hun\udcffter2",
    "hun@ter2/more",
    "hun/ter2@more:123456",
    "h?un@ter2",
)


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize("password", AWKWARD)
@pytest.mark.parametrize("form", ["postgresql://groat:{}@db/groat", "postgres://groat:{}@[::1]:5432,db2/groat"])
def test_a_password_that_a_url_cannot_hold_is_refused_unsaid(tmp_path: Path, form: str, password: str) -> None:
    """The driver would read a part of it as a host, a port or a database, and name that in its errors."""
    (said,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL": form.format(password)})
    assert "ercent-encode" in said
    assert "PGPASSWORD" in said
    assert shown_parts(password, said) == []


@pytest.mark.rule("KEY-14", "OPS-03")
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://groat:hunter2/groat",
        "postgresql://groat:1234567/groat",
        "postgres://db/groat?user=groat&password=hun@ter2",
        "postgres://db/groat?user=groat&password=hun&ter2",
        "postgres://db/groat?user=groat&password=hun&ter=222",
        "postgres://db/groat?password=hun=ter2",
        "postgres://db?password=hun?ter2&user=a b",
    ],
)
def test_a_password_that_would_pass_for_something_else_is_refused(tmp_path: Path, url: str) -> None:
    """Without a host behind it, or among the parameters."""
    (said,) = findings(tmp_path, HEAD, {"GROAT_STORAGE__URL": url})
    assert not any(part in said for part in ("hun", "ter2", "ter=", "1234"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///groat?host=/var/run/postgresql&user=groat",
        "postgresql://groat@%2Fvar%2Frun%2Fpostgresql/groat",
        "postgresql://groat@db1,db2:5433/groat?target_session_attrs=read-write",
        "postgresql://groat:p%40ss%2F%3F@[::1]:5432/groat",
        "postgresql://groat:p#a!s$s'(w)*o+r,d;=~^|{}`<>\"\\[]:@db/groat",
        "postgresql://groat:p\u00e4ss@db/groat?sslmode=verify-full&sslrootcert=/etc/groat/ca.pem",
        "postgres://db/groat?password=hunter2&user=groat&sslmode=require&options=-csearch_path%3Dgroat",
    ],
)
def test_urls_that_the_driver_reads_as_meant_are_taken(tmp_path: Path, url: str) -> None:
    """Sockets, several hosts, IPv6, parameters, and every password that needs no encoding."""
    assert load(tmp_path, HEAD, {"GROAT_STORAGE__URL": url}).storage.url == url
    read = psycopg.conninfo.conninfo_to_dict(url)
    assert set(read) <= {"user", "password", "host", "port", "dbname", "target_session_attrs", "sslmode",
                         "sslrootcert", "options"}  # fmt: skip


def shown_parts(password: str, text: str) -> list[str]:
    """Every piece of three characters of a password that a text shows."""
    return [password[i : i + 3] for i in range(len(password) - 2) if password[i : i + 3] in text]


def private(path: Path, content: str) -> Path:
    """Write a file that nobody else can read."""
    path.write_text(content)
    path.chmod(0o600)
    return path


def test_shown_settings_are_json(tmp_path: Path) -> None:
    """Networks are strings, durations are seconds, nothing is left out."""
    config = load(tmp_path, HEAD + 'server.trusted_proxies = ["10.0.0.0/8"]')
    assert config.shown().keys() == BY_NAME.keys()
    assert config.shown()["server.trusted_proxies"] == ["10.0.0.0/8"]
    assert config.shown()["tokens.lifetime"] == 600


def test_the_schema_lists_every_setting() -> None:
    """With its variable, its default in file form and what it is for."""
    schema = {entry["name"]: entry for entry in settings_schema()}
    assert schema.keys() == BY_NAME.keys()
    assert all(entry["about"] and entry["env"].startswith("GROAT_") for entry in schema.values())
    assert [name for name, entry in schema.items() if entry["required"]] == ["issuer"]
    assert schema["tokens.lifetime"]["default"] == "10m"
    assert schema["tokens.lifetime"]["env"] == "GROAT_TOKENS__LIFETIME"
    assert len(SETTINGS) == len(schema)
