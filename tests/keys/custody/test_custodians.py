"""Custodians besides the store: encrypted files, a PKCS#11 token, AWS KMS. Each signs, hides, destroys, and errs in words."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from groat.keys.custody import Custody, KeyLost
from groat.keys.custody.files import EncryptedFiles
from groat.keys.custody.kms import AwsKms, KmsSigner, raw_signature
from groat.keys.custody.pkcs11 import Pkcs11Token
from groat.keys.custody.sealed import KeyEncryptionKey, SealedInStore
from groat.keys.custody.several import CannotSign, Custodians, SignerUnavailable, read_reference, reference
from groat.protocol import jose, strict_json
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey, base64url_encode
from tests.keys.samples import KEYS
from tests.missing import SOFTHSM_MODULE, require_softhsm

KEK: Final = KeyEncryptionKey(bytes(range(32)))
OTHER: Final = KeyEncryptionKey(bytes(range(1, 33)))


@dataclass(frozen=True, slots=True)
class Place:
    """A custodian under test, the algorithms that it offers, and a way to make it forget its keys."""

    custody: Custody
    algorithms: tuple[str, ...]


@pytest.fixture
def files(tmp_path: Path) -> Place:
    """A directory of encrypted PEM files."""
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    (tmp_path / "passphrase").chmod(0o600)
    return Place(EncryptedFiles.open(tmp_path / "keys", tmp_path / "passphrase"), ("ES256", "PS256", "Ed25519"))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A fresh SoftHSM token; `make custody` installs what is missing."""
    require_softhsm()
    directory = tmp_path_factory.mktemp("hsm")
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory}/tokens\nlog.level = ERROR\n")
    (directory / "pin").write_text("864213\n")
    (directory / "pin").chmod(0o600)
    os.environ["SOFTHSM2_CONF"] = str(directory / "softhsm2.conf")
    words = ["softhsm2-util", "--init-token", "--free", "--label", "groat", "--pin", "864213", "--so-pin", "864213"]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    yield Place(Pkcs11Token.open(SOFTHSM_MODULE, "groat", directory / "pin"), ("ES256", "PS256"))
    del os.environ["SOFTHSM2_CONF"]


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """AWS KMS as moto knows it: right for ES256 with RAW messages, wrong elsewhere (docs/guides/custody.md)."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield Place(AwsKms.open(), ("ES256",))


@pytest.fixture
def store() -> Place:
    """Sealed in the store, with an older key-encryption key beside the one in force."""
    return Place(SealedInStore(KEK, [OTHER]), ("ES256", "Ed25519"))


@pytest.fixture(params=["store", "files", "token", "kms"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each custodian in turn."""
    found: Place = request.getfixturevalue(request.param)
    return found


async def signed(custody: Custody, public: PublicKey, sealed: bytes) -> None:
    """Sign a token and verify it as a resource server would."""
    signer = await custody.signer(public, sealed)
    header = jose.encode_header(public.algorithm, public.kid, "at+jwt")
    data = jose.signing_input(header, strict_json.dumps({"sub": "x", "scope": "y" * 300}))
    token = data + b"." + base64url_encode(await signer.sign(data))
    jose.verify_signature(jose.parse_jwt(token), signer.public)


@pytest.mark.rule("KEY-13", "KEY-03", "T7")
def test_what_a_custodian_makes_it_signs_with(place: Place) -> None:
    """For every algorithm it offers, again and again, and after it was opened anew."""

    async def work() -> None:
        for algorithm in place.algorithms:
            public, sealed = await place.custody.generate(algorithm)
            assert (public.algorithm, public.kid) == (algorithm, public.thumbprint)
            for _ in range(3):
                await signed(place.custody, public, sealed)

    asyncio.run(work())


@pytest.mark.rule("KEY-14", "T7")
def test_what_the_store_holds_is_no_key(place: Place) -> None:
    """Ciphertext or a reference; nothing of it, and nothing of the custodian, shows a private member."""

    async def work() -> None:
        _, sealed = await place.custody.generate(place.algorithms[0])
        assert b"PRIVATE" not in sealed
        assert b'"d"' not in sealed
        assert "864213" not in repr(place.custody)
        assert "horse" not in repr(place.custody)

    asyncio.run(work())


