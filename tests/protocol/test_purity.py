"""The core is pure: it imports nothing that acts, and while it judges nothing happens."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import groat.protocol
from groat.protocol import models

ROOT = Path(groat.protocol.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
FORBIDDEN = {
    *("asyncio", "time", "datetime", "os", "pathlib", "io", "socket", "ssl", "http", "logging", "random", "secrets"),
    *("uuid", "threading", "multiprocessing", "concurrent", "subprocess", "sqlite3", "tempfile", "shutil", "signal"),
    *("starlette", "uvicorn", "structlog", "msgspec", "httpx", "httpx2", "click", "rich", "psycopg", "sys"),
}
ALLOWED_OURS = "groat.protocol"


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would hide from this test"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_core_imports_nothing_that_acts(path: Path) -> None:
    """No clock, disk, network, log, thread or framework, and nothing of ours outside the core."""
    names = _imports(path)
    assert not {name for name in names if name.split(".")[0] in FORBIDDEN}
    assert not {name for name in names if name.startswith("urllib") and not name.startswith("urllib.parse")}
    assert not {name for name in names if name.split(".")[0] == "groat" and not name.startswith(ALLOWED_OURS)} - {
        "groat"
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_core_calls_no_builtin_that_acts(path: Path) -> None:
    """No open, print, input, eval, exec or global state that is rebound."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Global | ast.AsyncFunctionDef | ast.Await)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint"}


def test_what_the_core_remembers_is_bounded() -> None:
    """Every cache has a size; what a cache may be keyed by is equal to itself alone, so that a change is another key."""
    caches = {
        f"{path.stem}.{name}": value.cache_parameters()["maxsize"]
        for path in SOURCES
        for name, value in vars(importlib.import_module(_module(path))).items()
        if hasattr(value, "cache_parameters")
    }
    assert len(caches) >= 8
    assert all(caches.values()), caches
    for noun in (models.Client, models.Grant, models.Policy):
        assert noun.__hash__ is object.__hash__
        assert noun.__eq__ is object.__eq__


def _module(path: Path) -> str:
    inside = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("groat", "protocol", *(part for part in inside if part != "__init__")))


@pytest.mark.rule("A05", "JOSE-11", "JOSE-24")
def test_while_the_core_judges_nothing_happens() -> None:
    """Under the interpreter's audit hook, no file, socket, process or import occurs from form to verified token."""
    # In its own interpreter, because an audit hook cannot be removed again.
    script = """
import sys
from urllib.parse import urlencode
from groat.protocol import jose
from groat.protocol.access_token import *
from groat.protocol.client_auth import *
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER
from groat.protocol.client_settings import ClientSettings
from groat.protocol.grants import *
from groat.protocol.jwk import *
from groat.protocol.key_set import *
from groat.protocol.metadata import server_metadata, token_members
from groat.protocol.models import *
from groat.protocol.token_request import *
from groat.protocol.errors import *

NOW = 1_800_000_000
key, server_key = generate_private_key("ES256"), generate_private_key("Ed25519")
api = Api("a", "https://api.example", frozenset({"read"}))
client = Client("c", (key.public,), (Permission(api, frozenset({"read"})),), settings=ClientSettings(default_scopes=("read",)))
policy = Policy("https://as.example")

def flow():
    claims = {"iss": "c", "sub": "c", "aud": policy.issuer, "iat": NOW, "exp": NOW + 60, "jti": "j"}
    assertion = jose.sign_jwt(claims, key, "client-authentication+jwt")
    body = urlencode({"grant_type": "client_credentials", "client_assertion": assertion,
                      "client_assertion_type": JWT_BEARER}).encode()
    check_content_type([b"application/x-www-form-urlencoded"])
    request = parse_token_request(form_fields(body), ())
    proof = authenticate_client(read_credential(request), client, policy, NOW)
    proof.once.digest
    try:
        authenticate_client(read_credential(request), None, policy, NOW)
    except InvalidClient:
        pass
    grant = decide_grant(request, proof, policy)
    data = jose.signing_input(
        jose.encode_header(server_key.algorithm, server_key.kid, "at+jwt"), access_token_claims(grant, policy, NOW, "t")
    )
    token = data + b"." + base64url_encode(jose.sign(data, server_key))
    expected = Expectations(policy.issuer, api.audience)
    jwt = parse_access_token(token, expected)
    caller = check_access_token(jwt, jose.select_key(jwt.header, import_key_set(public_key_set([server_key.public]))),
                                expected, NOW)
    require_scopes(caller, ["read"])
    server_metadata(policy, ["read"], token_members(policy))

flow()  # caches fill, lazy imports of libraries happen
events = []
armed = False
sys.addaudithook(lambda name, args: events.append(name) if armed else None)
armed = True
flow()
armed = False
seen = set(events)
armed = True
open("/dev/null").close()
armed = False
assert "open" in events, "the hook must see what it looks for"
harmless = {"object.__getattr__", "object.__setattr__", "code.__new__", "sys._getframe"}
print(sorted(seen - harmless))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
