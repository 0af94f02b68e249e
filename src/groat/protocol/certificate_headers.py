"""How proxies that terminate TLS hand on the caller's certificate: six dialects, each a row.

Such a header counts from a proxy that an operator named, in the one dialect that he named: anybody else may have
written it himself. Whoever asks here has made sure of the first (`server/http/`, the adapters of the verifier); the
second is checked here. What the proxy says of its own checks is not read by anybody: it is no proof.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol.client_certificate import (
    MAX_CHAIN,
    ClientCertificate,
    certificate_from,
    decode_base64,
    decode_pem,
)
from groat.protocol.errors import CertificateError

MAX_HEADER_BYTES: Final = 24 * 1024  # an escaped leaf and its chain; groat serves heads of 32 KiB

Headers = Iterable[tuple[bytes, bytes]]
Read = Callable[[bytes, bytes], ClientCertificate]


@dataclass(frozen=True, slots=True)
class CertificateDialect:
    """How one kind of proxy writes. `header`: with the certificate; `chain`: with what came along, if it has one.

    Both in lower case. `read`: from the values of the two; raises CertificateError.
    """

    name: str
    header: bytes
    chain: bytes
    read: Read

    def certificate(self, headers: Headers) -> ClientCertificate | None:
        """The caller's certificate in a request that came through such a proxy; None where the caller had none.

        `headers`: names in lower case, every line its own pair. Raises CertificateError: "dialect", where another
        dialect's header is there, too (the request is to be refused); "header" or "malformed", where this one cannot
        be read without a guess (to be taken for none, and logged). An empty header is as good as none.
        """
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name not in CERTIFICATE_HEADERS or not value:
                continue
            if name not in (self.header, self.chain):
                hint = f"the proxy speaks {self.name}, and the request has {name.decode()}, too: it must remove that"
                raise CertificateError("dialect", hint)
            if name not in found:
                found[name] = value
            elif name == self.chain:
                found[name] += b", " + value  # a list may be spread over lines (RFC 9110 5.3)
            else:
                raise CertificateError("header", f"{name.decode()} is there twice")
        leaf = found.get(self.header)
        return None if leaf is None else self._read(leaf, found.get(self.chain, b""))

    def _read(self, leaf: bytes, chain: bytes) -> ClientCertificate:
        if len(leaf) + len(chain) > MAX_HEADER_BYTES:
            raise CertificateError("header", f"{self.header.decode()} has over {MAX_HEADER_BYTES} bytes")
        try:
            return _remembered(self.name, leaf, chain)
        except CertificateError as error:
            raise CertificateError(error.reason, f"{self.header.decode()}: {error.hint}") from None


# A proxy writes the same certificate before each request of a caller. 256 of them are 6 MiB at the very most.
@lru_cache(maxsize=256)
def _remembered(dialect: str, leaf: bytes, chain: bytes) -> ClientCertificate:
    return DIALECTS[dialect].read(leaf, chain)


def _rfc9440(leaf: bytes, chain: bytes) -> ClientCertificate:
    """Byte sequences of RFC 8941 3.3.5 between colons: one, and a list of them; parameters are none of RFC 9440."""
    items = [item.strip(b" \t") for item in chain.split(b",")] if chain else []
    return certificate_from(_byte_sequence(leaf), _first(map(_byte_sequence, items)))


def _byte_sequence(item: bytes) -> bytes:
    if len(item) < 3 or item[:1] != b":" or item[-1:] != b":":
        raise CertificateError("header", "it must be one byte sequence: base64 between two colons")
    return decode_base64(item[1:-1])


def _escaped_pem(leaf: bytes, chain: bytes) -> ClientCertificate:
    """One block of PEM with escapes as in URLs: $ssl_client_escaped_cert of nginx."""
    return certificate_from(decode_pem(unquote_to_bytes(leaf)))


def _base64_der(leaf: bytes, chain: bytes) -> ClientCertificate:
    """base64 of the DER: ssl_c_der of HAProxy, whose ssl_c_chain_der is one behind the other, and Caddy's."""
    der = decode_base64(leaf)
    along = _split_der(decode_base64(chain)) if chain else []
    return certificate_from(der, _first(one for one in along if one != der))


def _traefik(leaf: bytes, chain: bytes) -> ClientCertificate:
    """The bodies of the blocks of PEM, of the leaf and of what came along; some versions escape them."""
    first, *along = (decode_base64(unquote_to_bytes(part)) for part in leaf.split(b","))
    return certificate_from(first, _first(along))


