"""What `groat init`, `groat api add` and `groat client add` do, by the same operations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groat.keys.files import write_key_pair, write_public_file
from groat.protocol.jwk import PrivateKey, generate_private_key
from groat.server import operations
from groat.server.log.audit import Audit
from groat.server.log.event_log import configure_logging
from groat.server.operations import Operator
from groat.server.operations.first_start import Wanted, initialise
from groat.server.settings.config import Config
from groat.server.settings.open_store import open_store

ALGORITHM: Final = "ES256"
CLIENT: Final = "billing"
OTHER_CLIENT: Final = "shipping"
ORDERS: Final = "https://orders.demo"
INVOICES: Final = "https://invoices.demo"


@dataclass(frozen=True, slots=True)
class Installation:
    """A configured server with its first signing key. `signing_kid`: the key that signs access tokens."""

    config: Config
    file: Path
    audit: Audit
    signing_kid: str

    @property
    def issuer(self) -> str:
        return self.config.policy.issuer


@dataclass(frozen=True, slots=True)
class Clients:
    """The keys that the two clients keep to themselves; `key_file` holds the first one's (mode 0600)."""

    billing: PrivateKey
    shipping: PrivateKey
    key_file: Path


def install(directory: Path, issuer: str, port: int) -> Installation:
    """As `groat init --issuer URL`, with the port written down, so that every other command finds the server."""
    # Only errors: the report tells the rest.
    audit = Audit(configure_logging("error"))
    file = directory / "groat.toml"
    write_public_file(file, f'issuer = "{issuer}"\n\n[server]\nport = {port}\n'.encode())
    wanted = Wanted(issuer, ALGORITHM, "sqlite:///data/groat.db")
    config, steps = asyncio.run(initialise(file, wanted, {}, audit))
    (signing_key,) = [step.where for step in steps if step.what == "signing key"]
    return Installation(config, file, audit, signing_key)


def register(installation: Installation) -> Clients:
    """As `groat api add` and `groat client add --new-key`: two APIs, and a client that may only read both."""
    clients = Clients(
        generate_private_key(ALGORITHM),
        generate_private_key(ALGORITHM),
        installation.file.with_name("billing.key.json"),
    )
    write_key_pair(clients.billing, clients.key_file)
    asyncio.run(_register(installation, clients))
    return clients


@asynccontextmanager
async def operating(installation: Installation) -> AsyncIterator[Operator]:
    """An operator at this installation's store, which is closed afterwards."""
    store = open_store(installation.config)
    try:
        yield Operator(store, installation.config.policy, installation.audit)
    finally:
        await store.close()


async def _register(installation: Installation, clients: Clients) -> None:
    async with operating(installation) as operator:
        await operations.add_api(operator, "orders", ORDERS, ["orders:read", "orders:write"])
        await operations.add_api(operator, "invoices", INVOICES, ["invoices:read"])
        reading = {"orders": ["orders:read"], "invoices": ["invoices:read"]}
        # The server gets the public halves alone.
        await operations.add_client(operator, CLIENT, reading, [clients.billing.public])
        await operations.add_client(operator, OTHER_CLIENT, {"orders": ["orders:read"]}, [clients.shipping.public])
