"""The first start: what must exist before `groat serve`, made once and left alone afterwards."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groat.keys.custody import Custody, KeyEncryptionKey
from groat.keys.files import make_directory, make_private_directory, write_public_file
from groat.keys.keyring import active_key
from groat.protocol.errors import ConfigError
from groat.server.audit import Audit
from groat.server.config import BY_NAME, Config, load_config, sample_config
from groat.server.custody import open_custody
from groat.server.key_operations import check_custody, first_signing_key, list_signing_keys
from groat.server.operator import Operator
from groat.server.store import StoreConflict
from groat.server.store.sqlite import SqliteStore

FIRST_KEY_ATTEMPTS: Final = 10


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
    path: Path, issuer: str, algorithm: str | None, storage_url: str | None, env: Mapping[str, str], audit: Audit
) -> tuple[Config, list[Step]]:
    """Make the configuration file, the key-encryption key, the store and the first signing key.

    Safe to repeat: what exists stays as it is. Raises ConfigError when the existing parts contradict the request.
    """
    chosen = {"issuer": issuer, "keys.algorithm": algorithm, "storage.url": storage_url}
    config, written = _configuration(path, {n: v for n, v in chosen.items() if v is not None}, env)
    steps = [Step("configuration", str(path), written)]
    database, kek_path = config.database, config.path("keys.encryption_key_file")
    for directory in (database.parent, kek_path.parent):
        make_private_directory(directory)
    fresh_store = not database.exists()
    kek_made = _key_encryption_key(kek_path, fresh_store)
    steps.append(Step("key-encryption key", str(kek_path), kek_made))
    store = SqliteStore.create(database)
    steps.append(Step("store", str(database), fresh_store))
    try:
        steps.append(await _first_key(Operator(store, config.policy, audit), config, open_custody(config)))
    finally:
        await store.close()
    return config, steps


def _configuration(path: Path, chosen: Mapping[str, str], env: Mapping[str, str]) -> tuple[Config, bool]:
    """Read the file, or try what it would say before it is written: a refusal leaves nothing behind."""
    exists = path.exists()
    config = load_config(path, env if exists else {**{BY_NAME[n].env: v for n, v in chosen.items()}, **env})
    for name, value in chosen.items():
        if config[name] != value:
            where = path if config.origins[name] in ("file", "default") else config.origins[name]
            raise ConfigError(f"{where} says {name} {config.shown()[name]}, not {value}; nothing was changed")
    if exists:
        return config, False
    make_directory(path.parent)
    return config, _unless_there(path, sample_config(config["issuer"], config["keys.algorithm"], config["storage.url"]))


def _unless_there(path: Path, text: str) -> bool:
    """Write the file; False where another process that does the same was faster."""
    try:
        write_public_file(path, text.encode())
    except ConfigError:
        if not path.exists():
            raise
        return False
    return True


def _key_encryption_key(path: Path, fresh_store: bool) -> bool:
    """Make the key-encryption key where it is missing; returns whether it was made."""
    if path.exists():
        return False
    if not fresh_store:
        # A new key could not open the signing keys that the store holds.
        raise ConfigError(f"{path} is missing, but the store exists. Restore it from your backup")
    try:
        KeyEncryptionKey.create(path)
    except ConfigError:
        if not path.exists():
            raise
        return False  # another process that does the same was faster
    return True


async def _first_key(operator: Operator, config: Config, custody: Custody) -> Step:
    for _ in range(FIRST_KEY_ATTEMPTS):
        keys = await list_signing_keys(operator)
        if keys:
            await check_custody(custody, keys)
            signer = active_key(keys, operator.now) or keys[-1]
            return Step("signing key", signer.kid, False)
        with contextlib.suppress(StoreConflict):
            first = await first_signing_key(operator, custody, config["keys.algorithm"])
            return Step("signing key", first.kid, True)
    raise ConfigError("the store keeps changing; run groat init again")
