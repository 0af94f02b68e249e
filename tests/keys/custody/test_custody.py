"""Signing keys at rest: sealed, bound to their kid, shown nowhere."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from groat.keys.custody import LocalSigner
from groat.keys.custody.sealed import NONCE_BYTES, KeyEncryptionKey
from groat.protocol import jose
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key
from tests.keys.samples import KEYS, secrets_of

KEK: Final = KeyEncryptionKey(bytes(range(32)))
KEY: Final = KEYS["ES256"]


def same_key(left: PrivateKey, right: PrivateKey) -> bool:
    """Whether two keys agree in every member, the private ones included."""
    return left.private_jwk() == right.private_jwk()


@pytest.mark.rule("KEY-06", "T7")
@pytest.mark.parametrize("name", KEYS)
def test_every_algorithm_goes_in_and_out(name: str) -> None:
    """What is unsealed is the key that was sealed, with its kid and its algorithm."""
    opened = KEK.unseal(KEK.seal(KEYS[name]), KEYS[name].kid)
    assert same_key(opened, KEYS[name])
    assert (opened.kid, opened.algorithm) == (KEYS[name].kid, name)


@pytest.mark.rule("T7", "KEY-14")
def test_a_sealed_key_shows_nothing_and_is_never_the_same_twice() -> None:
    """The stored bytes hold no part of the key, and a nonce of their own."""
    first, second = KEK.seal(KEY), KEK.seal(KEY)
    assert first != second
    assert first[:NONCE_BYTES] != second[:NONCE_BYTES]
    for part in (*secrets_of(KEY), KEY.kid, "kty"):
        assert part.encode() not in first


@pytest.mark.rule("T7", "KEY-14")
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 11, 12, 13, 27, 28, 29, -1, -16, -17])
def test_truncated_bytes_are_refused(cut: int) -> None:
    """Whatever is missing, the answer is one line that names the kid and shows nothing else."""
    with pytest.raises(ConfigError, match=KEY.kid) as caught:
        KEK.unseal(KEK.seal(KEY)[:cut], KEY.kid)
    assert not any(secret in str(caught.value) for secret in secrets_of(KEY))


@pytest.mark.rule("T7")
@pytest.mark.parametrize("at", [0, NONCE_BYTES - 1, NONCE_BYTES, 40, -16, -1])
def test_a_changed_byte_is_refused(at: int) -> None:
    """Nonce, ciphertext and tag are all authenticated."""
    sealed = bytearray(KEK.seal(KEY))
    sealed[at] ^= 1
    with pytest.raises(ConfigError, match="cannot be unsealed"):
        KEK.unseal(bytes(sealed), KEY.kid)


@pytest.mark.rule("T7")
def test_another_key_encryption_key_does_not_open_it() -> None:
    """A wrong key shows as such, and does not give a wrong signing key."""
    with pytest.raises(ConfigError, match="wrong key-encryption key"):
        KeyEncryptionKey(bytes(32)).unseal(KEK.seal(KEY), KEY.kid)


@pytest.mark.rule("T7", "KEY-10")
def test_a_sealed_key_cannot_be_moved_under_another_kid() -> None:
    """Who can write to the store can still not make one key pass for another."""
    other = generate_private_key("ES256")
    sealed = KEK.seal(other)
    with pytest.raises(ConfigError, match="cannot be unsealed"):
        KEK.unseal(sealed, KEY.kid)
    assert KEK.unseal(sealed, other.kid).kid == other.kid


@pytest.mark.rule("KEY-14")
def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    """Neither the key-encryption key nor a signer shows what it holds, in itself or in an error."""
    kek = KeyEncryptionKey.create(tmp_path / "kek")
    text = (tmp_path / "kek").read_text().strip()
    shown = f"{kek!r} {kek} {LocalSigner(KEY)!r} {LocalSigner(KEY)}"
    for secret in (text, repr(bytes(range(32))), *secrets_of(KEY)):
        assert secret not in shown
    (tmp_path / "short").write_text(text[:-2])
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        KeyEncryptionKey.load(tmp_path / "short")
    assert text[:-2] not in str(caught.value)


@pytest.mark.rule("KEY-09", "T7")
@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"A" * 42, b"A" * 44, b"A" * 64, b"!" * 43, b"A" * 42 + b"B", b"\xff" * 43, b"A" * 43 + b"="],
    ids=["empty", "newline", "31 bytes", "33 bytes", "48 bytes", "alphabet", "unused bits", "not ascii", "padded"],
)
def test_only_32_bytes_of_base64url_are_a_key_encryption_key(tmp_path: Path, content: bytes) -> None:
    """Anything else is named as what it is not; AES with a shorter key is never used silently."""
    path = tmp_path / "kek"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key-encryption key") as caught:
        KeyEncryptionKey.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.rule("KEY-09")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_shared_key_encryption_key_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    """One line: which file, what is wrong, what to type."""
    KeyEncryptionKey.create(tmp_path / "kek")
    (tmp_path / "kek").chmod(mode)
    with pytest.raises(ConfigError) as caught:
        KeyEncryptionKey.load(tmp_path / "kek")
    assert str(caught.value) == (
        f"{tmp_path}/kek is readable by others (mode {mode:04o}). Fix: chmod 600 {tmp_path}/kek"
    )


@pytest.mark.rule("KEY-13", "KEY-21")
@pytest.mark.parametrize("name", KEYS)
def test_a_local_signer_signs_with_its_one_algorithm(name: str) -> None:
    """Its signature verifies under the public key that it names."""
    signer = LocalSigner(KEYS[name])
    data = jose.signing_input(jose.encode_header(name, signer.public.kid, "at+jwt"), b'{"sub":"x"}')
    signature = asyncio.run(signer.sign(data))
    token = data + b"." + base64url_encode(signature)
    jose.verify_signature(jose.parse_jwt(token), signer.public)
    assert signer.public.algorithms == {name}


@pytest.mark.rule("FO-13", "FO-22", "KEY-14")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, "begins with a byte order mark"),
        (lambda text: text.decode().encode("utf-16"), "UTF-16"),
        (lambda text: b'"' + text.strip() + b'"', "in quotes"),
        (lambda text: text.strip() + b"=", "where base64url without padding is needed"),
        (lambda text: text[:40], "it has 30 bytes"),
        (lambda text: b"?", r"base64url\)$"),
    ],
    ids=["BOM", "UTF-16", "quotes", "padding", "short", "anything"],
)
def test_a_key_encryption_key_in_another_form_is_named(
    tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    """What editors and base64 make of it, without a part of it; CRLF and spaces around it do no harm."""
    path = tmp_path / "kek"
    KeyEncryptionKey.create(path)
    text = path.read_bytes()
    path.write_bytes(b" " + text.strip() + b"\r\n")
    KeyEncryptionKey.load(path)
    path.write_bytes(change(text))
    with pytest.raises(ConfigError, match=said) as caught:
        KeyEncryptionKey.load(path)
    assert text.strip().decode()[:20] not in str(caught.value)
