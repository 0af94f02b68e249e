"""Key files as they are read: refused when others may read them, and named without showing what they hold."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, x25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc.jwk import RSAKey

from groat.keys import files
from groat.keys.private_key import MAX_KEY_FILE_BYTES
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.jwk import (
    ALGORITHMS,
    generate_private_key,
    import_private_jwk,
    import_public_jwk,
    private_key,
)
from tests.keys.samples import CURVE_NAMES, KEYS, secrets_of
from tests.missing import Missing, needs

OPENSSL: Final = shutil.which("openssl")
NOBODY: Final = 65_534
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SPKI, PLAIN = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.NoEncryption()


def private_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    """A file of that content and mode."""
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def public_pem(name: str) -> bytes:
    """The public half of the sample key as SPKI PEM."""
    return files.public_key_pem(KEYS[name].public)


@contextlib.contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Work in a folder without the rights of root, to whom no file is unreadable."""
    with contextlib.chdir(folder):
        if os.geteuid() != 0:
            yield
            return
        folder.chmod(0o755)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)


@pytest.mark.rule("KEY-06")
@pytest.mark.parametrize("pem", [False, True], ids=["jwk", "pem"])
@pytest.mark.parametrize("name", KEYS)
def test_a_pair_comes_back_as_it_was_written(tmp_path: Path, name: str, pem: bool) -> None:
    """Private file, public file and JWK describe one key, for every algorithm and either form."""
    key = KEYS[name]
    path = tmp_path / ("k.pem" if pem else "k.json")
    files.write_key_pair(key, path)
    read = files.read_private_key(path, name)
    assert read.private_jwk() == key.private_jwk()
    assert (read.kid, read.algorithm) == (key.kid, name)
    assert import_public_jwk(read.public.jwk).thumbprint == key.public.thumbprint
    assert files.public_key_pem(read.public) == public_pem(name)


@pytest.mark.rule("KEY-06")
@pytest.mark.parametrize("name", KEYS)
def test_private_pem_is_pkcs8_and_public_pem_is_spki(name: str) -> None:
    """`cryptography` reads both, and finds that they belong together."""
    private, public = files.private_key_bytes(KEYS[name], pem=True), public_pem(name)
    assert private.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    derived = serialization.load_pem_private_key(private, None).public_key()
    assert derived == serialization.load_pem_public_key(public)


@pytest.mark.rule("KEY-06", "KEY-07")
@needs(Missing.OPENSSL, there=OPENSSL is not None)
@pytest.mark.parametrize("name", [*CURVE_NAMES, "PS256"])
def test_openssl_agrees(tmp_path: Path, name: str) -> None:
    """OpenSSL finds the private key sound, and derives the same public key."""
    files.write_key_pair(KEYS[name], tmp_path / "k.pem")
    command = [str(OPENSSL), "pkey", "-in", str(tmp_path / "k.pem"), "-check", "-pubout"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert b"Key is valid" in done.stdout + done.stderr
    assert public_pem(name) in done.stdout


@pytest.mark.rule("KEY-06", "KEY-15")
@pytest.mark.parametrize("name", [*CURVE_NAMES, "RS256"])
def test_halves_of_two_keys_are_no_pair(name: str) -> None:
    """A JWK whose private and public members belong to different keys is refused, whatever its type."""
    other = private_key(RSAKey.generate_key(2048), name) if name == "RS256" else generate_private_key(name)
    mixed = {**other.private_jwk(), **{m: KEYS[name].public.jwk[m] for m in ("n", "x", "y") if m in other.public.jwk}}
    with pytest.raises(JoseError):
        import_private_jwk(mixed)


@pytest.mark.rule("KEY-09", "DEMO-23")
@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644, 0o660, 0o666, 0o777, 0o440])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """One line: the file, its mode, the command that repairs it, and nothing of the content."""
    path = private_file(tmp_path, files.private_key_bytes(KEYS["ES256"]), mode)
    with pytest.raises(ConfigError) as caught:
        files.read_private_key(path)
    assert str(caught.value) == f"{path} is readable by others (mode {mode:04o}). Fix: chmod 600 {path}"


@pytest.mark.rule("KEY-09")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    """What matters is the others; the owner may even have it read-only."""
    path = private_file(tmp_path, files.private_key_bytes(KEYS["ES256"]), mode)
    assert files.read_private_key(path).kid == KEYS["ES256"].kid


