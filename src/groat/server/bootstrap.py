"""The first start: what must exist before `groat serve`, made once and left alone afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groat.keys.custody import KeyEncryptionKey
from groat.keys.files import make_private_directory, write_public_file
from groat.keys.keyring import Lead
from groat.protocol.errors import ConfigError
from groat.protocol.models import issuer_fault
from groat.server.audit import Audit
from groat.server.config import Config, load_config, sample_config
from groat.server.operations import Operator, list_signing_keys, rotate_signing_key
from groat.server.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that had to exist, and whether it was made now."""

    what: str
    where: str
    made: bool

    @property
    def outcome(self) -> str:
        return "created" if self.made else "unchanged"


async def initialise(
    path: Path, issuer: str, algorithm: str, storage_url: str, env: Mapping[str, str], audit: Audit
) -> tuple[Config, list[Step]]:
    """Make the configuration file, the key-encryption key, the store and the first signing key.

    Safe to repeat: what exists stays as it is. Raises ConfigError when the existing parts contradict the request.
    """
    config, written = _configuration(path, issuer, algorithm, storage_url, env)
    steps = [Step("configuration", str(path), written)]
    database, kek_path = config.database, config.path("keys.encryption_key_file")
    for directory in (database.parent, kek_path.parent):
        make_private_directory(directory)
    fresh_store = not database.exists()
    kek, kek_made = _key_encryption_key(kek_path, fresh_store)
    steps.append(Step("key-encryption key", str(kek_path), kek_made))
    store = SqliteStore.create(database)
    steps.append(Step("store", str(database), fresh_store))
    try:
        steps.append(await _first_key(Operator(store, config.policy, audit), config, kek))
    finally:
        await store.close()
    return config, steps


def _configuration(
    path: Path, issuer: str, algorithm: str, storage_url: str, env: Mapping[str, str]
) -> tuple[Config, bool]:
    written = not path.exists()
    if written:
        if fault := issuer_fault(issuer):
            raise ConfigError(fault)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_public_file(path, sample_config(issuer, algorithm, storage_url).encode())
    config = load_config(path, env)
    if config.policy.issuer != issuer:
        raise ConfigError(f"{path} exists and names issuer {config.policy.issuer}; nothing was changed")
    return config, written


def _key_encryption_key(path: Path, fresh_store: bool) -> tuple[KeyEncryptionKey, bool]:
    if path.exists():
        return KeyEncryptionKey.load(path), False
    if not fresh_store:
        # A new key could not open the signing keys that the store holds.
        raise ConfigError(f"{path} is missing, but the store exists. Restore it from your backup")
    return KeyEncryptionKey.create(path), True


async def _first_key(operator: Operator, config: Config, kek: KeyEncryptionKey) -> Step:
    keys = await list_signing_keys(operator)
    if keys:
        for key in keys:
            kek.unseal(key.sealed, key.kid)
        return Step("signing key", keys[-1].kid, False)
    (first,) = await rotate_signing_key(operator, kek, config["keys.algorithm"], Lead())
    return Step("signing key", first.kid, True)
