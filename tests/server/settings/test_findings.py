"""Wrong settings: every mistake at once, with file, line and what was probably meant."""

from pathlib import Path

import pytest

from groat.server.settings.config import load_config, plain_http_warning
from tests.server.settings.loading import HEAD, findings, load

MANY = """\
isuer = "https://as.example"

[server]
prot = 3001
workers = 0

[tokens]
lifetime = "soon"

[colours]
red = 1
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('isuer = "x"', "groat.toml:2: unknown setting isuer; did you mean issuer?"),
        ("[server]\nprot = 1", "groat.toml:3: unknown setting server.prot; did you mean server.port?"),
        ("port = 1", "groat.toml:2: unknown setting port; did you mean server.port?"),
        ("lifetime = 1", "groat.toml:2: unknown setting lifetime; did you mean tokens.lifetime?"),
        ("server.prot = 1", "groat.toml:2: unknown setting server.prot; did you mean server.port?"),
        ("\n\n[sever]\nport = 1", "groat.toml:4: unknown setting sever; did you mean server?"),
        ("[server.tls]\ncert = 1", "groat.toml:2: unknown setting server.tls"),
        ("xyzzy = 1", "groat.toml:2: unknown setting xyzzy"),
        ("server = 5", "groat.toml:2: server must be one table: [server]"),
        ("[[server]]\nport = 1", "groat.toml:2: server must be one table: [server]"),
        ("# prot = 1\n[server]\n# prot = 2\nprot = 3", "groat.toml:5: unknown setting server.prot"),
    ],
)
def test_an_unknown_setting_is_an_error_at_its_line(tmp_path: Path, text: str, said: str) -> None:
    """A misspelt setting would otherwise keep its default without anybody knowing."""
    (finding,) = findings(tmp_path, HEAD + text)
    assert finding.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("issuer = 5", "groat.toml:1: issuer must be a non-empty string"),
        ('issuer = ""', "groat.toml:1: issuer must be a non-empty string"),
        (HEAD + "[clients]\nkey_idle = '3651d'", "groat.toml:3: clients.key_idle must be 3650 days at most"),
        (HEAD + 'profile = "x"', "groat.toml:2: profile must be one of default, fapi2"),
        (HEAD + "profile = 1", "groat.toml:2: profile must be one of default, fapi2"),
        (HEAD + "[server]\nport = '3001x'", "groat.toml:3: server.port must be a whole number"),
        (HEAD + "[server]\nport = 70000", "groat.toml:3: server.port must be a port from 0 to 65535"),
        (HEAD + "[server]\nport = -1", "groat.toml:3: server.port must be a port from 0 to 65535"),
        (HEAD + "[server]\nport = true", "groat.toml:3: server.port must be a whole number"),
        (HEAD + "[server]\nport = 1.5", "groat.toml:3: server.port must be a whole number"),
        (HEAD + "[server]\nworkers = 0", "groat.toml:3: server.workers must be a whole number of at least 1"),
        (HEAD + "[server]\nhost = ['a']", "groat.toml:3: server.host must be a non-empty string"),
        (HEAD + "[keys]\n\nalgorithm = 'HS256'", "groat.toml:4: keys.algorithm must be one of ES256,"),
        (HEAD + "[keys]\nalgorithm = ['ES256']", "groat.toml:3: keys.algorithm must be one of ES256,"),
        (HEAD + "[log]\nlevel = 'loud'", "groat.toml:3: log.level must be one of debug, info, warning, error"),
        (HEAD + "[server]\ntrusted_proxies = 'x'", "groat.toml:3: server.trusted_proxies must be a list of addresses"),
        (HEAD + "[server]\ntrusted_proxies = ['10.0.0.1/8']", "groat.toml:3: server.trusted_proxies must be a list"),
        (HEAD + "[server]\nproxy = ['10.0.0.0/8']", "groat.toml:3: server.proxy must be a list of tables such as"),
        (HEAD + "[[server.proxy]]\nnetwork = '10.0.0.0/8'", "groat.toml:2: server.proxy must be a list of tables"),
        (
            HEAD + "[[server.proxy]]\nnetwork = '10.0.0.0/8'\ncertificate = 'f5'",
            "groat.toml:2: server.proxy must be a list of tables",
        ),
        (
            HEAD + "[[server.proxy]]\nnetwork = '10.0.0.1/8'\ncertificate = 'envoy'",
            "groat.toml:2: server.proxy must be",
        ),
        (
            HEAD + "[server]\nproxy = [{network = '10.0.0.0/8', certificate = 'envoy'}, "
            "{network = '10.1.0.0/16', certificate = 'nginx'}]",
            "groat.toml:3: server.proxy must be networks apart: 10.1.0.0/16 (nginx) and 10.0.0.0/8 (envoy) overlap",
        ),
        (HEAD + "[server]\ntrusted_proxies = [5]", "groat.toml:3: server.trusted_proxies must be a list"),
        (HEAD + "[tokens]\nextra_claims = 'x'", "groat.toml:3: tokens.extra_claims must be a table of claims"),
        (HEAD + "[development]\nallow_http_hosts = 5", "groat.toml:3: development.allow_http_hosts must be a list"),
        (HEAD + "[storage]\nurl = 'mysql://u:secret@h/d'", "groat.toml:3: storage.url must be sqlite:///PATH"),
        (HEAD + "[storage]\nurl = 'sqlite:///'", "groat.toml:3: storage.url must be sqlite:///PATH"),
        (HEAD + "[storage]\nurl = 'groat.db'", "groat.toml:3: storage.url must be sqlite:///PATH"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """What it must be, and where it stands; never the value, which may be a secret."""
    (finding,) = findings(tmp_path, text)
    assert finding.startswith(said)
    assert "secret" not in finding


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    """Nobody has to start five times to find five mistakes."""
    said = findings(tmp_path, MANY, {"GROAT_SERVER__HOSTS": "x", "GROAT_LOG__LEVEL": "loud"})
    assert sorted(line.partition(";")[0] for line in said) == [
        "GROAT_LOG__LEVEL: log.level must be one of debug, info, warning, error",
        "groat.toml: issuer is missing: who signs the tokens: the public https URL of this server",
        "groat.toml:10: unknown setting colours",
        "groat.toml:1: unknown setting isuer",
        "groat.toml:4: unknown setting server.prot",
        "groat.toml:5: server.workers must be a whole number of at least 1",
        'groat.toml:8: tokens.lifetime must be a duration such as "90s", "10m", "2h" or "30d"',
        "unknown variable GROAT_SERVER__HOSTS",
    ]


def test_all_that_does_not_go_together_is_said_at_once(tmp_path: Path) -> None:
    """Settings that are fine alone, each finding with the line of the one that it is about."""
    text = (
        HEAD + 'profile = "fapi2"\nkeys.algorithm = "RS256"\nkeys.jwks_max_age = "2h"\n'
        'server.tls_key_file = "key.pem"\nclients.key_idle = "4000d"\n'
    )
    assert findings(tmp_path, text) == [
        "groat.toml:3: keys.algorithm RS256 is outside profile fapi2",
        "groat.toml:5: server.tls_key_file needs server.tls_certificate_file; without it there is no TLS",
        "groat.toml:6: clients.key_idle must be 3650 days at most",
        "groat.toml:4: keys.jwks_max_age must be 60 to 3600 seconds, not 7200",
    ]


def test_certificates_come_from_one_place(tmp_path: Path) -> None:
    """From handshakes here, which need TLS and authorities, or from proxies; and a URL is none of another scheme."""
    text = (
        HEAD + '[tls]\nclient_certificates = "request"\n'
        '[[server.proxy]]\nnetwork = "10.0.0.0/8"\ncertificate = "envoy"\n'
    )
    with_request = "with tls.client_certificates request certificates come from handshakes alone"
    assert findings(tmp_path, text) == [
        "groat.toml:3: tls.client_certificates request needs server.tls_certificate_file: TLS must end here",
        "groat.toml:3: tls.client_certificates request needs tls.client_ca_file: whose certificates to take in handshakes",
        f"groat.toml:4: server.proxy would count nothing: {with_request}",
    ]
    (finding,) = findings(tmp_path, HEAD + '[tls]\ncertificate_url = "http://mtls.as.example"\n')
    assert finding.startswith("groat.toml:3: tls.certificate_url must use https")


def test_unknown_settings_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Two runs on the same file say the same."""
    text = "".join(f"x{number} = 1\n" for number in range(20, 0, -1))
    said = findings(tmp_path, HEAD + text)
    assert [line.partition(":")[2].partition(":")[0] for line in said] == [str(line) for line in range(2, 22)]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'issuer = "https://as.example', 1),
        (b"issuer = 1\n\n[server\nport = 1\n", 3),
        (b"issuer = 1\nissuer = 2\n", 2),
        (b"\xff\xfe", 1),
        (b"<xml/>", 1),
    ],
    ids=["open string", "open table", "twice", "not utf-8", "xml"],
)
def test_what_is_not_toml_is_said_with_its_line(tmp_path: Path, content: bytes, line: int) -> None:
    """The parser's reason, at the line where it stopped."""
    (tmp_path / "groat.toml").write_bytes(content)
    (said,) = findings(tmp_path, None)
    assert said.startswith(f"groat.toml:{line}: not TOML: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A directory in its place, for example."""
    (tmp_path / "groat.toml").mkdir()
    assert findings(tmp_path, None) == ["groat.toml: cannot read: Is a directory"]


def test_nothing_at_all_says_what_is_missing(tmp_path: Path) -> None:
    """The one setting without a default."""
    (said,) = findings(tmp_path, None)
    assert said.startswith("groat.toml: issuer is missing")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GROAT_SERVER__PRT", "1", "unknown variable GROAT_SERVER__PRT; did you mean GROAT_SERVER__PORT?"),
        ("GROAT_SERVER__PORT", "x", "GROAT_SERVER__PORT: server.port must be a whole number"),
        ("GROAT_SERVER__PORT", "", "GROAT_SERVER__PORT: server.port must be a whole number"),
        ("GROAT_ISSUER", "", "GROAT_ISSUER: issuer must be a non-empty string"),
        ("GROAT_ISSUER", "http://x.example", "GROAT_ISSUER: issuer must use https"),
        ("GROAT_TOKENS__LIFETIME", "2h", "GROAT_TOKENS__LIFETIME: tokens.lifetime must be 60 to 3600 seconds"),
        ("GROAT_STORAGE__URL", "mysql://u:secret@h", "GROAT_STORAGE__URL: storage.url must be sqlite:///PATH"),
        ("GROAT_PROFILE", "FAPI2", "GROAT_PROFILE: profile must be one of default, fapi2"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: str, value: str, said: str) -> None:
    """The variable stands where the file and line would."""
    (finding,) = findings(tmp_path, HEAD, {variable: value})
    assert finding.startswith(said)
    assert "secret" not in finding


def test_variables_of_others_are_left_alone(tmp_path: Path) -> None:
    """Only GROAT_SECTION__KEY is ours to judge; GROAT_CONFIG and the like have their own readers."""
    load(tmp_path, HEAD, {"GROAT_CONFIG": "x", "GROAT_DEV": "1", "PATH": "/bin", "MY__VAR": "1"})


@pytest.mark.rule("AT-08")
@pytest.mark.parametrize(("value", "fine"), [("59", False), ("60", True), ("3600", True), ("3601", False)])
def test_token_lifetimes_have_limits(tmp_path: Path, value: str, fine: bool) -> None:
    """One minute to one hour, both included."""
    _check_limit(tmp_path, "tokens.lifetime", value, fine)


@pytest.mark.rule("AT-08")
def test_a_lifetime_of_two_hours_is_refused(tmp_path: Path) -> None:
    """The message says the limit and the value in seconds."""
    assert findings(tmp_path, HEAD + "\n[tokens]\nlifetime = 7200") == [
        "groat.toml:4: tokens.lifetime must be 60 to 3600 seconds, not 7200"
    ]


@pytest.mark.rule("JOSE-20")
@pytest.mark.parametrize(("value", "fine"), [("9", False), ("10", True), ("60", True), ("61", False), ("-1", False)])
def test_clock_tolerance_has_limits(tmp_path: Path, value: str, fine: bool) -> None:
    """10 to 60 seconds; a tolerance of 61 would accept what the profile refuses."""
    _check_limit(tmp_path, "assertions.clock_tolerance", value, fine)


@pytest.mark.rule("JOSE-20")
@pytest.mark.parametrize(("value", "fine"), [("9", False), ("10", True), ("3600", True), ("3601", False)])
def test_assertion_lifetimes_have_limits(tmp_path: Path, value: str, fine: bool) -> None:
    """Ten seconds to one hour."""
    _check_limit(tmp_path, "assertions.max_lifetime", value, fine)


def _check_limit(folder: Path, name: str, value: str, fine: bool) -> None:
    text = f"{HEAD}{name} = {value}"
    if fine:
        assert load(folder, text).values[name] == int(value)
    else:
        (said,) = findings(folder, text)
        assert said.startswith(f"groat.toml:2: {name} must be ")


@pytest.mark.rule("AS-TE-02", "DEMO-25")
@pytest.mark.parametrize(
    ("issuer", "hosts", "fine"),
    [
        ("https://as.example", "", True),
        ("https://as.example:8443/tenant", "", True),
        ("http://as.example", "", False),
        ("http://as.example", "as.example", True),
        ("http://as.example", "other.example", False),
        ("http://as.example", "*", False),
        ("http://sub.as.example", "as.example", False),
        ("http://localhost:3001", "", True),
        ("http://127.0.0.1:3001", "", True),
        ("http://[::1]:3001", "", True),
        ("http://127.0.0.2", "", False),
        ("http://localhost.as.example", "", False),
        ("http://localhost@as.example", "", False),
        ("https://user:secret@as.example", "", False),
        ("https://as.example?x=1", "", False),
        ("https://as.example#x", "", False),
        ("https://", "", False),
        ("as.example", "", False),
        ("ftp://as.example", "as.example", False),
        ("https://as.example/a b", "", False),
        ("https://as.example:99999", "", False),
        ("https://[::1", "", False),
        ("https://bücher.example", "", False),
    ],
)
def test_the_issuer_is_https_or_said_to_be_for_development(tmp_path: Path, issuer: str, hosts: str, fine: bool) -> None:
    """Plain http is for loopback, and for hosts that are listed by name."""
    text = f'issuer = "{issuer}"\ndevelopment.allow_http_hosts = [{", ".join(f"{h!r}" for h in hosts.split())}]'
    if not fine:
        (said,) = findings(tmp_path, text)
        assert said.startswith("groat.toml:1: issuer ")
        assert "secret" not in said
        return
    warning = plain_http_warning(load(tmp_path, text))
    assert (warning is not None) == issuer.startswith("http://")
    assert warning is None or (issuer in warning and "development only" in warning)


@pytest.mark.rule("AS-TE-02")
@pytest.mark.parametrize(
    ("issuer", "where"),
    [
        ("http://localhost:3001", "loopback"),
        ("http://[::1]:3001", "loopback"),
        ("http://127.0.0.1", "loopback"),
        ("http://as.example/x", "as.example is allow-listed"),
    ],
)
def test_the_warning_says_why_it_is_let_pass(tmp_path: Path, issuer: str, where: str) -> None:
    """Loopback, or the operator's own list."""
    config = load(tmp_path, f'issuer = "{issuer}"\ndevelopment.allow_http_hosts = ["as.example"]')
    assert f"({where})" in str(plain_http_warning(config))


@pytest.mark.rule("AT-10")
@pytest.mark.parametrize("claim", ["iss", "exp", "aud", "sub", "client_id", "iat", "nbf", "jti", "scope", "cnf", "act"])
def test_extra_claims_cannot_override(tmp_path: Path, claim: str) -> None:
    """A registered claim is refused, alone or among others."""
    text = f'{HEAD}[tokens]\nextra_claims = {{tenant = "t", {claim} = "x"}}'
    assert findings(tmp_path, text) == [f"groat.toml:3: tokens.extra_claims must not set {claim}"]


@pytest.mark.rule("AT-10")
@pytest.mark.parametrize("value", ["", "x", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', "{'a': 1}"])
def test_extra_claims_in_the_environment_are_strict_json(tmp_path: Path, value: str) -> None:
    """An object and nothing else, and no member twice."""
    (said,) = findings(tmp_path, HEAD, {"GROAT_TOKENS__EXTRA_CLAIMS": value})
    assert said.startswith("GROAT_TOKENS__EXTRA_CLAIMS: tokens.extra_claims must be a table of claims")


@pytest.mark.rule("AT-14")
def test_extra_claims_are_small(tmp_path: Path) -> None:
    """They are in every token, which must fit into the headers of proxies."""
    assert load(tmp_path, f'{HEAD}[tokens]\nextra_claims = {{a = "{"x" * 1016}"}}').policy.extra_claims
    (said,) = findings(tmp_path, f'{HEAD}[tokens]\nextra_claims = {{a = "{"x" * 1017}"}}')
    assert said == "groat.toml:3: tokens.extra_claims must be at most 1024 bytes of JSON, not 1025"


@pytest.mark.rule("AT-10")
def test_other_extra_claims_are_kept(tmp_path: Path) -> None:
    """In either way of writing them."""
    for text in ('[tokens]\nextra_claims = {tenant = "t"}', '[tokens.extra_claims]\ntenant = "t"'):
        assert load(tmp_path, HEAD + text).policy.extra_claims == {"tenant": "t"}


@pytest.mark.rule("AT-10")
def test_an_extra_claim_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    """TOML has dates and infinities; a token has not, and the first request would be too late to notice."""
    for value in ("2026-01-01", "inf", "nan"):
        (said,) = findings(tmp_path, f"{HEAD}[tokens]\nextra_claims = {{x = {value}}}")
        assert said.startswith("groat.toml:3: tokens.extra_claims")


@pytest.mark.rule("JOSE-17")
@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS384", "ES384", "ES512"])
def test_the_profile_limits_the_algorithms(tmp_path: Path, algorithm: str) -> None:
    """A server of profile fapi2 does not make keys that the profile forbids; the line is that of the algorithm."""
    (said,) = findings(tmp_path, f'{HEAD}profile = "fapi2"\nkeys.algorithm = "{algorithm}"')
    assert said.startswith(f"groat.toml:3: keys.algorithm {algorithm} is outside profile fapi2")


@pytest.mark.rule("JOSE-17")
@pytest.mark.parametrize("algorithm", ["PS256", "ES256", "Ed25519", "EdDSA"])
def test_the_profile_keeps_its_own_algorithms(tmp_path: Path, algorithm: str) -> None:
    """The three of FAPI 2.0, one of them under either name."""
    config = load(tmp_path, f'{HEAD}profile = "fapi2"\nkeys.algorithm = "{algorithm}"')
    assert config.policy.profile == "fapi2"


def test_lines_are_found_whatever_ends_them(tmp_path: Path) -> None:
    """A file from an editor of Windows has the same lines."""
    (tmp_path / "groat.toml").write_bytes(b'issuer = "https://as.example"\r\n\r\n[server]\r\nport = "x"\r\n')
    with pytest.raises(Exception, match=r"groat\.toml:4: server\.port"):
        load_config(tmp_path / "groat.toml", {})