def _envoy(leaf: bytes, chain: bytes) -> ClientCertificate:
    """One element of X-Forwarded-Client-Cert, with Cert and, if it is told to, Chain, which begins with the leaf."""
    pairs = _xfcc_pairs(leaf)
    if b"cert" not in pairs:
        raise CertificateError("header", "there is no Cert: have Envoy write it (set: cert)")
    der = decode_pem(unquote_to_bytes(pairs[b"cert"]))
    along = _pem_blocks(unquote_to_bytes(pairs.get(b"chain", b"")))
    return certificate_from(der, _first(one for one in along if one != der))


def _xfcc_pairs(element: bytes) -> dict[bytes, bytes]:
    """KEY=VALUE between semicolons; a value may be quoted, and a comma outside of quotes begins another hop's."""
    pairs: dict[bytes, bytes] = {}
    rest = element
    while rest:
        name, equals, rest = rest.partition(b"=")
        if not equals:
            raise CertificateError("header", "this is no list of KEY=VALUE")
        value, rest = _xfcc_value(rest)
        name = name.lower()
        if name in (b"cert", b"chain") and name in pairs:
            raise CertificateError("header", f"{name.decode()} is there twice")
        pairs[name] = value
    return pairs


def _xfcc_value(rest: bytes) -> tuple[bytes, bytes]:
    """The value that begins here, and what is behind its semicolon."""
    if rest[:1] == b'"':
        end = 1
        while end < len(rest) and rest[end] != 0x22:
            end += 2 if rest[end] == 0x5C else 1
        value, rest = rest[1:end], rest[end + 1 :]
    else:
        ends = [at for at in (rest.find(b";"), rest.find(b",")) if at >= 0]
        end = min(ends, default=len(rest))
        value, rest = rest[:end], rest[end:]
    if rest and rest[:1] != b";":
        hint = "it is of several hops, or not well-formed: have Envoy write its own (SANITIZE_SET)"
        raise CertificateError("header", hint)
    return value, rest[1:]


def _pem_blocks(text: bytes) -> list[bytes]:
    begin = b"-----BEGIN CERTIFICATE-----"
    return [decode_pem(begin + block) for block in text.split(begin)[1 : MAX_CHAIN + 2]]


def _split_der(raw: bytes) -> list[bytes]:
    """Certificates that stand one behind the other, each a SEQUENCE that says how long it is (X.690 8.1.3)."""
    found: list[bytes] = []
    while raw and len(found) <= MAX_CHAIN:
        octets = raw[1] & 0x7F if len(raw) > 2 and raw[1] > 0x80 else 0
        length = int.from_bytes(raw[2 : 2 + octets]) if octets else (raw[1:2] or b"\xff")[0]
        whole = 2 + octets + length
        if raw[0] != 0x30 or octets > 3 or whole > len(raw):
            raise CertificateError("header", "the chain is not one certificate in DER behind the other")
        found.append(raw[:whole])
        raw = raw[whole:]
    return found


def _first(along: Iterable[bytes]) -> Sequence[bytes]:
    """No more than belong to a chain; the rest is left unread."""
    return [one for _, one in zip(range(MAX_CHAIN), along, strict=False)]


_NONE: Final = b""
# Not all are anybody's standard: names of HAProxy and Caddy are those that their recipes in deploy/ give them.
_ROWS: Final = (
    CertificateDialect("rfc9440", b"client-cert", b"client-cert-chain", _rfc9440),
    CertificateDialect("nginx", b"x-ssl-client-cert", _NONE, _escaped_pem),
    CertificateDialect("envoy", b"x-forwarded-client-cert", _NONE, _envoy),
    CertificateDialect("haproxy", b"x-ssl-client-der", b"x-ssl-client-chain-der", _base64_der),
    CertificateDialect("traefik", b"x-forwarded-tls-client-cert", _NONE, _traefik),
    CertificateDialect("caddy", b"x-tls-client-der", _NONE, _base64_der),
)
DIALECTS: Final[Mapping[str, CertificateDialect]] = MappingProxyType({row.name: row for row in _ROWS})
# From anybody but a proxy that is named for its dialect each of these says nothing.
CERTIFICATE_HEADERS: Final = frozenset(name for row in _ROWS for name in (row.header, row.chain) if name)
