"""Key files: JWK and PEM, their mode, their changes, and silence about their content."""

import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from groat.client import KeyUnusable
from groat.client.key_file import KeyFile
from groat.keys.private_key import MAX_KEY_FILE_BYTES
from groat.protocol import strict_json
from groat.protocol.jwk import PrivateKey, generate_private_key

from .conftest import MakeMachine, write_key
from .servers import AuthorizationServer

PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
RSA_KEY = rsa.generate_private_key(65537, 2048)


def pem(native: Any, form: serialization.PrivateFormat = PKCS8, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    raw: bytes = native.private_bytes(serialization.Encoding.PEM, form, encryption)
    return raw


def jwk(**changes: Any) -> bytes:
    members = {**generate_private_key("ES256").private_jwk(), **changes}
    return strict_json.dumps({name: value for name, value in members.items() if value is not None})


@pytest.mark.rule("CL-23", "KEY-06")
@pytest.mark.parametrize(
    ("raw", "algorithm", "expected"),
    [
        (pem(ec.generate_private_key(ec.SECP256R1())), None, "ES256"),
        (pem(ec.generate_private_key(ec.SECP256R1()), TRADITIONAL), None, "ES256"),
        (pem(ec.generate_private_key(ec.SECP384R1())), None, "ES384"),
        (pem(ec.generate_private_key(ec.SECP521R1())), "ES512", "ES512"),
        (pem(ed25519.Ed25519PrivateKey.generate()), None, "Ed25519"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "EdDSA", "Ed25519"),
        (pem(RSA_KEY), "PS256", "PS256"),
        (pem(RSA_KEY, TRADITIONAL), "RS256", "RS256"),
        (jwk(), None, "ES256"),
        (jwk(), "ES256", "ES256"),
        (b"\n " + jwk() + b"\n", None, "ES256"),
    ],
)
def test_forms(tmp_path: Path, raw: bytes, algorithm: str | None, expected: str) -> None:
    """PKCS#8, SEC 1, PKCS#1 and JWK are read; the curve says the algorithm, an RSA key must be told."""
    loaded = KeyFile(write_key(tmp_path / "key", raw), algorithm=algorithm).load()
    assert loaded.algorithm == expected


@pytest.mark.rule("KEY-15", "KEY-14", "CL-21")
@pytest.mark.parametrize(
    ("raw", "algorithm", "says"),
    [
        (b"", None, "neither a JWK nor a PEM"),
        (b"ssh-rsa AAAA", None, "neither"),
        (b"{" + jwk(), None, "not strict JSON"),
        (jwk().replace(b'"kty"', b'"d":"twice","kty"', 1), None, "not strict JSON"),
        (jwk(d=None), None, "no private key"),
        (jwk(kty="oct"), None, "kty"),
        (jwk(use="enc"), None, "use"),
        (jwk(), "ES384", "for ES256, not for ES384"),
        (jwk(), "secret" * 20, "for ES256, not for secret"),
        (pem(RSA_KEY), None, 'add algorithm="PS256"'),
        (pem(RSA_KEY), "ES256", "does not fit"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "ES256", "fit"),
        (pem(ed448.Ed448PrivateKey.generate()), None, "and is Ed448"),
        (pem(ec.generate_private_key(ec.SECP256R1()), PKCS8, b"password"), None, "encrypted"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", None, "no usable"),
        (b"{" + b" " * MAX_KEY_FILE_BYTES, None, "longer than"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_refused(tmp_path: Path, raw: bytes, algorithm: str | None, says: str) -> None:
    """A file that is no usable key is refused with a reason, the file's name and none of its content."""
    path = write_key(tmp_path / "billing.key", raw)
    with pytest.raises(KeyUnusable, match=says) as refused:
        KeyFile(path, algorithm=algorithm).load()
    assert str(path) in str(refused.value)
    assert "PRIVATE" not in str(refused.value)


@pytest.mark.rule("KEY-09")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_shared_file_is_refused(make: MakeMachine, issuer: AuthorizationServer, key_file: Path, mode: int) -> None:
    """A file that others may touch is refused with the command that repairs it, before anything is sent."""
    key_file.chmod(mode)
    with pytest.raises(KeyUnusable, match=f"{mode:04o}.*chmod 600 {key_file}"):
        make(key=key_file).token()
    assert issuer.token_requests == []


@pytest.mark.rule("KEY-09")
def test_shared_file_with_opt_out(make: MakeMachine, key_file: Path) -> None:
    """The explicit opt-out is for orchestrators that mount with a mode of their own."""
    key_file.chmod(0o644)
    assert make(key=KeyFile(str(key_file), allow_shared=True)).token().value


@pytest.mark.rule("KEY-09")
def test_later_chmod_is_noticed(key_file: Path) -> None:
    """A file that is opened up while in use is refused from then on."""
    file = KeyFile(key_file)
    file.load()
    key_file.chmod(0o644)
    with pytest.raises(KeyUnusable):
        file.load()


@pytest.mark.rule("CL-23")
def test_missing_file(make: MakeMachine, tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(KeyUnusable, match="nowhere: No such file"):
        make(key=tmp_path / "nowhere").token()


@pytest.mark.rule("CL-23", "KEY-23")
def test_replaced_file_is_read_again(make: MakeMachine, issuer: AuthorizationServer, key_file: Path) -> None:
    """After a rotation by rename the next assertion is signed with the new key."""
    client = make(key=key_file)
    client.token(scopes="a")
    renewed = generate_private_key("ES256")
    fresh = write_key(key_file.with_suffix(".new"), strict_json.dumps(renewed.private_jwk()))
    os.replace(fresh, key_file)
    issuer.key = renewed.public
    client.token(scopes="b")
    assert issuer.assertions[1][0]["kid"] == renewed.kid


@pytest.mark.rule("CL-23")
def test_unchanged_file_is_not_read_again(key_file: Path) -> None:
    """While the file stays as it is, the same key object is used."""
    file = KeyFile(key_file)
    assert file.load() is file.load()


@pytest.mark.rule("CL-23")
def test_broken_replacement(key_file: Path, key: PrivateKey) -> None:
    """A file that became unusable is an error, and heals as soon as the file does."""
    file = KeyFile(key_file)
    good = key_file.read_bytes()
    file.load()
    write_key(key_file, good[:-10])
    with pytest.raises(KeyUnusable):
        file.load()
    write_key(key_file, good)
    assert file.load().kid == key.kid


@pytest.mark.rule("KEY-10")
def test_kid(tmp_path: Path) -> None:
    """The kid is the one given, or the JWK's own, or the thumbprint."""
    path = write_key(tmp_path / "key", jwk(kid="own"))
    assert KeyFile(path).load().kid == "own"
    assert KeyFile(path, kid="given").load().kid == "given"
    pem_path = write_key(tmp_path / "pem", pem(ec.generate_private_key(ec.SECP256R1())))
    loaded = KeyFile(pem_path).load()
    assert loaded.kid == loaded.public.thumbprint
