"""Keys in the forms that other programs write: read where that is safe, named with the converting command elsewhere."""

import base64
import codecs
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from groat.client.errors import KeyUnusable
from groat.client.key_file import KeyFile
from groat.keys import files
from groat.keys.key_text import is_key_text
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import generate_private_key
from tests.keys.samples import KEYS, secrets_of
from tests.missing import Missing, needs

OPENSSL: Final = shutil.which("openssl")
SSH_KEYGEN: Final = shutil.which("ssh-keygen")
needs_openssl = needs(Missing.OPENSSL, there=OPENSSL is not None)
needs_ssh_keygen = needs(Missing.SSH_KEYGEN, there=SSH_KEYGEN is not None)
DER, PEM, PKCS8 = serialization.Encoding.DER, serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SPKI, PLAIN = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.NoEncryption()

EC: Final = KEYS["ES256"]
OTHER: Final = generate_private_key("ES256")
SECRET: Final = files.private_key_bytes(EC, pem=True)
PUBLIC: Final = files.public_key_pem(EC.public)
JWK: Final = files.private_key_bytes(EC)


def certificate(key: Any) -> bytes:
    """A certificate for the public half of a key, signed by itself."""
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.native.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key.native, hashes.SHA256()).public_bytes(PEM)


def request(key: Any) -> bytes:
    """A certificate request by a key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key.native, hashes.SHA256()).public_bytes(PEM)


def run(directory: Path, command: str) -> None:
    """A command as a shell would run it, without input."""
    subprocess.run(command, shell=True, cwd=directory, check=True, capture_output=True, timeout=30)


def openssl(directory: Path, *arguments: str) -> bytes:
    """What an openssl command writes."""
    return subprocess.run([str(OPENSSL), *arguments], cwd=directory, check=True, capture_output=True, timeout=60).stdout


def write(directory: Path, content: bytes, name: str = "FILE") -> Path:
    """A private file of that content."""
    path = directory / name
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def read_both(path: Path) -> set[str]:
    """The kid by the command line's reading and by the client library's, which are to be the same."""
    return {files.read_private_key(path).kid, KeyFile(path, algorithm=None).load().kid}


PARAMETERS: Final = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
BAG: Final = "Bag Attributes\n    friendlyName: ENCRYPTED Müller\nKey Attributes: <No Attributes>\n".encode("latin-1")
SEC1: Final = EC.native.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)


@pytest.mark.rule("FO-8", "FO-13", "FO-15", "KEY-06")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PUBLIC + SECRET, id="public first"),
        pytest.param(SECRET + PUBLIC, id="private first"),
        pytest.param(certificate(OTHER) + certificate(EC) + SECRET, id="chain first"),
        pytest.param(SECRET + SECRET, id="the same twice"),
        pytest.param(PARAMETERS + SEC1, id="openssl ecparam -genkey"),
        pytest.param(BAG + certificate(EC) + BAG + SECRET, id="openssl pkcs12 -nodes"),
        pytest.param(b"# made by ENCRYPTED hands\n\n" + SECRET + b"\ntrailing words", id="words around"),
        pytest.param(codecs.BOM_UTF8 + SECRET, id="BOM and PEM"),
        pytest.param(codecs.BOM_UTF8 + JWK, id="BOM and JWK"),
        pytest.param(codecs.BOM_UTF8 + b"\r\n" + BAG + SECRET, id="BOM and words"),
        pytest.param(SECRET.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(SECRET.replace(b"\n", b"\r"), id="CR"),
        pytest.param(SECRET.replace(b"\n", b"\n    "), id="indented"),
        pytest.param(SECRET.replace(b"\n", b" "), id="line ends lost"),
        pytest.param(SECRET.replace(b"\n", b"\\n"), id="line ends as backslash n"),
        pytest.param(b"\n\t" + JWK + b"\r\n", id="JWK with space around"),
        pytest.param(b'{"keys":[' + JWK + b"]}", id="set of one"),
        pytest.param(
            json.dumps({"keys": [dict(OTHER.public.jwk), EC.private_jwk()]}).encode(), id="set with a public key"
        ),
    ],
)
def test_the_one_private_key_is_found(tmp_path: Path, content: bytes) -> None:
    """Whatever stands around it, and in either order, for both readers of private keys."""
    assert read_both(write(tmp_path, content)) == {EC.kid}


def _openssh(key: Any, password: bytes = b"") -> bytes:
    protection = BestAvailableEncryption(password) if password else PLAIN
    pem: bytes = key.native.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, protection)
    return pem


def _pkcs12(key: Any) -> bytes:
    return pkcs12.serialize_key_and_certificates(b"k", key.native, None, None, BestAvailableEncryption(b"x"))


LEGACY: Final = b"""-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF

