"""From the settings to whoever keeps the private signing keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from groat.keys.custody import Custody
from groat.keys.custody.files import NAME as FILES
from groat.keys.custody.files import EncryptedFiles
from groat.keys.custody.kms import NAME as AWS_KMS
from groat.keys.custody.kms import AwsKms
from groat.keys.custody.pkcs11 import NAME as PKCS11
from groat.keys.custody.pkcs11 import Pkcs11Token
from groat.keys.custody.sealed import KeyEncryptionKey, SealedInStore
from groat.keys.custody.several import STORE, Custodians
from groat.keys.invitation import Invitations
from groat.protocol.dpop_nonce import Nonces
from groat.server.settings.config import Config
from groat.server.settings.slices import KeyFiles

_NONCES: Final = b"groat dpop nonces of the token endpoint"  # an API that has the same key gives others


def open_custody(config: Config) -> Custody:
    """All custodians, new keys going to keys.custody; those besides the store are opened when first needed.

    Raises ConfigError: a key-encryption key is missing or unfit.
    """
    files = config.key_files
    first, *others = _key_encryption_keys(files)
    sealed = SealedInStore(first, others)
    openers: dict[str, Callable[[], Custody]] = {
        STORE: lambda: sealed,
        FILES: lambda: EncryptedFiles.open(files.directory, files.passphrase_file),
        PKCS11: lambda: Pkcs11Token.open(Path(files.pkcs11_module), files.pkcs11_token, files.pkcs11_pin_file),
        AWS_KMS: AwsKms.open,
    }
    return Custodians(files.custody, openers)


def open_invitations(config: Config) -> Invitations:
    """Who makes and reads join codes. Raises ConfigError."""
    return Invitations(_key_encryption_keys(config.key_files))


def open_nonces(config: Config) -> Nonces:
    """Who gives nonces and knows them again: all replicas alike, after a restart too. Raises ConfigError."""
    return Nonces([key.derived(_NONCES) for key in _key_encryption_keys(config.key_files)])


def _key_encryption_keys(files: KeyFiles) -> list[KeyEncryptionKey]:
    return [KeyEncryptionKey.load(path) for path in (files.encryption_key_file, *files.other_encryption_key_files)]
