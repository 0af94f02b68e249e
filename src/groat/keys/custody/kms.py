"""Private signing keys in AWS KMS: they never leave it, and every signature is a call over the network.

ES256 alone, with MessageType RAW: KMS hashes, and takes messages of 4096 bytes at most. Credentials, region and
endpoint come from the usual places of boto3 (environment, instance role, ~/.aws). Install: groat[aws].
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from groat.keys.custody import KeyLost, Signer
from groat.keys.custody.several import CannotSign, SignerUnavailable, facts_of, reference
from groat.keys.public_key import parse_public_pem
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey

NAME: Final = "aws-kms"
MAX_MESSAGE_BYTES: Final = 4096
PENDING_DAYS: Final = 7  # the shortest that KMS offers before a key is really gone
COORDINATE_BYTES: Final = 32
_GONE: Final = ("NotFoundException", "KMSInvalidStateException", "DisabledException")


@dataclass(frozen=True, slots=True)
class KmsSigner:
    """Signs with one key of KMS. Raises SignerUnavailable where KMS does not answer, CannotSign for a long token."""

    public: PublicKey
    key_id: str
    _client: Any = field(repr=False)

    async def sign(self, data: bytes) -> bytes:
        if len(data) > MAX_MESSAGE_BYTES:
            raise CannotSign(f"AWS KMS signs {MAX_MESSAGE_BYTES} bytes at most, this token has {len(data)}")
        return await asyncio.to_thread(self._sign, data)

    def _sign(self, data: bytes) -> bytes:
        answer = _called(
            self._client.sign,
            _failure(self.public, SignerUnavailable),
            KeyId=self.key_id,
            Message=data,
            MessageType="RAW",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        return raw_signature(answer["Signature"])


@dataclass(frozen=True, slots=True)
class AwsKms:
    """Keys in KMS; the store holds the ARN of each."""

    _client: Any = field(repr=False)

    @classmethod
    def open(cls) -> "AwsKms":
        """Connect with whatever boto3 finds. Raises ConfigError where it is not installed or finds no region."""
        try:
            import boto3
        except ImportError:
            raise ConfigError("keys.custody aws-kms needs boto3. Install: groat[aws]") from None
        try:
            return cls(boto3.client("kms"))
        except Exception as error:
            raise ConfigError(f"keys.custody aws-kms: boto3 cannot start: {type(error).__name__}") from None

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        if algorithm != "ES256":
            raise ConfigError(f"keys.custody aws-kms signs ES256 alone, not {algorithm}")
        return await asyncio.to_thread(self._generate)

    def _generate(self) -> tuple[PublicKey, bytes]:
        made = _called(
            self._client.create_key,
            ConfigError,
            KeyUsage="SIGN_VERIFY",
            KeySpec="ECC_NIST_P256",
            Description="groat signing key",
        )
        arn = str(made["KeyMetadata"]["Arn"])
        return self._public(arn), reference(NAME, arn=arn)

    def _public(self, arn: str, failure: "Failure" = ConfigError) -> PublicKey:
        der = _called(self._client.get_public_key, failure, KeyId=arn)["PublicKey"]
        native = load_der_public_key(der)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return parse_public_pem(native.public_bytes(serialization.Encoding.PEM, form), "ES256")

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        (arn,) = facts_of(sealed, public, "arn")
        found = await asyncio.to_thread(self._public, arn, _failure(public, ConfigError))
        if found.thumbprint != public.thumbprint:
            raise ConfigError(f"AWS KMS holds another key than {public.kid} under its ARN")
        return KmsSigner(public, arn, self._client)

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        """Schedule the deletion; KMS waits seven days, in which an administrator can take it back."""
        (arn,) = facts_of(sealed, public, "arn")
        await asyncio.to_thread(self._destroy, arn)

    def _destroy(self, arn: str) -> None:
        state = _called(self._client.describe_key, ConfigError, KeyId=arn)["KeyMetadata"]["KeyState"]
        if state != "PendingDeletion":
            key_id = arn.rpartition("/")[2]
            _called(self._client.schedule_key_deletion, ConfigError, KeyId=key_id, PendingWindowInDays=PENDING_DAYS)

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        """Nothing to do: no key-encryption key is involved."""
        return None


def raw_signature(der: bytes) -> bytes:
    """R and S with 32 bytes each, as JOSE has them (RFC 7518 3.4), from the DER that KMS returns."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")


Failure = Callable[[str], Exception]


def _failure(public: PublicKey, otherwise: Failure) -> Failure:
    """What a refusal of KMS means for this key."""

    def failure(message: str) -> Exception:
        code = message.rpartition(" ")[2]
        if code not in _GONE:
            return otherwise(message)
        how = f"AWS KMS says {code}; aws kms cancel-key-deletion takes a deletion back for {PENDING_DAYS} days"
        return KeyLost(public.kid, how)

    return failure


def _called(method: Any, failure: Failure, **arguments: Any) -> Any:
    """Call KMS; its errors are told by their code alone, because the texts name accounts and principals."""
    try:
        return method(**arguments)
    except Exception as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        raise failure(f"AWS KMS refused {method.__name__}: {code}") from None
