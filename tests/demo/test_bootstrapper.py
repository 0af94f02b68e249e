"""The programs that the containers run, without containers: bootstrapper, server and API over TLS, client."""

import datetime
import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from groat.demo.stage import free_ports

GROAT = Path(sys.executable).with_name("groat")
DEPLOY = Path(__file__).parents[2] / "deploy"
TLS_FILES = {"CERTIFICATE": "tls.pem", "KEY": "tls.key.pem"}
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
# What each container mounts, and the files with their modes that it must find there: all of them, and no others.
LAYOUT = {
    "server": {"groat.toml": 0o644, "data/groat.db": 0o600},
    "secrets": {"key-encryption.key": 0o600, "tls.pem": 0o644, "tls.key.pem": 0o600},
    "client": {"billing.key.json": 0o600},
    "public": {"billing.pub.json": 0o644},
    "api-tls": {"tls.pem": 0o644, "tls.key.pem": 0o600},
    "trust": {"ca.pem": 0o644},
    "ca": {"ca.key.pem": 0o600},
}


@dataclass(frozen=True, slots=True)
class Place:
    """One set of directories, with the environment that the containers would have."""

    root: Path
    env: dict[str, str]

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a Python module or another command to its end."""
        return subprocess.run(
            arguments,
            env={**self.env, **extra},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def bootstrap(self, **extra: str) -> list[list[str]]:
        """Run the bootstrapper; returns its lines as what, outcome, where."""
        done = self.run(sys.executable, "-m", "groat.demo.bootstrapper", **extra)
        assert done.returncode == 0, done.stderr
        *steps, verdict = done.stdout.splitlines()
        return [[line[:20].strip(), line[20:31].strip(), line[31:]] for line in steps] + [[verdict]]

    def apply(self, *recipes: str) -> str:
        """What the service `apply` does, with the files of the recipe: the same but for addresses and places."""
        registry = self.root.parent / "registry"
        registry.mkdir(exist_ok=True)
        for recipe in recipes or ("registry/orders.toml",):
            text = (DEPLOY / recipe).read_text().replace("https://api:3002", self.env["GROAT_AUDIENCE"])
            (registry / Path(recipe).name).write_text(text.replace("/groat/", f"{self.root}/"))
        done = self.run(str(GROAT), "apply", "-f", str(registry))
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def files(self) -> dict[str, dict[str, int]]:
        return {
            part.name: {
                str(path.relative_to(part)): stat.S_IMODE(path.stat().st_mode)
                for path in sorted(part.rglob("*"))
                if path.is_file() and not path.name.endswith((".lock", "-wal", "-shm"))
            }
            for part in self.root.iterdir()
        }

    @contextmanager
    def running(self, *arguments: str, health: tuple[str, ...], **extra: str) -> Iterator[None]:
        """Run a server until the block ends; it is ready when `groat health` says so."""
        with (self.root.parent / "server.log").open("ab") as log:
            env = {**self.env, **extra}
            process = subprocess.Popen(arguments, env=env, cwd=self.root, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 20
            while (asked := self.run(str(GROAT), "health", *health)).returncode:
                assert process.poll() is None, (self.root.parent / "server.log").read_text()
                assert time.monotonic() < deadline, asked.stderr
            yield
        finally:
            process.terminate()
            process.wait(15)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GROAT_", "SSL_CERT"))}
    server, api = free_ports(0, 0)
    root = tmp_path / "groat"
    root.mkdir()
    settings = {
        "GROAT_DEMO_ROOT": str(root),
        "GROAT_DEMO_AUTH_NAME": "localhost",
        "GROAT_DEMO_API_NAME": "localhost",
        "GROAT_CONFIG": str(root / "server/groat.toml"),
        "GROAT_ISSUER": f"https://localhost:{server}",
        "GROAT_AUDIENCE": f"https://localhost:{api}",
        "GROAT_SERVER__PORT": str(server),
        "GROAT_KEYS__ENCRYPTION_KEY_FILE": str(root / "secrets/key-encryption.key"),
        "GROAT_SERVER__TLS_CERTIFICATE_FILE": str(root / "secrets/tls.pem"),
        "GROAT_SERVER__TLS_KEY_FILE": str(root / "secrets/tls.key.pem"),
        "SSL_CERT_FILE": str(root / "trust/ca.pem"),
    }
    return Place(root, inherited | settings)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_owner_gets_its_own_and_no_more(place: Place) -> None:
    """Every directory holds exactly its files, the private ones with mode 0600."""
    steps = place.bootstrap()
    assert [step[1] for step in steps[:-1]] == ["created"] * 9
    assert steps[-1] == ["created 9 of 9"]
    assert place.files() == LAYOUT
    key = json.loads((place.root / "client/billing.key.json").read_bytes())
    for path in place.root.rglob("*"):
        if path.is_file() and path.parent.name != "client":
            assert key["d"].encode() not in path.read_bytes()


def test_a_second_run_changes_nothing(place: Place) -> None:
    """It says so, and every file keeps its content."""
    place.bootstrap()
    before = {path: path.read_bytes() for path in place.root.rglob("*.*") if path.suffix in (".pem", ".json", ".key")}
    steps = place.bootstrap()
    assert {step[1] for step in steps[:-1]} == {"unchanged"}
    assert steps[-1] == ["unchanged"]
    assert before == {path: path.read_bytes() for path in before}


def test_files_alone_register_what_there_is(place: Place) -> None:
    """Once; a second run finds nothing to do, a key that was lost and made anew is taken in, a stop by hand stays."""
    place.bootstrap()
    assert place.apply() == "changed: 2 added, 0 changed, 0 removed"
    assert place.apply() == "unchanged: 0 added, 0 changed, 0 removed"
    (place.root / "client/billing.key.json").unlink()
    place.bootstrap()
    assert place.apply() == "changed: 0 added, 1 changed, 0 removed"
    assert place.run(str(GROAT), "--yes", "client", "disable", "billing").returncode == 0
    assert place.apply() == "unchanged: 0 added, 0 changed, 0 removed"
    assert not json.loads(place.run(str(GROAT), "--json", "client", "show", "billing").stdout)["enabled"]


@pytest.mark.parametrize(
    ("lost", "mended"),
    [
        ("client/billing.key.json", {"client key"}),
        ("public/billing.pub.json", {"client key"}),
        ("api-tls/tls.key.pem", {"TLS for localhost"}),
        ("secrets/tls.pem", {"TLS for localhost"}),
        ("ca/ca.key.pem", {"local CA", "TLS for localhost"}),
        ("trust/ca.pem", {"local CA", "TLS for localhost"}),
        ("server/groat.toml", {"configuration"}),
    ],
)
def test_what_is_lost_is_made_again(place: Place, lost: str, mended: set[str]) -> None:
    """Only that, and what hangs on it; then everything is there again."""
    place.bootstrap()
    (place.root / lost).unlink()
    assert {step[0] for step in place.bootstrap()[:-1] if step[1] == "created"} == mended
    assert place.files() == LAYOUT
    assert place.bootstrap()[-1] == ["unchanged"]


@pytest.mark.parametrize("pair", ["secrets", "api-tls"])
def test_a_pair_that_does_not_fit_is_made_again(place: Place, pair: str) -> None:
    """A run that was cut short between key and certificate heals at the next one."""
    place.bootstrap()
    other = "api-tls" if pair == "secrets" else "secrets"
    (place.root / pair / "tls.key.pem").write_bytes((place.root / other / "tls.key.pem").read_bytes())
    place.bootstrap()
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        place.root / pair / "tls.pem", place.root / pair / "tls.key.pem"
    )


@pytest.mark.parametrize(
    ("days", "renewed"),
    [(366, set()), (368, {"TLS for auth", "TLS for api"}), (3621, {"local CA", "TLS for auth", "TLS for api"})],
    ids=["in time", "servers", "authority"],
)
def test_certificates_are_renewed_a_month_ahead(tmp_path: Path, days: int, renewed: set[str]) -> None:
    """397 days for servers, ten years for the authority; keys of clients and of the issuer are not touched."""
    from groat.demo.bootstrapper import Plan, _certificates

    plan = Plan(tmp_path, "https://auth:3001", ("auth", "localhost"), ("api", "localhost"), {})
    _certificates(plan, NOW)
    later = _certificates(plan, NOW + datetime.timedelta(days=days))
    assert {step.what for step in later if step.made} == renewed


def test_the_authority_vouches_for_these_names_only(place: Place) -> None:
    """Whoever trusts it need not fear it elsewhere: its certificate limits the names (RFC 5280 4.2.1.10)."""
    place.bootstrap(GROAT_DEMO_AUTH_NAME="auth", GROAT_DEMO_API_NAME="api", GROAT_DEMO_SERVERS="postgres-tls=postgres")
    limits = certificate(place.root / "trust/ca.pem").extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    named = {name.value for name in limits.value.permitted_subtrees or ()}
    assert named == {"auth", "api", "localhost", "postgres"}
    extra = certificate(place.root / "postgres-tls/tls.pem").extensions
    assert extra.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName) == [
        "postgres"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"GROAT_ISSUER": ""}, "GROAT_ISSUER is not set"),
        ({"GROAT_ISSUER": "http://auth:3001"}, "issuer"),
        ({"GROAT_DEMO_SERVERS": "postgres"}, "GROAT_DEMO_SERVERS must be DIRECTORY=NAME,NAME"),
        ({"GROAT_ISSUER": "https://other:1"}, ""),
    ],
    ids=["no issuer", "plain http", "no name", "another issuer"],
)
def test_a_contradiction_is_an_error_and_changes_nothing(place: Place, change: dict[str, str], said: str) -> None:
    """Exit code 3 and a line that names the setting; never a second installation over the first."""
    place.bootstrap()
    before = place.files()
    done = place.run(sys.executable, "-m", "groat.demo.bootstrapper", **change)
    if change.get("GROAT_ISSUER") == "https://other:1":
        # The environment wins over the file, and the names in the certificates do not hang on it.
        assert done.returncode == 0
    else:
        assert (done.returncode, done.stdout) == (3, "")
        assert said in done.stderr
    assert place.files() == before


@pytest.mark.rule("OPS-03", "KEY-09")
def test_the_password_of_a_database(place: Place) -> None:
    """Made once, in a private file for the database and in a private URL for the server; printed nowhere."""
    settings = {"GROAT_DEMO_DATABASE": "postgresql://groat@postgres:5432/groat?sslmode=verify-full"}
    words = (sys.executable, "-m", "groat.demo.bootstrapper", "files")
    first = place.run(*words, **settings)
    assert first.returncode == 0, first.stderr
    password, url = place.root / "database/password", place.root / "secrets/database-url"
    secret = password.read_text()
    assert len(secret) >= 40
    assert url.read_text() == f"postgresql://groat:{secret}@postgres:5432/groat?sslmode=verify-full"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (password, url)} == {0o600}
    assert secret not in first.stdout + first.stderr
    assert place.run(*words, **settings).stdout.endswith("unchanged\n")
    password.unlink()
    assert "database password   created" in place.run(*words, **settings).stdout
    assert password.read_text() != secret
    assert password.read_text() in url.read_text()


@pytest.mark.rule("OPS-01")
def test_the_four_roles_over_tls(place: Place) -> None:
    """What the containers do: the client gets a token and the API lets it in, with the local CA as the only trust."""
    place.bootstrap()
    place.apply()
    api_url = place.env["GROAT_AUDIENCE"]
    api: dict[str, Any] = {
        "PORT": api_url.rpartition(":")[2],
        "TLS_CERTIFICATE_FILE": str(place.root / "api-tls/tls.pem"),
        "TLS_KEY_FILE": str(place.root / "api-tls/tls.key.pem"),
    }
    caller = {
        "GROAT_CLIENT_ID": "billing",
        "GROAT_KEY_FILE": str(place.root / "client/billing.key.json"),
        "API": api_url,
        "SCOPE": "orders:read",
    }
    module = (sys.executable, "-m")
    with (
        place.running(str(GROAT), "serve", health=()),
        place.running(*module, "groat.demo.example_api", health=(f"{api_url}/health",), **api),
    ):
        once = place.run(*module, "groat.demo.example_client", **caller)
        assert once.returncode == 0, once.stdout + once.stderr
        assert f'GET {api_url}/protected  200  {{"message":"protected data","client":"billing"' in once.stdout
        often = place.run(*module, "groat.demo.example_client", **caller, ROUNDS="3")
        assert often.stdout.splitlines()[-1].startswith("3 rounds, 0 failed")
        more = place.run(*module, "groat.demo.example_client", **{**caller, "SCOPE": "orders:write"})
        assert (more.returncode, "round 1: TokenRequestRefused" in more.stdout) == (1, True)
        stranger = place.run(*module, "groat.demo.example_client", **caller, SSL_CERT_FILE=ssl_defaults(place))
        assert (stranger.returncode, "ertificate" in stranger.stdout) == (1, True)


@pytest.mark.rule("AS-MT-01", "AS-MT-07")
def test_a_client_with_a_certificate(place: Place) -> None:
    """compose.mtls.yaml: what it sets, for processes: a token and a call without any key, and none without the certificate."""
    document = yaml.safe_load((DEPLOY / "compose.mtls.yaml").read_text())
    files = [one.partition(":")[0] for one in document["services"]["apply"]["volumes"] if one.startswith("./")]
    made, server, client = (
        {
            name: value.replace("/groat/", f"{place.root}/")
            for name, value in document["services"][one]["environment"].items()
        }
        for one in ("bootstrapper", "auth", "client")
    )
    place.bootstrap(**made)
    assert place.files()["client-tls"] == {"tls.pem": 0o644, "tls.key.pem": 0o600}
    assert place.apply(*files) == "changed: 3 added, 0 changed, 0 removed"
    api_url = place.env["GROAT_AUDIENCE"]
    api = {"PORT": api_url.rpartition(":")[2], "GROAT_JWKS_URI": f"{place.env['GROAT_ISSUER']}/.well-known/jwks.json"}
    api |= {f"TLS_{what}_FILE": str(place.root / "api-tls" / name) for what, name in TLS_FILES.items()}
    module = (sys.executable, "-m")
    with (
        place.running(str(GROAT), "serve", health=(), **server),
        place.running(*module, "groat.demo.example_api", health=(f"{api_url}/health",), **api),
    ):
        caller = {**client, "API": api_url, "SCOPE": "orders:read"}
        once = place.run(*module, "groat.demo.example_client", **caller)
        assert once.returncode == 0, once.stdout + once.stderr
        assert '"client":"shipping"' in once.stdout
        others = {f"GROAT_CERTIFICATE_{what}": str(place.root / "secrets" / name) for what, name in (
            ("FILE", "tls.pem"), ("KEY_FILE", "tls.key.pem"))}  # fmt: skip
        refused = place.run(*module, "groat.demo.example_client", **{**caller, **others})
        assert (refused.returncode, "shipping" in refused.stdout) == (1, False)


def ssl_defaults(place: Place) -> str:
    """A trust store that does not know the local CA: another one's certificate."""
    from groat.demo.local_ca import LocalCa

    folder = place.root.parent / "other"
    folder.mkdir(exist_ok=True)
    LocalCa.ensure(folder / "ca.pem", folder / "ca.key.pem", ["localhost"], datetime.datetime.now(datetime.UTC))
    return str(folder / "ca.pem")
