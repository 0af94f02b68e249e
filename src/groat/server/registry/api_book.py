"""The APIs that ask about tokens, by the keys that they prove it with: read, remembered and judged as clients are."""

import json

from groat.protocol.models import Client
from groat.server.registry.registry import Registry


class ApiBook(Registry):
    """A registry whose clients are APIs: a client and an API of one name are two. They may ask for no token."""

    async def _look_up(self, client_id: str) -> tuple[Client, str | None] | tuple[None, None]:
        version, found = await self._store.look_up_api(client_id)
        self.observe(version)
        if found is None:
            return None, None
        api, keys = found
        known = Client(api.name, tuple(self._public_key(json.dumps(key.jwk)) for key in keys)), None
        self._clients[client_id] = known
        return known
