"""The fixture `groat_issuer` in somebody else's project: an installation as a wheel leaves it, and pytest beside it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.installations import installation

STRICT = """
from groat.testing import FakeIssuer

forever = FakeIssuer.from_env().installed()
forever.__enter__()
"""
APP = """
from groat.verifier import Verifier

verifier = Verifier.from_env()  # at import, before any fixture
"""
CONFTEST = """
import os

os.environ["GROAT_ISSUER"] = "https://auth.example.com"
os.environ["GROAT_AUDIENCE"] = "https://orders.example.com"
"""
USING = """
import os
import pytest
from app import verifier
from groat.verifier import InvalidToken, KeysUnavailable, Verifier


@pytest.mark.parametrize("turn", range(4))
def test_an_app_that_was_built_before(groat_issuer, turn):
    assert groat_issuer.url == "https://auth.example.com"
    assert verifier.verify(groat_issuer.token("billing", ["orders:read"]), ["orders:read"]).client_id == "billing"
    groat_issuer.rotate()
    assert verifier.verify(groat_issuer.token("billing")).client_id == "billing"


@pytest.mark.parametrize("turn", range(2))
def test_down(groat_issuer, turn):
    with groat_issuer.down(), pytest.raises(KeysUnavailable):
        verifier.verify(groat_issuer.token())


def test_an_app_of_the_test(groat_issuer):
    for token in groat_issuer.bad_tokens().values():
        with pytest.raises(InvalidToken):
            Verifier.from_env().verify(token)


def test_a_caller(groat_issuer, monkeypatch):
    from groat.client import MachineClient

    for name, value in groat_issuer.environment("billing").items():
        monkeypatch.setenv(name, value)
    with MachineClient.from_env() as machine:
        token = machine.token("https://orders.example.com", ["orders:read"])
    assert verifier.verify(token.value).client_id == "billing"
"""
BARE = """
import os
import sys


def test_without_any_environment(groat_issuer):
    from groat.verifier import Verifier

    assert os.environ["GROAT_ISSUER"] == groat_issuer.url
    assert Verifier.from_env().verify(groat_issuer.token()).client_id == "test-client"


def test_nothing_is_left_behind():
    assert not [name for name in os.environ if name.startswith("GROAT_")]
"""
STRANGER = """
import sys


def test_nothing_of_groat_is_loaded_but_the_plugin():
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("groat", "cryptography", "joserfc")}
    assert loaded == {"groat", "groat.pytest_plugin"}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation without extras, with pytest and pytest-xdist."""
    return installation(tmp_path_factory.mktemp("users") / "venv", None, "pytest", "pytest-xdist").with_name("python")


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Warnings are errors, as in projects that are strict."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GROAT_", "PYTEST_"))}
    command = [str(python), "-m", "pytest", "-q", "-W", "error", "--strict-config", "--strict-markers", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.rule("UT-3", "UT-4")
@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_fixture_needs_no_import(python: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """An application that was configured at import, in tests one after another and in several processes."""
    for name, text in {"app.py": APP, "conftest.py": CONFTEST, "test_using.py": USING}.items():
        (tmp_path / name).write_text(text)
    done = run(python, tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


@pytest.mark.rule("UT-3", "UT-4")
def test_an_application_that_fetches_while_it_is_imported(python: Path, tmp_path: Path) -> None:
    """An issuer that conftest.py installs for good is there then; the fixture's takes its place."""
    app = APP.replace("from_env()", "from_env(strict_startup=True)")
    for name, text in {"app.py": app, "conftest.py": CONFTEST + STRICT, "test_using.py": USING}.items():
        (tmp_path / name).write_text(text)
    done = run(python, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.rule("UT-3", "UT-4")
def test_the_fixture_without_an_environment(python: Path, tmp_path: Path) -> None:
    """It sets the variables for its test, and no longer."""
    (tmp_path / "test_bare.py").write_text(BARE)
    done = run(python, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.rule("UT-3")
def test_who_does_not_use_it_does_not_meet_it(python: Path, tmp_path: Path) -> None:
    """Nothing is imported, also while tests are collected; `-p no:groat` leaves the plugin out."""
    (tmp_path / "test_stranger.py").write_text(STRANGER)
    done = run(python, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(python, tmp_path, "--collect-only").returncode == 0
    assert "groat_issuer" in run(python, tmp_path, "--fixtures").stdout
    assert "groat_issuer" not in run(python, tmp_path, "--fixtures", "-p", "no:groat").stdout


@pytest.mark.rule("UT-3")
def test_a_program_that_imported_groat_before_it_runs_pytest(python: Path, tmp_path: Path) -> None:
    """pytest warns of modules that it comes too late to rewrite; not of ours."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    code = "import sys, groat.verifier, pytest; sys.exit(pytest.main(['-q', '-W', 'error']))"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
