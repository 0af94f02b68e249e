"""Private signing keys in a PKCS#11 token (HSM, SoftHSM, smart card): sensitive, not extractable, made inside.

ES256 and PS256. A session belongs to one thread, so all calls of a process go through one thread of their own. Install:
groat[pkcs11].
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from groat.keys.custody import KeyLost, Signer
from groat.keys.custody.several import SignerUnavailable, facts_of, reference
from groat.keys.files import read_private_file
from groat.keys.public_key import parse_public_pem
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PublicKey

NAME: Final = "pkcs11"
RSA_BITS: Final = 3072
SALT_BYTES: Final = 32
ID_BYTES: Final = 16
_GONE: Final = ("NoSuchKey", "KeyHandleInvalid", "ObjectHandleInvalid")  # by name: the module is imported when needed

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pkcs11Signer:
    """Signs with one key of the token. Raises SignerUnavailable where the token does not."""

    public: PublicKey
    _token: "Pkcs11Token" = field(repr=False)
    _key: Any = field(repr=False)

    async def sign(self, data: bytes) -> bytes:
        try:
            return await self._token.call(lambda: _sign(self._key, self.public.algorithm, data))
        except Exception as error:
            if type(error).__name__ in _GONE:
                raise KeyLost(self.public.kid, "the PKCS#11 token has it no more") from None
            raise SignerUnavailable(f"the PKCS#11 token does not sign: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Pkcs11Token:
    """One token and the session of this process; the store holds the CKA_ID of each key."""

    _session: Any = field(repr=False)
    _thread: ThreadPoolExecutor = field(repr=False)

    @classmethod
    def open(cls, module: Path, token_label: str, pin_file: Path) -> "Pkcs11Token":
        """Log in. Raises ConfigError: not installed, no such module or token, wrong PIN."""
        try:
            import pkcs11
        except ImportError:
            raise ConfigError("keys.custody pkcs11 needs python-pkcs11. Install: groat[pkcs11]") from None
        pin = read_private_file(pin_file).decode("utf-8-sig", "replace").strip()
        thread = ThreadPoolExecutor(1, "groat-pkcs11")
        try:
            session = thread.submit(
                lambda: pkcs11.lib(str(module)).get_token(token_label=token_label).open(user_pin=pin, rw=True)
            ).result()
        except Exception as error:
            thread.shutdown()
            raise ConfigError(f"keys.custody pkcs11: token {token_label!r}: {type(error).__name__}") from None
        return cls(session, thread)

    async def call(self, work: Callable[[], Result]) -> Result:
        """Run on the thread of the session."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        if algorithm not in ("ES256", "PS256"):
            raise ConfigError(f"keys.custody pkcs11 signs ES256 and PS256, not {algorithm}")
        try:
            return await self.call(lambda: self._generate(algorithm))
        except Exception as error:
            raise ConfigError(f"the PKCS#11 token makes no key: {type(error).__name__}") from None

    def _generate(self, algorithm: str) -> tuple[PublicKey, bytes]:
        identity = self._session.generate_random(ID_BYTES * 8)
        public, _ = _generated(self._session, algorithm, identity)
        return parse_public_pem(_public_pem(public), algorithm), reference(NAME, id=identity.hex())

    async def signer(self, public: PublicKey, sealed: bytes) -> Signer:
        identity = _identity(public, sealed)
        key = await self.call(lambda: self._find(public, identity))
        return Pkcs11Signer(public, self, key)

    def _find(self, public: PublicKey, identity: bytes) -> Any:
        from pkcs11 import ObjectClass

        try:
            key = self._session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=identity)
            found = self._session.get_key(object_class=ObjectClass.PUBLIC_KEY, id=identity)
        except Exception as error:
            if type(error).__name__ in _GONE:
                raise KeyLost(public.kid, "the PKCS#11 token has it no more") from None
            raise ConfigError(f"the PKCS#11 token does not show key {public.kid}: {type(error).__name__}") from None
        if parse_public_pem(_public_pem(found), public.algorithm).thumbprint != public.thumbprint:
            raise ConfigError(f"the PKCS#11 token holds another key than {public.kid} under its id")
        return key

    async def destroy(self, public: PublicKey, sealed: bytes) -> None:
        identity = _identity(public, sealed)
        await self.call(lambda: [found.destroy() for found in self._session.get_objects(_by_id(identity))])

    async def reseal(self, public: PublicKey, sealed: bytes) -> bytes | None:
        """Nothing to do: no key-encryption key is involved."""
        return None


def _identity(public: PublicKey, sealed: bytes) -> bytes:
    (text,) = facts_of(sealed, public, "id")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"the reference to signing key {public.kid} is damaged") from None


def _by_id(identity: bytes) -> dict[Any, Any]:
    from pkcs11 import Attribute

    return {Attribute.ID: identity}


def _generated(session: Any, algorithm: str, identity: bytes) -> tuple[Any, ...]:
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_named_curve_parameters

    kept = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
    options = {"id": identity, "label": "groat", "store": True, "private_template": kept}
    if algorithm == "PS256":
        return tuple(session.generate_keypair(KeyType.RSA, RSA_BITS, **options))
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
    return tuple(parameters.generate_keypair(**options))


def _public_pem(public: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from pkcs11 import KeyType
    from pkcs11.util.ec import encode_ec_public_key
    from pkcs11.util.rsa import encode_rsa_public_key

    if public.key_type is KeyType.EC:
        native = serialization.load_der_public_key(encode_ec_public_key(public))
    else:
        native = serialization.load_der_public_key(encode_rsa_public_key(public))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return native.public_bytes(serialization.Encoding.PEM, form)


def _sign(key: Any, algorithm: str, data: bytes) -> bytes:
    import hashlib

    from pkcs11 import MGF, Mechanism

    if algorithm == "PS256":
        parameters = (Mechanism.SHA256, MGF.SHA256, SALT_BYTES)
        return bytes(key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS_PSS, mechanism_param=parameters))
    # The token signs the digest and returns R and S, each of the curve's length: what JOSE wants.
    return bytes(key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA))
