"""Assertions: what they say, that each is fresh, and where the key may live."""

from pathlib import Path
from typing import Any

import pytest

from groat.client import KeyUnusable, MachineClient, TokenRequestRefused, WorkloadIdentity, private_key_from_text
from groat.client.assertion import Statement, WorkloadCredential
from groat.client.discovery import Endpoint
from groat.protocol import jose
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey, generate_private_key

from .clocks import EPOCH, Clock
from .conftest import CLIENT_ID, MakeMachine
from .servers import AuthorizationServer, Reply


@pytest.mark.rule("CL-03")
def test_claims(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """The assertion states who, to whom (one string, the issuer), when, for 60 s, and a random jti."""
    machine.token()
    claims = dict(issuer.claims[0])
    jti = claims.pop("jti")
    assert claims == {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": issuer.url,
        "iat": int(EPOCH),
        "exp": int(EPOCH) + 60,
    }
    assert len(jti) >= 22  # 128 bits in base64url


@pytest.mark.rule("CL-04")
def test_header(machine: MachineClient, issuer: AuthorizationServer, key: PrivateKey) -> None:
    """The header names the type, the key and its algorithm, and nothing else."""
    machine.token()
    assert issuer.assertions[0][0] == {"typ": "client-authentication+jwt", "alg": "ES256", "kid": key.kid}


@pytest.mark.rule("CL-04")
@pytest.mark.parametrize(
    ("algorithm", "offered", "written"),
    [
        ("ES256", ["ES256", "RS256"], "ES256"),
        ("ES256", [], "ES256"),
        ("Ed25519", [], "Ed25519"),
        ("Ed25519", ["EdDSA"], "EdDSA"),
        ("Ed25519", ["EdDSA", "Ed25519"], "Ed25519"),
        ("PS256", ["RS256", "PS256"], "PS256"),
        ("ES256", ["PS256"], None),
        ("ES256", ["ES384", "none"], None),
        ("RS256", ["PS256"], None),
    ],
)
def test_algorithm_is_offered(
    make: MakeMachine, issuer: AuthorizationServer, algorithm: str, offered: list[str], written: str | None
) -> None:
    """The key's algorithm is written under a name that the server offers; if there is none, nothing is sent."""
    assert isinstance(issuer.metadata, dict)
    issuer.metadata["token_endpoint_auth_signing_alg_values_supported"] = offered
    private = generate_private_key(algorithm, rsa_bits=2048)
    issuer.key = private.public
    client = make(key=private)
    if written is None:
        with pytest.raises(KeyUnusable, match=f"the key is for {algorithm}, but the server takes {offered[0]}"):
            client.token()
        assert issuer.token_requests == []
    else:
        client.token()
        assert issuer.assertions[0][0]["alg"] == written


@pytest.mark.rule("CL-04")
def test_method_is_offered(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """A server that lists its methods without private_key_jwt gets no assertion."""
    assert isinstance(issuer.metadata, dict)
    issuer.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
    with pytest.raises(KeyUnusable, match="private_key_jwt"):
        machine.token()
    assert issuer.token_requests == []


@pytest.mark.rule("CL-05", "C04")
def test_fresh_for_every_attempt(machine: MachineClient, issuer: AuthorizationServer) -> None:
    """Two failures and a success carry three different jtis."""
    issuer.script += [Reply(503), Reply(500)]
    machine.token()
    assert len({claims["jti"] for claims in issuer.claims}) == 3 == len(issuer.token_requests)


@pytest.mark.rule("CL-05")
def test_iat_follows_the_clock(machine: MachineClient, issuer: AuthorizationServer, clock: Clock) -> None:
    """A retry states the time of the retry, so that a long wait does not age it."""
    issuer.script.append(Reply(503, headers={"Retry-After": "20"}))
    machine.token()
    assert [claims["iat"] - int(EPOCH) for claims in issuer.claims] == [0, 20]


class Kms:
    """A signer whose key is elsewhere."""

    def __init__(self, private: PrivateKey, algorithm: str = "ES256") -> None:
        self._private = private
        self.kid = "kms-key-1"
        self.algorithm = algorithm
        self.asked: list[bytes] = []

    def sign(self, data: bytes, /) -> bytes:
        self.asked.append(data)
        return jose.sign(data, self._private)


class DerKms(Kms):
    def sign(self, data: bytes, /) -> bytes:
        return b"\x30" + super().sign(data) + b"der"


class BrokenKms(Kms):
    def sign(self, data: bytes, /) -> bytes:
        raise TimeoutError("no answer from the vault")


@pytest.mark.rule("CL-23")
def test_signer_object(make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey) -> None:
    """A signer object signs, and the kid is its own."""
    signer = Kms(key)
    make(key=signer).token()
    assert issuer.assertions[0][0]["kid"] == "kms-key-1"
    assert len(signer.asked) == 1


@pytest.mark.rule("CL-23", "CL-04")
@pytest.mark.parametrize(
    ("make_signer", "says"),
    [
        (DerKms, "must return 64 bytes for ES256, not 68 .*DER"),
        (BrokenKms, "the signer failed: TimeoutError"),
        (lambda key: Kms(key, "HS256"), "algorithm HS256 is unknown"),
        (lambda key: Kms(key, "none"), "algorithm none is unknown"),
    ],
    ids=["der", "failing", "hmac", "none"],
)
def test_bad_signer(
    make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey, make_signer: Any, says: str
) -> None:
    """A signer that fails or returns another form of signature is a clear local error."""
    with pytest.raises(KeyUnusable, match=says):
        make(key=make_signer(key)).token()
    assert issuer.token_requests == []


@pytest.mark.rule("CL-23", "CL-05")
def test_workload_identity(make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey, tmp_path: Path) -> None:
    """A ready assertion is read at every attempt, so that the platform may renew it in between."""
    path = tmp_path / "token"
    client = make(key=WorkloadIdentity(path))
    for jti in ("first", "second"):
        claims = {"iss": "platform", "sub": "pod", "aud": issuer.url, "jti": jti}
        path.write_text(jose.sign_jwt(claims, key, "JWT") + "\n")
        client.token(resource=f"https://{jti}.example")
    assert [claims["jti"] for claims in issuer.claims] == ["first", "second"]
    assert issuer.token_requests[0].form["client_assertion_type"] == JWT_BEARER


@pytest.mark.rule("CL-23")
def test_workload_identity_type(
    make: MakeMachine, issuer: AuthorizationServer, key: PrivateKey, tmp_path: Path
) -> None:
    """A platform may have its own client_assertion_type."""
    path = tmp_path / "svid"
    path.write_text(jose.sign_jwt({"sub": "spiffe://example/pod", "jti": "1"}, key, "JWT"))
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
    make(key=WorkloadIdentity(str(path), assertion_type=kind)).token()
    assert issuer.token_requests[0].form["client_assertion_type"] == kind


@pytest.mark.rule("CL-23")
@pytest.mark.parametrize("content", [None, b"", b"not a jwt", b"a.b.c d", b"a.b.c\nd.e.f", b"a" * 20_000])
def test_bad_workload_token(
    make: MakeMachine, issuer: AuthorizationServer, tmp_path: Path, content: bytes | None
) -> None:
    """A file that holds no JWT is a local error that names the file."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyUnusable, match=f"workload token {path}"):
        make(key=WorkloadIdentity(path)).token()
    assert issuer.token_requests == []


@pytest.mark.rule("FO-13", "FO-22", "CL-21")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbfaa.bb.cc", "begins with a byte order mark"),
        ("aa.bb.cc".encode("utf-16"), "UTF-16"),
        (b'"aa.bb.cc"', "in quotes"),
        (b'{"value":"aa.bb.cc"}', "a JSON document"),
        (b"Bearer aa.bb.cc", "begins with Bearer"),
        (b"\r\n", "the file is empty"),
        (b"aabbcc", "not a JWT$"),
    ],
)
def test_what_is_in_a_workload_token_file_has_its_name(tmp_path: Path, content: bytes, said: str) -> None:
    """As editors, shells and the platforms' own commands leave it; nothing of it is shown."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(KeyUnusable, match=said) as refused:
        WorkloadCredential(WorkloadIdentity(path)).assertion(
            Statement("https://as.example", CLIENT_ID, 0, 60), Endpoint("https://as.example/token")
        )
    assert "aa.bb" not in str(refused.value)


@pytest.mark.rule("CL-21", "CL-23")
@pytest.mark.parametrize("text", ['{"kty":"EC"}', "  -----BEGIN PRIVATE KEY-----", "one\ntwo"])
def test_key_text_is_no_path(text: str) -> None:
    """A key given as text is refused before it can be quoted as a file name."""
    with pytest.raises(ConfigError, match="not a path") as refused:
        MachineClient("https://as.example", CLIENT_ID, text)
    assert text.strip() not in str(refused.value)


@pytest.mark.rule("CL-23")
def test_key_from_text(make: MakeMachine, issuer: AuthorizationServer, key_file: Path, key: PrivateKey) -> None:
    """A key that a secret store gives as text is read with a function of its own."""
    make(key=private_key_from_text(key_file.read_text(), kid="mine")).token()
    assert issuer.assertions[0][0]["kid"] == "mine"
    with pytest.raises(KeyUnusable, match="neither a JWK nor a PEM"):
        private_key_from_text("hello")


def test_key_of_no_kind() -> None:
    """An object that is no key source is refused in the constructor."""
    with pytest.raises(ConfigError, match="key must be a path"):
        MachineClient("https://as.example", CLIENT_ID, 7)  # type: ignore[arg-type]


@pytest.mark.rule("CL-17")
def test_refusal_names_the_key(machine: MachineClient, issuer: AuthorizationServer, key: PrivateKey) -> None:
    """The hint of invalid_client says which key signed."""
    issuer.script.append(Reply(401, {"error": "invalid_client"}))
    with pytest.raises(TokenRequestRefused) as refused:
        machine.token()
    assert key.kid in refused.value.hint
