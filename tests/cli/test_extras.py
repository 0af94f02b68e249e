"""What works with which extra, in installations that have that one only, made of what is installed here (OP-5)."""

import json
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from groat.extras import EXTRAS
from tests.installations import PROJECT, installation
from tests.ports import free_port

from .running import AUDIENCE, Home, environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`groat` of an installation without extras."""
    return installation(tmp_path_factory.mktemp("bare") / "venv", None)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`groat` of an installation with the extra `client`, and nothing of the server's."""
    script = installation(tmp_path_factory.mktemp("client") / "venv", "client")
    (packages,) = (script.parent.parent / "lib").glob("python3*/site-packages")
    assert not [name for name in ("starlette", "uvicorn", "msgspec", "rich") if (packages / name).exists()]
    return script


def run(script: Path, directory: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *words], cwd=directory, env=environment(env), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The directory of a client's host: it has no groat.toml."""
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


@pytest.mark.rule("OP-5")
@pytest.mark.parametrize("words", [(), ("--help",), ("version",), ("token", "get"), ("serve",), ("guard", "serve")])
def test_without_an_extra_one_line_says_what_to_install(bare: Path, host: Path, words: tuple[str, ...]) -> None:
    """Exit code 3, no traceback; for programs the line is in JSON; the library itself can be imported."""
    done = run(bare, host, *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)
    assert "groat[client]" in done.stderr
    assert "groat[server]" in done.stderr
    assert json.loads(run(bare, host, "--json", *words).stderr)["error"] == "invalid_input"
    importing = [str(bare.with_name("python")), "-c", "import groat.verifier"]
    assert subprocess.run(importing, check=False, timeout=60).returncode == 0


@pytest.mark.rule("OP-5")
def test_a_client_lives_with_its_extra(client: Path, home: Home, host: Path) -> None:
    """Join, get a token, verify and inspect it, change the key, sign an assertion, ask whether the server is ready."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    home.env |= {"GROAT_ISSUER": url, "GROAT_SERVER__PORT": str(port)}

    def ok(*words: str) -> str:
        done = run(client, host, *words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    with home.serving(port=port):
        code = home.ok("-q", "client", "invite", "fresh", "--allow", "orders=orders:read").out.strip()
        ok("client", "join", code, "--issuer", url, "--key", "k.json")
        getting = ("token", "get", "--client-id", "fresh", "--issuer", url, "--scope", "orders:read")
        token = ok(*getting, "--key", "k.json", "--print-token")
        assert "fresh" in ok("token", "verify", token, "--issuer", url, "--audience", AUDIENCE)
        assert json.loads(ok("token", "inspect", token))["claims"]["client_id"] == "fresh"
        ok("client", "key", "rotate", "fresh", "--issuer", url, "--key", "k.json", "--new-key", "next.json")
        assert "expires_at" in ok(*getting, "--key", "next.json")
        assert ok("client", "assertion", "fresh", "--key", "next.json", "--issuer", url).count(".") == 2
        ok("health", f"{url}/readyz")
        seen = ok(
            "doctor", "client", "--client-id", "fresh", "--key", "next.json", "--issuer", url, "--scope", "orders:read"
        )
        assert [line.split()[:2] for line in seen.splitlines()] == [
            ["ok", "key"], ["ok", "server"], ["ok", "token"], ["unknown", "api"]
        ]  # fmt: skip
    ok("version")
    for words in ((), ("client",), ("client", "key"), ("token",), ("config",), ("doctor",)):
        ok(*words, "--help")
    refused = run(client, host, *getting, "--key", "next.json")
    assert (refused.returncode, "Traceback" in refused.stderr) == (5, False)


@pytest.mark.rule("OP-5")
@pytest.mark.parametrize("module", ["groat.verifier", "groat.verifier.asgi", "groat.testing", "groat.client"])
def test_what_the_libraries_import(bare: Path, module: str) -> None:
    """Of other people's packages cryptography and joserfc, with what these need; so the start stays short."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {module}\n"
        "files = [str(getattr(sys.modules[name], '__file__', '')) for name in {*sys.modules} - before]\n"
        "print(*{file.split('site-packages/')[1].split('/')[0].split('.')[0] for file in files if 'site-packages' in file})"
    )
    done = subprocess.run(
        [bare.with_name("python"), "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) <= {"groat", "cryptography", "joserfc", "_cffi_backend"}
    assert set(PROJECT["dependencies"]) == {"cryptography>=50", "joserfc>=1.8"}


@pytest.mark.rule("OP-5")
def test_an_extra_names_each_package_that_it_brings() -> None:
    """A package that a command may miss leads to an extra that has it."""
    modules = {
        "python-pkcs11": "pkcs11",
        "prometheus-client": "prometheus_client",
        "djangorestframework": "rest_framework",
        "grpcio": "grpc",
        "ruamel.yaml": "ruamel",
    }
    extras = {
        name: {modules.get(Requirement(word).name, Requirement(word).name) for word in words}
        for name, words in PROJECT["optional-dependencies"].items()
    }
    for package, extra in EXTRAS.items():
        assert package in extras[extra] or package == "httpx", package
    assert set().union(*(extras[name] for name in ("client", "server", "postgres", "pkcs11", "aws"))) <= EXTRAS.keys()


@pytest.mark.rule("OP-5")
@pytest.mark.parametrize(
    "words", [("serve",), ("guard", "serve"), ("demo",), ("config", "check"), ("key", "list")], ids=" ".join
)
def test_what_belongs_to_the_server_names_its_extra(client: Path, home: Home, words: tuple[str, ...]) -> None:
    """Where there is a groat.toml, but not what serves it."""
    done = run(client, home.directory, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert "pip install 'groat[server]'" in done.stderr