@pytest.mark.rule("KEY-09")
@needs(Missing.ROOT, there=os.geteuid() == 0)
@pytest.mark.parametrize(
    ("owner", "mode", "reads"),
    [
        (0, 0o440, True),
        (0, 0o640, True),
        (0, 0o460, False),
        (0, 0o444, False),
        (0, 0o644, False),
        (0, 0o450, False),
        (4711, 0o440, False),
        (4711, 0o640, False),
        (4712, 0o440, False),
    ],
)
def test_a_key_that_root_handed_to_our_group_is_read(tmp_path: Path, owner: int, mode: int, reads: bool) -> None:
    """Kubernetes and systemd hand secrets over so; a file of our own, or of a third, must be private as ever."""
    tmp_path.chmod(0o755)
    path = private_file(tmp_path, files.private_key_bytes(KEYS["ES256"]), mode)
    os.chown(path, owner, 4711)
    program = f"""import os, sys, pathlib
from groat.keys import files
from groat.client.key_file import KeyFile
os.setgroups([]); os.setgid(4711); os.setuid(4711)
outcomes = []
for read in (lambda: files.read_private_key(pathlib.Path({path.name!r})), KeyFile({path.name!r}).load):
    try:
        outcomes.append(read().kid)
    except Exception as error:
        outcomes.append(type(error).__name__)
print(*outcomes)"""
    # The folders above are root's alone; being in this one already leads past them.
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    kid = KEYS["ES256"].kid
    assert done.stdout.split() == ([kid, kid] if reads else ["ConfigError", "KeyUnusable"])


@pytest.mark.rule("KEY-09")
def test_an_orchestrator_mount_needs_the_explicit_word(tmp_path: Path) -> None:
    """`allow_shared` opens what the mode would refuse; nothing else does."""
    path = private_file(tmp_path, files.private_key_bytes(KEYS["ES256"]), 0o644)
    assert files.read_private_key(path, allow_shared=True).kid == KEYS["ES256"].kid


@pytest.mark.rule("KEY-09")
def test_the_mode_of_the_target_counts_behind_a_link(tmp_path: Path) -> None:
    """A link is always open to everybody; the file behind it decides."""
    path = private_file(tmp_path, files.private_key_bytes(KEYS["ES256"]), 0o644)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ConfigError, match="readable by others"):
        files.read_private_key(tmp_path / "link")
    path.chmod(0o600)
    assert files.read_private_key(tmp_path / "link").kid == KEYS["ES256"].kid


@pytest.mark.rule("KEY-09", "KEY-14")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "No such file"),
        ("directory", "Is a directory"),
        ("loop", "symbolic links"),
        ("too large", "too large"),
        ("unreadable", "Permission denied"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, kind: str, message: str) -> None:
    """The file and the reason, in one line."""
    path = tmp_path / "key"
    if kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind != "missing":
        private_file(tmp_path, b"{" + b" " * MAX_KEY_FILE_BYTES, 0o600 if kind == "too large" else 0)
    place = unprivileged(tmp_path) if kind == "unreadable" else contextlib.nullcontext()
    with place, pytest.raises(ConfigError, match=message) as caught:
        files.read_private_key(Path("key") if kind == "unreadable" else path)
    assert "key" in str(caught.value)
    assert "\n" not in str(caught.value)


def _pem(make: Callable[[], Any]) -> bytes:
    pem: bytes = make().private_bytes(PEM, PKCS8, PLAIN)
    return pem


BAD_PRIVATE: Final[dict[str, bytes]] = {
    "empty": b"",
    "text": b"s3cr3t-but-no-key",
    "half a pem": b"-----BEGIN PRIVATE KEY-----\ns3cr3t\n",
    "broken json": b'{"kty":"EC","d":"s3cr3t"',
    "json array": b'["s3cr3t"]',
    "member twice": b'{"kty":"EC","d":"s3cr3t","d":"s3cr3t"}',
    "public jwk": json.dumps(dict(KEYS["ES256"].public.jwk)).encode(),
    "public pem": public_pem("ES256"),
    "oct": b'{"kty":"oct","k":"czNjcjN0","d":"s3cr3t"}',
    "encrypted": KEYS["ES256"].native.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"s3cr3t")),
    "secp256k1": _pem(lambda: ec.generate_private_key(ec.SECP256K1())),
    "x25519": _pem(x25519.X25519PrivateKey.generate),
    "ed448": _pem(ed448.Ed448PrivateKey.generate),
    "dsa": _pem(lambda: dsa.generate_private_key(2048)),
    "binary": bytes(range(256)),
}


@pytest.mark.rule("KEY-14", "KEY-15")
@pytest.mark.parametrize("kind", BAD_PRIVATE)
def test_what_is_no_private_key_is_refused_without_showing_it(tmp_path: Path, kind: str) -> None:
    """The message names the file and a reason; not one line of the content is in it."""
    path = private_file(tmp_path, BAD_PRIVATE[kind])
    with pytest.raises(ConfigError) as caught:
        files.read_private_key(path)
    text = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert str(path) in text
    assert not any(line in text for line in ["s3cr3t", *BAD_PRIVATE[kind].decode("latin-1").split("\n")[1:-1]])