@pytest.mark.rule("T7")
def test_a_destroyed_key_signs_no_more(files: Place, request: pytest.FixtureRequest) -> None:
    """Destroying twice is no error: a crash may have come between the deed and its note."""

    async def work(custody: Custody) -> None:
        public, sealed = await custody.generate("ES256")
        kept, sealed_too = await custody.generate("ES256")
        await custody.destroy(public, sealed)
        await custody.destroy(public, sealed)
        with pytest.raises((ConfigError, SignerUnavailable)):
            await signed(custody, public, sealed)
        await signed(custody, kept, sealed_too)

    asyncio.run(work(files.custody))
    if SOFTHSM_MODULE.exists():
        asyncio.run(work(request.getfixturevalue("token").custody))


@pytest.mark.rule("T7")
def test_kms_is_told_to_delete(kms: Place) -> None:
    """Once: a second request for a key that is going would be an error. (moto signs on; the real KMS does not.)"""

    async def work() -> None:
        assert isinstance(kms.custody, AwsKms)
        public, sealed = await kms.custody.generate("ES256")
        for _ in range(2):
            await kms.custody.destroy(public, sealed)
        state = kms.custody._client.describe_key(KeyId=read_reference(sealed)["arn"])["KeyMetadata"]["KeyState"]
        assert state == "PendingDeletion"

    asyncio.run(work())


@pytest.mark.rule("T7", "KEY-10")
def test_a_reference_cannot_be_moved_under_another_kid(place: Place) -> None:
    """Who can write to the store can still not make one key pass for another, nor name any file."""

    async def work() -> None:
        public, _ = await place.custody.generate("ES256")
        _, other = await place.custody.generate("ES256")
        with pytest.raises(ConfigError, match=public.kid):
            await place.custody.signer(public, other)
        facts = read_reference(other)
        for name in [name for name in facts if name != "in"]:
            for value in ("../../etc/passwd", "", "zz"):
                with pytest.raises(ConfigError):
                    await place.custody.signer(public, reference(facts["in"], **{name: value}))
            with pytest.raises(ConfigError, match="damaged"):
                await place.custody.signer(public, reference(facts["in"]))

    asyncio.run(work())


@pytest.mark.rule("KEY-13")
@pytest.mark.parametrize(("fixture", "algorithm"), [("token", "Ed25519"), ("kms", "PS256"), ("kms", "Ed25519")])
def test_what_a_custodian_cannot_sign_it_does_not_make(
    request: pytest.FixtureRequest, fixture: str, algorithm: str
) -> None:
    """The error names what it can."""
    place: Place = request.getfixturevalue(fixture)
    with pytest.raises(ConfigError, match="ES256"):
        asyncio.run(place.custody.generate(algorithm))


@pytest.mark.rule("T7")
def test_keys_stay_where_they_were_made(files: Place, kms: Place) -> None:
    """A change of custody is a rotation: new keys go to the new one, and the older ones sign on."""

    async def work() -> None:
        both: dict[str, Any] = {"store": lambda: SealedInStore(KEK), "files": lambda: files.custody}
        before, after = Custodians("store", both), Custodians("files", both)
        old, fresh = await before.generate("ES256"), await after.generate("ES256")
        for public, sealed in (old, fresh):
            await signed(after, public, sealed)
            assert await after.reseal(public, sealed) is None
            await after.destroy(public, sealed)
        public, sealed = await kms.custody.generate("ES256")
        with pytest.raises(ConfigError, match="'aws-kms', which the settings do not describe"):
            await after.signer(public, sealed)

    asyncio.run(work())


@pytest.mark.rule("T7")
def test_an_older_key_encryption_key_opens_and_does_not_seal() -> None:
    """Resealing turns its keys into keys of the one in force, once."""

    async def work() -> None:
        public, sealed = await OTHER.generate("ES256")
        both = SealedInStore(KEK, [OTHER])
        await signed(both, public, sealed)
        anew = await both.reseal(public, sealed)
        assert anew is not None
        assert await both.reseal(public, anew) is None
        assert await KEK.reseal(public, anew) is None
        await signed(SealedInStore(KEK), public, anew)
        with pytest.raises(ConfigError, match="wrong key-encryption key"):
            await SealedInStore(KEK).signer(public, sealed)

    asyncio.run(work())


