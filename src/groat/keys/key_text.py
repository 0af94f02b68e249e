"""What stands in a key file: its text, its PEM blocks (RFC 7468), and what to call forms that groat does not read."""

import binascii
import codecs
import re
from dataclasses import dataclass, field
from typing import Final

from groat.protocol.errors import JoseError
from groat.protocol.jwk import printable
from groat.protocol.shell import shell_word

_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE, b"{\0", b"-\0", b"\0{", b"\0-")
# Explanatory text may stand around and between the blocks (RFC 7468 2), as `openssl pkcs12 -nodes` writes it.
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_HEADERS: Final = re.compile(rb"\A\s*(?:[A-Za-z0-9-]+:[^\r\n]*[\r\n]+)+")
# A base64 text that begins so is a DER key, a PEM or a JSON object: never the name of a file.
_BASE64_KEY: Final = re.compile(r"(?:MC4C|MIG|MII|MHc|LS0tLS1CRU|eyJ)[A-Za-z0-9+/_=-]{40,}\Z")

_SSH_PUBLIC: Final = "an OpenSSH public key; convert it: ssh-keygen -e -m PKCS8 -f FILE > key.pub.pem (not for Ed25519)"
_PUTTY: Final = "a PuTTY key; export it from PuTTYgen as an OpenSSH key, then: ssh-keygen -p -m PEM -f FILE"
_QUOTED: Final = "a text in quotation marks, which are no part of a key (docker --env-file keeps them)"
_FOREIGN: Final = (
    ((b"ssh-", b"ecdsa-sha2-", b"sk-"), _SSH_PUBLIC),
    ((b"---- BEGIN SSH2",), "a public key in the form of RFC 4716; convert it: ssh-keygen -i -f FILE, then to a PEM"),
    ((b"PuTTY-User-Key-File",), _PUTTY),
    ((b"\xfe\xed\xfe\xed",), "a Java key store; convert it: keytool -importkeystore -deststoretype PKCS12, to PKCS#12"),
    ((b'"', b"'"), _QUOTED),
    ((b"[",), 'a JSON array; a JWK set is an object: {"keys": [...]}'),
    ((b"<",), "XML; a JWK or a PEM is needed"),
    ((b"LS0tLS1CRU",), "the base64 of a PEM; decode it first: base64 -d FILE > key.pem"),
    ((b"eyJ", b"ewo"), "the base64 of JSON (or a JWT), not a key; decode a JWK first: base64 -d FILE"),
    ((b"MC4C", b"MIG", b"MII", b"MHc"), "the base64 of a key without its BEGIN and END lines; a PEM has them"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """One PEM block; `encrypted` is what its label or its headers say."""

    label: str
    der: bytes = field(repr=False)
    encrypted: bool = False

    @property
    def pem(self) -> bytes:
        """The block as RFC 7468 3 writes it, however it was wrapped."""
        lines = binascii.b2a_base64(self.der, newline=False)
        wrapped = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
        label = self.label.encode()
        return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, wrapped, label)


def text_of(raw: bytes) -> bytes:
    """The text of a key file, without a byte order mark of UTF-8. Raises JoseError("key"): empty, or not UTF-8."""
    text = raw.removeprefix(codecs.BOM_UTF8).strip()
    if not text:
        raise JoseError("key", "neither a JWK nor a PEM: it is empty")
    if raw.startswith(_WIDE):
        raise JoseError("key", "it is UTF-16, which PowerShell writes; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
    return text


def pem_blocks(text: bytes) -> tuple[Block, ...]:
    """Every PEM block of a text, once each; none where there is no BEGIN line. Raises JoseError("key")."""
    found = tuple(dict.fromkeys(_block(*match.groups()) for match in _BLOCK.finditer(text)))
    if not found and b"-----BEGIN " in text:
        raise JoseError("key", "the PEM is cut off: it has no END line of the same label as its BEGIN line")
    return found


def _block(label: bytes, body: bytes) -> Block:
    name = label.decode("ascii")
    headers = _HEADERS.match(body)
    # Line ends are lost, or written as a backslash and a letter, where a PEM went through a variable or JSON.
    lines = body[headers.end() if headers else 0 :].replace(rb"\r", b"").replace(rb"\n", b"")
    try:
        der = binascii.a2b_base64(b"".join(lines.split()), strict_mode=True)
    except binascii.Error:
        # Armour of other tools (PGP) has lines of its own; its label says enough.
        der = b""
    encrypted = "ENCRYPTED" in name or (headers is not None and b"ENCRYPTED" in headers[0])
    return Block(name, der, encrypted)


# Where the commands that are offered here name the file that they convert.
_OPERAND: Final = re.compile(r"( -in| -f| -d|\bcp|UTF-8) FILE\b")


def for_file(reason: str, name: str) -> str:
    """A reason from here for a file of this name: what it offers can be pasted as it stands."""
    return _OPERAND.sub(lambda found: f"{found[1]} {shell_word(name)}", reason)


def foreign_form(raw: bytes) -> str:
    """What a file is that is neither JSON nor a PEM, and what turns it into one; for an error, without any of it."""
    text = text_of(raw)
    for beginnings, name in _FOREIGN:
        if text.startswith(beginnings):
            return f"neither a JWK nor a PEM but {name}"
    form = _der_form(raw)
    return f"neither a JWK nor a PEM but {form}" if form else "neither a JWK nor a PEM"


# By the tags of the first two elements inside the outer SEQUENCE.
_DER: Final = {
    (0x30, 0x03): "a public key in DER; convert it: openssl pkey -pubin -inform DER -in FILE -out key.pub.pem",
    (0x30, 0x04): "an encrypted private key in DER; decrypt it: openssl pkey -inform DER -in FILE -out key.pem",
    (0x30, 0x30): "a certificate in DER; take its key: openssl x509 -inform DER -in FILE -noout -pubkey > key.pub.pem",
}
_DER_PRIVATE: Final = "a private key in DER; convert it: openssl pkey -inform DER -in FILE -out key.pem"
_PKCS12: Final = "PKCS#12; take the key out: openssl pkcs12 -in FILE -nodes -nocerts -out key.pem"


def _der_form(raw: bytes) -> str:
    try:
        tag, body, _ = element(raw)
        first, value, rest = element(body)
        second, _, _ = element(rest)
    except (IndexError, ValueError):
        return ""
    if tag == 0x30 and first == 0x02:
        return _PKCS12 if value == b"\x03" and second == 0x30 else _DER_PRIVATE
    return _DER.get((first, second), "") if tag == 0x30 else ""


def element(data: bytes) -> tuple[int, bytes, bytes]:
    """The first DER element: tag, content, and what follows. Raises IndexError or ValueError where there is none."""
    tag, size, begin = data[0], data[1], 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(data[2:begin])
    if len(data) < begin + size:
        raise ValueError("cut off")
    return tag, data[begin : begin + size], data[begin + size :]


_PSS: Final = bytes.fromhex("2a864886f70d01010a")
_PSS_HASHES: Final = {
    bytes.fromhex("608648016503040201"): "PS256",
    bytes.fromhex("608648016503040202"): "PS384",
    bytes.fromhex("608648016503040203"): "PS512",
}


def pss_algorithms(der: bytes) -> frozenset[str] | None:
    """What an RSASSA-PSS key (RFC 4055 1.2) may sign with; None for every other key. `der`: PKCS#8 or SPKI.

    Such a key is never for RS256 and the like. Raises JoseError("key") for one that is bound to another hash.
    """
    try:
        _, rest, _ = element(der)
        tag, body, rest = element(rest)
        if tag == 0x02:  # PKCS#8 begins with its version
            tag, body, _ = element(rest)
        _, name, parameters = element(body)
    except (IndexError, ValueError):
        return None
    if tag != 0x30 or name != _PSS:
        return None
    return frozenset({_pss_algorithm(parameters)}) if parameters else frozenset(_PSS_HASHES.values())


def _pss_algorithm(parameters: bytes) -> str:
    """The one algorithm whose hash the parameters name; SHA-1 where they name none (RFC 4055 3.1)."""
    try:
        _, body, _ = element(parameters)
        tag, tagged, _ = element(body)
        _, identifier, _ = element(tagged)
        _, name, _ = element(identifier)
        if tag == 0xA0:
            return _PSS_HASHES[name]
    except (IndexError, ValueError, KeyError):
        pass
    raise JoseError("key", "an RSASSA-PSS key that is bound to another hash than SHA-256, SHA-384 and SHA-512")


def check_pss(allowed: frozenset[str] | None, algorithm: str) -> None:
    """Refuse another algorithm than an RSASSA-PSS key may sign with. Raises JoseError("key")."""
    if allowed is not None and algorithm not in allowed:
        names = " or ".join(sorted(allowed))
        raise JoseError("key", f"an RSASSA-PSS key is for {names}, never for {printable(algorithm)}")


def is_key_text(value: str) -> bool:
    """Whether this is a key rather than the name of its file: errors name files, so no key may be taken for one."""
    text = value.lstrip("\ufeff \t\r\n\"'")
    return text.startswith(("{", "-----")) or "\n" in text or _BASE64_KEY.match(text) is not None
