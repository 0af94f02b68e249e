"""AS-CA-01 to 03, A07 to A09: the form, the shape and the signature of an assertion."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from groat.protocol.jwk import (
    base64url_decode,
)
from tests.server.assertions import B64, refused
from tests.server.builders import ABSENT, JWT_BEARER, Party, compact, segment
from tests.server.lab import Lab
from tests.server.wire import check_ec, check_ok, check_refused

N_P256: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


# AS-CA-01 to 03: the form


@pytest.mark.rule("AS-CA-01", "A20")
@pytest.mark.parametrize("value", [ABSENT, ""])
def test_an_assertion_needs_its_type(lab: Lab, value: Any) -> None:
    """An assertion without a type is malformed, and stays unused."""
    assertion = lab.party.assertion()
    check_refused(lab.ask(assertion, client_assertion_type=value), "invalid_request")
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-CA-01", "A20", "DEMO-04")
@pytest.mark.parametrize(
    "value",
    ["urn:ietf:params:oauth:client-assertion-type:saml2-bearer", JWT_BEARER.upper(), JWT_BEARER + " ", "x",
     "jwt-bearer", JWT_BEARER + "\u200b", JWT_BEARER.replace(":", "%3A")],
)  # fmt: skip
def test_another_assertion_type_is_another_method(lab: Lab, value: str) -> None:
    """Only the exact URN counts; the jti stays unused."""
    assertion = lab.party.assertion()
    refused(lab, assertion, "assertion_method", client_assertion_type=value)
    check_ok(lab.ask(assertion))


@pytest.mark.rule("AS-CA-03", "A14", "DEMO-03", "DEMO-05")
def test_client_id_must_name_the_same_client(lab: Lab, other: Party) -> None:
    """Absent or equal is fine; another client, existing or not, is refused before the jti is used."""
    check_ok(lab.ask(client_id="billing"))
    assertion = lab.party.assertion()
    for name in ("other", "nobody", "Billing", "billing ", "client"):
        refused(lab, assertion, "assertion_subject", client_id=name)
    check_ok(lab.ask(assertion))


# A08, A09, AS-CA-02: the shape


def _join(lab: Lab) -> str:
    return lab.party.assertion() + " " + lab.party.assertion()


def _serialization(lab: Lab, flattened: bool) -> str:
    header, claims, signature = lab.party.assertion().split(".")
    part = {"protected": header, "signature": signature}
    return json.dumps({"payload": claims, **part} if flattened else {"payload": claims, "signatures": [part]})


SHAPES: Final[dict[str, Callable[[Lab], str]]] = {
    "abc": lambda lab: "abc",
    "dots": lambda lab: "..",
    "100k-dots": lambda lab: "." * 60_000,
    "one-part": lambda lab: lab.party.assertion().split(".")[0],
    "two-parts": lambda lab: lab.party.assertion().rpartition(".")[0],
    "four-parts": lambda lab: lab.party.assertion() + ".x",
    "five-parts": lambda lab: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA",
    "leading-dot": lambda lab: "." + lab.party.assertion(),
    "trailing-dot": lambda lab: lab.party.assertion() + ".",
    "leading-space": lambda lab: " " + lab.party.assertion(),
    "trailing-newline": lambda lab: lab.party.assertion() + "\n",
    "general-json": lambda lab: _serialization(lab, False),
    "flattened-json": lambda lab: _serialization(lab, True),
    "encoded-dots": lambda lab: lab.party.assertion().replace(".", "%2E"),
    "bom": lambda lab: "\ufeff" + lab.party.assertion(),
    "bearer": lambda lab: "Bearer " + lab.party.assertion(),
    "two-joined": _join,
    "two-concatenated": lambda lab: lab.party.assertion() + lab.party.assertion(),
    "empty-header": lambda lab: "." + lab.party.assertion().partition(".")[2],
    "empty-claims": lambda lab: "{0}..{2}".format(*lab.party.assertion().split(".")),
    "nine-kilobytes": lambda lab: lab.party.assertion(pad="x" * 9 * 1024),
    "quotes": lambda lab: f'"{lab.party.assertion()}"',
    "non-ascii": lambda lab: lab.party.assertion() + "\u00e9",
    "full-width-dot": lambda lab: lab.party.assertion().replace(".", "\uff0e"),
}


@pytest.mark.rule("AS-CA-02", "JOSE-01", "JOSE-25", "A08", "A09")
@pytest.mark.parametrize("name", SHAPES)
def test_only_one_compact_jws(lab: Lab, name: str) -> None:
    """Whatever is not exactly one compact JWS is EC as malformed."""
    refused(lab, SHAPES[name](lab), "assertion_malformed")


@pytest.mark.rule("A09")
@pytest.mark.parametrize("alg", ["dir", "RSA1_5", "RSA-OAEP", "PBES2-HS512+A256KW"])
def test_encrypted_assertions_cost_nothing(lab: Lab, alg: str) -> None:
    """A JWE is refused by its five parts: no key is derived, however many rounds it asks for."""
    header = {"alg": alg, "enc": "A256GCM", "p2c": 2**31 - 1, "p2s": "AAAA", "zip": "DEF"}
    began = time.monotonic()
    refused(lab, f"{segment(header)}.AAAA.AAAA.AAAA.AAAA", "assertion_malformed")
    refused(lab, compact({**lab.party.header(), **header}, lab.party.claims(), lab.party.key), "assertion_malformed")
    assert time.monotonic() - began < 1


# A07: the signature


def _resigned(assertion: str, change: Callable[[bytes], bytes]) -> str:
    data, _, signature = assertion.rpartition(".")
    return f"{data}.{B64(change(base64url_decode(signature))).decode()}"


def _der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _negated(signature: bytes) -> bytes:
    r, s = decode_dss_signature(_der(signature))
    return r.to_bytes(32, "big") + (N_P256 - s + 1).to_bytes(32, "big")


SIGNATURES: Final[dict[str, Callable[[str], str]]] = {
    "empty": lambda a: a.rpartition(".")[0] + ".",
    "zeros": lambda a: _resigned(a, lambda _: bytes(64)),
    "r=n": lambda a: _resigned(a, lambda s: N_P256.to_bytes(32, "big") + s[32:]),
    "s=n": lambda a: _resigned(a, lambda s: s[:32] + N_P256.to_bytes(32, "big")),
    "s-off-by-one": lambda a: _resigned(a, _negated),
    "der": lambda a: _resigned(a, _der),
    "63-bytes": lambda a: _resigned(a, lambda s: s[:-1]),
    "65-bytes": lambda a: _resigned(a, lambda s: s + b"\0"),
    "65-bytes-leading": lambda a: _resigned(a, lambda s: b"\0" + s),
    "flipped": lambda a: _resigned(a, lambda s: bytes([s[0] ^ 1]) + s[1:]),
    "swapped": lambda a: _resigned(a, lambda s: s[32:] + s[:32]),
    "padded": lambda a: a + "==",
    "standard-alphabet": lambda a: a[:-2] + "+/",
    "unused-bits": lambda a: a[:-1] + chr(ord(a[-1]) + 1),
    "space-inside": lambda a: a[:-4] + " " + a[-4:],
    "newline-inside": lambda a: a[:-4] + "\n" + a[-4:],
    "bang": lambda a: a[:-4] + "!" + a[-4:],
}


@pytest.mark.rule("A07", "JOSE-02", "JOSE-15")
@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_have_one_form(lab: Lab, name: str) -> None:
    """Absent, degenerate, re-encoded or non-canonical signatures are EC, and leave the jti unused (P05)."""
    assertion = lab.party.assertion()
    check_ec(lab.ask(SIGNATURES[name](assertion)))
    check_ok(lab.ask(assertion))