@pytest.mark.rule("T7", "KEY-09")
def test_encrypted_files_are_private_and_need_their_passphrase(files: Place, tmp_path: Path) -> None:
    """Mode 0600 in a directory of mode 0700; with another passphrase the error quotes nothing."""
    public, sealed = asyncio.run(files.custody.generate("ES256"))
    (file,) = (tmp_path / "keys").iterdir()
    assert (file.stat().st_mode & 0o777, (tmp_path / "keys").stat().st_mode & 0o777) == (0o600, 0o700)
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    wrong = EncryptedFiles(tmp_path / "keys", b"another passphrase")
    with pytest.raises(ConfigError, match="wrong passphrase") as caught:
        asyncio.run(wrong.signer(public, sealed))
    assert "another passphrase" not in str(caught.value)
    swapped = replace(public, thumbprint=KEYS["ES256"].public.thumbprint)
    with pytest.raises(ConfigError, match="names another file"):
        asyncio.run(files.custody.signer(swapped, sealed))
    (tmp_path / "passphrase").write_text("short")
    with pytest.raises(ConfigError, match="less than 16 bytes"):
        EncryptedFiles.open(tmp_path / "keys", tmp_path / "passphrase")


@pytest.mark.rule("T7", "KEY-14")
def test_the_token_refuses_to_show_its_key(token: Place) -> None:
    """The private key is sensitive and cannot be extracted."""
    from pkcs11 import Attribute, ObjectClass
    from pkcs11.exceptions import AttributeSensitive

    assert isinstance(token.custody, Pkcs11Token)
    _, sealed = asyncio.run(token.custody.generate("ES256"))
    key = token.custody._session.get_key(ObjectClass.PRIVATE_KEY, id=bytes.fromhex(read_reference(sealed)["id"]))
    assert (key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE]) == (True, False)
    with pytest.raises(AttributeSensitive):
        key[Attribute.VALUE]


@pytest.mark.rule("KEY-14")
@pytest.mark.parametrize(("label", "pin"), [("groat", "000000"), ("nobody", "864213")])
def test_a_wrong_token_or_pin_is_said_without_the_pin(token: Place, tmp_path: Path, label: str, pin: str) -> None:
    """Nothing starts, and the PIN is in no message."""
    (tmp_path / "pin").write_text(pin)
    (tmp_path / "pin").chmod(0o600)
    with pytest.raises(ConfigError, match=label) as caught:
        Pkcs11Token.open(SOFTHSM_MODULE, label, tmp_path / "pin")
    assert pin not in str(caught.value)
    with pytest.raises(ConfigError, match="token"):
        Pkcs11Token.open(tmp_path / "no-such-module.so", label, tmp_path / "pin")


@pytest.mark.rule("OPS-06")
def test_a_message_that_kms_cannot_sign_is_an_outage_of_the_signer(kms: Place) -> None:
    """4096 bytes pass, one more does not; a key that is gone is lost, told by the code of the error."""

    async def work() -> None:
        assert isinstance(kms.custody, AwsKms)
        public, sealed = await kms.custody.generate("ES256")
        signer = await kms.custody.signer(public, sealed)
        assert len(await signer.sign(bytes(4096))) == 64
        with pytest.raises(CannotSign, match="4096 bytes at most"):
            await signer.sign(bytes(4097))
        assert isinstance(signer, KmsSigner)
        gone = replace(signer, key_id=signer.key_id[:-4] + "0000")
        with pytest.raises(KeyLost, match="AWS KMS says NotFoundException"):
            await gone.sign(b"x")

    asyncio.run(work())


@pytest.mark.rule("KEY-03")
def test_signatures_of_kms_are_padded() -> None:
    """R and S may be short numbers; JOSE wants 32 bytes each."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    assert raw_signature(encode_dss_signature(1, 2**255)) == bytes(31) + b"\1" + b"\x80" + bytes(31)
    assert ec.SECP256R1().key_size == 256