@pytest.mark.rule("KEY-13")
def test_an_rsa_pem_gets_the_algorithm_that_is_asked_for() -> None:
    """A PEM cannot say it; without a word it is RS256."""
    pem = files.private_key_bytes(KEYS["PS256"], pem=True)
    assert files.parse_private_key(pem, "k").algorithm == "RS256"
    assert files.parse_private_key(pem, "k", "PS384").algorithm == "PS384"
    with pytest.raises(ConfigError, match="does not fit"):
        files.parse_private_key(pem, "k", "ES256")


@pytest.mark.rule("KEY-06")
@pytest.mark.parametrize("form", ["sec1", "pkcs1"])
def test_older_pem_forms_are_read(form: str) -> None:
    """OpenSSL wrote them for decades; they are the same keys."""
    name = "ES256" if form == "sec1" else "RS256"
    old = KEYS[name].native.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)
    assert files.parse_private_key(old, "k").private_jwk() == KEYS[name].private_jwk()


@pytest.mark.rule("KEY-13", "KEY-23")
@pytest.mark.parametrize("name", KEYS)
def test_public_keys_come_as_jwk_set_or_pem(tmp_path: Path, name: str) -> None:
    """All three forms give the same key, with the algorithm that is asked for where the file leaves it open."""
    jwk = dict(KEYS[name].public.jwk)
    forms = [json.dumps(jwk).encode(), json.dumps({"keys": [jwk]}).encode(), public_pem(name)]
    for content in forms:
        (key,) = files.read_public_keys(private_file(tmp_path, content, 0o644), name)
        assert (key.thumbprint, key.algorithms) == (KEYS[name].public.thumbprint, frozenset({name}))


@pytest.mark.rule("KEY-23")
def test_a_set_gives_all_its_keys_or_none(tmp_path: Path) -> None:
    """A registered set is not a fetched one: a key that cannot be used is a mistake to report."""
    good = [dict(KEYS[name].public.jwk) for name in CURVE_NAMES]
    path = private_file(tmp_path, json.dumps({"keys": good}).encode())
    assert [key.algorithm for key in files.read_public_keys(path)] == list(CURVE_NAMES)
    path.write_bytes(json.dumps({"keys": [*good, {"kty": "XYZ"}]}).encode())
    with pytest.raises(ConfigError, match="kty"):
        files.read_public_keys(path)


@pytest.mark.rule("KEY-13")
def test_an_rsa_jwk_without_alg_is_for_one_algorithm(tmp_path: Path) -> None:
    """It is never registered for several: for RS256, or for the one that is asked for."""
    bare = {name: KEYS["PS256"].public.jwk[name] for name in ("kty", "n", "e")}
    path = private_file(tmp_path, json.dumps(bare).encode())
    assert files.read_public_keys(path)[0].algorithms == {"RS256"}
    assert files.read_public_keys(path, "PS512")[0].algorithms == {"PS512"}


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize(
    "content", [json.dumps(dict(KEYS["ES256"].public.jwk)).encode(), public_pem("ES256")], ids=["jwk", "pem"]
)
def test_an_algorithm_that_contradicts_the_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """What is asked for and what the file says must agree; neither wins in silence."""
    with pytest.raises(ConfigError):
        files.read_public_keys(private_file(tmp_path, content), "RS256")


PRIVATE_FORMS: Final[dict[str, Callable[[str], bytes]]] = {
    "jwk": lambda name: files.private_key_bytes(KEYS[name]),
    "set": lambda name: json.dumps({"keys": [KEYS[name].private_jwk()]}).encode(),
    "pem": lambda name: files.private_key_bytes(KEYS[name], pem=True),
}


@pytest.mark.rule("KEY-17", "KEY-14")
@pytest.mark.parametrize("form", PRIVATE_FORMS)
@pytest.mark.parametrize("name", ["ES256", "Ed25519", "PS256"])
def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path, name: str, form: str) -> None:
    """It is refused with a reason, and shown nowhere."""
    path = private_file(tmp_path, PRIVATE_FORMS[form](name))
    with pytest.raises(ConfigError, match="private") as caught:
        files.read_public_keys(path)
    text = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert not any(secret in text for secret in (*secrets_of(KEYS[name]), "BEGIN"))


@pytest.mark.rule("KEY-15", "K04")
@pytest.mark.parametrize(
    "content",
    [b'{"keys":[]}', b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":null}', b"{}", b"", b"no key", b"[]"],
)
def test_a_file_without_public_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty set registers nothing, so it is an error rather than a client without keys."""
    path = private_file(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        files.read_public_keys(path)
    assert str(path) in str(caught.value)


@pytest.mark.rule("KEY-02")
def test_written_rsa_keys_have_the_generated_size() -> None:
    """The samples aside, a generated key has 3072 bits; the file shows it."""
    native = serialization.load_pem_private_key(files.private_key_bytes(generate_private_key("RS256"), pem=True), None)
    assert isinstance(native, RSAPrivateKey)
    assert native.key_size == 3072


def test_the_samples_cover_every_algorithm() -> None:
    """A new algorithm is in these tests by itself."""
    assert KEYS.keys() == ALGORITHMS.keys()