MHcCAQEEIA==
-----END EC PRIVATE KEY-----
"""
SECP256K1: Final = ec.generate_private_key(ec.SECP256K1()).private_bytes(PEM, PKCS8, PLAIN)

NO_PRIVATE: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", "it is empty"),
    "only space": (b"\xef\xbb\xbf \r\n", "it is empty"),
    "UTF-16 with a mark": (SECRET.decode().encode("utf-16"), "UTF-16.*iconv -f UTF-16"),
    "UTF-16 big-endian": (JWK.decode().encode("utf-16-be"), "UTF-16"),
    "UTF-32": (JWK.decode().encode("utf-32"), "UTF-16"),
    "OpenSSH EC": (_openssh(EC), "OpenSSH's own form.*ssh-keygen -p"),
    "OpenSSH RSA": (_openssh(KEYS["RS256"]), "OpenSSH's own form.*ssh-keygen -p"),
    "OpenSSH Ed25519": (_openssh(KEYS["Ed25519"]), "OpenSSH's own form.*cannot convert Ed25519.*openssl genpkey"),
    "OpenSSH public": (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@host", "OpenSSH public key.*ssh-keygen -e"),
    "RFC 4716": (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----", "RFC 4716"),
    "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY"),
    "PGP": (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ=x\n-----END PGP PRIVATE KEY BLOCK-----", "PGP PRIVATE KEY"),
    "PKCS#8 encrypted": (EC.native.private_bytes(PEM, PKCS8, BestAvailableEncryption(b"s3cr3t")), "encrypted.*openssl"),
    "SEC 1 encrypted": (LEGACY, "encrypted"),
    "DER": (EC.native.private_bytes(DER, PKCS8, PLAIN), "private key in DER.*openssl pkey -inform DER"),
    "DER of RSA": (KEYS["RS256"].native.private_bytes(DER, PKCS8, PLAIN), "private key in DER"),
    # DER of an odd length, whose last byte looks like a line end to whoever strips text.
    "DER that ends in space": (b"\x30\x06\x02\x01\x00\x30\x01\n", "private key in DER"),
    "DER encrypted": (
        EC.native.private_bytes(DER, PKCS8, BestAvailableEncryption(b"x")),
        "encrypted private key in DER",
    ),
    "DER public": (EC.public.native.public_bytes(DER, SPKI), "public key in DER.*openssl pkey -pubin"),
    "PKCS#12": (_pkcs12(EC), "PKCS#12.*openssl pkcs12 -in \\S+FILE -nodes"),
    "Java key store": (b"\xfe\xed\xfe\xed\0\0\0\2", "Java key store"),
    "public PEM": (PUBLIC, "holds PUBLIC KEY and no PRIVATE KEY"),
    "certificates": (certificate(EC), "holds CERTIFICATE and no PRIVATE KEY"),
    "two private keys": (SECRET + files.private_key_bytes(OTHER, pem=True), "2 private keys"),
    "cut off": (SECRET.partition(b"-----END")[0], "cut off"),
    "labels differ": (SECRET.replace(b"END PRIVATE", b"END EC PRIVATE"), "cut off"),
    "public JWK": (json.dumps(dict(EC.public.jwk)).encode(), "no private key"),
    "set of two": (b'{"keys":[' + JWK + b"," + JWK + b"]}", "a JWK set with 2 private keys"),
    "set of none": (json.dumps({"keys": [dict(EC.public.jwk)]}).encode(), "a JWK set with 0 private keys"),
    "array": (b"[" + JWK + b"]", "a JSON array"),
    "quotes kept": (b'"' + SECRET.partition(b"-----END")[0][:40] + b'"', "quotation marks|cut off"),
    "base64 of a PEM": (base64.b64encode(SECRET), "the base64 of a PEM.*base64 -d"),
    "base64 of a JWK": (base64.b64encode(JWK), "the base64 of JSON"),
    "base64 of DER": (base64.b64encode(EC.native.private_bytes(DER, PKCS8, PLAIN)), "without its BEGIN and END"),
    "service account": (
        json.dumps({"type": "service_account", "private_key": SECRET.decode()}).encode(),
        "Google service account",
    ),
    "secp256k1": (SECP256K1, "must be P-256, P-384, P-521 or Ed25519, and is secp256k1"),
    "Ed448": (Ed448PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN), "must be P-256.* and is Ed448"),
    "X25519": (X25519PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN), "must be P-256.* and is X25519"),
    "XML": (b"<RSAKeyValue><Modulus/></RSAKeyValue>", "XML"),
    "nothing known": (b"hello", "neither a JWK nor a PEM$"),
    "binary": (bytes(range(1, 256)), "neither a JWK nor a PEM$"),
}


@pytest.mark.rule("FO-13", "FO-14", "FO-15", "KEY-14", "KEY-15")
@pytest.mark.parametrize("form", NO_PRIVATE)
def test_a_form_that_is_not_read_has_its_name(tmp_path: Path, form: str) -> None:
    """The file, what it is, and where there is one the command that converts it; none of what it holds."""
    content, said = NO_PRIVATE[form]
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=said) as by_command:
        files.read_private_key(path)
    with pytest.raises(KeyUnusable, match=said) as by_library:
        KeyFile(path).load()
    for text in (str(by_command.value), str(by_library.value)):
        assert str(path) in text
        assert not any(secret in text for secret in (*secrets_of(EC), "s3cr3t"))
        assert "\n" not in text


def _command_of(path: Path) -> str:
    """The command that an error offers for converting a file."""
    with pytest.raises(ConfigError) as caught:
        files.read_private_key(path)
    found = re.search(r"(?:it|out|0600)[:(]? ?\(?((?:cp|openssl|iconv|base64) [^();]*)", str(caught.value))
    assert found is not None, str(caught.value)
    return found[1]


@needs_openssl
@needs_ssh_keygen
@pytest.mark.rule("FO-13", "FO-14")
@pytest.mark.parametrize(
    ("content", "result", "key"),
    [
        pytest.param(_openssh(EC), "key.pem", EC, id="OpenSSH EC"),
        pytest.param(_openssh(KEYS["RS256"]), "key.pem", KEYS["RS256"], id="OpenSSH RSA"),
        pytest.param(EC.native.private_bytes(DER, PKCS8, PLAIN), "key.pem", EC, id="DER"),
        pytest.param(_pkcs12(EC), "key.pem", EC, id="PKCS#12"),
        pytest.param(EC.native.private_bytes(PEM, PKCS8, BestAvailableEncryption(b"x")), "key.pem", EC, id="encrypted"),
        pytest.param(SECRET.decode().encode("utf-16"), "NEW", EC, id="UTF-16"),
    ],
)
def test_the_command_that_is_offered_converts_it(tmp_path: Path, content: bytes, result: str, key: Any) -> None:
    """It is run as it stands (a password apart), and what it makes is the same key."""
    command = _command_of(write(tmp_path, content))
    if command.startswith("openssl"):
        command += " -passin pass:x"
    run(tmp_path, command)
    (tmp_path / result).chmod(0o600)
    assert files.read_private_key(tmp_path / result).kid == key.kid


@pytest.mark.rule("FO-7", "KEY-23")
@pytest.mark.parametrize(
    ("content", "kids"),
    [
        pytest.param(PUBLIC, [EC], id="one"),
        pytest.param(PUBLIC + files.public_key_pem(OTHER.public), [EC, OTHER], id="two"),
        pytest.param(
            BAG + PUBLIC + BAG + files.public_key_pem(KEYS["Ed25519"].public), [EC, KEYS["Ed25519"]], id="mixed"
        ),
        pytest.param(PUBLIC + PUBLIC, [EC], id="the same twice"),
        pytest.param(codecs.BOM_UTF8 + PUBLIC.replace(b"\n", b"\r\n"), [EC], id="BOM and CRLF"),
        pytest.param(PUBLIC + certificate(EC), [EC], id="openssl x509 -pubkey"),
        pytest.param(certificate(EC) + PUBLIC, [EC], id="its certificate first"),
        pytest.param(PUBLIC + request(EC), [EC], id="openssl req -pubkey"),
        pytest.param(codecs.BOM_UTF8 + json.dumps(dict(EC.public.jwk)).encode(), [EC], id="BOM and JWK"),
    ],
)
def test_every_public_key_of_a_file_is_registered(tmp_path: Path, content: bytes, kids: list[Any]) -> None:
    """All of them, in order and once each: nobody is left with a key that was passed over in silence."""
    read = files.read_public_keys(write(tmp_path, content))
    assert [key.kid for key in read] == [key.kid for key in kids]


NO_PUBLIC: Final[dict[str, tuple[bytes, str]]] = {
    "certificate": (certificate(EC), "certificate.*openssl x509 -in \\S+FILE -noout -pubkey"),
    "chain beside the key": (PUBLIC + certificate(EC) + certificate(OTHER), "certificate"),
    "certificate of another key": (PUBLIC + certificate(OTHER), "certificate"),
    "broken certificate": (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate"),
    "request": (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "openssl req -in"),
    "private beside public": (PUBLIC + SECRET, "private key; give the public half only.*openssl pkey"),
    "private": (SECRET, "private key; give the public half only"),
    "private JWK": (JWK, "private members"),
    "OpenSSH private": (_openssh(EC), "private key"),
    "one of two is bad": (PUBLIC + PUBLIC.replace(b"MFkw", b"MFkx"), "not a PEM of an RSA, EC or Ed25519 key"),
    "parameters": (PARAMETERS, "EC PARAMETERS is not read"),
    "OpenSSH public": (b"ecdsa-sha2-nistp256 AAAA me", "OpenSSH public key"),
    "DER": (EC.public.native.public_bytes(DER, SPKI), "public key in DER"),
    "certificate in DER": (b"\x30\x08\x30\x02\x05\x00\x30\x02\x05\x00", "certificate in DER"),
    "UTF-16": (PUBLIC.decode().encode("utf-16"), "UTF-16"),
    "empty": (b"", "it is empty"),
    "cut off": (PUBLIC[:-30], "cut off"),
}


@pytest.mark.rule("FO-7", "FO-13", "KEY-14", "KEY-17")
@pytest.mark.parametrize("form", NO_PUBLIC)
def test_what_is_not_registered_has_its_name(tmp_path: Path, form: str) -> None:
    """Nothing of the file is registered, and the message says why and shows no secret."""
    content, said = NO_PUBLIC[form]
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=said) as caught:
        files.read_public_keys(path)
    assert str(path) in str(caught.value)
    assert not any(secret in str(caught.value) for secret in secrets_of(EC))


@needs_openssl
@pytest.mark.rule("FO-7", "FO-13")
@pytest.mark.parametrize("content", [certificate(EC), request(EC)], ids=["certificate", "request"])
def test_the_key_of_a_certificate_is_a_command_away(tmp_path: Path, content: bytes) -> None:
    """What the message offers is pasted as it stands, whatever the file is called."""
    with pytest.raises(ConfigError) as caught:
        files.read_public_keys(write(tmp_path, content, "a file's $(touch name)"))
    run(tmp_path, str(caught.value).partition("take its key: ")[2])
    assert [key.kid for key in files.read_public_keys(tmp_path / "key.pub.pem")] == [EC.kid]


PSS: Final = ("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")


def _bound(digest: str) -> tuple[str, ...]:
    return ("-pkeyopt", f"rsa_pss_keygen_md:{digest}", "-pkeyopt", f"rsa_pss_keygen_mgf1_md:{digest}")


@needs_openssl
@pytest.mark.rule("FO-11", "KEY-13")
@pytest.mark.parametrize(
    ("options", "default", "others"),
    [
        pytest.param((), "PS256", ("PS384", "PS512"), id="any hash"),
        pytest.param(_bound("sha256"), "PS256", (), id="SHA-256"),
        pytest.param(_bound("sha384"), "PS384", (), id="SHA-384"),
        pytest.param(_bound("sha512"), "PS512", (), id="SHA-512"),
    ],
)
def test_a_pss_key_is_for_pss_alone(
    tmp_path: Path, options: tuple[str, ...], default: str, others: tuple[str, ...]
) -> None:
    """id-RSASSA-PSS (RFC 4055 1.2) in either half: never RS256, and the hash that it is bound to."""
    secret = write(tmp_path, openssl(tmp_path, *PSS, *options))
    public = write(tmp_path, openssl(tmp_path, "pkey", "-in", "FILE", "-pubout"), "public")
    for chosen in (None, default, *others):
        assert files.read_private_key(secret, chosen).algorithm == (chosen or default)
        assert KeyFile(secret, algorithm=chosen).load().algorithm == (chosen or default)
        assert [key.algorithm for key in files.read_public_keys(public, chosen)] == [chosen or default]
    for wrong in {"RS256", "RS512", "PS256", "PS384", "PS512"} - {default, *others}:
        with pytest.raises(ConfigError, match=f"RSASSA-PSS key is for .*never for {wrong}"):
            files.read_private_key(secret, wrong)
        with pytest.raises(ConfigError, match=f"RSASSA-PSS key is for .*never for {wrong}"):
            files.read_public_keys(public, wrong)


@needs_openssl
@pytest.mark.rule("FO-11")
def test_a_pss_key_for_sha1_is_refused(tmp_path: Path) -> None:
    """No algorithm of JOSE has that hash."""
    secret = write(tmp_path, openssl(tmp_path, *PSS, "-pkeyopt", "rsa_pss_keygen_md:sha1"))
    with pytest.raises(ConfigError, match="bound to another hash"):
        files.read_private_key(secret)


@pytest.mark.rule("FO-11")
def test_a_plain_rsa_key_may_sign_with_either(tmp_path: Path) -> None:
    """It is not bound; what is asked for counts, and RS256 where nothing is."""
    path = write(tmp_path, files.private_key_bytes(KEYS["RS256"], pem=True))
    assert [files.read_private_key(path, name).algorithm for name in (None, "PS256", "RS384")] == [
        "RS256",
        "PS256",
        "RS384",
    ]


@pytest.mark.rule("FO-13", "KEY-14")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET.decode(), True),
        ("\ufeff" + SECRET.decode(), True),
        ('"' + SECRET.decode(), True),
        (BAG.decode("latin-1") + SECRET.decode(), True),
        (JWK.decode(), True),
        (base64.b64encode(SECRET).decode(), True),
        (base64.b64encode(JWK).decode(), True),
        (base64.b64encode(EC.native.private_bytes(DER, PKCS8, PLAIN)).decode(), True),
        (base64.b64encode(Ed25519PrivateKey.generate().private_bytes(DER, PKCS8, PLAIN)).decode(), True),
        ("billing.key.json", False),
        ("/run/secrets/billing.pem", False),
        ("MIG/keys/billing", False),
        ("-", False),
        ("", False),
    ],
    ids=[*"abcdefghijklmn"],
)
def test_the_text_of_a_key_is_not_taken_for_a_file_name(text: str, expected: bool) -> None:
    """Errors name files: a key that was given in the place of its name would be shown."""
    assert is_key_text(text) is expected
