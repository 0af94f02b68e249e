"""The first start: what must exist before `groat serve`, made once and left alone afterwards."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groat.keys.custody import Custody
from groat.keys.custody.sealed import KeyEncryptionKey
from groat.keys.files import make_directory, make_private_directory, write_public_file
from groat.keys.ring.keyring import active_key
from groat.protocol.errors import ConfigError
from groat.server.log.audit import Audit
from groat.server.operations.admin import ADMIN_API, admin_api_is_there
from groat.server.operations.operation import writes
from groat.server.operations.operator import Operator
from groat.server.operations.signing_keys import Ring, check_custody, first_signing_key, list_signing_keys
from groat.server.settings.config import Config, load_config
from groat.server.settings.engines import open_postgres
from groat.server.settings.open_custody import open_custody
from groat.server.settings.sample import sample_config
from groat.server.settings.table import BY_NAME
from groat.server.store import FORGET_AFTER, OPERATOR_PATIENCE, Store, StoreConflict, StoreUnavailable
from groat.server.store.audit_trail import Actor, Effect, this_process, written
from groat.server.store.sqlite.store import SCHEMA_VERSION, SqliteStore
from groat.server.store.trusted_time import TrustedTime
from groat.server.store.url import storage_fault, url_without_password
from groat.server.unavailable import Unavailable

FIRST_KEY_ATTEMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that had to exist, and whether it was made now, or made to suit this version."""

    what: str
    where: str
    made: bool
    upgraded: bool = False

    @property
    def outcome(self) -> str:
        if self.made:
            return "created"
        return "upgraded" if self.upgraded else "unchanged"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the first start is asked for; None: as configured. `database`: the URL of the store, without a password."""

    issuer: str
    algorithm: str | None = None
    database: str | None = None


@writes("store.init")
async def initialise(
    path: Path, wanted: Wanted, env: Mapping[str, str], audit: Audit, actor: Actor | None = None
) -> tuple[Config, list[Step]]:
    """Make the configuration file, the key-encryption key, the store and the first signing key.

    Safe to repeat: what exists stays as it is. Raises ConfigError when the existing parts contradict the request.
    `actor`: who asks, for the audit trail; None: this process.
    """
    chosen = {"issuer": wanted.issuer, "keys.algorithm": wanted.algorithm, "storage.url": wanted.database}
    config = _settings(path, {n: v for n, v in chosen.items() if v is not None}, env)
    fresh_store = not await _store_exists(config)  # asked before anything is written: it may be out of reach
    steps = [Step("configuration", str(path), _written(path, config))]
    kek_path = config.key_files.encryption_key_file
    make_private_directory(kek_path.parent)
    kek_made = _key_encryption_key(kek_path, fresh_store)
    steps.append(Step("key-encryption key", str(kek_path), kek_made))
    store, upgraded = await _create_store(config)
    steps.append(Step("store", store_name(config), fresh_store, upgraded))
    operator = Operator(store, config.policy, audit, actor=actor or this_process())
    try:
        if fresh_store:
            await begin_memory(store)
        if fresh_store or upgraded:
            await _record_schema(operator, "store.created" if fresh_store else "store.upgraded")
        steps.append(await _first_key(operator, config, open_custody(config)))
        steps.append(await _admin_api(operator))
    finally:
        await store.close()
    return config, steps


async def begin_memory(store: Store, clock: Callable[[], float] = time.time) -> None:
    """Give a new store its first horizon, so that servers know about when it was made.

    Raises StoreUnavailable, also where the store's clock says another time.
    """
    reading = await TrustedTime(store, clock).read()
    if reading.fault:
        raise StoreUnavailable(reading.fault)
    await store.raise_horizon(reading.now - FORGET_AFTER)


async def _record_schema(operator: Operator, operation: str) -> None:
    """So that an empty trail, or one that begins in the middle, has a reason in it."""
    made = Effect("store", None, written({"schema": SCHEMA_VERSION}))
    operator.tell(operation, {"schema": SCHEMA_VERSION}, await operator.store.record(operator.deed(operation), made))


def store_name(config: Config) -> str:
    """Where the store is, without a password."""
    return url_without_password(config.storage.url) if config.storage.on_postgres else str(config.database)


async def _store_exists(config: Config) -> bool:
    """Whether there may be signing keys already, which only the key-encryption key of then can open."""
    if not config.storage.on_postgres:
        return _is_there(config.database)
    store = open_postgres(config, patience=OPERATOR_PATIENCE)
    try:
        return await store.is_made()
    finally:
        await store.close()


def _is_there(path: Path) -> bool:
    """False, too, where the directory cannot be read: making the file then says so. (Path.exists raises.)"""
    return os.path.exists(path)


async def _create_store(config: Config) -> tuple[Store, bool]:
    """The store, made or brought up to date, and whether it had to be (a new one, too)."""
    if not config.storage.on_postgres:
        make_private_directory(config.database.parent)
        file = SqliteStore.create(config.database)
        return file, file.upgraded
    store = open_postgres(config, patience=OPERATOR_PATIENCE)
    return store, await store.migrate()


def _settings(path: Path, chosen: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """Read the file, or try what it would say before it is written: a refusal leaves nothing behind."""
    if (given := chosen.get("storage.url", "")) != url_without_password(given):
        raise ConfigError(
            "--database must not hold a password: every process of this machine could read it. Write the whole URL to "
            "a private file and name that in GROAT_STORAGE__URL_FILE, or use PGPASSFILE"
        )
    if given and (fault := storage_fault(given, "flag")):
        raise ConfigError(f"--database: {fault}")
    exists = path.exists()
    config = load_config(path, env if exists else {**{BY_NAME[n].env: v for n, v in chosen.items()}, **env})
    for name, value in chosen.items():
        if not config.says(name, value):
            where = path if config.origins[name] in ("file", "default") else config.origins[name]
            raise ConfigError(f"{where} says {name} {config.shown()[name]}, not {value}; nothing was changed")
    return config


def _written(path: Path, config: Config) -> bool:
    """Write the configuration file unless there is one; returns whether that was done now."""
    if path.exists():
        return False
    make_directory(path.parent)
    return _unless_there(path, sample_config(config.policy.issuer, config.key_files.algorithm, config.storage.url))


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
    if _is_there(path):
        return False
    if not fresh_store:
        # A new key could not open the signing keys that the store holds.
        raise ConfigError(f"{path} is missing, but the store exists. Restore it from your backup")
    try:
        KeyEncryptionKey.create(path)
    except ConfigError:
        if not _is_there(path):
            raise
        return False  # another process that does the same was faster
    return True


async def _admin_api(operator: Operator) -> Step:
    """Stores of before have none: `groat init` once more brings it."""
    made = False
    with contextlib.suppress(StoreConflict):  # another process that does the same was faster
        made = await admin_api_is_there(operator)
    return Step("admin API", ADMIN_API, made)


async def _first_key(operator: Operator, config: Config, custody: Custody) -> Step:
    for _ in range(FIRST_KEY_ATTEMPTS):
        keys = await list_signing_keys(operator)
        if keys:
            await check_custody(custody, keys)
            signer = active_key(keys, operator.now) or keys[-1]
            return Step("signing key", signer.kid, False)
        if fault := (await TrustedTime(operator.store, operator.clock).read()).fault:
            raise Unavailable("clock_skew", fault)  # where the first start was broken off, the store may know the time
        with contextlib.suppress(StoreConflict):
            first = await first_signing_key(Ring(operator, custody, config.key_files.algorithm))
            return Step("signing key", first.kid, True)
    raise ConfigError("the store keeps changing; run groat init again")
